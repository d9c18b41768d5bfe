//! What the answers look like, as JSON schemas; tests hold real answers to them.

use serde_json::{Value, json};

use crate::service::view_health::Health;

fn text() -> Value {
    json!({"type": "string"})
}

fn nullable_text() -> Value {
    json!({"type": ["string", "null"]})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn nullable_time() -> Value {
    json!({"type": ["string", "null"], "format": "date-time"})
}

fn uuid() -> Value {
    json!({"type": "string", "format": "uuid"})
}

fn nullable_uuid() -> Value {
    json!({"type": ["string", "null"], "format": "uuid"})
}

fn integer() -> Value {
    json!({"type": "integer"})
}

fn number() -> Value {
    json!({"type": "number"})
}

fn nullable_integer() -> Value {
    json!({"type": ["integer", "null"]})
}

/// A UUID in production, whatever its sender wrote elsewhere.
fn nullable_event_id() -> Value {
    json!({"type": ["string", "null"], "description": "A UUID, or whatever text the event came with in its place."})
}

fn boolean() -> Value {
    json!({"type": "boolean"})
}

fn list_of(schema: &str) -> Value {
    json!({"type": "array", "items": reference(schema)})
}

/// Where a schema of this name stands.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object; a field whose name ends in `?` may be absent.
fn object(fields: &[(&str, Value)]) -> Value {
    let properties = fields.iter().map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone()));
    let required: Vec<&str> = fields.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    json!({"type": "object", "required": required, "properties": properties.collect::<serde_json::Map<_, _>>()})
}

/// All of several schemas at once.
fn all_of(schemas: &[Value]) -> Value {
    json!({"allOf": schemas})
}

/// Every schema by its name.
pub(super) fn all() -> Value {
    let at_an_instant = |content: Value| all_of(&[content, reference("Instant")]);
    json!({
        "Error": object(&[
            ("code", integer()), ("reason", text()), ("message", text()), ("metadata", json!({"type": "object"})),
        ]),
        "Health": object(&[("status", text()), ("code", integer()), ("ageMs?", integer())]),
        "Metrics": text(),
        "OpenApi": json!({"type": "object"}),
        "ViewList": at_an_instant(object(&[("items", list_of("View"))])),
        "View": object(&[
            ("name", text()), ("description", text()),
            ("columns", json!({"type": "array", "items": object(&[("name", text()), ("type", text())])})),
            ("reads", json!({"type": "array", "items": text()})), ("rows", nullable_integer()),
            ("errors", nullable_integer()), ("since", nullable_time()), ("health", health()),
            ("problem", nullable_text()), ("cost", json!({"oneOf": [reference("Cost"), {"type": "null"}]})),
        ]),
        "Cost": object(&[
            ("bytesHeld", integer()), ("sharedBytesHeld", integer()), ("secondsSpent", number()),
        ]),
        "Explanation": at_an_instant(explanation()),
        "StreamFrame": json!({"type": "string", "description": STREAM_FRAME}),
        "Query": object(&[("sql", text())]),
        "RowList": at_an_instant(object(&[
            ("items", rows()), ("nextPageToken", nullable_text()), ("health", health()), ("problem", nullable_text()),
        ])),
        "FailureList": at_an_instant(object(&[
            ("items", json!({"type": "array", "items": object(&[
                ("input", json!({"type": ["object", "null"]})), ("expression", text()), ("reason", text()),
                ("count", integer()),
            ])})),
            ("nextPageToken", nullable_text()), ("total", integer()),
        ])),
        "Difference": at_an_instant(difference()),
        "StateList": at_an_instant(states()),
        "QueryAnswer": at_an_instant(object(&[
            ("items", rows()),
            ("columns", json!({"type": "array", "items": object(&[("name", text()), ("type", text())])})),
            ("truncated", boolean()), ("unreadRows", integer()),
        ])),
        "ReadPoint": at_an_instant(object(&[("at", text()), ("expiresAt", time())])),
        "ViewsReloaded": at_an_instant(object(&[
            ("made", json!({"type": "array", "items": text()})), ("removed", json!({"type": "array", "items": text()})),
            ("refused", json!({"type": "array", "items": object(&[("view", text()), ("problem", text())])})),
        ])),
        "Instant": object(&[
            ("asOf", time()), ("epoch", integer()), ("position", list_of("PartitionPosition")),
            ("consistencyToken", text()),
            ("newestEventAt", nullable_time()), ("newestEventArrivedAt", nullable_time()),
            ("newestEventAgeMs", nullable_integer()),
            ("source", object(&[("connected", boolean()), ("lastHeardAt", nullable_time())])),
            ("complete", boolean()), ("incompleteSince?", time()), ("historySince", time()),
        ]),
        "PartitionPosition": object(&[("topic", text()), ("partition", integer()), ("offset", integer())]),
        "Resource": resource(),
        "ResourceAnswer": at_an_instant(reference("Resource")),
        "ResourceList": at_an_instant(object(&[("items", list_of("Resource")), ("nextPageToken", nullable_text())])),
        "QuarantineEntry": quarantine_entry(),
        "QuarantineList": at_an_instant(object(&[
            ("items", list_of("QuarantineEntry")), ("nextPageToken", nullable_text()), ("total", integer()),
        ])),
        "Bytes": json!({"type": ["object", "null"], "required": ["text", "base64"],
            "properties": {"text": nullable_text(), "base64": text()}}),
        "QuarantineAnswer": at_an_instant(all_of(&[reference("QuarantineEntry"), object(&[
            ("key", reference("Bytes")), ("value", reference("Bytes")),
            ("headers", json!({"type": "array",
                "items": object(&[("name", text()), ("value", reference("Bytes"))])})),
        ])])),
        "ResubmittedRecord": resubmitted(),
        "Resubmission": at_an_instant(reference("ResubmittedRecord")),
        "ResubmissionList": at_an_instant(object(&[
            ("items", list_of("ResubmittedRecord")), ("nextPageToken", nullable_text()),
        ])),
        "Ignored": object(&[
            ("reason", text()), ("resourceId", nullable_uuid()), ("eventId", nullable_event_id()), ("topic", text()),
            ("partition", integer()), ("offset", integer()), ("metAt", time()),
        ]),
        "IgnoredList": at_an_instant(object(&[("items", list_of("Ignored"))])),
        "Status": at_an_instant(status()),
    })
}

