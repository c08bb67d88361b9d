//! The operator's door: apart from lookups, clearly named, and every use of it logged.

use std::sync::Arc;

use super::{Index, Inner};
use crate::words::{AccountId, Caller, Purpose, Result};

/// Answers questions that no caller may ask. Every use is logged at level INFO, without naming the caller.
///
/// It cannot name an account for a phone number: only a lookup can, which is charged.
///
/// ```
/// use unlisted::{AccountId, Caller, Index, OptIns, Options, PhoneHash, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// let caller = Caller::new("user-7");
/// index.lookup(&caller, Purpose::Search, &[ada])?;
/// let exposed = index.inspector().disclosed_to(&caller)?;
/// assert_eq!((exposed.len(), exposed[0].account), (1, AccountId::from(42)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Inspector {
    inner: Arc<Inner>,
}

/// An account that was shown to a caller.
///
/// ```
/// use unlisted::{AccountId, Caller, Index, OptIns, Options, PhoneHash, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// index.lookup(&Caller::new("user-7"), Purpose::Search, &[ada])?;
/// let disclosure = index.inspector().disclosed_to(&Caller::new("user-7"))?[0];
/// assert_eq!(disclosure.purpose(), Some(Purpose::Search));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Disclosure {
    /// Who was shown.
    pub account: AccountId,
    /// The bit of the purpose, as [`Purpose::ALL`] orders them.
    pub purpose_bit: u8,
    /// When first, in milliseconds since 1970 by the wall clock.
    pub first_at_ms: u64,
}

impl Disclosure {
    /// What for; `None` for a purpose that this build does not know.
    #[must_use]
    pub fn purpose(&self) -> Option<Purpose> {
        Purpose::ALL.get(usize::from(self.purpose_bit)).copied()
    }
}

impl Index {
    /// The operator's door. Keep it away from whatever answers callers.
    #[must_use]
    pub fn inspector(&self) -> Inspector {
        Inspector { inner: self.inner.clone() }
    }
}

impl Inspector {
    /// Every account that was disclosed to a caller within the retention, by account.
    ///
    /// # Errors
    /// [`crate::Error::Database`] if the ledger cannot be read.
    pub fn disclosed_to(&self, caller: &Caller) -> Result<Vec<Disclosure>> {
        tracing::info!("an operator asks who was disclosed to a caller");
        let identity = self.inner.ring.caller(caller.id()).id;
        let rows = self.inner.ledger.disclosed_to(identity)?;
        let disclosure = |(account, purpose_bit, first_at_ms)| Disclosure { account, purpose_bit, first_at_ms };
        Ok(rows.into_iter().map(disclosure).collect())
    }
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inspector(..)")
    }
}
