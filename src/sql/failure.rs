//! A row that could not be evaluated: data like any other, kept beside its view until the row is mended.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Why a row is not in its view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// The row that the operator was given, as a JSON object.
    pub input: Arc<str>,
    /// The expression, as SQL.
    pub expression: Arc<str>,
    /// What is wrong, in words.
    pub reason: Arc<str>,
}
