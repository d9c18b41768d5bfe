//! What is shipped to run Tarn in containers fits the rest of the tree, as far as that can be told without an engine to
//! run them: files that are named are there, variables are keys of the configuration, addresses and folders meet, the
//! connector has the settings of Kessel's production, and dashboards show metrics that are exported.
//!
//! Not here: whether images can be had and containers start. What runs in them is run by the tests of the pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tarn::config::Config;
use tarn::http::routes;

/// The service that is Tarn.
const TARN: &str = "tarn";
const CONNECTOR: &str = "config/compose/inventory-connector.json";
const WORKER: &str = "config/compose/connect.properties";
const DASHBOARDS: &str = "config/compose/grafana/dashboards";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json_in(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn services() -> Map<String, Value> {
    let compose = yaml("compose.yaml");
    compose["services"].as_object().expect("compose.yaml has services").clone()
}

/// The texts of a list; none where there is no list.
fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|item| item.as_str().expect("a text")).collect()
}

/// The variables of a service, as its container gets them where the user sets none.
fn environment(service: &Value) -> BTreeMap<String, String> {
    let variables = service["environment"].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().expect("a variable is a text, in quotes if need be").to_owned();
    variables.map(|(name, value)| (name.clone(), text(value))).collect()
}

/// What stands before and behind the first colon.
fn split(text: &str) -> (&str, &str) {
    text.split_once(':').unwrap_or_else(|| panic!("`{text}` has no colon"))
}

/// The mounts of a service: what is mounted, and where.
fn mounts(service: &Value) -> Vec<(&str, &str)> {
    texts(&service["volumes"]).into_iter().map(mount).collect()
}

fn mount(text: &str) -> (&str, &str) {
    let (from, rest) = split(text);
    (from, rest.split(':').next().unwrap_or_default())
}

/// The instructions of a file that an image is built by, each on one line, with its first word apart.
fn instructions(path: &str) -> Vec<(String, String)> {
    let text = read(path);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(' ').unwrap_or_else(|| panic!("{path}: `{line}`"))).map(owned).collect()
}

fn owned((first, rest): (&str, &str)) -> (String, String) {
    (first.to_owned(), rest.trim().to_owned())
}

/// What an instruction says, each time that it is given.
fn said<'a>(instructions: &'a [(String, String)], wanted: &str) -> Vec<&'a str> {
    instructions.iter().filter(|(name, _)| name == wanted).map(|(_, rest)| rest.as_str()).collect()
}

/// The file that a service's image is built by, if it is built here.
fn built_by(service: &Value) -> Option<String> {
    let build = service["build"].as_object()?;
    assert_eq!(build["context"], ".", "paths in a file that images are built by begin at the root of the tree");
    Some(build.get("dockerfile").map_or("Dockerfile", |path| path.as_str().expect("a path")).to_owned())
}

/// Every file that an image is built by.
fn recipes() -> BTreeSet<String> {
    services().values().filter_map(built_by).collect()
}

#[test]
fn what_is_copied_and_mounted_is_there() {
    let ignored = read(".dockerignore");
    let mut lines = ignored.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "nothing goes to the engine but what is let in by name");
    let let_in: Vec<&str> =
        lines.map(|line| line.strip_prefix('!').unwrap_or_else(|| panic!("`{line}` lets nothing in"))).collect();
    for path in &let_in {
        assert!(Path::new(path).exists(), ".dockerignore lets in {path}, which is not there");
    }
    let recipes = recipes();
    assert_eq!(recipes.len(), 2, "Tarn's image and Connect's: {recipes:?}");
    for recipe in &recipes {
        for copied in said(&instructions(recipe), "COPY") {
            if copied.starts_with("--from=") {
                continue;
            }
            let words: Vec<&str> = copied.split_whitespace().collect();
            let (_, sources) = words.split_last().expect("something is copied");
            for source in sources {
                assert!(Path::new(source).exists(), "{recipe} copies {source}, which is not there");
                assert!(
                    let_in.iter().any(|path| Path::new(source).starts_with(path)),
                    "{recipe} copies {source}, which .dockerignore keeps out"
                );
            }
        }
    }
    let compose = yaml("compose.yaml");
    let mut mounted = BTreeSet::new();
    for (name, service) in &services() {
        for (from, _) in mounts(service) {
            match from.strip_prefix("./") {
                Some(path) => assert!(Path::new(path).exists(), "{name} mounts {path}, which is not there"),
                None => assert!(mounted.insert(from.to_owned()), "{from} is mounted twice"),
            }
        }
    }
    let volumes: BTreeSet<String> = compose["volumes"].as_object().expect("volumes").keys().cloned().collect();
    assert_eq!(volumes, mounted);
}

