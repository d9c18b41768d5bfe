//! What is refused, by which name; what the environment means; that the documented file is true.

use std::ffi::OsString;

use super::Config;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, environment).map_err(|error| error.to_string())
}

#[test]
fn unknown_keys_and_impossible_values_are_refused_by_name() {
    assert!(parse("[http]\nlisten_on = 1", &[]).unwrap_err().contains("listen_on"));
    assert!(parse("[htpp]\n", &[]).unwrap_err().contains("htpp"));
    assert!(parse("[ingest]\nseal_interval_ms = 0", &[]).unwrap_err().contains("ingest.seal_interval_ms"));
    assert!(parse("[ingest]\nseal_interval_ms = \"x\"", &[]).unwrap_err().contains("seal_interval_ms"));
    assert!(parse("", &[("TARN_HTTP__LISTEN_ON", "1")]).unwrap_err().contains("listen_on"));
}

#[test]
fn properties_that_reading_rests_on_are_refused() {
    let latest = parse("[source.kafka.properties]\n\"auto.offset.reset\" = \"latest\"", &[]).unwrap_err();
    assert!(latest.contains("auto.offset.reset"), "{latest}");
}

#[test]
fn the_environment_wins() {
    let environment = [
        ("TARN_DATAFLOW__WORKERS", "3"),
        ("TARN_HTTP__LISTEN", "127.0.0.1:1"),
        ("TARN_SOURCE__KAFKA__BROKERS", "a:1,b:2"),
        ("TARN_UNRELATED", "x"),
        ("HOME", "/"),
    ];
    let config = parse("[dataflow]\nworkers = 1", &environment).expect("valid");
    assert_eq!((config.workers(), config.http.listen.port()), (3, 1));
    assert_eq!(config.source.kafka.brokers, "a:1,b:2");
}

#[test]
fn values_of_the_environment_are_of_the_type_of_their_key() {
    let environment = [
        ("TARN_HTTP__TOKEN_SECRET", "12345678"),
        ("TARN_SOURCE__KAFKA__GROUP", "2026"),
        ("TARN_SOURCE__KAFKA__TOPICS", "a,b"),
        ("TARN_SOURCE__KAFKA__PROPERTIES__session.timeout.ms", "1000"),
        ("TARN_SOURCE__KAFKA__PROPERTIES__SASL_PASSWORD", "true"),
        ("TARN_SOURCE__LOG__TOPICS", "[\"c\"]"),
        ("TARN_SOURCE__GENERATOR__EVENTS_PER_SECOND", "7"),
    ];
    let text = "[source.kafka.properties]\n\"queued.max.messages.kbytes\" = 16384\n\"check.crcs\" = true";
    let config = parse(text, &environment).expect("valid");
    assert_eq!((config.http.token_secret.as_str(), config.source.kafka.group.as_str()), ("12345678", "2026"));
    assert_eq!((config.source.kafka.topics.join("+"), config.source.log.topics.join("+")), ("a+b".into(), "c".into()));
    let properties: Vec<_> =
        config.source.kafka.properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = ["check.crcs=true", "queued.max.messages.kbytes=16384", "sasl.password=true"];
    assert_eq!(properties, [&expected[..], &["session.timeout.ms=1000"]].concat());
    for (name, value, words) in [
        ("TARN_DATAFLOW__WORKERS", "many", "whole number"),
        ("TARN_DATAFLOW__WORKERS", "99999999999999999999", "whole number"),
        ("TARN_SOURCE__GENERATOR__EVENTS_PER_SECOND", "fast", "number"),
        ("TARN_DATAFLOW", "x", ""),
        ("TARN_DATAFLOW__WORKERS__MANY", "1", "no section"),
        ("TARN_DATAFLOW__WORKER", "1", "unknown"),
        ("TARN_DATA__WORKERS", "1", "unknown"),
        ("TARN_SOURCE__KAFKA", "1", "section"),
        ("TARN_SOURCE__LOG__TOPICS", "[a", "list"),
    ] {
        match parse("", &[(name, value)]) {
            Ok(_) => assert_eq!(name, "TARN_DATAFLOW", "only a name without a key is not ours"),
            Err(error) => assert!(error.contains(name) && error.contains(words), "{name}: {error}"),
        }
    }
}

