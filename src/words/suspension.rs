//! A caller or an origin that may not ask.

use std::fmt;

/// Since when a caller or an origin may not look anything up, and why.
///
/// ```
/// use unlisted::{Caller, Error, Index, Options, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let caller = Caller::new("user-7");
/// index.suspend(&caller, "shuffled lists")?;
/// let refused = index.lookup(&caller, Purpose::Search, &[]).unwrap_err();
/// assert!(matches!(refused, Error::Suspended { .. }));
/// let budget = index.budget(&caller)?;
/// assert_eq!(budget.scopes[0].suspension.as_ref().map(|of| of.reason.as_str()), Some("shuffled lists"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Suspension {
    /// Wall clock, in milliseconds since 1970.
    pub since_ms: u64,
    /// What the operator noted.
    pub reason: String,
}

impl Suspension {
    /// Longest reason, in bytes.
    pub const MAX_REASON_LEN: usize = 1_024;
}

impl fmt::Display for Suspension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "suspended: {}", self.reason)
    }
}