/// An image is named with its version, and without a host: whoever runs it says where images are had from.
fn check_image(who: &str, image: &str) {
    let first = image.split('/').next().unwrap_or_default();
    let is_host = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    assert!(!is_host, "{who}: {image} names a host");
    assert!(image.contains(':') && !image.ends_with(":latest"), "{who}: {image} has no version");
}

#[test]
fn images_have_a_version_and_no_host() {
    for recipe in &recipes() {
        let instructions = instructions(recipe);
        let images = said(&instructions, "FROM");
        images.iter().for_each(|from| check_image(recipe, from.split(" AS ").next().unwrap_or_default()));
    }
    for (name, service) in &services() {
        if built_by(service).is_none() {
            check_image(name, service["image"].as_str().expect("an image"));
        }
    }
}

#[test]
fn services_wait_for_what_can_come_to_pass_and_are_on_loopback_alone() {
    let services = services();
    for (name, service) in &services {
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let awaited =
                services.get(other).unwrap_or_else(|| panic!("{name} waits for {other}, which is no service"));
            match how["condition"].as_str() {
                Some("service_healthy") => {
                    assert!(awaited["healthcheck"]["test"].is_array(), "{other}: is it healthy?")
                }
                Some("service_completed_successfully") => assert_eq!(awaited["restart"], "no", "{other} never ends"),
                other => assert_eq!(other, Some("service_started"), "{name}"),
            }
        }
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port} is open to the network");
        }
        assert!(service["restart"].is_string(), "{name}: what becomes of it when it ends?");
    }
}

/// The variables that Tarn has in its container: the image's, and over them the service's.
fn variables_of_tarn() -> BTreeMap<String, String> {
    let instructions = instructions("Dockerfile");
    let of_image = said(&instructions, "ENV").into_iter().map(|line| line.split_once('=').expect("NAME=VALUE"));
    let of_image = of_image.map(|(name, value)| (name.to_owned(), value.to_owned()));
    of_image.chain(environment(&services()[TARN])).collect()
}

fn config_of_tarn() -> Config {
    let variables = variables_of_tarn();
    let ours: Vec<&String> = variables.keys().filter(|name| name.starts_with("TARN_")).collect();
    assert!(ours.len() >= 4, "{ours:?}");
    // What is no key of the configuration is refused here by its name.
    Config::parse(&read("config/tarn.toml"), variables.into_iter()).expect("every variable is a key")
}

