//! Why a stream cannot go on from where a client was, in words for machines and for people.

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// What came after the id, or after what the client has taken, is no longer kept.
    Retention,
    /// The state began a new life.
    Incarnation,
    /// What is followed means something else now.
    Subject,
    /// The id belongs to a stream with other filters or another form.
    Selection,
    /// The id is none.
    Id,
    /// The epoch of the id is not known, nor will it be.
    Unknown,
    /// One epoch changed more than a frame may hold.
    TooLarge,
    /// The view cannot be computed.
    Suspended,
    /// The view is gone.
    Removed,
    /// The key does not tell rows apart.
    NotAKey,
    /// There are more rows than can be told apart by a key.
    TooManyKeys,
    /// Rows cannot be written as JSON.
    Unwritable,
}

impl Reset {
    /// Its name in a frame.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Incarnation => "incarnation",
            Self::Subject => "viewChanged",
            Self::Selection => "otherStream",
            Self::Id => "id",
            Self::Unknown => "unknownEpoch",
            Self::TooLarge => "tooLarge",
            Self::Suspended => "suspended",
            Self::Removed => "removed",
            Self::NotAKey => "keyNotUnique",
            Self::TooManyKeys => "tooManyKeys",
            Self::Unwritable => "unwritable",
        }
    }

    /// The same for people.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Retention => "what changed since is no longer kept",
            Self::Incarnation => "the state began anew: epochs mean other contents",
            Self::Subject => "the view, or what it reads, has changed",
            Self::Selection => "the id is one of a stream with other filters or another envelope",
            Self::Id => "the id was not made here, or was damaged",
            Self::Unknown => "the epoch of the id is not one that is known here",
            Self::TooLarge => "more changed at once than a frame may hold",
            Self::Suspended => "the view cannot be computed",
            Self::Removed => "the view is gone",
            Self::NotAKey => "several rows have the same key at once; name more columns",
            Self::TooManyKeys => "there are too many rows to be told apart by a key",
            Self::Unwritable => "the rows cannot be written as JSON",
        }
    }

    /// Whether nothing follows it.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Suspended | Self::Removed | Self::NotAKey | Self::TooManyKeys | Self::Unwritable)
    }
}
