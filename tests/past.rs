//! The recent past over HTTP: what changed in a view between two instants, and the states of a resource.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::served::{Served, eventually, get};
use crate::support::reports::{delete, id, report};
use crate::views_served::{is_as_described, queries, with_views};

const HOSTS: &str = "SELECT ansible_host, workspace_id FROM host ORDER BY ansible_host";
const DIFF: &str = "/api/tarn/v1/views/hosts/diff";

/// The epoch once a host is shown so; none where it is deleted.
fn shown(at: SocketAddr, number: usize, name: Option<&str>) -> u64 {
    let path = format!("/api/tarn/v1/resources/{}", id(number));
    let mut epoch = 0;
    eventually("it is shown", || {
        let answer = get(at, &path);
        epoch = answer.header("tarn-epoch").and_then(|epoch| epoch.parse().ok()).expect("an epoch");
        match name {
            Some(name) => answer.json()["data"]["ansible_host"] == name,
            None => answer.status == 404,
        }
    });
    epoch
}

fn served() -> (tempfile::TempDir, Served, std::sync::mpsc::Sender<tarn::generate::Generated>) {
    let folder = queries(&[("hosts", HOSTS)]);
    let (served, feed) = Served::fed(with_views(folder.path()));
    eventually("ready", || get(served.readers, "/readyz").status == 200);
    (folder, served, feed)
}

fn host(offset: i64, number: usize, workspace: &str, name: &str) -> tarn::generate::Generated {
    report(offset, number, "host", workspace, json!({"ansible_host": name}))
}

/// What left and came, as `(diff, name, workspace)`.
fn items(answer: &Value) -> Vec<(i64, String, String)> {
    let text = |item: &Value, name: &str| item["row"][name].as_str().expect("a text").to_owned();
    let items = answer["items"].as_array().unwrap_or_else(|| panic!("a list: {answer}")).iter();
    items
        .map(|item| (item["diff"].as_i64().expect("a number"), text(item, "ansible_host"), text(item, "workspace_id")))
        .collect()
}

fn expected(items: &[(i64, &str, &str)]) -> Vec<(i64, String, String)> {
    items.iter().map(|(diff, name, workspace)| (*diff, (*name).to_owned(), (*workspace).to_owned())).collect()
}

#[test]
fn what_changed_in_a_view_is_told() {
    let (_folder, served, feed) = served();
    let at = served.readers;
    let mut epochs = vec![shown(at, 0, None)];
    // Two hosts of one name and workspace are two copies of a row.
    for (offset, (number, workspace, name)) in
        [(0, "blue", "a"), (1, "blue", "b"), (2, "blue", "a"), (1, "red", "b"), (3, "red", "c")].into_iter().enumerate()
    {
        feed.send(host(offset as i64, number, workspace, name)).expect("fed");
        let path = format!("/api/tarn/v1/resources/{}", id(number));
        eventually("it is shown", || get(at, &path).json()["lastEvent"]["offset"] == offset);
        epochs.push(shown(at, number, Some(name)));
    }
    feed.send(delete(5, 3)).expect("fed");
    epochs.push(shown(at, 3, None));
    let diff = |from: usize, to: usize| {
        let answer = get(at, &format!("{DIFF}?from={}&to={}", epochs[from], epochs[to]));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let json = answer.json();
        is_as_described(at, "Difference", &json);
        assert_eq!((&json["from"]["epoch"], &json["to"]["epoch"]), (&epochs[from].into(), &epochs[to].into()));
        items(&json)
    };
    assert_eq!(diff(0, 1), expected(&[(1, "a", "blue")]));
    assert_eq!(diff(0, 3), expected(&[(2, "a", "blue"), (1, "b", "blue")]));
    assert_eq!(diff(3, 4), expected(&[(-1, "b", "blue"), (1, "b", "red")]));
    assert_eq!(diff(2, 2), expected(&[]));
    // What came and left in between is not told.
    assert_eq!(diff(4, 6), expected(&[]));
    let all = expected(&[(2, "a", "blue"), (1, "b", "red")]);
    assert_eq!(diff(0, 6), all);
    // Until now, and from where it is kept.
    assert_eq!(items(&get(at, &format!("{DIFF}?from={}", epochs[0])).json()), all);
    assert_eq!(items(&get(at, DIFF).json()), all);
    // Between two epochs it is what it was at the former.
    let between = format!("{DIFF}?from={}&to={}", epochs[3] - 1, epochs[4] + 1);
    assert_eq!(get(at, &between).status, 200);
    let chosen = get(at, &format!("{DIFF}?from={}&workspace_id=red", epochs[0])).json();
    assert_eq!(items(&chosen), expected(&[(1, "b", "red")]));
    pages_stay_with_their_instants(at, epochs[0], &all, || {
        feed.send(host(6, 7, "green", "z")).expect("fed");
        shown(at, 7, Some("z"));
    });
    times_have_bounds(at, &epochs);
    let over = format!("{DIFF}?from={}&to={}", epochs[0], epochs[6]);
    let tag = get(at, &over).header("etag").expect("what is over has a tag").to_owned();
    assert_eq!(get(at, &over).header("etag"), Some(tag.as_str()));
    assert_eq!(get(at, DIFF).header("etag"), None, "what goes on has none");
}

