//! The HTTP surface through real sockets: shapes, filters, pages, errors, scopes, the description of it all.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;
use tarn::generate::Generated;
use tarn::http::{Route, Scope, Verb, routes};
use tarn::model::{ResourceId, Timestamp};
use tarn::source::{PartitionState, Phase};

use crate::served::{Served, Setup, eventually, exchange, get, hosts, parse};
use crate::views_changing::post;

fn json(address: SocketAddr, path: &str) -> (u16, Value) {
    let answer = get(address, path);
    (answer.status, answer.json())
}

#[test]
fn the_surface() {
    let mut setup = Setup::default();
    setup.config.views.directory = "queries".to_owned();
    let served = Served::on_log(setup);
    let at = served.readers;
    pages_show_every_resource_once(&served);
    pages_go_on_whatever_the_order_of_the_filters(at);
    let (_, position) = json(at, "/api/tarn/v1/position");
    let read = position["position"].as_array().expect("a list").iter().map(|at| (&at["topic"], &at["offset"]));
    let resources = Value::from(tarn::generate::RESOURCES_TOPIC);
    assert!(read.clone().any(|at| at == (&resources, &3_000.into())), "{position}");
    quarantine_is_for_operators(&served);
    let (_, ignored) = json(at, "/api/tarn/v1/ignored");
    let ignored = ignored["items"].as_array().expect("a list");
    // As times: their texts have as many digits as they need.
    let met: Vec<_> = ignored.iter().map(|item| Timestamp::parse(item["metAt"].as_str().expect("a time"))).collect();
    let met: Vec<_> = met.into_iter().map(|time| time.expect("RFC 3339").expect("not zero")).collect();
    assert!(!met.is_empty() && met.is_sorted_by(|a, b| a >= b), "newest first");
    assert!(ignored.iter().all(|item| item["reason"].is_string()));
    assert_eq!(json(at, "/livez").1["status"], "OK");
    assert_eq!(json(at, "/readyz").0, 200);
    assert_eq!(json(at, "/metrics").0, 404);
    assert!(get(served.operators, "/metrics").body.contains("tarn_records_total"));
    let status = json(at, "/api/tarn/v1/status").1;
    assert_eq!(status["sourceState"]["phase"], "ended");
    let names: Vec<_> =
        status["arrangements"].as_array().expect("a list").iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["states", "index", "holders", "orphans", "quarantine", "kept", "seen_rejects"]);
    errors_say_what_is_allowed(&served);
    every_answer_tells_its_instant(&served);
    the_description_is_true(&served);
}

fn pages_show_every_resource_once(served: &Served) {
    let census = served.service.publisher.view().census();
    for (query, expected) in [("", census.resources), ("orphaned=true&", census.orphaned)] {
        let (mut ids, mut token) = (Vec::new(), String::new());
        loop {
            let (status, page) = json(served.readers, &format!("/api/tarn/v1/resources?{query}limit=37{token}"));
            assert_eq!(status, 200, "{page}");
            let items = page["items"].as_array().expect("a list").iter();
            ids.extend(items.map(|item| item["resourceId"].as_str().expect("an id").to_owned()));
            match page["nextPageToken"].as_str() {
                Some(next) => token = format!("&pageToken={next}"),
                None => break,
            }
        }
        assert!(ids.is_sorted() && ids.len() == expected, "{} of {expected}", ids.len());
        let (status, one) = json(served.readers, &format!("/api/tarn/v1/resources/{}", ids[0]));
        assert_eq!((status, one["resourceId"].as_str()), (200, Some(ids[0].as_str())));
        assert_eq!(one.get("orphanedBy").is_some(), !query.is_empty());
        assert!(one["asOf"].is_string() && one["consistencyToken"].is_string());
    }
    let (_, clusters) =
        json(served.readers, "/api/tarn/v1/resources?resourceType=k8s_cluster&resourceType=K8S_POLICY&limit=1000");
    let types = clusters["items"].as_array().expect("a list").iter().map(|item| item["resourceType"].as_str());
    assert!(types.clone().count() > 0 && types.clone().all(|kind| matches!(kind, Some("k8s_cluster" | "k8s_policy"))));
}

fn pages_go_on_whatever_the_order_of_the_filters(at: SocketAddr) {
    let list = "/api/tarn/v1/resources?limit=2";
    let (_, page) = json(at, &format!("{list}&resourceType=host&resourceType=k8s_cluster"));
    let token = page["nextPageToken"].as_str().expect("there are more");
    let again = "resourceType=K8S_CLUSTER&resourceType=host&resourceType=host";
    assert_eq!(json(at, &format!("{list}&{again}&pageToken={token}")).0, 200);
    let (status, other) = json(at, &format!("{list}&resourceType=host&pageToken={token}"));
    assert!(status == 400 && other["message"].as_str().is_some_and(|message| message.contains("other filters")));
}

