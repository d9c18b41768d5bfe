//! The API, described for machines: made from the table of routes itself, for the listener that is asked.

use std::sync::Arc;

use axum::Extension;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::duration;
use super::query::{COLUMN_BYTES_MAX, CONSISTENCIES, Kind, LIMIT_DEFAULT, Parameter, TEXT_BYTES_MAX, VALUES_MAX};
use super::routes::{Route, Scope, Verb};
use super::schemas::{self, reference};
use super::streams::MEDIA_TYPE;
use crate::sql::Format;

/// What the route of the document answers with.
pub(super) const SCHEMA: &str = "OpenApi";

/// The document of a listener.
#[derive(Debug, Clone)]
pub(super) struct Document(Arc<str>);

/// `GET /openapi.json`
pub(super) async fn document(Extension(document): Extension<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.0.to_string()).into_response()
}

/// What the routes of a listener are, where a page has at most `limit_max` items.
pub(super) fn describe(routes: &[Route], limit_max: usize) -> Document {
    let paths: Map<String, Value> = routes
        .iter()
        .map(|route| (route.path.to_owned(), json!({method(route): operation(route, limit_max)})))
        .collect();
    let document = json!({
        "openapi": "3.1.0",
        "info": {"title": "Tarn", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": schemas::all(), "headers": headers()},
    });
    Document(document.to_string().into())
}

/// Every path is called in one way.
fn method(route: &Route) -> &'static str {
    match route.verb {
        Verb::Get => "get",
        Verb::Post => "post",
    }
}

fn operation(route: &Route, limit_max: usize) -> Value {
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        in_path.map(|name| json!({"name": name, "in": "path", "required": true, "schema": place(route, name)}));
    let in_query = route.parameters.iter().map(|parameter| query_parameter(parameter, limit_max));
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let scope = match route.scope {
        Scope::Read => "read",
        Scope::Admin => "admin",
    };
    let mut operation = json!({
        "summary": route.summary, "x-scope": scope, "parameters": parameters, "responses": responses(route),
    });
    if let Some(body) = route.body {
        let content = json!({"application/json": {"schema": reference(body)}});
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
}

/// What a part of a path may be.
fn place(route: &Route, name: &str) -> Value {
    match (name, route.schema) {
        ("id", "ResourceAnswer" | "StateList") => json!({"type": "string", "format": "uuid"}),
        ("id", "ReadPoint") => json!({"type": "string", "description": "The `at` of a read point."}),
        ("id", _) => json!({"type": "string", "description": "topic:partition:offset"}),
        _ => json!({"type": "string"}),
    }
}

fn responses(route: &Route) -> Map<String, Value> {
    let answer = |description: &str, content: Value| {
        let shared = headers()
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| (name.clone(), json!({"$ref": format!("#/components/headers/{name}")})))
            .collect::<Map<_, _>>();
        json!({"description": description, "headers": shared, "content": content})
    };
    let error = |description: &str| answer(description, json!({"application/json": {"schema": reference("Error")}}));
    let mut good = answer(route.summary, content(route));
    for (name, says) in route.headers {
        good["headers"][*name] = json!({"description": says, "schema": {"type": "string"}});
    }
    if route.verb == Verb::Get && route.counted {
        let says = "Weak: when what was asked for last changed. Only where that can be told.";
        good["headers"]["etag"] = json!({"description": says, "schema": {"type": "string"}});
    }
    let mut responses = Map::new();
    // In bulk every item says its own.
    if route.schema == "Resubmission" {
        responses.insert("202".to_owned(), answer("Submitted, and not visible yet.", content(route)));
        responses.insert("409".to_owned(), error("The state has moved on."));
        responses.insert("422".to_owned(), error("It cannot be done with what there is."));
    }
    responses.insert(route.status.to_string(), good);
    responses.insert("400".to_owned(), error("The request says what it cannot."));
    let names_an_instant = route.parameters.iter().any(|parameter| parameter.kind == Kind::Timeout);
    if names_an_instant {
        let gone =
            "The instant, or what is asked of it, is no longer known; `historySince` says how far back that goes.";
        responses.insert("409".to_owned(), error("The token is of another life of the state, or from the future."));
        responses.insert("410".to_owned(), error(gone));
        responses.insert("504".to_owned(), error("It did not come in time; the metadata say what was reached."));
    }
    if route.path.contains("read-points/{") {
        responses.insert("410".to_owned(), error("There is none of this id any more."));
    } else if route.path.contains('{') {
        responses.insert("404".to_owned(), error("There is no such thing."));
    }
    let is_stream = route.media_types == [MEDIA_TYPE];
    if route.counted || is_stream {
        responses.insert("406".to_owned(), error("It is not written as the client wants it."));
    }
    if route.media_types.contains(&Format::Csv.media_type()) {
        responses.insert("422".to_owned(), error("It cannot be computed, or not be written."));
    }
    if route.path.contains("{view}") {
        responses
            .insert("422".to_owned(), error("The view's text is refused, or its rows cannot be looked at or written."));
        responses.insert("503".to_owned(), error("Not now, or the view cannot be read yet; try again."));
    }
    if (route.counted || is_stream || route.path == "/readyz") && !responses.contains_key("503") {
        responses.insert("503".to_owned(), error("Not now; try again."));
    }
    if route.verb == Verb::Get && route.counted {
        let answer = answer("What `If-None-Match` names is what there is.", json!({}));
        responses.insert("304".to_owned(), answer);
    }
    if route.schema == "Difference" {
        responses
            .insert("410".to_owned(), error("It was before what is kept; `historySince` says since when that is."));
    }
    responses.insert("default".to_owned(), error("An error."));
    responses
}