#[test]
fn tarn_finds_and_is_found() {
    let (config, services) = (config_of_tarn(), services());
    let (tarn, image) = (&services[TARN], instructions("Dockerfile"));
    // Listeners: on every address of the container, published where they are, and described by the image.
    let listeners = [config.http.listen, config.http.admin_listen];
    let expected = listeners.map(|at| format!("127.0.0.1:{0}:{0}", at.port()));
    assert_eq!(texts(&tarn["ports"]), expected);
    assert!(listeners.iter().all(|at| at.ip().is_unspecified()), "{listeners:?}");
    assert_eq!(said(&image, "EXPOSE"), [format!("{} {}", listeners[0].port(), listeners[1].port())]);
    // Kafka, at an address that it tells the other services.
    let (broker, _) = split(&config.source.kafka.brokers);
    let told = &environment(&services[broker])["KAFKA_ADVERTISED_LISTENERS"];
    assert!(told.contains(&format!("PLAINTEXT://{}", config.source.kafka.brokers)), "{told}");
    // The data directory: made by the image for its user alone, and a volume.
    let directory = config.snapshot.directory.as_str();
    let made = said(&image, "RUN").into_iter().find(|run| run.ends_with(directory)).expect("it is made");
    let user = said(&image, "USER")[0];
    let (owner, group) = split(user);
    assert!(made.contains(&format!("--mode=0700 --owner={owner} --group={group} ")), "{made}");
    assert!(owner.parse::<u32>().is_ok_and(|user| user > 0), "{user}");
    assert!(said(&image, "VOLUME")[0].contains(directory));
    assert!(mounts(tarn).contains(&("tarn", directory)));
    // Views and schemas, where the configuration looks from the folder that the process is in.
    let copied = said(&image, "COPY");
    for folder in [&config.views.directory, &config.views.schema_directory] {
        assert!(copied.contains(&format!("{folder} {folder}").as_str()), "{folder} is not copied to its place");
    }
    let here = format!("./{}", config.views.directory);
    let there = format!("{}/{}", said(&image, "WORKDIR").last().expect("a folder"), config.views.directory);
    assert!(mounts(tarn).contains(&(here.as_str(), there.as_str())), "{here} is not mounted at {there}");
    // The command line names the configuration that the image has.
    let command = said(&image, "CMD")[0];
    assert!(copied.contains(&"config/tarn.toml /etc/tarn/tarn.toml") && command.contains("\"/etc/tarn/tarn.toml\""));
}

#[test]
fn health_is_asked_for_where_it_is_told() {
    let image = instructions("Dockerfile");
    let check = said(&image, "HEALTHCHECK")[0];
    let (_, url) = check.split_once("http://127.0.0.1:").expect("a URL");
    let (port, path) = url.trim_end_matches(['"', ']']).split_once('/').expect("a path");
    assert_eq!(port, config_of_tarn().http.admin_listen.port().to_string(), "{check}");
    let path = format!("/{path}");
    let route = routes().into_iter().find(|route| route.path == path).unwrap_or_else(|| panic!("there is no {path}"));
    assert!(!route.counted, "health answers under any load");
    assert!(check.contains("\"curl\"") && said(&image, "RUN").iter().any(|run| run.contains(" curl ")), "{check}");
}

#[test]
fn tarn_may_do_no_more_than_it_must() {
    let tarn = &services()[TARN];
    assert_eq!(tarn["read_only"], true);
    assert_eq!(tarn["cap_drop"], json!(["ALL"]));
    assert_eq!(tarn["security_opt"], json!(["no-new-privileges:true"]));
    assert_eq!(tarn["tmpfs"], json!(["/tmp"]));
    assert!(tarn["privileged"].is_null() && tarn["user"].is_null() && tarn["cap_add"].is_null());
}

/// What Kessel's production has, but for where the database is.
fn connector_of_production() -> Value {
    json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": "${env:INVENTORY_DATABASE_HOST}",
        "database.port": "${env:INVENTORY_DATABASE_PORT}",
        "database.user": "${env:INVENTORY_DATABASE_USER}",
        "database.password": "${env:INVENTORY_DATABASE_PASSWORD}",
        "database.dbname": "${env:INVENTORY_DATABASE_NAME}",
        "topic.prefix": "kessel-inventory",
        "plugin.name": "pgoutput",
        "slot.name": "inventory_api_debezium",
        "snapshot.mode": "no_data",
        "table.exclude.list": ".*",
        "message.prefix.include.list": "kessel.resources,kessel.tuples",
        "transforms": "decode,outbox",
        "transforms.decode.type":
            "io.debezium.connector.postgresql.transforms.DecodeLogicalDecodingMessageContent",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        "transforms.outbox.table.fields.additional.placement": "operation:header,txid:header",
        "transforms.outbox.table.expand.json.payload": "true",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "heartbeat.interval.ms": "300000",
        "heartbeat.action.query": "SELECT pg_logical_emit_message(false, 'heartbeat', now()::varchar);",
        "topic.heartbeat.prefix": "debezium-heartbeat",
        "poll.interval.ms": "250",
    })
}

