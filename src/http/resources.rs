//! Resources: one by id, and pages by any combination of filters.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State as Extract};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;

use super::query::Query;
use super::{ApiError, App, answer};
use crate::model::{Field, Lifecycle, ResourceId, State, Topics};
use crate::published::{Filter, PageToken};

/// The parameters of the list.
pub(super) const PARAMETERS: &[&str] = &[
    "resourceType",
    "workspaceId",
    "reporterType",
    "reporterInstanceId",
    "localResourceId",
    "orphaned",
    "limit",
    "pageToken",
];

/// The default `limit`.
const LIMIT: usize = 100;

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
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    Query::parse(query.as_deref(), &[])?;
    let Ok(Path(id)) = path else { return Err(ApiError::Invalid("invalid UUID: the id is not UTF-8".to_owned())) };
    let shown: String = id.chars().take(64).collect();
    let id = ResourceId::parse(&id)
        .map_err(|error| ApiError::Invalid(format!("invalid UUID: the resource id {shown:?} is {error}")))?;
    let view = app.service.publisher.view();
    let state = view.state(id).filter(|state| state.is_live());
    let state = state.ok_or_else(|| ApiError::NotFound("resource not found".to_owned()))?;
    let json = resource_json(state, view.orphaned_by(id), &app.service.topics);
    Ok(answer::answer(&app.service, &view, StatusCode::OK, &json))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageJson<'a> {
    items: Vec<ResourceJson<'a>>,
    next_page_token: Option<String>,
}

/// `GET /api/tarn/v1/resources`
pub(super) async fn list(Extract(app): Extract<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), PARAMETERS)?;
    let filter = filter(&query)?;
    let service = &app.service;
    let limit = query.limit(LIMIT, service.config.http.page_limit_max)?;
    let after = match query.one("pageToken")? {
        None => None,
        Some(text) => {
            let token = PageToken::decode(&text, &filter, &service.token_key);
            Some(token.map_err(|error| ApiError::Invalid(format!("`pageToken` is refused: {error}")))?.after)
        }
    };
    let view = service.publisher.view();
    let page = view.page(&filter, after, limit, service.keys);
    let items = page.items.iter().map(|(state, orphaned_by)| resource_json(state, *orphaned_by, &service.topics));
    let content = PageJson {
        items: items.collect(),
        next_page_token: page.next_after.map(|after| PageToken { after }.encode(&filter, &service.token_key)),
    };
    Ok(answer::answer(service, &view, StatusCode::OK, &content))
}

/// Types, reporters and instances are lower case in Kessel, so the filters are too.
fn filter(query: &Query) -> Result<Filter, ApiError> {
    let lower = |name: &str| -> Result<Vec<String>, ApiError> {
        Ok(query.all(name)?.into_iter().map(|value| value.to_lowercase()).collect())
    };
    let orphaned = match query.one("orphaned")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::Invalid("`orphaned` must be true or false".to_owned())),
    };
    Ok(Filter {
        dimensions: [
            lower("resourceType")?,
            query.all("workspaceId")?,
            lower("reporterType")?,
            lower("reporterInstanceId")?,
        ],
        local_resource_ids: query.all("localResourceId")?,
        orphaned,
    })
}
