//! Tarn.
pub mod dataflow;
pub mod decode;
pub mod fold;
pub mod model;
pub mod source;
