//! One moment of an index that goes on: both databases, the segments and the disclosure log, as they belong together.

use std::path::Path;
use std::sync::Arc;

use super::super::Inner;
use super::super::segments::LiveSegment;
use super::manifest::{FileRow, Kind, Manifest, segment_digest};
use crate::database::{DbOptions, Snapshot};
use crate::disclosures::Held;
use crate::disk::Disk;
use crate::ledger;
use crate::segment::layout::{FOOTER_LEN, PAGE_LEN};
use crate::store::{self, State};
use crate::words::Result;

/// Pages of a new database while it is written.
const CACHE_BYTES: usize = 16 << 20;

/// What is copied. Nothing of it goes while this is there.
pub(super) struct Moment {
    pub(super) state: State,
    pub(super) ledger_commits: u64,
    pub(super) wall_ms: u64,
    pub(super) disclosures: Held,
}

/// Both databases at a moment. To be dropped once they are copied: until then their files cannot use old pages again.
pub(super) struct Databases {
    index: Snapshot,
    ledger: Snapshot,
}

impl Inner {
    /// Takes a moment. `with_segments` is called with the segments that belong to it while none of their files can go.
    pub(super) fn moment<T>(
        &self,
        with_segments: impl FnOnce(&[Arc<LiveSegment>]) -> Result<T>,
    ) -> Result<(Moment, Databases, T)> {
        // What is in memory only is not in the copy: numbers that were paid for would have to be paid again.
        self.ledger.write_novelty()?;
        self.ledger.write_activity()?;
        // No fold, import or erasure from here on.
        let _structure = self.structure.lock();
        let segments: Vec<_> = self.segments.load().live().cloned().collect();
        let done = with_segments(&segments)?;
        // The index waits while the ledger's moment is taken, so that neither is ahead of what the other knows.
        let writer = self.writer.lock();
        writer.check()?;
        let index = self.store.snapshot()?;
        let (ledger, of_ledger) = self.ledger.snapshot()?;
        let state = writer.state.clone();
        drop(writer);
        // Last: everything that was shown by then is recorded, and the mark in the index is not ahead of the log.
        let disclosures = self.disclosures.hold()?;
        let wall_ms = self.clock.wall_ms();
        let moment = Moment { state, ledger_commits: of_ledger.commits, wall_ms, disclosures };
        Ok((moment, Databases { index, ledger }, done))
    }
}

impl Databases {
    /// Copies one into a new file, durably.
    pub(super) fn copy(&self, kind: Kind, disk: &Disk, to: &Path) -> Result<()> {
        disk.remove_file(to)?;
        let options = DbOptions { disk: disk.clone(), cache_bytes: CACHE_BYTES, check: false };
        match kind {
            Kind::Index => store::copy(&self.index, to, options),
            _ => ledger::copy(&self.ledger, to, options),
        }
    }
}

impl Moment {
    pub(super) fn manifest(&self, number: u64, files: Vec<FileRow>) -> Manifest {
        let State { index_id, ledger_id, snapshot_version, epoch, watermark, .. } = self.state.clone();
        let (ledger_commits, wall_ms) = (self.ledger_commits, self.wall_ms);
        Manifest {
            index_id,
            ledger_id,
            snapshot_version,
            epoch,
            ledger_commits,
            wall_ms,
            number,
            watermark,
            files,
        }
    }
}

impl LiveSegment {
    /// The name of its file.
    pub(in crate::index) fn file_name(&self) -> String {
        store::segment_file_name(self.segment().header().keys.range, self.generation())
    }

    /// What its file is told from others by.
    pub(in crate::index) fn digest(&self) -> u128 {
        let bytes = self.segment().bytes().as_ref();
        let head = bytes.first_chunk::<PAGE_LEN>();
        let tail = bytes.last_chunk::<FOOTER_LEN>();
        // An open segment has both.
        head.zip(tail).map_or(0, |(head, tail)| segment_digest(head, tail))
    }

    pub(super) fn row(&self, stored: String) -> FileRow {
        let len = self.segment().len() as u64;
        FileRow { kind: Kind::Segment, stored, name: self.file_name(), len, digest: self.digest() }
    }
}