fn quarantine_is_for_operators(served: &Served) {
    let at = served.readers;
    let (_, all) = json(at, "/api/tarn/v1/quarantine?limit=1000");
    let items = all["items"].as_array().expect("a list");
    assert!(items.len() > 5 && items.iter().any(|item| item["reason"] == "not_a_log_line"), "{all}");
    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let (_, page) = json(at, &format!("/api/tarn/v1/quarantine?limit=3{token}"));
        paged.extend(page["items"].as_array().expect("a list").clone());
        match page["nextPageToken"].as_str() {
            Some(next) => token = format!("&pageToken={next}"),
            None => break,
        }
    }
    assert_eq!(&paged, items);
    let id = items[0]["id"].as_str().expect("an id");
    assert_eq!(json(at, &format!("/api/tarn/v1/quarantine/{id}")).0, 404, "the bytes are for operators");
    let (status, entry) = json(served.operators, &format!("/api/tarn/v1/quarantine/{id}"));
    assert!(status == 200 && entry["value"]["base64"].is_string(), "{entry}");
}

fn errors_say_what_is_allowed(served: &Served) {
    let list = "/api/tarn/v1/resources";
    let long = "w".repeat(1_025);
    let many = "workspaceId=w&".repeat(101);
    let very_long = "w".repeat(17_000);
    let cases = [
        (format!("{list}?limit=0"), 400, "from 1 to 1000"),
        (format!("{list}?limit=1001"), 400, "from 1 to 1000"),
        (format!("{list}?limit=x"), 400, "`limit`"),
        (format!("{list}?limit=%2B5"), 400, "`limit`"),
        (format!("{list}?limit=99999999999999999999999"), 400, "`limit`"),
        (format!("{list}?limit=1&limit=2"), 400, "once"),
        (format!("{list}?orphaned=true&orphaned=true"), 400, "once"),
        (format!("{list}?colour=red"), 400, "workspaceId"),
        (format!("{list}?resourceType="), 400, "empty"),
        (format!("{list}?resourceType"), 400, "empty"),
        (format!("{list}?resourceType=a%07b"), 400, "control"),
        (format!("{list}?reporterType={long}"), 400, "1024"),
        (format!("{list}?reporterInstanceId=%7f"), 400, "control"),
        (format!("{list}?workspaceId=%00"), 400, "control"),
        (format!("{list}?localResourceId={long}"), 400, "1024"),
        (format!("{list}?{many}"), 400, "at most 100"),
        (format!("{list}?workspaceId={very_long}"), 400, "16384"),
        (format!("{list}?orphaned=maybe"), 400, "true or false"),
        (format!("{list}?pageToken=zzzz"), 400, "pageToken"),
        (format!("{list}?pageToken=%ff"), 400, "UTF-8"),
        (format!("{list}?workspaceId=%zz"), 400, "hex"),
        (format!("{list}?workspaceId=a%2"), 400, "hex"),
        (format!("{list}/nonsense"), 400, "invalid UUID"),
        (format!("{list}/%ff"), 400, "UTF-8"),
        (format!("{list}/019ba0c4-5f6e-7c11-9c52-ffffffffffff"), 404, "resource not found"),
        (format!("{list}/019ba0c4-5f6e-7c11-9c52-ffffffffffff?x=1"), 400, "known are consistency"),
        ("/api/tarn/v1/quarantine?before=x".to_owned(), 400, "pageToken"),
        ("/api/tarn/v1/quarantine?pageToken=x".to_owned(), 400, "pageToken"),
        ("/api/tarn/v1/nothing".to_owned(), 404, "openapi.json"),
    ];
    for (path, status, words) in &cases {
        let (got, body) = json(served.readers, path);
        let shown = path.chars().take(100).collect::<String>();
        assert_eq!((got, body["code"].as_u64()), (*status, Some(u64::from(*status))), "{shown}: {body}");
        assert!(body["message"].as_str().is_some_and(|message| message.contains(words)), "{shown}: {body}");
    }
    let looks = |route: &&Route| route.verb == Verb::Get && !route.path.contains('{');
    for route in routes().iter().filter(looks) {
        let (status, body) = json(served.operators, &format!("{}?colour=red", route.path));
        assert_eq!((status, body["code"].as_u64()), (400, Some(400)), "{}: {body}", route.path);
    }
    for path in ["/api/tarn/v1/quarantine/%ff", "/api/tarn/v1/quarantine/x?y=1"] {
        assert_eq!(json(served.operators, path).0, 400, "{path}");
    }
    assert_eq!(json(served.operators, "/api/tarn/v1/quarantine/a:0:1").0, 404);
}

