//! When a disclosure is safe.

/// How safe the record of a disclosure is before the answer that makes it.
///
/// ```
/// use unlisted::{DisclosureSync, Index, Options, Secret};
/// let dir = tempfile::tempdir()?;
/// let options = Options::new(Secret::from_hex(&"5e".repeat(32))?).disclosure_sync(DisclosureSync::Synced);
/// let index = Index::open(dir.path(), options)?;
/// assert_eq!(index.stats()?.disclosure_sync, DisclosureSync::Synced);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum DisclosureSync {
    /// Handed to the operating system: no end of the process loses it, however sudden. A power failure can lose the
    /// last ones.
    Written {
        /// Most milliseconds after which the device is told to keep what was written, 1 to 60,000. What it needs for
        /// that comes on top.
        sync_within_ms: u32,
    },
    /// On the device. Lookups that disclose at the same time share one sync.
    Synced,
    /// Not recorded at all. Every open warns of it.
    Off,
}

impl Default for DisclosureSync {
    /// Written, and synced within 10 milliseconds.
    fn default() -> Self {
        Self::Written { sync_within_ms: 10 }
    }
}
