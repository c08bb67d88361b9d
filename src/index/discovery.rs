//! A handle for those who answer requests: they may look up, and nothing else.

use std::fmt;

use super::{Budget, Index, LookupOptions, Reply};
use crate::words::{Caller, PhoneHash, Purpose, QuotaPolicy, Result};

/// What request handlers get: lookups, what a caller may still ask, and the quotas in force. It has no way to update, erase, import or fold, and none to
/// the operator's [`Inspector`](crate::Inspector), so a mistake in a handler stays within what callers pay for. Keep the
/// [`Index`] with the operator's part of the service.
///
/// `Send + Sync`, and cheap to clone. It keeps the index open as a clone of the [`Index`] does.
///
/// ```
/// use std::thread;
/// use unlisted::{AccountId, Caller, Discovery, Index, OptIns, Options, PhoneHash, Purpose, Secret};
///
/// fn handle(discovery: &Discovery, user: &str, numbers: &[PhoneHash]) -> unlisted::Result<usize> {
///     Ok(discovery.lookup(&Caller::new(user), Purpose::Search, numbers)?.matches().count())
/// }
///
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
///
/// let discovery = index.discovery();
/// let handler = thread::spawn({
///     let discovery = discovery.clone();
///     move || handle(&discovery, "user-7", &[ada])
/// });
/// assert_eq!(handler.join().unwrap()?, 1);
/// drop(index);
/// assert_eq!(handle(&discovery, "user-7", &[ada])?, 1); // still open
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What does not compile is shown in `src/index/no_way_around.rs`.
#[derive(Clone)]
pub struct Discovery {
    index: Index,
}

impl Index {
    /// A handle that can look up and nothing else, for those who answer requests.
    #[must_use]
    pub fn discovery(&self) -> Discovery {
        Discovery { index: self.clone() }
    }
}

impl Discovery {
    /// What it is a handle of.
    pub(super) const fn index(&self) -> &Index {
        &self.index
    }

    /// As [`Index::lookup`].
    ///
    /// # Errors
    /// As [`Index::lookup`].
    pub fn lookup(&self, caller: &Caller, purpose: Purpose, hashes: &[PhoneHash]) -> Result<Reply> {
        self.index.lookup(caller, purpose, hashes)
    }

    /// As [`Index::lookup_with`].
    ///
    /// # Errors
    /// As [`Index::lookup_with`].
    pub fn lookup_with(
        &self,
        caller: &Caller,
        purpose: Purpose,
        hashes: &[PhoneHash],
        options: LookupOptions,
    ) -> Result<Reply> {
        self.index.lookup_with(caller, purpose, hashes, options)
    }

    /// As [`Index::budget`].
    ///
    /// # Errors
    /// As [`Index::budget`].
    pub fn budget(&self, caller: &Caller) -> Result<Budget> {
        self.index.budget(caller)
    }

    /// The quotas in force.
    #[must_use]
    pub fn quotas(&self) -> QuotaPolicy {
        self.index.quotas()
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_may_share_it() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        shared::<Discovery>();
    }
}