/// What the frames of a stream are.
const STREAM_FRAME: &str = "Server-sent events with one JSON object each. `hello`: the policy. `snapshot`: `epoch`, `asOf`, `rows`, \
    `last`; parts of one instant, of which the last has an id. `changes`: `epoch`, `asOf`, and `left` and `came` (rows, as \
    often as they left and came) or `changes` (`key` and `value`, or `resourceId` and `resource`, null where it is not \
    there); `coalesced`, `from`, `to` where it stands for several epochs. `progress`: `epoch`, `asOf`; nothing changed until \
    then. `reset`: `reason`, `message`, `final`; what the client has is void, and a snapshot follows unless it is final.";

/// Rows of any columns.
fn rows() -> Value {
    let description = "An object a row, with a field a column. Floats that are no numbers are the texts `NaN`, `Infinity` \
                       and `-Infinity`; bytes are hex.";
    json!({"type": "array", "description": description, "items": {"type": "object"}})
}

/// What changed in a view.
fn difference() -> Value {
    let instant = object(&[("asOf", time()), ("epoch", integer())]);
    let diff = json!({"type": "integer", "description": "So many copies came, or left where it is below zero."});
    let item = object(&[("diff", diff), ("row", json!({"type": "object"}))]);
    object(&[
        ("items", json!({"type": "array", "items": item})),
        ("nextPageToken", nullable_text()),
        ("from", instant.clone()),
        ("to", instant),
        ("changesSince", time()),
        ("health", health()),
        ("problem", nullable_text()),
    ])
}

/// How a resource was.
fn states() -> Value {
    let resource = json!({"oneOf": [reference("Resource"), {"type": "null"}],
        "description": "Null once nothing is known of it any more."});
    let entry = object(&[
        ("asOf", time()),
        ("epoch", integer()),
        ("deleted", boolean()),
        ("deletedAt", nullable_time()),
        ("resource", resource),
    ]);
    object(&[
        ("items", json!({"type": "array", "items": entry})),
        ("nextPageToken", nullable_text()),
        ("historySince", time()),
    ])
}

/// How a view is.
fn health() -> Value {
    json!({"type": "string", "enum": Health::ALL.map(Health::as_str)})
}

fn measures() -> Vec<(&'static str, Value)> {
    let counts = ["rows", "bytesHeld", "updatesIn", "updatesOut", "steps"];
    counts.into_iter().map(|name| (name, integer())).chain([("secondsSpent", number())]).collect()
}

