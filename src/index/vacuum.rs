//! Forgetting what is past its retention, and writing the databases anew so that no free page keeps it.
//!
//! What an erasure leaves, and until when, is the sum of three steps: the disclosure log is compacted at once; the marks that
//! keep late updates from undoing it stay for the retention of removals and go with a fold; and what the pages of `index.redb`
//! had of both goes when the file is written anew, which the background does once it folded such marks away.

use super::{Index, Inner};
use crate::segment::tombstone;
use crate::store::State;
use crate::words::Result;

/// What a vacuum did.
///
/// ```
/// use unlisted::{AccountId, Index, OptIns, Options, PhoneHash, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// index.erase_account(AccountId::from(42))?;
/// let report = index.vacuum()?;
/// assert_eq!(report.removals, 0); // within the retention, so that no late update undoes the erasure
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct VacuumReport {
    /// Removals that were forgotten because their retention has passed.
    pub removals: usize,
    /// Rows of the disclosure log that went: past their retention, or erased.
    pub disclosures: u64,
    /// Buckets of callers and origins that went, because they owe nothing.
    pub buckets: u64,
    /// Bytes of both databases before.
    pub bytes_before: u64,
    /// Bytes of both databases now.
    pub bytes_after: u64,
}

impl Index {
    /// Forgets what is past its retention and writes both databases anew, so that no page of theirs keeps bytes of what is
    /// gone. The background thread does the same each hour if removals were forgotten, except for `ledger.redb`, which names
    /// neither accounts nor numbers: its pages may keep what it knew of callers, under the secret, until this is called.
    ///
    /// Lookups go on, but updates wait while `index.redb` is copied, and lookups that need a commit while `ledger.redb` is:
    /// about a second for each 100 MB. The disk needs room for a copy of the larger one.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`], [`crate::Error::Io`], [`crate::Error::Database`]: nothing is lost, and it can be repeated.
    /// Only if a new file cannot be put in the place of the old one durably, that part is [`crate::Error::Poisoned`] until the
    /// next open.
    pub fn vacuum(&self) -> Result<VacuumReport> {
        let inner = &self.inner;
        tracing::info!("an operator has both databases written anew");
        let bytes_before = inner.database_bytes()?;
        let (removals, disclosures) = inner.forget(true)?;
        inner.vacuum_index()?;
        inner.ledger.write_novelty()?;
        inner.ledger.write_activity()?;
        let buckets = inner.ledger.vacuum()?;
        Ok(VacuumReport { removals, disclosures, buckets, bytes_before, bytes_after: inner.database_bytes()? })
    }
}

impl Inner {
    /// Forgets disclosures, removals and paid numbers whose time has passed. `all` takes the growing disclosure log too.
    /// Returns how many removals and disclosures went.
    pub(super) fn forget(&self, all: bool) -> Result<(usize, u64)> {
        self.ledger.forget_novelty()?;
        let disclosures = self.compact_disclosures(all)?.forgotten;
        if disclosures > 0 {
            tracing::info!(gone = disclosures, "forgot disclosures that were erased or past their retention");
        }
        // A fold waits for those who read the map that it replaces, so nobody reads it here by then.
        let map = self.segments.load_full();
        let mut expired = Vec::new();
        for slot in map.slots() {
            if self.has_expired_change(slot.range) || self.has_expired(slot)? {
                expired.push(slot.range);
            }
        }
        drop(map);
        let mut removals = 0;
        for range in expired {
            removals += self.fold_range(range)?.forgotten;
        }
        Ok((removals, disclosures))
    }

    /// Writes `index.redb` anew if removals were forgotten since it was.
    pub(super) fn vacuum_index_if_due(&self) -> Result<()> {
        if self.writer.lock().state.forgotten == 0 { Ok(()) } else { self.vacuum_index() }
    }

    /// Writes `index.redb` anew, with what counts. Updates wait meanwhile.
    fn vacuum_index(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        writer.check()?;
        let ledger_commits = self.ledger.commits();
        let next = State { forgotten: 0, ledger_commits, ..writer.state.clone() };
        let file = self.store.rewritten(&next)?;
        writer.commit(next, |_| file.replace())
    }

    fn database_bytes(&self) -> Result<u64> {
        Ok(self.options.disk.len(self.store.path())? + self.options.disk.len(self.ledger.path())?)
    }

    /// Has a range removals that may be forgotten and that no fold has met yet?
    fn has_expired_change(&self, range: crate::segment::keys::KeyRange) -> bool {
        // Nobody waits to change the overlay meanwhile, so no lookup waits either.
        let _writer = self.writer.lock();
        let (now_ms, era_s) = (self.clock.wall_ms(), self.era_s());
        self.overlay.read().in_range(range).any(|change| {
            let flags = self.dated(*change).flags();
            flags.is_removed() && tombstone::expired(flags.era(), now_ms, era_s)
        })
    }
}
