//! Requests that two servers could read differently are refused, and their connection is closed.
//!
//! hyper refuses heads that are no HTTP, too long or of too many lines by itself. Here: no `Host` or two, a body where
//! no route takes one (so that nothing is left on the connection that could pass for a request).

use axum::extract::Request;
use axum::http::{HeaderValue, Method, Version, header};
use axum::response::{IntoResponse, Response};

use super::ApiError;

/// What is wrong with a request's head, if anything.
fn fault(request: &Request, takes_body: bool) -> Option<&'static str> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Some("the header Host is given twice; once is allowed"),
        (None, None) if request.version() == Version::HTTP_11 => {
            return Some("the header Host is missing; HTTP/1.1 asks for it");
        }
        _ => {}
    }
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let length = headers.get(header::CONTENT_LENGTH);
    if chunked && length.is_some() {
        return Some("both Content-Length and Transfer-Encoding are given; at most one is allowed");
    }
    let known = matches!(*request.method(), Method::GET | Method::HEAD | Method::POST);
    let has_body = chunked || length.is_some_and(|length| length.as_bytes() != b"0");
    (known && has_body && !takes_body).then_some("the route takes no body")
}

/// The answer to a request that is refused; none for one that is clear. `takes_body`: whether its route does.
pub(super) fn refused(request: &Request, takes_body: bool) -> Option<Response> {
    let mut response = ApiError::Invalid(fault(request, takes_body)?.to_owned()).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(response)
}
