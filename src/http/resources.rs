//! Resources: one by id, and pages by any combination of filters.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as Extract};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::query::{Kind, Parameter, Query};
use super::resource_json::write_resource;
use super::shared::{Asked, JSON, Making, Work, not_modified};
use super::tags::{IfNoneMatch, Mark, Tag};
use super::{ApiError, App, answer, instant};
use crate::decode::{lower, normal_type};
use crate::model::{Field, ResourceId, State};
use crate::published::{Filter, PageToken, ReadView};

const fn filter_by(name: &'static str, summary: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Text, many: true, summary }
}

pub(super) const BY_TYPE: Parameter = filter_by("resourceType", "Resources of this type.");
pub(super) const BY_WORKSPACE: Parameter = filter_by("workspaceId", "Resources in this workspace.");
pub(super) const BY_REPORTER: Parameter = filter_by("reporterType", "Resources that this reporter reports.");
pub(super) const BY_INSTANCE: Parameter =
    filter_by("reporterInstanceId", "Resources that this instance of a reporter reports.");
pub(super) const BY_LOCAL_ID: Parameter = filter_by("localResourceId", "Resources that their reporter calls so.");
pub(super) const ORPHANED: Parameter = Parameter {
    name: "orphaned",
    kind: Kind::Boolean,
    many: false,
    summary: "True: only orphans, whose reporter key another resource holds. Otherwise none of them.",
};

/// The parameters of the list, beside those of its instant.
const OWN_PARAMETERS: &[Parameter] =
    &[BY_TYPE, BY_WORKSPACE, BY_REPORTER, BY_INSTANCE, BY_LOCAL_ID, ORPHANED, LIMIT, PAGE_TOKEN];
/// The parameters of the list.
pub(super) const PARAMETERS: &[Parameter] =
    &instant::beside::<{ OWN_PARAMETERS.len() + instant::PARAMETERS.len() }>(OWN_PARAMETERS);

/// `limit`, of every list.
pub(super) const LIMIT: Parameter = Parameter {
    name: "limit",
    kind: Kind::Limit,
    many: false,
    summary: "How many items a page has at most; it has fewer where they are very long.",
};

/// `pageToken`, of every list.
pub(super) const PAGE_TOKEN: Parameter = Parameter {
    name: "pageToken",
    kind: Kind::PageToken,
    many: false,
    summary: "The `nextPageToken` of the page before, with the same filters.",
};

/// A page ends when it is about this long, whatever its `limit`.
pub(super) const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// About what a resource needs beside its data.
const RESOURCE_BYTES: usize = 1024;
/// What an answer needs beside its content.
const FRAME_BYTES: usize = 8 * 1024;

/// `GET /api/tarn/v1/resources/{id}`
pub(super) async fn one(
    Extract(app): Extract<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    known: IfNoneMatch,
    query: Option<Extension<Arc<Query>>>,
) -> Result<Response, ApiError> {
    let id = id_of(path)?;
    let answer = match query {
        // Hardly anybody asks for an instant, and a glance is all that a look-up needs.
        None => rendered(&app, &app.service.publisher.glance(), id, &known),
        Some(Extension(query)) => {
            let view = instant::asked(&app, &query).await?;
            rendered(&app, &view, id, &known)
        }
    };
    app.admission.admit(answer).await
}

/// The id that a path names.
pub(super) fn id_of(path: Result<Path<String>, PathRejection>) -> Result<ResourceId, ApiError> {
    let Ok(Path(id)) = path else { return Err(ApiError::Invalid("invalid UUID: the id is not UTF-8".to_owned())) };
    ResourceId::parse(&id).map_err(|error| {
        let shown: String = id.chars().take(64).collect();
        ApiError::Invalid(format!("invalid UUID: the resource id {shown:?} is {error}"))
    })
}

