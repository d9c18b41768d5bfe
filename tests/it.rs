//! All integration tests in one binary. Families: the 36 recorded records one by one; random logs against an
//! independent fold at every epoch; decoding, case by case; the HTTP surface through a real socket; a Kafka that
//! misbehaves, alone and under the service; style.

mod support;

mod decode;
mod http;
mod kafka;
mod kafka_service;
mod property;
mod samples;
mod tidy;
