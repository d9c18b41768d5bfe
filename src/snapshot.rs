//! placeholder
pub mod rows;
