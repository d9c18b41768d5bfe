//! Tarn.
pub mod background;
pub mod clock;
pub mod config;
pub mod dataflow;
pub mod decode;
pub mod durable;
pub mod fold;
pub mod generate;
pub mod histogram;
pub mod http;
pub mod model;
pub mod published;
pub mod service;
pub mod snapshot;
pub mod source;
pub mod sql;
pub mod telemetry;
