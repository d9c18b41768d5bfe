//! Functions and operators that DataFusion does not have.

pub mod json;