fn explanation() -> Value {
    let part = object(&[vec![("part", text()), ("shared", boolean())], measures()].concat());
    let operator = object(&[
        ("number", integer()),
        ("operator", text()),
        ("detail", text()),
        ("inputs", json!({"type": "array", "items": integer()})),
        ("parts", json!({"type": "array", "items": part})),
    ]);
    let arrangement = [("operator", nullable_integer()), ("key", text()), ("readers", integer())];
    let arrangement = object(&[arrangement.to_vec(), measures()].concat());
    let hydration =
        object(&[("complete", boolean()), ("completeFrom", nullable_time()), ("completeUntil", nullable_time())]);
    object(&[
        ("name", text()),
        ("description", text()),
        ("sql", text()),
        ("logicalPlan", text()),
        ("operators", json!({"type": "array", "items": operator})),
        ("arrangements", json!({"type": "array", "items": arrangement})),
        ("rows", integer()),
        ("since", time()),
        ("hydration", hydration),
        ("health", health()),
        ("problem", nullable_text()),
        ("cost", reference("Cost")),
    ])
}

fn resource() -> Value {
    let reporter = object(&[
        ("type", nullable_text()),
        ("instanceId", nullable_text()),
        ("localResourceId", nullable_text()),
        ("apiHref", nullable_text()),
        ("consoleHref", nullable_text()),
        ("version", nullable_text()),
    ]);
    let last_event = object(&[
        ("id", nullable_event_id()),
        ("time", time()),
        ("topic", text()),
        ("partition", integer()),
        ("offset", integer()),
    ]);
    object(&[
        ("resourceId", uuid()),
        ("resourceType", nullable_text()),
        ("workspaceId", nullable_text()),
        ("reporter", reporter),
        ("data", json!({"description": "What the reporter said of it, as it was said."})),
        ("createdAt", nullable_time()),
        ("updatedAt", nullable_time()),
        ("lastEvent", last_event),
        ("orphanedBy?", uuid()),
    ])
}

fn quarantine_entry() -> Value {
    object(&[
        ("id", json!({"type": "string", "description": "topic:partition:offset"})),
        ("topic", text()),
        ("partition", integer()),
        ("offset", integer()),
        ("timestamp", time()),
        ("resourceId", nullable_uuid()),
        ("eventId", nullable_event_id()),
        ("reason", text()),
        ("detail", text()),
        ("status", json!({"type": "string", "enum": ["open", "partly superseded"]})),
        ("firstSeen", time()),
        ("bytes", integer()),
    ])
}

fn resubmitted() -> Value {
    let outcomes = ["applied", "skipped", "superseded", "rejectedAgain", "notWhole", "pending"];
    object(&[
        ("id", json!({"type": "string", "description": "topic:partition:offset"})),
        ("outcome", json!({"type": "string", "enum": outcomes})),
        ("detail", text()),
    ])
}

fn snapshots() -> Value {
    object(&[
        ("epoch", nullable_integer()),
        ("finishedAt", nullable_text()),
        ("generation", integer()),
        ("tookMs", integer()),
        ("rows", integer()),
        ("bytes", integer()),
        ("taken", integer()),
        ("failed", integer()),
        ("lastError", nullable_text()),
        ("bindingsError", nullable_text()),
    ])
}

fn status() -> Value {
    let partition = object(&[
        ("topic", text()),
        ("partition", integer()),
        ("state", text()),
        ("nextOffset", nullable_integer()),
        ("startOffset", nullable_integer()),
        ("endOffset", nullable_integer()),
        ("lag", nullable_integer()),
        ("heldByTransaction", integer()),
        ("lastError", nullable_text()),
        ("identityFault", nullable_text()),
    ]);
    let heartbeats = object(&[("topic", text()), ("newestAt", nullable_time()), ("newestAgeMs", nullable_integer())]);
    let source = object(&[
        ("phase", text()),
        ("lastError", nullable_text()),
        ("lastHeardAt", nullable_time()),
        ("partitions", json!({"type": "array", "items": partition})),
        ("heartbeats", json!({"oneOf": [heartbeats, {"type": "null"}]})),
        ("rebuildingSince", nullable_time()),
        ("rebuilds", integer()),
        ("goneInRebuilds", integer()),
    ]);
    let arrangement = object(&[("name", text()), ("updates", integer()), ("batches", integer())]);
    let view = object(&[
        ("name", text()),
        ("health", health()),
        ("problem", nullable_text()),
        ("rows", nullable_integer()),
        ("errors", nullable_integer()),
        ("bytesHeld", integer()),
        ("lagMs", nullable_integer()),
    ]);
    object(&[
        ("ready", boolean()),
        ("ageMs", nullable_integer()),
        ("startedAt", time()),
        ("version", text()),
        ("workers", integer()),
        ("sourceState", source),
        ("counters", json!({"type": "object"})),
        ("resubmissionsWaiting", integer()),
        ("arrangements", json!({"type": "array", "items": arrangement})),
        ("views", json!({"type": "array", "items": view})),
        ("snapshots", json!({"oneOf": [snapshots(), {"type": "null"}]})),
    ])
}