/// The answer about one resource.
fn rendered(app: &App, view: &ReadView, id: ResourceId, known: &IfNoneMatch) -> Response {
    match view.state(id).filter(|state| state.is_live()) {
        Some(state) => {
            let orphaned_by = view.orphaned_by(id);
            let tag = tag(view, state, orphaned_by);
            if !known.is_empty() && (known.has(&tag) || known.is_any()) {
                return not_modified(app, view, tag, None);
            }
            let mut body = Vec::with_capacity(answer::USUAL_BYTES);
            write_resource(&mut body, state, orphaned_by, &app.service.topics);
            answer::written(app, view, body, Some(tag))
        }
        None => {
            let missing = ApiError::NotFound("resource not found".to_owned()).into_response();
            answer::found_on(app, view, missing)
        }
    }
}

/// A resource has one state at an epoch, which names the epoch in which it came to be.
fn tag(view: &ReadView, state: &State, orphaned_by: Option<ResourceId>) -> Tag {
    Mark::of(state.last.epoch, &state.last.id).tag(view.incarnation(), &(state.id, orphaned_by))
}

/// What a list says beside its items.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageJson {
    next_page_token: Option<String>,
}

/// `GET /api/tarn/v1/resources`
pub(super) async fn list(
    Extract(app): Extract<Arc<App>>,
    Extension(query): Extension<Arc<Query>>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let filter = filter(&query);
    let limit = query.limit(app.service.config.http.page_limit_max);
    let token = query.page_token(|text| PageToken::decode(text, &filter, &app.service.token_key))?;
    let after = token.map(|token| token.after);
    let view = instant::asked(&app, &query).await?;
    let making = Making {
        media_type: JSON,
        varies: false,
        bytes: PAGE_BYTES_MAX + FRAME_BYTES,
        work: Work::Page,
        mark: |_: &App, view: &ReadView| Ok(Some(Mark::of(view.tables_changed(), &()))),
        render: move |app: &App, view: &ReadView, _: &dyn Fn() -> bool| page(app, view, &filter, after, limit),
    };
    asked.answer(&app, view, making).await
}

/// A page, which ends early when it is long enough.
fn page(
    app: &App,
    view: &ReadView,
    filter: &Filter,
    after: Option<ResourceId>,
    limit: usize,
) -> Result<Response, ApiError> {
    let service = &app.service;
    let page = view.page(filter, after, limit, service.keys);
    let mut next_after = page.next_after;
    let data = page.items.iter().map(|(state, _)| state.text(Field::Data).map_or(0, str::len));
    let about = data.map(|data| data + RESOURCE_BYTES).sum::<usize>().min(PAGE_BYTES_MAX) + FRAME_BYTES;
    let mut items = answer::begin_list(about);
    let mut rest = page.items.iter().peekable();
    while let Some((state, orphaned_by)) = rest.next() {
        write_resource(&mut items, state, *orphaned_by, &service.topics);
        if rest.peek().is_some() {
            if items.len() >= PAGE_BYTES_MAX {
                next_after = Some(state.id);
                break;
            }
            items.push(b',');
        }
    }
    let next_page_token = next_after.map(|after| PageToken { after }.encode(filter, &service.token_key));
    Ok(answer::list(app, view, items, &PageJson { next_page_token }))
}

/// Types, reporters and instances are shown in the form that decoding gave them, so they are asked for in it too.
pub(super) fn filter(query: &Query) -> Filter {
    let as_is = |name: &str| query.any_of(name, str::to_owned);
    let resource_type = |name: &str| query.any_of(name, |text| normal_type(text).into_owned());
    let lower = |name: &str| query.any_of(name, |text| lower(text).into_owned());
    Filter {
        dimensions: [
            resource_type("resourceType"),
            as_is("workspaceId"),
            lower("reporterType"),
            lower("reporterInstanceId"),
        ],
        local_resource_ids: as_is("localResourceId"),
        orphaned: query.one("orphaned") == Some("true"),
    }
}