fn every_answer_tells_its_instant(served: &Served) {
    for path in [
        "/api/tarn/v1/position",
        "/api/tarn/v1/resources?limit=1",
        "/api/tarn/v1/resources?limit=0",
        "/api/tarn/v1/resources/019ba0c4-5f6e-7c11-9c52-ffffffffffff",
        "/api/tarn/v1/resources/x",
        "/api/tarn/v1/ignored",
        "/nothing",
        "/livez",
        "/readyz",
        "/openapi.json",
    ] {
        let answer = get(served.readers, path);
        for name in [
            "tarn-as-of",
            "tarn-epoch",
            "tarn-position",
            "tarn-consistency-token",
            "tarn-source-last-heard",
            "tarn-history-since",
        ] {
            assert!(answer.header(name).is_some_and(|value| !value.is_empty()), "{path}: {name} in {}", answer.head);
        }
        assert_eq!(answer.header("tarn-source-connected"), Some("true"), "{path}");
        let varies = path == "/api/tarn/v1/resources?limit=1";
        assert_eq!(answer.header("vary"), varies.then_some("accept-encoding"), "{path}");
    }
    let post = exchange(served.readers, b"POST /livez HTTP/1.1\r\nHost: tarn\r\nConnection: close\r\n\r\n");
    let post = parse(&post).expect("an answer");
    assert_eq!((post.status, post.json()["code"].as_u64()), (405, Some(405)));
    assert!(post.header("allow").is_some_and(|allow| allow.contains("GET")), "{}", post.head);
    assert!(post.header("tarn-epoch").is_some());
    let head = exchange(served.readers, b"HEAD /livez HTTP/1.1\r\nHost: tarn\r\nConnection: close\r\n\r\n");
    let head = parse(&head).expect("an answer");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

fn the_description_is_true(served: &Served) {
    for (scope, address) in [(Scope::Read, served.readers), (Scope::Admin, served.operators)] {
        let (_, api) = json(address, "/openapi.json");
        let described: BTreeSet<&str> = api["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
        let here = routes().into_iter().filter(|route| scope == Scope::Admin || route.scope == Scope::Read);
        let here: Vec<_> = here.collect();
        assert_eq!(described, here.iter().map(|route| route.path).collect());
        for route in here {
            if route.verb == Verb::Post {
                // What it answers is held to this in `resubmission`, `views_changing` and `adhoc`.
                assert!(api["paths"][route.path]["post"].is_object(), "{}", route.path);
                continue;
            }
            if route.media_types == ["text/event-stream"] {
                // It never ends; what it tells is held to what is there in `streams_served`.
                let content = &api["paths"][route.path]["get"]["responses"]["200"]["content"];
                assert!(content["text/event-stream"]["schema"].is_object(), "{}", route.path);
                continue;
            }
            let path = match route.path {
                "/api/tarn/v1/resources/{id}" => first(address, "/api/tarn/v1/resources", "resourceId"),
                "/api/tarn/v1/quarantine/{id}" => first(address, "/api/tarn/v1/quarantine", "id"),
                "/api/tarn/v1/resources/{id}/history" => {
                    first(address, "/api/tarn/v1/resources", "resourceId") + "/history"
                }
                "/api/tarn/v1/read-points/{id}" => {
                    let (_, point) = post(address, "/api/tarn/v1/read-points");
                    route.path.replace("{id}", point["at"].as_str().expect("an id"))
                }
                path => path.replace("{view}", "workspace_resources"),
            };
            let answer = get(address, &path);
            assert_eq!(answer.status, 200, "{path}");
            let content = &api["paths"][route.path]["get"]["responses"]["200"]["content"];
            let media_type = answer.header("content-type").and_then(|kind| kind.split(';').next()).expect("a type");
            let schema = &content[media_type]["schema"];
            let value = if media_type == "text/plain" { Value::from(answer.body.as_str()) } else { answer.json() };
            let mut known = BTreeSet::new();
            conforms(&api, schema, &value, &mut known).unwrap_or_else(|what| panic!("{path}: {what}"));
            let fields = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
            let unknown: Vec<&str> = fields.filter(|name| !known.contains(*name)).collect();
            assert!(route.schema == "OpenApi" || unknown.is_empty(), "{path}: {unknown:?} are not described");
        }
        let list = &api["paths"]["/api/tarn/v1/resources"]["get"]["parameters"];
        let named = |name: &str| list.as_array().expect("a list").iter().find(|known| known["name"] == name).cloned();
        let limit = named("limit").expect("described");
        assert_eq!((&limit["schema"]["maximum"], &limit["schema"]["default"]), (&1_000.into(), &100.into()));
        let types = named("resourceType").expect("described");
        assert_eq!((&types["schema"]["type"], &types["explode"]), (&"array".into(), &true.into()));
    }
}

/// The path of the first item of a list.
fn first(address: SocketAddr, list: &str, id: &str) -> String {
    let (_, page) = json(address, list);
    format!("{list}/{}", page["items"][0][id].as_str().expect("an id"))
}

/// Whether a value is what a schema says; the fields that the schema names on top go to `known`.
pub fn conforms(api: &Value, schema: &Value, value: &Value, known: &mut BTreeSet<String>) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().expect("a name");
        let named = &api["components"]["schemas"][name];
        assert!(named.is_object(), "{name} is described");
        return conforms(api, named, value, known).map_err(|what| format!("{name}: {what}"));
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        conforms(api, part, value, known)?;
    }
    if let Some(parts) = schema["oneOf"].as_array() {
        let ones: Vec<_> = parts.iter().map(|part| conforms(api, part, value, &mut BTreeSet::new())).collect();
        assert_eq!(ones.iter().filter(|one| one.is_ok()).count(), 1, "{value}: {ones:?}");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() || types.contains(&"number") => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.is_empty() && !types.contains(&is) {
        return Err(format!("{value} is no {types:?}"));
    }
    if let (Some("uuid"), Some(text)) = (schema["format"].as_str(), value.as_str()) {
        ResourceId::parse(text).map_err(|_| format!("{text:?} is no UUID"))?;
    }
    if let (Some(allowed), false) = (schema["enum"].as_array(), value.is_null()) {
        assert!(allowed.contains(value), "{value} is one of {allowed:?}");
    }
    if !value.is_null() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            value.get(name).ok_or_else(|| format!("{name} is missing"))?;
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        known.insert(name.clone());
        if let Some(value) = value.get(name) {
            conforms(api, schema, value, &mut BTreeSet::new()).map_err(|what| format!("{name}: {what}"))?;
        }
    }
    for item in value.as_array().into_iter().flatten().filter(|_| schema["items"].is_object()) {
        conforms(api, &schema["items"], item, &mut BTreeSet::new())?;
    }
    Ok(())
}

