//! The states of a resource within history, newest first: an entry for each epoch in which it changed, with the event that
//! made it.
//!
//! The last entry is how it was where history begins, if it was there by then. Not here: how far back that is
//! (`published`).

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as Extract};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::query::{Parameter, Query};
use super::resource_json::write_resource;
use super::resources::{LIMIT, PAGE_BYTES_MAX, PAGE_TOKEN, id_of};
use super::shared::{Asked, JSON, Making, Work};
use super::{ApiError, App, answer};
use crate::model::{Epoch, Lifecycle, ResourceId, Topics};
use crate::published::{ReadView, StateFrom, StatesToken};

/// The parameters of the states of a resource.
pub(super) const PARAMETERS: &[Parameter] = &[LIMIT, PAGE_TOKEN];

/// What the list says beside its items.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PageJson {
    next_page_token: Option<String>,
    history_since: String,
}

/// When an entry began, and what it is beside the state.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryJson {
    as_of: String,
    epoch: Epoch,
    deleted: bool,
    deleted_at: Option<String>,
}

/// `GET /api/tarn/v1/resources/{id}/history`
pub(super) async fn states(
    Extract(app): Extract<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Extension(query): Extension<Arc<Query>>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let id = id_of(path)?;
    let token = query.page_token(|text| StatesToken::decode(text, id, &app.service.token_key))?;
    let limit = query.limit(app.service.config.http.page_limit_max);
    let making = Making {
        media_type: JSON,
        varies: false,
        bytes: PAGE_BYTES_MAX,
        work: Work::Page,
        // Where history begins moves on.
        mark: |_: &App, _: &ReadView| Ok(None),
        render: move |app: &App, view: &ReadView, _: &dyn Fn() -> bool| {
            page(app, view, id, token.map(|token| token.before), limit)
        },
    };
    asked.answer(&app, app.service.publisher.view(), making).await
}

fn page(app: &App, view: &ReadView, id: ResourceId, before: Option<Epoch>, limit: usize) -> Result<Response, ApiError> {
    let service = &app.service;
    let (since, all) = service.publisher.states_from(view, id);
    let history_since = answer::moment(since);
    if all.is_empty() {
        let message = format!("nothing is known of the resource, now or since {history_since}, where history begins");
        return Ok(answer::found_on(app, view, ApiError::NotFound(message).into_response()));
    }
    let mut left = all.iter().rev().filter(|one| before.is_none_or(|before| one.epoch < before)).peekable();
    let (mut items, mut shown, mut last) = (answer::begin_list(answer::USUAL_BYTES), 0, None);
    while shown < limit
        && items.len() < PAGE_BYTES_MAX
        && let Some(one) = left.next()
    {
        if shown > 0 {
            items.push(b',');
        }
        write_entry(&mut items, one, &service.topics);
        (shown, last) = (shown + 1, Some(one.epoch));
    }
    let next = last.filter(|_| left.peek().is_some());
    let next_page_token = next.map(|before| StatesToken { before }.encode(id, &service.token_key));
    Ok(answer::list(app, view, items, &PageJson { next_page_token, history_since }))
}

/// The state in the shape of a resource, also of one that is deleted; null once nothing is known of it.
fn write_entry(items: &mut Vec<u8>, one: &StateFrom, topics: &Topics) {
    let lifecycle = one.state.as_ref().map(|state| &state.lifecycle);
    let deleted_at = match lifecycle {
        Some(Lifecycle::Deleted { deleted_at }) => deleted_at.map(|at| at.to_string()),
        Some(Lifecycle::Live { .. }) | None => None,
    };
    let deleted = !matches!(lifecycle, Some(Lifecycle::Live { .. }));
    let entry = EntryJson { as_of: answer::moment(one.epoch), epoch: one.epoch, deleted, deleted_at };
    // Texts and numbers, and memory takes any write.
    let _ = serde_json::to_writer(&mut *items, &entry);
    items.pop();
    items.extend_from_slice(br#","resource":"#);
    match &one.state {
        Some(state) => write_resource(items, state, one.orphaned_by, topics),
        None => items.extend_from_slice(b"null"),
    }
    items.push(b'}');
}
