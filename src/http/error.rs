//! One error type at the edge, in the shape of Kessel's: `{"code","reason","message","metadata"}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::answer::moment;
use crate::model::Epoch;

/// What a caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// The request says something that it cannot: which, and what is allowed.
    Invalid(String),
    /// There is no such thing.
    NotFound(String),
    /// The route takes other methods.
    MethodNotAllowed(String),
    /// It cannot be written as the client wants it.
    NotAcceptable(String),
    /// The state has moved on.
    Conflict(String),
    /// It was there, and is no more.
    Gone {
        /// What, and what is there instead.
        message: String,
        /// Since when there is anything of the kind, where that is what was asked for.
        history_since: Option<Epoch>,
    },
    /// What was waited for did not come in time.
    DeadlineExceeded {
        /// What.
        message: String,
        /// What has come.
        reached: Epoch,
        /// How far the log was read at it, as headers tell it.
        position: String,
    },
    /// It is understood, and cannot be done with what there is.
    Unprocessable(String),
    /// Too many requests at once.
    Overloaded,
    /// Not ready yet.
    Unavailable(String),
    /// What there is is older than is wanted.
    Stale {
        /// Why, and how old it may be.
        message: String,
        /// How old it is; none where it never was all that there was.
        age_ms: Option<u64>,
    },
    /// A fault of ours.
    Internal,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut metadata = serde_json::Map::new();
        let mut tell = |name: &str, epoch: Epoch| {
            metadata.insert(name.to_owned(), json!(moment(epoch)));
            metadata.insert(format!("{name}Epoch"), json!(epoch));
        };
        let (status, message) = match self {
            Self::Invalid(message) => (StatusCode::BAD_REQUEST, message),
            Self::NotFound(message) => (StatusCode::NOT_FOUND, message),
            Self::MethodNotAllowed(message) => (StatusCode::METHOD_NOT_ALLOWED, message),
            Self::NotAcceptable(message) => (StatusCode::NOT_ACCEPTABLE, message),
            Self::Conflict(message) => (StatusCode::CONFLICT, message),
            Self::Gone { message, history_since } => {
                history_since.into_iter().for_each(|since| tell("historySince", since));
                (StatusCode::GONE, message)
            }
            Self::DeadlineExceeded { message, reached, position } => {
                tell("asOf", reached);
                metadata.insert("position".to_owned(), json!(position));
                (StatusCode::GATEWAY_TIMEOUT, message)
            }
            Self::Unprocessable(message) => (StatusCode::UNPROCESSABLE_ENTITY, message),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again".to_owned()),
            Self::Unavailable(message) => (StatusCode::SERVICE_UNAVAILABLE, message),
            Self::Stale { message, age_ms } => {
                metadata.insert("ageMs".to_owned(), json!(age_ms));
                (StatusCode::SERVICE_UNAVAILABLE, message)
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal error".to_owned()),
        };
        let body = json!({"code": status.as_u16(), "reason": "", "message": message, "metadata": metadata});
        let mut response = (status, axum::Json(body)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