/// The record with something that is no event for a value, under an event id of its own.
fn poisoned(record: &Generated) -> Generated {
    let mut poison = Generated { value: Some("no event".to_owned()), ..record.clone() };
    for (name, value) in &mut poison.headers {
        if let (&mut "id", Some(id)) = (name, value) {
            let last = if id.ends_with('0') { "1" } else { "0" };
            id.replace_range(id.len() - 1.., last);
        }
    }
    poison
}

#[test]
fn the_quarantine_is_paged_over_an_entry_that_clears() {
    let (served, feed) = Served::fed(Setup::default());
    let hosts = hosts(4);
    for host in &hosts {
        feed.send(poisoned(host)).expect("fed");
    }
    let page = |token: &str| json(served.readers, &format!("/api/tarn/v1/quarantine?limit=1{token}")).1;
    eventually("four entries", || page("")["total"] == 4);
    let first = page("");
    let token = format!("&pageToken={}", first["nextPageToken"].as_str().expect("there are more"));
    assert_eq!(page(&token)["items"][0]["offset"], 1);
    // The first two are mended, the one that the token stands on among them.
    for host in &hosts[..2] {
        feed.send(Generated { offset: host.offset + 100, ..host.clone() }).expect("fed");
    }
    eventually("two entries", || page("")["total"] == 2);
    let next = page(&token);
    assert_eq!((&next["items"][0]["offset"], &next["total"]), (&2.into(), &2.into()), "{next}");
    let token = format!("&pageToken={}", next["nextPageToken"].as_str().expect("there is more"));
    let last = page(&token);
    assert_eq!((&last["items"][0]["offset"], &last["nextPageToken"]), (&3.into(), &Value::Null));
}

