//! The instant at which a read is answered.

use std::sync::Arc;

use super::query::Query;
use super::{ApiError, App};
use crate::published::ReadView;

/// The instant that a request asks for.
pub(super) async fn asked(app: &App, _query: &Query) -> Result<Arc<ReadView>, ApiError> {
    Ok(app.service.publisher.view())
}
