//! Layer 2: what changes about the index, in `index.redb`: its state, the manifest of segments, the delta.

mod delta;
mod disclosures;
mod manifest;
mod state;

use std::path::Path;

use crate::database::{Db, DbOptions};
use crate::disk;
use crate::overlay::Change;
use crate::segment::keys::KeyRange;
use crate::words::{AccountId, Key, Result, Stamp};

pub(crate) use manifest::SegmentRow;
pub(crate) use state::State;

/// Name of the file in the directory of an index.
pub(crate) const FILE_NAME: &str = "index.redb";

/// The open `index.redb`.
#[derive(Debug)]
pub(crate) struct Store {
    db: Db,
}

/// Identifies one version of a delta row, so that it is only dropped if it did not change since.
pub(crate) type DeltaRef = (Key, AccountId, Stamp);

/// What one transaction changes. Empty parts cost nothing.
#[derive(Debug, Default)]
pub(crate) struct Changes<'a> {
    /// Delta rows to write.
    pub(crate) put: &'a [Change],
    /// Delta rows to drop, if they still carry this stamp.
    pub(crate) drop: &'a [DeltaRef],
    /// Segments that leave the manifest.
    pub(crate) retire: &'a [u64],
    /// Segments that enter it.
    pub(crate) publish: &'a [SegmentRow],
}

impl Store {
    /// Creates the file with its first state; it appears whole or not at all.
    pub(crate) fn create(dir: &Path, options: DbOptions, state: &State) -> Result<()> {
        let temporary = dir.join(format!("{FILE_NAME}.tmp"));
        disk::remove_file(&temporary)?;
        let store = Self { db: Db::create(&temporary, options)? };
        store.commit(&Changes::default(), state)?;
        drop(store);
        disk::rename(&temporary, &dir.join(FILE_NAME))
    }

    /// Opens the file and reads its state.
    pub(crate) fn open(dir: &Path, options: DbOptions) -> Result<(Self, State)> {
        let store = Self { db: Db::open(&dir.join(FILE_NAME), options, "an unlisted index")? };
        let state = store.db.read(|txn| state::read(&store.db, txn))?;
        Ok((store, state))
    }

    /// One durable transaction: all of it or nothing.
    pub(crate) fn commit(&self, changes: &Changes<'_>, state: &State) -> Result<()> {
        self.db.write(|txn| {
            delta::apply(&self.db, txn, changes.put, changes.drop)?;
            manifest::apply(&self.db, txn, changes.retire, changes.publish)?;
            state::write(&self.db, txn, state)
        })
    }

    /// How far the disclosure log was when last noted: its newest log and bytes of it. `None` if there is none yet.
    pub(crate) fn disclosure_mark(&self) -> Result<Option<(u64, u64)>> {
        self.db.read(|txn| disclosures::read(&self.db, txn))
    }

    /// Notes how far the disclosure log is.
    pub(crate) fn note_disclosures(&self, mark: (u64, u64)) -> Result<()> {
        self.db.write(|txn| disclosures::write(&self.db, txn, mark))
    }

    /// The live segments.
    pub(crate) fn manifest(&self) -> Result<Vec<SegmentRow>> {
        self.db.read(|txn| manifest::read(&self.db, txn))
    }

    /// The delta rows of a range, from one snapshot.
    pub(crate) fn delta(&self, range: KeyRange) -> Result<Vec<Change>> {
        self.db.read(|txn| delta::read(&self.db, txn, range))
    }

    pub(crate) fn path(&self) -> &Path {
        self.db.path()
    }
}