/// What a route answers with, in each form.
fn content(route: &Route) -> Value {
    let content = route.media_types.iter().map(|media_type| {
        let schema = match *media_type {
            "application/json" => reference(route.schema),
            _ if route.media_types.len() == 1 => reference(route.schema),
            "application/vnd.apache.arrow.stream" => json!({"type": "string", "format": "binary"}),
            _ => json!({"type": "string"}),
        };
        ((*media_type).to_owned(), json!({"schema": schema}))
    });
    Value::Object(content.collect())
}

fn query_parameter(parameter: &Parameter, limit_max: usize) -> Value {
    let one = match parameter.kind {
        Kind::Text => json!({"type": "string", "minLength": 1, "maxLength": TEXT_BYTES_MAX}),
        Kind::Boolean => json!({"type": "boolean", "default": false}),
        Kind::Limit => {
            let default = LIMIT_DEFAULT.min(limit_max);
            json!({"type": "integer", "minimum": 1, "maximum": limit_max, "default": default})
        }
        Kind::Consistency => {
            json!({"type": "string", "enum": CONSISTENCIES, "default": CONSISTENCIES[0]})
        }
        Kind::Timeout => json!({"type": "string", "pattern": duration::PATTERN, "default": "2s"}),
        Kind::Duration => json!({"type": "string", "pattern": duration::PATTERN}),
        Kind::Moment => json!({"oneOf": [
            {"type": "string", "format": "date-time"}, {"type": "integer", "minimum": 0},
        ]}),
        Kind::Event => json!({"type": "string", "maxLength": TEXT_BYTES_MAX}),
        Kind::PageToken | Kind::Token | Kind::ReadPoint | Kind::Order => json!({"type": "string"}),
        Kind::Column => json!({"type": "string", "maxLength": COLUMN_BYTES_MAX}),
    };
    let mut described = json!({
        "name": parameter.name, "in": "query", "required": false, "description": parameter.summary, "schema": one,
    });
    if parameter.many {
        described["schema"] = json!({"type": "array", "items": one, "minItems": 1, "maxItems": VALUES_MAX});
        described["style"] = "form".into();
        described["explode"] = true.into();
    }
    described
}

/// The headers of every answer.
fn headers() -> Value {
    let header = |description: &str, schema: Value| json!({"description": description, "schema": schema});
    let text = json!({"type": "string"});
    json!({
        "tarn-as-of": header("The instant that the answer reflects.", json!({"type": "string", "format": "date-time"})),
        "tarn-epoch": header("The same in milliseconds since 1970.", json!({"type": "integer"})),
        "tarn-position": header("topic:partition:next offset, separated by commas.", text.clone()),
        "tarn-consistency-token": header("Names that instant.", text),
        "tarn-newest-event": header("When the newest event that the answer reflects happened, by the time in its id.",
            json!({"type": "string", "format": "date-time"})),
        "tarn-newest-event-arrived": header("When that event arrived.",
            json!({"type": "string", "format": "date-time"})),
        "tarn-newest-event-age-ms": header("How many milliseconds ago it happened.", json!({"type": "integer"})),
        "tarn-source-connected": header("Whether the source is connected.", json!({"type": "boolean"})),
        "tarn-source-last-heard": header("When, if ever.", json!({"type": "string", "format": "date-time"})),
        "tarn-history-since": header("From when on `asOf` can be asked for.",
            json!({"type": "string", "format": "date-time"})),
        "tarn-incomplete-since": header("Since when events are missing, if any are.",
            json!({"type": "string", "format": "date-time"})),
    })
}
