//! The truth is what PostgreSQL holds: it is compared with what Tarn answers, resource by resource and field by field.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ::postgres::{Client, Row};
use serde_json::{Value, json};

use crate::served::get;

/// Every live resource as events can tell it: workspace and data of this life, whichever report said them last (F5, F6,
/// F9). That a resource was made at all is told by its first event alone, so a revival has no time of creation.
const LIVE: &str = "
SELECT r.resource_id, r.resource_type, r.reporter_type, r.reporter_instance_id, r.local_resource_id, r.api_href,
  r.console_href, said.reporter_version, said.data, common.workspace_id, r.updated_at,
  CASE WHEN r.generation = 0 THEN resource.created_at END
FROM reporter_resources r JOIN resource ON resource.id = r.resource_id
LEFT JOIN LATERAL (SELECT data, reporter_version FROM reporter_representations
  WHERE resource_id = r.resource_id AND generation = r.generation ORDER BY version DESC LIMIT 1) said ON true
LEFT JOIN LATERAL (SELECT workspace_id FROM common_representations
  WHERE resource_id = r.resource_id AND generation = r.generation ORDER BY version DESC LIMIT 1) common ON true
WHERE NOT r.tombstone";

/// Resources by id.
pub type Resources = BTreeMap<String, Value>;

/// What PostgreSQL holds.
pub fn truth(client: &mut Client) -> Resources {
    let rows = client.query(LIVE, &[]).expect("PostgreSQL is there");
    rows.iter().map(|row| (row.get(0), resource(row))).collect()
}

fn resource(row: &Row) -> Value {
    let text = |column: usize| row.get::<_, Option<String>>(column);
    let data = text(8).map_or(Value::Null, |data| serde_json::from_str(&data).expect("JSON"));
    let (updated_at, created_at) = (row.get::<_, i64>(10), row.get::<_, Option<i64>>(11));
    json!({
        "resourceId": text(0),
        "resourceType": text(1),
        "workspaceId": text(9),
        "reporter": {
            "type": text(2),
            "instanceId": text(3),
            "localResourceId": text(4),
            "apiHref": text(5),
            "consoleHref": text(6),
            "version": text(7),
        },
        "data": data,
        "createdAt": created_at,
        "updatedAt": updated_at,
    })
}

/// What Tarn answers once it has all that the log holds now, in the same words: live resources, or orphans.
pub fn shown(readers: SocketAddr, orphaned: bool) -> Resources {
    let mut found = Resources::new();
    let mut token = String::new();
    let words = "consistency=atLeastAsAcknowledged&timeout=30s&limit=1000";
    loop {
        let answer = get(readers, &format!("/api/tarn/v1/resources?{words}&orphaned={orphaned}{token}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        for one in page["items"].as_array().expect("a page") {
            found.insert(one["resourceId"].as_str().expect("an id").to_owned(), in_words_of_truth(one));
        }
        let Some(next) = page["nextPageToken"].as_str() else { return found };
        token = format!("&pageToken={next}");
    }
}

/// Times as numbers, and without the event that made the state, which PostgreSQL does not know.
fn in_words_of_truth(one: &Value) -> Value {
    let mut one = one.clone();
    for name in ["createdAt", "updatedAt"] {
        let time = one[name].as_str().map(|time| time.parse::<jiff::Timestamp>().expect("RFC 3339").as_microsecond());
        one[name] = time.into();
    }
    let fields = one.as_object_mut().expect("an object");
    fields.remove("lastEvent");
    one
}

/// Without when resources were made, for where the events that told are lost.
pub fn without_creation(resources: Resources) -> Resources {
    let without = |(id, mut one): (String, Value)| {
        one["createdAt"] = Value::Null;
        (id, one)
    };
    resources.into_iter().map(without).collect()
}

/// How Tarn differs from the truth, for people; nothing where it does not.
pub fn difference(truth: &Resources, shown: &Resources) -> Option<String> {
    let ids = truth.keys().chain(shown.keys().filter(|id| !truth.contains_key(*id)));
    let differ = |id: &&String| truth.get(*id) != shown.get(*id);
    let count = ids.clone().filter(differ).count();
    let first = ids.clone().find(differ)?;
    let of = |resources: &Resources| resources.get(first).map_or("nothing".to_owned(), Value::to_string);
    Some(format!(
        "{count} of {} differ, such as {first}:\nPostgreSQL: {}\nTarn:       {}",
        ids.count(),
        of(truth),
        of(shown)
    ))
}