fn pages_stay_with_their_instants(at: SocketAddr, from: u64, all: &[(i64, String, String)], change: impl Fn()) {
    let list = format!("{DIFF}?from={from}&limit=1");
    let first = get(at, &list).json();
    change();
    let mut paged = items(&first);
    let mut token = first["nextPageToken"].clone();
    while let Some(next) = token.as_str() {
        let page = get(at, &format!("{list}&pageToken={next}")).json();
        assert_eq!((&page["from"], &page["to"]), (&first["from"], &first["to"]));
        paged.extend(items(&page));
        token = page["nextPageToken"].clone();
    }
    assert_eq!(paged, all);
    let token = first["nextPageToken"].as_str().expect("there is more");
    for other in [format!("{DIFF}?from={from}&workspace_id=red"), format!("{DIFF}?limit=1"), DIFF[..24].to_owned()] {
        let sign = if other.contains('?') { '&' } else { '?' };
        assert_eq!(get(at, &format!("{other}{sign}pageToken={token}")).status, 400, "{other}");
    }
}

fn times_have_bounds(at: SocketAddr, epochs: &[u64]) {
    let text = get(at, &format!("{DIFF}?from={}", epochs[3])).json()["from"]["asOf"].clone();
    let text = text.as_str().expect("a time");
    let (by_text, by_number) = (format!("{DIFF}?from={text}"), format!("{DIFF}?from={}", epochs[3]));
    assert_eq!(items(&get(at, &by_text).json()), items(&get(at, &by_number).json()));
    let far = epochs[0] + 86_400_000;
    for (query, status, words) in [
        (format!("from={}&to={}", epochs[1], epochs[0]), 400, "later than `to`"),
        (format!("from={far}"), 400, "later than what is shown"),
        (format!("to={far}"), 400, "later than what is shown"),
        ("from=yesterday".to_owned(), 400, "RFC 3339"),
        ("from=99999999999999999999999".to_owned(), 400, "RFC 3339"),
        ("from=1&from=2".to_owned(), 400, "once"),
        ("colour=red".to_owned(), 400, "no column"),
        ("from=1".to_owned(), 410, "kept since"),
        ("from=2020-01-01T00:00:00Z".to_owned(), 410, "kept since"),
    ] {
        let answer = get(at, &format!("{DIFF}?{query}"));
        let json = answer.json();
        assert!(json["message"].as_str().is_some_and(|message| message.contains(words)), "{query}: {json}");
        assert_eq!(answer.status, status, "{query}: {json}");
        if status == 410 {
            let since = json["metadata"]["historySinceEpoch"].as_u64().expect("an epoch");
            assert_eq!(get(at, &format!("{DIFF}?from={since}")).status, 200, "it is kept since then");
        }
    }
    assert_eq!(get(at, "/api/tarn/v1/views/nothing/diff").status, 404);
}

#[test]
fn the_states_of_a_resource_are_told() {
    let (_folder, served, feed) = served();
    let at = served.readers;
    let path = format!("/api/tarn/v1/resources/{}/history", id(1));
    let nothing = get(at, &path);
    assert_eq!(nothing.status, 404, "{}", nothing.body);
    assert_eq!(get(at, "/api/tarn/v1/resources/x/history").status, 400);
    let mut epochs = Vec::new();
    for (offset, name) in [Some("a"), Some("b"), None, Some("c")].into_iter().enumerate() {
        let event = match name {
            Some(name) => host(offset as i64, 1, "blue", name),
            None => delete(offset as i64, 1),
        };
        feed.send(event).expect("fed");
        epochs.push(shown(at, 1, name));
    }
    let answer = get(at, &path).json();
    is_as_described(at, "StateList", &answer);
    let all = answer["items"].as_array().expect("a list").clone();
    let told: Vec<_> = all.iter().map(|one| (&one["deleted"], &one["resource"]["lastEvent"]["offset"])).collect();
    let (no, yes) = (&json!(false), &json!(true));
    assert_eq!(told, [(no, &json!(3)), (yes, &json!(2)), (no, &json!(1)), (no, &json!(0))], "newest first: {answer}");
    let names: Vec<_> = all.iter().map(|one| one["resource"]["data"]["ansible_host"].as_str()).collect();
    assert_eq!(names, [Some("c"), None, Some("b"), Some("a")]);
    for (one, epoch) in all.iter().rev().zip(&epochs) {
        let began = one["epoch"].as_u64().expect("an epoch");
        assert!(began <= *epoch && began > epoch - 10_000, "{one} is of {epoch}");
        assert_eq!(one["resource"]["resourceId"], id(1));
    }
    let now = get(at, &format!("/api/tarn/v1/resources/{}", id(1))).json();
    assert_eq!(all[0]["resource"]["updatedAt"], now["updatedAt"]);
    assert!(answer["historySince"].is_string());
    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let page = get(at, &format!("{path}?limit=3{token}")).json();
        paged.extend(page["items"].as_array().expect("a list").clone());
        match page["nextPageToken"].as_str() {
            Some(next) => token = format!("&pageToken={next}"),
            None => break,
        }
    }
    assert_eq!(paged, all);
    let other = format!("/api/tarn/v1/resources/{}/history?limit=3{token}", id(2));
    assert_eq!(get(at, &other).status, 400, "a token is of one resource");
}
