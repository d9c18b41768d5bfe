//! A row that could not be evaluated: data like any other, kept beside its view until the row is mended.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Why a row is not in its view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// The row that the operator was given, as a JSON object. Empty where the view as a whole could not be computed.
    pub input: Arc<str>,
    /// The expression, as SQL.
    pub expression: Arc<str>,
    /// What is wrong, in words.
    pub reason: Arc<str>,
}

impl Failure {
    /// The failure of a view as a whole: while it lasts, none of its rows may be shown.
    pub fn of_view(expression: &str, reason: &str) -> Self {
        Self { input: "".into(), expression: expression.into(), reason: reason.into() }
    }

    /// The same with a field, as JSON has it, before those of its row.
    pub fn with_key(self, key: &str) -> Self {
        let rest = self.input.strip_prefix('{').unwrap_or("}");
        let comma = if rest.starts_with('}') { "" } else { "," };
        Self { input: format!("{{{key}{comma}{rest}").into(), ..self }
    }

    /// Whether it is that of a view as a whole.
    pub fn is_of_view(&self) -> bool {
        self.input.is_empty()
    }
}
