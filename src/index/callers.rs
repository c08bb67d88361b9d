//! What a host does about one caller.

use super::Index;
use crate::words::{Caller, Result};

impl Index {
    /// Forgets which numbers a caller paid for: they are personal data. What it spent stays spent, so the caller pays
    /// for each of them again. How much it asked ([`crate::Inspector::top_callers`]) stays until its retention ends. Durable
    /// when it returns.
    ///
    /// # Errors
    /// [`crate::Error::Database`] or [`crate::Error::Poisoned`] if the ledger cannot commit.
    ///
    /// ```
    /// use unlisted::{Caller, Index, Options, PhoneHash, Purpose, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
    /// let (caller, numbers) = (Caller::new("user-7"), [PhoneHash::of_e164("+14155550100")?]);
    /// assert_eq!(index.lookup(&caller, Purpose::Search, &numbers)?.charged(), 1);
    /// assert_eq!(index.lookup(&caller, Purpose::Search, &numbers)?.charged(), 0); // known: free
    /// index.forget_caller(&caller)?;
    /// assert_eq!(index.lookup(&caller, Purpose::Search, &numbers)?.charged(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forget_caller(&self, caller: &Caller) -> Result<()> {
        self.inner.erase_novelty(&[self.inner.ring.caller(caller.id()).id])
    }
}