/// A record of 2025-03-12 (kessel-events 7), said by `reporter` at `instance` under `event`.
fn legacy(offset: i64, event: &str, reporter: &str, instance: &str) -> Generated {
    let id = format!("01958b52-01a0-7a1a-a50d-608ebf5a2a{offset:02}");
    let value = serde_json::json!({"specversion": "1.0", "source": "http://localhost:8000",
        "type": "redhat.inventory.resources.integration.created", "subject": format!("/resources/integration/{id}"),
        "data": {"metadata": {"id": id, "resource_type": "k8s-integration", "workspace_id": "1234"},
            "reporter_data": {"reporter_instance_id": instance, "reporter_type": reporter, "local_resource_id": id}}});
    Generated {
        offset,
        headers: vec![("id", Some(event.to_owned())), ("operation", Some("created".to_owned()))],
        key: Some(id),
        value: Some(value.to_string()),
        ..hosts(1).remove(0)
    }
}

#[test]
fn filters_find_whatever_is_shown_however_its_reporter_wrote_it() {
    let (served, feed) = Served::fed(Setup::default());
    feed.send(legacy(10, "a", "NOTIFICATIONS", "user@example.com")).expect("fed");
    feed.send(legacy(11, "b", "Ähm & Söhne", "A/b c+d")).expect("fed");
    eventually("both", || served.service.publisher.view().census().resources == 2);
    let found = |query: &str| {
        let (status, page) = json(served.readers, &format!("/api/tarn/v1/resources?{query}"));
        assert_eq!(status, 200, "{query}: {page}");
        page["items"].as_array().expect("a list").len()
    };
    for (field, written) in [
        ("reporterInstanceId", "User@Example.com"),
        ("reporterInstanceId", "A/b c+d"),
        ("reporterType", "NOTIFICATIONS"),
        ("reporterType", "Ähm & Söhne"),
    ] {
        for text in [written.to_owned(), written.to_lowercase()] {
            let text = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
            assert_eq!(found(&format!("{field}={text}")), 1, "{field} {text}");
        }
    }
    assert_eq!((found("resourceType=K8S-Integration"), found("resourceType=k8s_integration")), (2, 2));
    assert_eq!((found("reporterType=%C3%84hm"), found("resourceType=K8S%20Integration")), (0, 0));
}

#[test]
fn ids_of_events_that_are_no_uuids_are_shown_as_they_came() {
    let (served, feed) = Served::fed(Setup::default());
    let first = legacy(10, "order-18", "hbi", "i");
    let broken = |record: &Generated| Generated { value: Some("no event".to_owned()), ..record.clone() };
    let again = |offset: i64| Generated { offset, ..first.clone() };
    for record in [first.clone(), again(20), broken(&again(21)), broken(&legacy(11, "order-19", "hbi", "i"))] {
        feed.send(record).expect("fed");
    }
    let ignored = || json(served.readers, "/api/tarn/v1/ignored").1;
    let quarantine = || json(served.readers, "/api/tarn/v1/quarantine").1;
    eventually("all", || quarantine()["total"] == 1 && ignored()["items"].as_array().map(Vec::len) == Some(2));
    let ignored = ignored();
    assert_eq!(
        (&ignored["items"][0]["eventId"], &ignored["items"][1]["eventId"]),
        (&"order-18".into(), &"order-18".into())
    );
    assert_eq!(quarantine()["items"][0]["eventId"], "order-19");
    let (_, api) = json(served.readers, "/openapi.json");
    for (name, answer) in [("IgnoredList", ignored), ("QuarantineList", quarantine())] {
        let schema = &api["components"]["schemas"][name];
        conforms(&api, schema, &answer, &mut BTreeSet::new()).unwrap_or_else(|what| panic!("{name}: {what}"));
    }
}

#[test]
fn what_is_not_known_of_a_partition_is_described_as_null() {
    let (served, _feed) = Served::fed(Setup::default());
    served.service.status.update(|state| {
        state.partitions = vec![PartitionState {
            topic: "t".into(),
            partition: 0,
            phase: Phase::Connecting,
            next_offset: None,
            start_offset: None,
            end_offset: None,
            held_by_transaction: 0,
            last_error: None,
            identity_fault: None,
        }];
    });
    let (_, status) = json(served.readers, "/api/tarn/v1/status");
    let (_, api) = json(served.readers, "/openapi.json");
    let schema = &api["components"]["schemas"]["Status"];
    conforms(&api, schema, &status, &mut BTreeSet::new()).expect("as described");
    let source = &schema["allOf"][0]["properties"]["sourceState"]["properties"];
    let described = &source["partitions"]["items"]["properties"];
    for (name, _) in status["sourceState"]["partitions"][0].as_object().expect("a partition") {
        assert!(described[name].is_object(), "{name} is described");
    }
    for name in ["nextOffset", "startOffset", "endOffset", "lag"] {
        assert_eq!(status["sourceState"]["partitions"][0][name], Value::Null);
    }
}