#[test]
fn one_underscore_where_two_are_meant_is_refused_with_the_name_that_is_meant() {
    for (name, meant) in [
        ("TARN_HTTP_LISTEN", "TARN_HTTP__LISTEN"),
        ("TARN_HTTP_LISTEN_ON", "TARN_HTTP__LISTEN_ON"),
        ("TARN_SOURCE_KIND", "TARN_SOURCE__KIND"),
        ("TARN_SOURCE_KAFKA_BROKERS", "TARN_SOURCE__KAFKA__BROKERS"),
        ("TARN_SOURCE_KAFKA_LOST_POSITION", "TARN_SOURCE__KAFKA__LOST_POSITION"),
        ("TARN_SOURCE_KAFKA_PROPERTIES_SASL_PASSWORD", "TARN_SOURCE__KAFKA__PROPERTIES__SASL_PASSWORD"),
        ("TARN_log_filter", "TARN_LOG__FILTER"),
    ] {
        let error = parse("", &[(name, "hush")]).unwrap_err();
        assert!(error.contains(name) && error.contains(meant) && !error.contains("hush"), "{name}: {error}");
    }
    for name in ["TARN_CASES", "TARN_SEED", "TARN_BENCH_EVENTS", "TARN_HTTP", "TARN_HTTPS_LISTEN", "TARN_LOGS", "TARN_"]
    {
        assert!(parse("", &[(name, "x")]).is_ok(), "{name}");
    }
}

#[test]
fn secrets_stand_in_no_error_and_in_no_debug() {
    let texts = ["[http]\ntoken_secret = \"hush", "[http]\ntoken_secret = hush", "[http]\ntoken_secret = [\"hush\"]"];
    for text in texts {
        let error = parse(text, &[]).unwrap_err();
        assert!(!error.contains("hush"), "{error}");
    }
    let error = parse("[source.kafka.properties]\n\"sasl.password\" = {a=\"hush\"}", &[]).unwrap_err();
    assert!(!error.contains("hush") && error.contains("properties"), "{error}");
    let text = "[http]\ntoken_secret = \"hush\"\n[source.kafka.properties]\n\"ssl.key.password\" = \"hush\"";
    let shown = format!("{:?}", parse_whole(text));
    assert!(!shown.contains("hush") && shown.contains("ssl.key.password") && shown.contains("8080"), "{shown}");
}

fn parse_whole(text: &str) -> Config {
    parse(text, &[]).expect("valid")
}

#[test]
fn what_the_service_would_die_of_is_refused_by_its_key() {
    let huge = i64::MAX.to_string();
    for key in [
        "http.requests_max",
        "http.connections_max",
        "http.drain_ms",
        "http.response_bytes_max",
        "source.generator.resources",
        "ingest.seal_interval_ms",
        "ingest.commit_interval_ms",
        "dataflow.idle_merge_effort",
        "dataflow.workers",
        "fold.tombstone_retention_ms",
        "decode.record_bytes_max",
    ] {
        let (section, name) = key.rsplit_once('.').expect("a section");
        let error = parse(&format!("[{section}]\n{name} = {huge}"), &[]).unwrap_err();
        assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
    }
    for (text, words) in [
        ("[log]\nfilter = \"a=b=c\"", "log.filter"),
        ("[http]\nlisten = \"127.0.0.1:9\"\nadmin_listen = \"127.0.0.1:9\"", "http.admin_listen"),
        ("[http]\nlisten = \"0.0.0.0:9\"\nadmin_listen = \"127.0.0.1:9\"", "http.admin_listen"),
        ("[source.kafka]\ntopics = [\"a\", \"a\"]", "twice"),
        ("[source.kafka]\ntopics = [\"\"]", "empty"),
        ("[source.kafka]\ntopics = []", "source.kafka.topics"),
        ("[source.kafka]\nbrokers = \" \"", "source.kafka.brokers"),
        ("[source.generator]\nevents_per_second = nan", "events_per_second"),
        ("[source.generator]\nevents_per_second = inf", "events_per_second"),
    ] {
        let error = parse(text, &[]).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
    let any_port = "[http]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"";
    assert!(parse(any_port, &[]).is_ok(), "any two ports differ");
}

#[cfg(unix)]
#[test]
fn the_environment_of_others_may_hold_anything() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(vec![b'x', 0xff]);
    let one = |name: OsString, value: OsString| Config::parse("", [(name, value)].into_iter());
    assert!(one("OTHER".into(), odd()).is_ok() && one(odd(), "x".into()).is_ok());
    let error = one("TARN_HTTP__LISTEN".into(), odd()).unwrap_err().to_string();
    assert!(error.contains("TARN_HTTP__LISTEN") && error.contains("UTF-8"), "{error}");
}

#[test]
fn the_documented_file_says_the_defaults() {
    let text = std::fs::read_to_string("config/tarn.toml").expect("is there");
    let documented: toml::Table = text.parse().expect("TOML");
    let written = toml::Table::try_from(parse(&text, &[]).expect("valid")).expect("TOML");
    let defaults = toml::Table::try_from(Config::default()).expect("TOML");
    assert_eq!(written, defaults);
    // And every key stands in the file itself.
    assert_eq!(documented, defaults);
}
