//! Resources: one by id, and pages by any combination of filters.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State as Extract};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;

use super::query::{Kind, Parameter, Query};
use super::{ApiError, App, answer};
use crate::decode::{lower, normal_type};
use crate::model::{Field, Lifecycle, ResourceId, State, Topics};
use crate::published::{Filter, PageToken};

const fn filter_by(name: &'static str, summary: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Text, many: true, summary }
}

/// The parameters of the list.
pub(super) const PARAMETERS: &[Parameter] = &[
    filter_by("resourceType", "Resources of this type."),
    filter_by("workspaceId", "Resources in this workspace."),
    filter_by("reporterType", "Resources that this reporter reports."),
    filter_by("reporterInstanceId", "Resources that this instance of a reporter reports."),
    filter_by("localResourceId", "Resources that their reporter calls so."),
    Parameter {
        name: "orphaned",
        kind: Kind::Boolean,
        many: false,
        summary: "True: only orphans, whose reporter key another resource holds. Otherwise none of them.",
    },
    LIMIT,
    PAGE_TOKEN,
];

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

/// A resource as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceJson<'a> {
    resource_id: String,
    resource_type: Option<&'a str>,
    workspace_id: Option<&'a str>,
    reporter: ReporterJson<'a>,
    data: Option<&'a RawValue>,
    created_at: Option<String>,
    updated_at: Option<String>,
    last_event: LastEventJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    orphaned_by: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReporterJson<'a> {
    #[serde(rename = "type")]
    reporter_type: Option<&'a str>,
    instance_id: Option<&'a str>,
    local_resource_id: Option<&'a str>,
    api_href: Option<&'a str>,
    console_href: Option<&'a str>,
    version: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct LastEventJson {
    id: Option<String>,
    time: String,
    topic: Arc<str>,
    partition: i32,
    offset: i64,
}

/// A live state as it is shown; an orphan with the id that took its place.
pub fn resource_json<'a>(state: &'a State, orphaned_by: Option<ResourceId>, topics: &Topics) -> ResourceJson<'a> {
    let (created_at, updated_at) = match state.lifecycle {
        Lifecycle::Live { created_at, updated_at } => (created_at, updated_at),
        Lifecycle::Deleted { .. } => (None, None),
    };
    let at = state.last.coordinates;
    let id_text = state.text(Field::EventIdText).map(str::to_owned);
    ResourceJson {
        resource_id: state.id.to_string(),
        resource_type: state.text(Field::ResourceType),
        workspace_id: state.text(Field::WorkspaceId),
        reporter: ReporterJson {
            reporter_type: state.text(Field::ReporterType),
            instance_id: state.text(Field::ReporterInstanceId),
            local_resource_id: state.text(Field::LocalResourceId),
            api_href: state.text(Field::ApiHref),
            console_href: state.text(Field::ConsoleHref),
            version: state.text(Field::ReporterVersion),
        },
        data: state.text(Field::Data).and_then(|text| serde_json::from_str(text).ok()),
        created_at: created_at.map(|at| at.to_string()),
        updated_at: updated_at.map(|at| at.to_string()),
        last_event: LastEventJson {
            id: id_text.or_else(|| state.last.id.map(|id| id.to_string())),
            time: state.last.time().to_string(),
            topic: topics.name(at.topic),
            partition: at.partition,
            offset: at.offset,
        },
        orphaned_by: orphaned_by.map(|id| id.to_string()),
    }
}

/// `GET /api/tarn/v1/resources/{id}`
pub(super) async fn one(
    Extract(app): Extract<Arc<App>>,
    path: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Response, ApiError> {
    let Ok(Path(id)) = path else { return Err(ApiError::Invalid("invalid UUID: the id is not UTF-8".to_owned())) };
    let shown: String = id.chars().take(64).collect();
    let id = ResourceId::parse(&id)
        .map_err(|error| ApiError::Invalid(format!("invalid UUID: the resource id {shown:?} is {error}")))?;
    let answer = rendered(&app, id);
    app.admission.admit(answer).await
}

/// The answer about one resource.
fn rendered(app: &App, id: ResourceId) -> Response {
    let view = app.service.publisher.glance();
    match view.state(id).filter(|state| state.is_live()) {
        Some(state) => answer::answer(app, &view, &resource_json(state, view.orphaned_by(id), &app.service.topics)),
        None => {
            let missing = ApiError::NotFound("resource not found".to_owned()).into_response();
            answer::found_on(app, &view, missing)
        }
    }
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
) -> Result<Response, ApiError> {
    let filter = filter(&query);
    let limit = query.limit(app.service.config.http.page_limit_max);
    let token = query.page_token(|text| PageToken::decode(text, &filter, &app.service.token_key))?;
    let after = token.map(|token| token.after);
    let reader = Arc::clone(&app);
    app.admission.render(PAGE_BYTES_MAX + FRAME_BYTES, move || page(&reader, &filter, after, limit)).await
}

/// A page, which ends early when it is long enough.
fn page(app: &App, filter: &Filter, after: Option<ResourceId>, limit: usize) -> Result<Response, ApiError> {
    let service = &app.service;
    let view = service.publisher.view();
    let page = view.page(filter, after, limit, service.keys);
    let mut next_after = page.next_after;
    let data = page.items.iter().map(|(state, _)| state.text(Field::Data).map_or(0, str::len));
    let about = data.map(|data| data + RESOURCE_BYTES).sum::<usize>().min(PAGE_BYTES_MAX) + FRAME_BYTES;
    let mut items = answer::begin_list(about);
    let mut rest = page.items.iter().peekable();
    while let Some((state, orphaned_by)) = rest.next() {
        serde_json::to_writer(&mut items, &resource_json(state, *orphaned_by, &service.topics))
            .map_err(|_| ApiError::Internal)?;
        if rest.peek().is_some() {
            if items.len() >= PAGE_BYTES_MAX {
                next_after = Some(state.id);
                break;
            }
            items.push(b',');
        }
    }
    let next_page_token = next_after.map(|after| PageToken { after }.encode(filter, &service.token_key));
    Ok(answer::list(app, &view, items, &PageJson { next_page_token }))
}

/// Types, reporters and instances are shown in the form that decoding gave them, so they are asked for in it too.
fn filter(query: &Query) -> Filter {
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
