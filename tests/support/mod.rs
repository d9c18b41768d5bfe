//! What the tests share: a harness around the engine, the reference that it is compared with, and worlds that fail.

pub mod cluster;
pub mod engine;
pub mod injected;
pub mod reference;
pub mod reports;
pub mod simulated_files;
pub mod sse;
