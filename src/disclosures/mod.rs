//! Layer 2: the disclosure log. Who was shown to whom, written before the answer that shows it.
//!
//! A growing log takes one frame a lookup. Full logs are sealed and compacted into runs: sorted, each disclosure
//! once, without what is past its retention or erased. Callers and origins are known by their keyed identities only.

mod backup;
mod compact;
mod erased;
mod files;
mod frame;
#[cfg(feature = "internals")]
pub(crate) mod hostile;
mod merge;
mod page;
mod query;
mod row;
mod run;
mod sync;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use crate::disk::Disk;
use crate::words::{AccountId, Result};

pub(crate) use backup::{Held, HeldFile};
pub(crate) use query::Rows;
pub(crate) use row::{Filter, Group, Origins, Row, Token};
pub use sync::DisclosureSync;

use writer::Writer;

/// Name of the folder in the directory of an index.
pub(crate) const FOLDER: &str = "disclosures";

/// Bytes at which a log is sealed, or soon after. It bounds what an open after a crash reads, and the memory of a compaction.
const LOG_BYTES: u64 = 8 << 20;

/// Where a log is and whose it is.
#[derive(Clone)]
pub(crate) struct Folder {
    disk: Disk,
    dir: PathBuf,
    index_id: [u8; 16],
    log_bytes: u64,
}

impl Folder {
    pub(crate) fn of(disk: &Disk, index_dir: &Path, index_id: [u8; 16]) -> Self {
        Self { disk: disk.clone(), dir: index_dir.join(FOLDER), index_id, log_bytes: LOG_BYTES }
    }
}

/// How far the log was on the device: the newest log and bytes of it. The index notes it, so that an older copy of the
/// log is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) seq: u64,
    pub(crate) len: u64,
}

/// What the files of the log take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    /// Rows, a disclosure that was repeated since the last compaction as often as it was.
    pub(crate) rows: u64,
}

/// An open disclosure log.
pub(crate) struct DisclosureLog {
    writer: Writer,
    sync: DisclosureSync,
    retention_ms: u64,
    erased: erased::Pending,
    /// One compaction or erasure at a time.
    compaction: Mutex<()>,
}

impl fmt::Debug for DisclosureLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DisclosureLog").field("dir", &self.writer.folder().dir).finish_non_exhaustive()
    }
}

impl DisclosureLog {
    /// Makes an empty log. Whatever an interrupted creation left in its folder goes.
    pub(crate) fn create(folder: &Folder) -> Result<Mark> {
        files::create(folder)?;
        Ok(Mark { seq: 1, len: 0 })
    }

    /// Opens a log that was created, and cuts what a crash left unfinished at its end.
    pub(crate) fn open(folder: Folder, mark: Mark, sync: DisclosureSync, retention: Duration) -> Result<Self> {
        let (parts, active) = files::open_all(&folder, mark)?;
        let erased = erased::Pending::open(&folder)?;
        if sync == DisclosureSync::Off {
            tracing::warn!("disclosures are not recorded: nobody can be told later who was shown to whom");
        }
        let retention_ms = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        let writer = Writer::start(folder, sync, active, parts)?;
        Ok(Self { writer, sync, retention_ms, erased, compaction: Mutex::new(()) })
    }

    /// Refuses after a failed write. A lookup asks before it charges, so that a broken log tells nobody apart who
    /// would be shown from who would not.
    pub(crate) fn check(&self) -> Result<()> {
        self.writer.check()
    }

    /// Records what a lookup is about to show.
    pub(crate) fn record(
        &self,
        group: &Group,
        at_ms: u64,
        accounts: impl ExactSizeIterator<Item = AccountId> + Clone,
    ) -> Result<()> {
        if self.sync == DisclosureSync::Off || accounts.len() == 0 {
            return Ok(());
        }
        self.writer.append(group, at_ms, accounts)
    }

    /// Takes a row over that an older version recorded elsewhere; safe once the log is settled.
    pub(crate) fn import(&self, group: &Group, at_ms: u64, account: AccountId) -> Result<()> {
        self.writer.import(group, at_ms, account)
    }

    pub(crate) const fn sync(&self) -> DisclosureSync {
        self.sync
    }

    /// Puts everything on the device; returns how far that is.
    pub(crate) fn settle(&self) -> Result<Mark> {
        self.writer.settle()
    }

    pub(crate) fn usage(&self) -> Usage {
        self.writer.with(|state| {
            let active = Usage { files: 1, bytes: state.active.len, rows: state.active.totals.rows };
            state.parts.iter().fold(active, |all, part| Usage {
                files: all.files + 1,
                bytes: all.bytes + part.bytes(),
                // What headers and footers say.
                rows: all.rows.saturating_add(part.rows()),
            })
        })
    }

    /// Reads everything; returns how many rows there are.
    pub(crate) fn verify(&self) -> Result<u64> {
        let mut rows = 0;
        for row in self.rows_of_all()? {
            row?;
            rows += 1;
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests;
