//! From a partition's queue into a batch.
//!
//! In: what librdkafka queued for one partition, in order. Out: records in the batch; ends and errors to the
//! partition, each at its place among the records. Promises: nothing behind an error that stops reading is taken, and
//! the end of a partition is noted only when everything before it was taken; one record a call is
//! hashed, the last. Not here: which partition is next.

use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::listener::{Listener, end_offset};
use super::partition::Partition;
use super::shown::Shown;
use crate::model::Coordinates;
use crate::source::identity::{self, Fingerprint};
use crate::source::{Limit, RecordBatch, SourceError};

/// Takes what a partition's queue holds, up to the limit; the fingerprint of the last record that was taken.
pub(super) fn take(
    partition: &mut Partition,
    queue: &PartitionQueue<Listener>,
    listener: &Listener,
    shown: &mut Shown,
    batch: &mut RecordBatch,
    limit: Limit,
) -> Result<Option<Fingerprint>, SourceError> {
    let mut last = None;
    while !limit.reached(batch) && !partition.check.is_open() {
        match queue.poll(Duration::ZERO) {
            None => break,
            Some(Ok(message)) => {
                if partition.on_record(message.offset()) {
                    push(batch, partition, &message);
                    last = Some(message);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                let reason = listener.with(|told| told.reason.take()).unwrap_or_default();
                match end_offset(&reason) {
                    Some(offset) => partition.on_end(offset),
                    None => tracing::error!(reason, "an end-of-partition notice names no offset"),
                }
                shown.touch();
            }
            Some(Err(error)) => {
                let reason = listener.reason(&error);
                on_error(partition, &error, &reason, shown)?;
            }
        }
    }
    Ok(last.as_ref().map(fingerprint))
}

/// What a record is known by later.
pub(super) fn fingerprint(message: &BorrowedMessage<'_>) -> Fingerprint {
    let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
    let checksum = identity::checksum(message.key(), message.payload());
    Fingerprint { offset: message.offset(), timestamp_ms, checksum }
}

fn push(batch: &mut RecordBatch, partition: &Partition, message: &BorrowedMessage<'_>) {
    let coordinates = Coordinates { topic: partition.topic_id, partition: partition.number, offset: message.offset() };
    let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let headers = headers.map(|header| (header.key, header.value));
    batch.push_wire(coordinates, timestamp_ms, message.key(), message.payload(), headers);
}

fn on_error(partition: &mut Partition, error: &KafkaError, reason: &str, shown: &mut Shown) -> Result<(), SourceError> {
    refuse_fatal(error, reason)?;
    let Some(code) = error.rdkafka_error_code() else { return Ok(()) };
    if partition.on_error(code, reason, Instant::now()) {
        let (topic, number, next) = (&*partition.topic, partition.number, partition.next);
        tracing::warn!(topic, partition = number, next, ?code, reason, "a partition cannot be read");
    }
    shown.touch();
    Ok(())
}

/// An error after which the client does nothing any more ends the source, and by that the process: it begins anew.
pub(super) fn refuse_fatal(error: &KafkaError, reason: &str) -> Result<(), SourceError> {
    match error {
        KafkaError::MessageConsumptionFatal(code) => {
            Err(SourceError::Setup(format!("fatal error of the client: {code:?}: {reason}")))
        }
        _ => Ok(()),
    }
}
