//! Typed refusals. A reason is a stable word that callers may match on; the detail is for people.

use std::fmt;

/// Why accounts are not a pool that can be quoted exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Stable name of the cause.
    pub reason: &'static str,
    /// What was found, for people.
    pub detail: String,
}

/// Why a swap of this size would fail on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteError {
    /// Stable name of the cause: the program's own error name in snake case where it has one.
    pub reason: &'static str,
    /// True where a larger amount may succeed; else every larger one fails as well.
    pub too_small: bool,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.reason, self.detail)
    }
}

impl fmt::Display for QuoteError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason)
    }
}

/// Refuse with a reason and a detail.
pub fn refuse<T>(reason: &'static str, detail: impl Into<String>) -> Result<T, Refused> {
    Err(Refused {
        reason,
        detail: detail.into(),
    })
}

/// Name the cause of a failed quote.
pub const fn quote_error(reason: &'static str) -> QuoteError {
    QuoteError {
        reason,
        too_small: false,
    }
}

/// Name the cause of a quote that fails because its amount is worth nothing.
pub const fn too_small(reason: &'static str) -> QuoteError {
    QuoteError {
        reason,
        too_small: true,
    }
}
