//! All integration tests in one binary. Families: the 36 recorded records one by one; random logs against an
//! independent fold at every epoch; the duplicate rule's corners; decoding, case by case, and the fuzzers' corpus; a Kafka
//! that misbehaves or is another one, alone and under the service; the HTTP surface through a real socket, and what
//! hostile clients do to it; the command line through the real binary; a restart at any instant; a whole service over
//! simulated files and clocks; records of the quarantine submitted again; the real binary killed at random and at named
//! points, on a bad disk, and with any system call failing; exports and imports; snapshots and journals on sled, under
//! simulated crashes and with flipped bits; data directories that earlier versions wrote; the recent past,
//! of itself and over HTTP; the instants of reads; what is not computed or sent again; freshness; views over HTTP, their checks
//! and plans, their filters, replayed, and while they change; ad-hoc queries; change
//! streams, at their root and over HTTP; the history of many clients, held to the log over kills; what is
//! shipped to run in containers; Tarn behind PostgreSQL, Debezium and Kafka themselves; style.

mod support;

mod adhoc;
mod bad_disk;
mod caching;
mod check;
mod checker;
mod command_line;
mod corners;
mod crash_points;
mod decode;
mod deployment;
mod durable;
mod exchange;
mod fixture;
mod freshness;
mod fuzz_corpus;
mod history;
mod hostile;
mod hostile_streams;
mod http;
mod identity;
mod instants;
mod kafka;
mod kafka_service;
mod past;
mod pipeline;
mod property;
mod rebuild;
mod replayed_views;
mod restart;
mod resubmission;
mod samples;
mod served;
mod shipped;
mod simulation;
mod snapshot_damage;
mod snapshot_simulation;
mod snapshot_store;
mod streams;
mod streams_large;
mod streams_served;
mod syscall_sweep;
mod tidy;
mod views;
mod views_changing;
mod views_filtered;
mod views_served;
