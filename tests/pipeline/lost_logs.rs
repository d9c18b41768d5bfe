//! Logs that lost what Tarn had not read, or that are other ones: named, and never passed over in silence (K4 to K7 of
//! the faults). Kessel sends nothing twice, so the state is whole again once every reporter has said everything again.

use serde_json::Value;

use super::traffic::Traffic;
use super::{Pipeline, patiently};
use crate::served::get;

/// What is served though nothing is read.
fn is_served(pipeline: &Pipeline) {
    let answer = get(pipeline.tarn.readers(), "/api/tarn/v1/resources?limit=1");
    assert_eq!((answer.status, answer.json()["items"].as_array().map(Vec::len)), (200, Some(1)), "{answer:?}");
}

/// Reading has stopped over this fault, which is said.
fn has_halted(pipeline: &Pipeline, fault: &str) {
    let partition = pipeline.tarn.until_phase("positionLost");
    assert_eq!(partition["identityFault"], fault, "{partition}");
    let told = partition["lastError"].as_str().unwrap_or_default();
    assert!(told.contains(fault), "{told}");
    is_served(pipeline);
    let asked = get(pipeline.tarn.readers(), "/api/tarn/v1/position?consistency=atLeastAsAcknowledged");
    assert_eq!(asked.status, 503, "no log is read, so nobody can be as fresh as it: {asked:?}");
}

/// K4: retention took what an absent Tarn had not read.
#[test]
fn retention_took_what_was_not_read() {
    let Some(mut pipeline) = Pipeline::usual("retention_took") else { return };
    let mut traffic = Traffic::new(21, 150);
    traffic.happen(&mut pipeline.inventory, 300);
    pipeline.equals_postgres();
    pipeline.tarn.stop();
    let read = pipeline.broker.watermarks()[0].1;
    traffic.happen(&mut pipeline.inventory, 200);
    patiently("all is written", || pipeline.broker.watermarks()[0].1 >= read + 200);
    pipeline.broker.delete_before(0, read + 150);

    pipeline.tarn.restart(&[]);
    has_halted(&pipeline, "retention_passed");
    assert!(!pipeline.tarn.is_ready());
    pipeline.tarn.stop();

    let goes_on = [("TARN_SOURCE__KAFKA__LOST_POSITION", "continue")];
    pipeline.tarn.restart(&goes_on);
    pipeline.tarn.until_ready();
    traffic.report_everything(&mut pipeline.inventory);
    pipeline.equals_postgres_but_for_creation();
    let is_incomplete = |status: &Value| {
        assert_eq!(status["complete"], false, "{status}");
        assert!(status["incompleteSince"].is_string(), "{status}");
    };
    is_incomplete(&pipeline.tarn.status());
    // No snapshot is taken so soon after a gap: it is met again.
    pipeline.tarn.kill();
    pipeline.tarn.restart(&goes_on);
    pipeline.tarn.until_ready();
    is_incomplete(&pipeline.tarn.status());
    pipeline.equals_postgres_but_for_creation();
}

/// The topic goes away and comes back, empty or with other records; the connector goes on where it was.
fn recreate(pipeline: &Pipeline, between: impl FnOnce(&Pipeline)) {
    pipeline.connect.act("pause");
    patiently("the connector pauses", || pipeline.connect.task() == "PAUSED");
    pipeline.broker.delete_topic();
    between(pipeline);
    pipeline.broker.create_topic(1);
}

/// The state is made anew from the log that there is.
fn rebuilt(pipeline: &mut Pipeline) {
    pipeline.tarn.stop();
    pipeline.tarn.restart(&[("TARN_SOURCE__KAFKA__LOST_POSITION", "rebuild")]);
    pipeline.tarn.until_source("the state is made anew", |source| {
        source["rebuilds"].as_u64() >= Some(1) && source["rebuildingSince"].is_null()
    });
    pipeline.tarn.until_ready();
    assert_eq!(pipeline.tarn.status()["complete"], true, "it holds all that this log holds");
}

/// K5 and K7 while Tarn runs; then K6, in its absence, by a topic that is longer than the one that it read.
#[test]
fn the_topic_is_deleted_and_made_anew() {
    let Some(mut pipeline) = Pipeline::usual("the_topic_is_deleted") else { return };
    let mut traffic = Traffic::new(22, 150);
    traffic.happen(&mut pipeline.inventory, 300);
    pipeline.equals_postgres();
    recreate(&pipeline, |pipeline| {
        pipeline.tarn.until_phase("missing");
        is_served(pipeline);
    });
    has_halted(&pipeline, "truncated");
    pipeline.connect.act("resume");
    pipeline.connect.until_reading(&pipeline.postgres);
    traffic.report_everything(&mut pipeline.inventory);
    rebuilt(&mut pipeline);
    pipeline.equals_postgres_but_for_creation();

    pipeline.tarn.stop();
    let read = pipeline.broker.watermarks()[0].1;
    recreate(&pipeline, |_| ());
    pipeline.connect.act("resume");
    pipeline.connect.until_reading(&pipeline.postgres);
    patiently("the new topic is longer than the old one", || {
        traffic.report_everything(&mut pipeline.inventory);
        pipeline.broker.watermarks()[0].1 > read + 100
    });
    pipeline.tarn.restart(&[]);
    has_halted(&pipeline, "recreated");
    rebuilt(&mut pipeline);
    pipeline.equals_postgres_but_for_creation();
}
