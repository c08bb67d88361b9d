//! Layer 2: what changes about the index, in `index.redb`: its state, the manifest of segments, the delta as a log.

mod backup;
mod delta;
mod disclosures;
mod log;
mod manifest;
mod shard;
mod state;

use std::path::Path;

use parking_lot::{Mutex, MutexGuard};

use crate::database::{Db, DbOptions, Rewritten, Snapshot};
use crate::overlay::{Change, Overlay};
use crate::segment::keys::KeyRange;
use crate::shards::Shard;
use crate::words::{AccountId, Key, Result, Stamp};

pub(crate) use backup::copy;
pub(crate) use log::LogState;
pub(crate) use manifest::{Maker, SegmentRow, bytes_of, file_name as segment_file_name};
pub(crate) use state::State;

/// Name of the file in the directory of an index.
pub(crate) const FILE_NAME: &str = "index.redb";

/// Every kind of row: reads one that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(crate) const REREAD: [crate::database::Reread; 5] =
    [state::reread, state::reread_tripwires, manifest::reread, log::reread, disclosures::reread];

/// As [`REREAD`], of the nodes of a fleet: apart, so that the inputs of the fuzz targets mean what they did.
#[cfg(feature = "internals")]
pub(crate) const REREAD_OF_NODES: [crate::database::Reread; 2] = [manifest::reread_maker, shard::reread];

/// The open `index.redb`.
#[derive(Debug)]
pub(crate) struct Store {
    db: Db,
    /// What the log on disk says. One writer at a time changes it, when its transaction is in.
    log: Mutex<LogState>,
}

/// Identifies one version of a change, so that it is only dropped if it did not change since.
pub(crate) type DeltaRef = (Key, AccountId, Stamp);

/// What one transaction changes. Empty parts cost nothing.
#[derive(Debug, Default)]
pub(crate) struct Changes<'a> {
    /// Changes to append to the log.
    pub(crate) put: &'a [Change],
    /// Changes that count no more, if they still carry this stamp.
    pub(crate) drop: &'a [DeltaRef],
    /// Ranges and the rows of the log up to which their changes count no more: they are in the segments that this transaction
    /// publishes, or nobody's here.
    pub(crate) folded: &'a [(KeyRange, u64)],
    /// Rows of the log up to this one may go: no range needs them.
    pub(crate) trim_to: u64,
    /// Segments that leave the manifest.
    pub(crate) retire: &'a [u64],
    /// Segments that enter it.
    pub(crate) publish: &'a [SegmentRow],
    /// What this node of a fleet is from now on.
    pub(crate) shard: Option<&'a Shard>,
}

/// `index.redb` written anew, about to take its place.
pub(crate) struct RewrittenStore<'a> {
    of: &'a Store,
    file: Rewritten<'a>,
    log: LogState,
}

impl RewrittenStore<'_> {
    /// Puts it in its place. After an error nobody may write any more.
    pub(crate) fn replace(self) -> Result<()> {
        self.file.replace()?;
        *self.of.log.lock() = self.log;
        Ok(())
    }
}

impl Store {
    /// Creates the file with its first state; it appears whole or not at all.
    pub(crate) fn create(dir: &Path, options: &DbOptions, state: &State) -> Result<()> {
        let temporary = dir.join(format!("{FILE_NAME}.tmp"));
        options.disk.remove_file(&temporary)?;
        let store = Self { db: Db::create(&temporary, options)?, log: Mutex::default() };
        store.commit(&Changes::default(), state)?;
        drop(store);
        options.disk.rename(&temporary, &dir.join(FILE_NAME))
    }

    /// Opens the file and reads its state and the changes that count.
    pub(crate) fn open(dir: &Path, options: &DbOptions) -> Result<(Self, State, Overlay)> {
        let db = Db::open(&dir.join(FILE_NAME), options, "an unlisted index")?;
        let state = db.read(|txn| state::read(&db, txn))?;
        log::adopt_delta(&db)?;
        let (overlay, log) = db.read(|txn| log::replay(&db, txn))?;
        Ok((Self { db, log: Mutex::new(log) }, state, overlay))
    }

    /// One durable transaction: all of it or nothing.
    pub(crate) fn commit(&self, changes: &Changes<'_>, state: &State) -> Result<()> {
        let mut next = self.log.lock().clone();
        self.db.write(|txn| {
            log::append(&self.db, txn, &mut next, changes.put, changes.drop)?;
            for folded in changes.folded {
                log::note_folded(&self.db, txn, &mut next, *folded)?;
            }
            if changes.trim_to > 0 {
                log::trim(&self.db, txn, &mut next, changes.trim_to)?;
            }
            if !(changes.retire.is_empty() && changes.publish.is_empty()) {
                manifest::apply(&self.db, txn, changes.retire, changes.publish)?;
            }
            if let Some(shard) = changes.shard {
                shard::write(&self.db, txn, shard)?;
            }
            state::write(&self.db, txn, state)
        })?;
        *self.log.lock() = next;
        Ok(())
    }

    /// Writes the file anew with what counts, and with `next` as its state; the writer waits meanwhile. An error leaves
    /// everything as it was.
    pub(crate) fn rewritten(&self, next: &State) -> Result<RewrittenStore<'_>> {
        let mut log = self.log.lock().clone();
        let file = self.db.rewritten(|from, to| {
            log = backup::copy_what_counts(from, to, &log, next)?;
            Ok(())
        })?;
        Ok(RewrittenStore { of: self, file, log })
    }

    /// Where the log stands. Not to be held over a commit.
    pub(crate) fn log(&self) -> MutexGuard<'_, LogState> {
        self.log.lock()
    }

    /// How far the disclosure log was when last noted: its newest log and bytes of it. `None` if there is none yet.
    pub(crate) fn disclosure_mark(&self) -> Result<Option<(u64, u64)>> {
        self.db.read(|txn| disclosures::read(&self.db, txn))
    }

    /// Notes how far the disclosure log is.
    pub(crate) fn note_disclosures(&self, mark: (u64, u64)) -> Result<()> {
        self.db.write(|txn| disclosures::write(&self.db, txn, mark))
    }

    /// What node of a fleet this is. `None` if it is none.
    pub(crate) fn shard(&self) -> Result<Option<Shard>> {
        self.db.read(|txn| shard::read(&self.db, txn))
    }

    /// The live segments.
    pub(crate) fn manifest(&self) -> Result<Vec<SegmentRow>> {
        self.db.read(|txn| manifest::read(&self.db, txn))
    }

    /// The changes that count, as the log on disk says.
    pub(crate) fn replay(&self) -> Result<(Overlay, LogState)> {
        self.db.read(|txn| log::replay(&self.db, txn))
    }

    /// Every change that the log still has, also those that are in segments.
    pub(crate) fn replay_all(&self) -> Result<Overlay> {
        self.db.read(|txn| log::replay_all(&self.db, txn))
    }

    /// The file as it is now.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.db.snapshot()
    }

    /// Reads every page of the file; returns how many were right.
    pub(crate) fn verify(&self) -> Result<u64> {
        self.db.verify()
    }

    pub(crate) fn path(&self) -> &Path {
        self.db.path()
    }
}
