//! The disclosure log as a part of the index: opened with it, noted by it, compacted.

use std::path::Path;

use super::{Index, Inner, Options};
use crate::disclosures::{DisclosureLog, Folder, Group, Mark, Origins};
use crate::ledger::RedbLedger;
use crate::store::{State, Store};
use crate::words::Result;

/// What a compaction of the disclosure log did.
///
/// ```
/// use unlisted::{AccountId, Caller, Index, OptIns, Options, PhoneHash, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// index.lookup(&Caller::new("user-7"), Purpose::Search, &[ada])?;
/// let report = index.compact_disclosures()?;
/// assert_eq!((report.logs, report.forgotten), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CompactionReport {
    /// Logs that were sorted and compacted.
    pub logs: usize,
    /// Rows past their retention, and rows of erased accounts, that are gone from the disk now.
    pub forgotten: u64,
}

impl Index {
    /// Sorts what the disclosure log gathered, keeps each disclosure once, and takes out what is past its retention or
    /// erased. The background thread does the same with full logs; this takes the growing one too. Lookups go on.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if a file of the log is; [`crate::Error::Io`] if the disk refuses;
    /// [`crate::Error::Poisoned`] if an earlier write of the log failed.
    pub fn compact_disclosures(&self) -> Result<CompactionReport> {
        self.inner.compact_disclosures(true)
    }
}

impl Inner {
    pub(super) fn compact_disclosures(&self, all: bool) -> Result<CompactionReport> {
        let done = self.disclosures.compact(self.clock.wall_ms(), all)?;
        Ok(CompactionReport { logs: done.logs, forgotten: done.forgotten })
    }

    /// Lets the index know how far the log is, so that an older copy of the log is found out.
    pub(super) fn note_disclosures(&self) -> Result<()> {
        note(&self.store, &self.disclosures)
    }
}

fn note(store: &Store, log: &DisclosureLog) -> Result<()> {
    let Mark { seq, len } = log.settle()?;
    if store.disclosure_mark()? == Some((seq, len)) {
        return Ok(());
    }
    store.note_disclosures((seq, len))
}

/// Opens the log. An index that has none yet gets one, with what the ledger of version 1 recorded.
pub(super) fn open(
    dir: &Path,
    options: &Options,
    store: &Store,
    state: &State,
    ledger: &RedbLedger,
) -> Result<DisclosureLog> {
    let folder = || Folder::of(&options.disk, dir, state.index_id);
    let open = |mark| DisclosureLog::open(folder(), mark, options.disclosure_sync, options.disclosure_retention);
    let log = match store.disclosure_mark()? {
        Some((seq, len)) => open(Mark { seq, len })?,
        None => {
            let log = open(DisclosureLog::create(&folder())?)?;
            ledger.old_disclosures(|caller, account, purpose, at_ms| {
                let group = Group { caller, origins: Origins::default(), purpose };
                log.import(&group, at_ms, account)
            })?;
            log
        }
    };
    // First the note, then the old rows: a crash in between leaves both, and the note says which to believe.
    note(store, &log)?;
    if ledger.has_old_disclosures()? {
        ledger.drop_old_disclosures()?;
    }
    Ok(log)
}
