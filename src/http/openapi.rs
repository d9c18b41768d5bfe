//! The API, described for machines, from the table of routes itself.

use axum::Json;
use serde_json::{Map, Value, json};

use super::{Scope, routes};

/// `GET /openapi.json`
pub(super) async fn document() -> Json<Value> {
    let mut paths = Map::new();
    for (route, _) in routes() {
        let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = in_path
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
            .collect();
        parameters.extend(route.parameters.iter().map(|name| {
            let schema = match *name {
                "limit" => json!({"type": "integer", "minimum": 1}),
                "orphaned" => json!({"type": "boolean"}),
                _ => json!({"type": "string"}),
            };
            json!({"name": name, "in": "query", "required": false, "schema": schema})
        }));
        let error = json!({"description": "An error.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}});
        let operation = json!({
            "summary": route.summary,
            "x-scope": match route.scope { Scope::Read => "read", Scope::Admin => "admin" },
            "parameters": parameters,
            "responses": {"200": {"description": route.summary}, "default": error},
        });
        paths.insert(route.path.to_owned(), json!({"get": operation}));
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": {"title": "Tarn", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": {"Error": {
            "type": "object",
            "required": ["code", "reason", "message", "metadata"],
            "properties": {
                "code": {"type": "integer"},
                "reason": {"type": "string"},
                "message": {"type": "string"},
                "metadata": {"type": "object"},
            },
        }}},
    }))
}
