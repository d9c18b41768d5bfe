//! What the tests share: a harness around the engine, and the reference that it is compared with.

pub mod cluster;
pub mod engine;
pub mod reference;
pub mod simulated_files;