#[test]
fn the_connector_is_that_of_production() {
    let connector = json_in(CONNECTOR);
    assert_eq!(connector, connector_of_production());
    // What it names by variables it gets: the worker may read them, and the service has them.
    let (worker, services) = (read(WORKER), services());
    let value = |key: &str| {
        let line = worker.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{WORKER} has no {key}"))
    };
    assert_eq!(value("config.providers"), "env");
    let readable = value("config.providers.env.param.allowlist.pattern").trim_end_matches(".*");
    let given = environment(&services["connect"]);
    let named = connector.as_object().expect("settings").values().filter_map(Value::as_str);
    let named: Vec<&str> = named.filter_map(|text| text.strip_prefix("${env:")?.strip_suffix('}')).collect();
    assert_eq!(named.len(), 5);
    for name in named {
        assert!(name.starts_with(readable) && given.contains_key(name), "the connector gets no {name}");
    }
    // It is the file that Connect is given, and Connect has the plugins.
    assert!(mounts(&services["connector"]).iter().any(|(from, _)| from.strip_prefix("./") == Some(CONNECTOR)));
    let image = instructions(&built_by(&services["connect"]).expect("it is built"));
    assert!(said(&image, "COPY").iter().any(|copied| copied.ends_with(value("plugin.path"))));
    assert_eq!(environment(&services["postgres"])["POSTGRES_DB"], given["INVENTORY_DATABASE_NAME"]);
    // Topics are made before anybody writes into them, and what is tried is what the connector lets through.
    let (topics, report) =
        (services["topics"]["command"][0].as_str().expect("a script"), read("config/compose/report.sql"));
    let setting = |key: &str| connector[key].as_str().expect("a text").to_owned();
    for prefix in setting("message.prefix.include.list").split(',') {
        assert!(topics.contains(&format!("make_topic outbox.event.{prefix}")), "{prefix}");
        assert!(report.contains(&format!("pg_logical_emit_message(true, '{prefix}'")), "{prefix}");
    }
    let heartbeats = format!("{}.{}", setting("topic.heartbeat.prefix"), setting("topic.prefix"));
    assert!(topics.contains(&format!("make_topic {heartbeats}")), "{heartbeats}");
    assert!(report.contains(&format!("slot_name = '{}'", setting("slot.name"))));
    for topic in config_of_tarn().source.kafka.topics {
        assert!(topics.contains(&format!("make_topic {topic} ")), "{topic} is not made");
    }
}

#[test]
fn metrics_come_to_the_dashboards() {
    let services = services();
    let scraped = yaml("config/compose/prometheus.yml");
    let targets = texts(&scraped["scrape_configs"][0]["static_configs"][0]["targets"]);
    assert_eq!(targets, [format!("{TARN}:{}", config_of_tarn().http.admin_listen.port())]);
    let sources = yaml("config/compose/grafana/datasources.yaml");
    let source = &sources["datasources"][0];
    let asked = source["url"].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL");
    let (host, port) = split(asked);
    assert!(texts(&services[host]["ports"]).iter().any(|published| published.ends_with(&format!(":{port}"))));
    // Dashboards are where Grafana is told to look, and they ask a source of the kind that there is.
    let grafana = mounts(&services["grafana"]);
    let (_, folder) = grafana.iter().find(|(from, _)| from.strip_prefix("./") == Some(DASHBOARDS)).expect("a mount");
    assert_eq!(yaml("config/compose/grafana/dashboards.yaml")["providers"][0]["options"]["path"], *folder);
    let home = &environment(&services["grafana"])["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    let shown = home.strip_prefix(*folder).expect("one of the dashboards");
    assert!(Path::new(&format!("{DASHBOARDS}{shown}")).exists(), "{home}");
    for (name, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().expect("variables");
        let chosen = variables.iter().find(|variable| variable["name"] == "datasource").expect("a choice of sources");
        assert_eq!(chosen["query"], source["type"], "{name}");
    }
}

fn dashboards() -> BTreeMap<String, Value> {
    let files = fs::read_dir(DASHBOARDS).expect("a folder").map(|entry| entry.expect("an entry").path());
    files.map(|path| path.to_str().expect("UTF-8").to_owned()).map(|path| (path.clone(), json_in(&path))).collect()
}

/// Every metric whose name stands in the source, with the text of the files that it stands in.
fn exported() -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    let mut folders = vec![Path::new("src").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("UTF-8");
            let text = text.split("\nmod tests {").next().unwrap_or_default();
            for name in text.split('"').filter(|literal| is_metric(literal)) {
                exported.entry(name.to_owned()).or_insert_with(String::new).push_str(text);
            }
        }
    }
    exported
}

