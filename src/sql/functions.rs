//! Functions and operators that DataFusion does not have, or that we need to be other ones.

pub mod aggregates;
pub(super) mod arithmetic;
pub(super) mod bounded;
pub(super) mod canonical;
pub(super) mod first_epoch;
pub mod json;
pub(super) mod opaque;
pub(super) mod times;