fn is_metric(word: &str) -> bool {
    word.starts_with("tarn_") && word.chars().all(|letter| letter == '_' || letter.is_ascii_alphanumeric())
}

/// The metrics of a query, each with the labels that are asked of it, and the labels that are grouped by.
fn asked(query: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |letter: char| letter == '_' || letter.is_ascii_alphanumeric();
    let names = |list: &str| -> Vec<String> {
        let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(|item| item.chars().take_while(|letter| is_word(*letter)).collect()).collect()
    };
    let grouped: Vec<String> =
        query.split("by (").skip(1).flat_map(|rest| names(rest.split(')').next().unwrap_or_default())).collect();
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find("tarn_") {
        rest = &rest[at..];
        let end = rest.find(|letter: char| !is_word(letter)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        let selector = behind.strip_prefix('{').and_then(|behind| behind.split('}').next()).unwrap_or_default();
        found.push((name.to_owned(), [names(selector), grouped.clone()].concat()));
        rest = behind;
    }
    found
}

/// The metric that has `name` among its series, and whether it is a histogram.
fn metric_of<'a>(name: &'a str, histograms: &str) -> (&'a str, bool) {
    let bare = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
    match bare.filter(|bare| histograms.contains(&format!("\"{bare}\""))) {
        Some(bare) => (bare, true),
        None => (name, false),
    }
}

#[test]
fn every_query_of_a_dashboard_asks_for_what_is_exported() {
    let (exported, histograms) = (exported(), read("src/telemetry/histograms.rs"));
    let dashboards = dashboards();
    assert!(!dashboards.is_empty());
    for (file, dashboard) in &dashboards {
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{file}: {title}: another panel has its id");
            let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
            assert!(panel["type"] == "row" || !targets.is_empty(), "{file}: {title} shows nothing");
            for target in targets {
                let query = target["expr"].as_str().expect("a query");
                let metrics = asked(query);
                assert!(!metrics.is_empty(), "{file}: {title}: `{query}` asks for nothing of Tarn's");
                for (name, labels) in metrics {
                    let (metric, is_histogram) = metric_of(&name, &histograms);
                    let text = exported.get(metric).unwrap_or_else(|| panic!("{file}: {title}: there is no {name}"));
                    let is_known = |label: &String| {
                        // Prometheus gives the first, and a histogram the second.
                        label == "instance"
                            || (label == "le" && is_histogram)
                            || text.contains(&format!("\"{label}\""))
                            || text.contains(&format!("{label}=\\\""))
                    };
                    for label in &labels {
                        assert!(is_known(label), "{file}: {title}: {metric} has no label {label}");
                    }
                    let whole = histograms.contains(&format!("\"{metric}\"")) && !is_histogram;
                    assert!(!whole, "{file}: {title}: {metric} is a histogram: ask for its buckets, sum or count");
                }
            }
        }
    }
}
