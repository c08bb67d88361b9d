//! Bulk import: rows into partitions by key, partitions into segments, one transaction that shows them all.
//!
//! Memory is bounded whatever the input: rows beyond a limit go to temporary files, and segments are built two
//! per core at a time, so that one computes while another waits for the disk. Until the last transaction nothing of an
//! import is visible; a crash leaves only files that the next open removes, and the import can be run again.

mod arena;
mod block;
mod build;
#[cfg(feature = "internals")]
pub(crate) mod hostile;
mod partition;
mod scatter;
mod spill;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::temporary::TemporaryFolder;
use super::{Index, Inner};
use crate::shards::Shard;
use crate::words::{AccountId, Entry, Error, Flags, Listing, Result, ShardError};

use partition::Partitions;

/// Folders of temporary files begin with this.
pub(super) const FOLDER_PREFIX: &str = "import-";
/// Rows keyed at a time: with their keys they fit into the cache of a core.
const CHUNK: usize = 4_096;

/// An import under way. Several threads may add rows at once; nothing is visible before [`Importer::finish`].
///
/// ```
/// use unlisted::{AccountId, Index, Listing, OptIns, Options, PhoneHash, Secret, Version};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let importer = index.importer()?;
/// importer.add(&[Listing {
///     hash: PhoneHash::of_e164("+14155550100")?,
///     account: AccountId::from(42),
///     opt_ins: OptIns::SEARCH,
///     version: Version::new(1)?,
/// }])?;
/// let report = importer.finish()?;
/// assert_eq!((report.rows, report.stale), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Importer {
    index: Index,
    /// What the index held when the import began, if it is a node of a fleet.
    shard: Option<Arc<Shard>>,
    elsewhere: AtomicU64,
    partitions: Partitions,
    folder: TemporaryFolder,
}

/// What an import did.
///
/// ```
/// use unlisted::{AccountId, Index, Listing, OptIns, Options, PhoneHash, Secret, Version};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let row = |version| -> Result<Listing, Box<dyn std::error::Error>> {
///     Ok(Listing {
///         hash: PhoneHash::of_e164("+14155550100")?,
///         account: AccountId::from(42),
///         opt_ins: OptIns::SEARCH,
///         version: Version::new(version)?,
///     })
/// };
/// let report = index.import([row(2)?, row(1)?])?;
/// assert_eq!((report.rows, report.stale, report.segments), (2, 1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ImportReport {
    /// Rows taken in.
    pub rows: u64,
    /// Of those, rows that changed nothing: their version was not newer than what the index or another row had.
    pub stale: u64,
    /// Rows of keys that another node of the fleet has: they were left out, and are not counted above.
    pub elsewhere: u64,
    /// Segments written.
    pub segments: usize,
}

/// How far the building of segments is.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use unlisted::{AccountId, Index, Listing, OptIns, Options, PhoneHash, Secret, Version};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let importer = index.importer()?;
/// let hash = PhoneHash::of_e164("+14155550100")?;
/// importer.add(&[Listing { hash, account: AccountId::from(42), opt_ins: OptIns::SEARCH, version: Version::default() }])?;
/// let done = AtomicUsize::new(0);
/// importer.finish_with(|progress| {
///     assert!(progress.done <= progress.total);
///     done.store(progress.done, Ordering::Relaxed);
/// })?;
/// assert_eq!(done.into_inner(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportProgress {
    /// Parts of the key space that are done.
    pub done: usize,
    /// Parts there are.
    pub total: usize,
}

impl Index {
    /// Begins a bulk import. It goes into segments directly, not through the delta.
    ///
    /// # Errors
    /// [`crate::Error::SizeLimit`] if the index is full; [`crate::Error::Io`]; [`ShardError::RangeExpected`] while listings are
    /// on their way from another node.
    pub fn importer(&self) -> Result<Importer> {
        self.inner.check_size()?;
        let shard = self.inner.shard();
        if shard.as_ref().is_some_and(|shard| shard.expects()) {
            return Err(ShardError::RangeExpected.into());
        }
        let folder = TemporaryFolder::create(&self.inner.options.disk, &self.inner.dir, FOLDER_PREFIX)?;
        let partitions =
            Partitions::new(&self.inner.options.disk, folder.path(), self.inner.options.import_memory_bytes);
        Ok(Importer { index: self.clone(), shard, elsewhere: AtomicU64::new(0), partitions, folder })
    }

    /// Imports all rows of a source at once: before it returns none of them is visible, afterwards all are.
    ///
    /// Versions are compared as in [`Index::update`], with what the index holds and among the rows.
    ///
    /// # Errors
    /// As [`Index::importer`] and [`Importer::finish`].
    pub fn import(&self, rows: impl IntoIterator<Item = Listing>) -> Result<ImportReport> {
        let importer = self.importer()?;
        let mut chunk = Vec::with_capacity(CHUNK);
        for row in rows {
            chunk.push(row);
            if chunk.len() == CHUNK {
                importer.add(&chunk)?;
                chunk.clear();
            }
        }
        importer.add(&chunk)?;
        importer.finish()
    }
}

impl Importer {
    /// Adds rows. Threads may call it at once; of two rows for one listing with one version, the first added
    /// wins.
    ///
    /// # Errors
    /// [`Error::ReservedAccount`], and then none of these rows is added; [`Error::Io`] if a temporary file cannot be
    /// written.
    pub fn add(&self, rows: &[Listing]) -> Result<()> {
        if rows.iter().any(|row| row.account == AccountId::RESERVED) {
            return Err(Error::ReservedAccount);
        }
        self.partitions.with_scratch(|scratch| {
            rows.chunks(CHUNK).try_for_each(|chunk| {
                scratch.keys.clear();
                self.index.inner.ring.keys_of(chunk.iter().map(|row| &row.hash), &mut scratch.keys);
                self.partitions.add(scratch, |at, key| {
                    let row = chunk.get(at)?;
                    if self.shard.as_ref().is_some_and(|shard| !shard.holds(key)) {
                        self.elsewhere.fetch_add(1, Ordering::Relaxed);
                        return None;
                    }
                    Some(Entry::new(key, row.account, row.version, Flags::live(row.opt_ins)))
                })
            })
        })
    }

    /// Builds the segments and makes all rows visible and durable at once.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if a segment or temporary file is; [`crate::Error::Io`] or [`crate::Error::Database`] if the disk
    /// refuses; [`ShardError::RangesChanged`] if what this node of a fleet holds changed meanwhile. Nothing of the import is
    /// visible then.
    pub fn finish(self) -> Result<ImportReport> {
        self.finish_with(|_| ())
    }

    /// [`Importer::finish`], telling how far it is.
    ///
    /// # Errors
    /// As [`Importer::finish`].
    pub fn finish_with(self, progress: impl Fn(ImportProgress) + Sync) -> Result<ImportReport> {
        let Self { index, shard, elsewhere, partitions, folder } = self;
        let report = index.inner.import(partitions, shard.as_deref(), &progress);
        folder.remove()?;
        Ok(ImportReport { elsewhere: elsewhere.into_inner(), ..report? })
    }
}

impl Inner {
    fn import(
        &self,
        partitions: Partitions,
        began_with: Option<&Shard>,
        progress: &(dyn Fn(ImportProgress) + Sync),
    ) -> Result<ImportReport> {
        partitions.finish()?;
        let rows = partitions.rows();
        if rows == 0 {
            return Ok(ImportReport::default());
        }
        let _structure = self.structure.lock();
        if self.shard().as_deref().map(|shard| &shard.holds) != began_with.map(|shard| &shard.holds) {
            return Err(ShardError::RangesChanged.into());
        }
        let built = self.build(&partitions, progress)?;
        // The segments' maps come after the memory of the rows: what is touched to open one are whole huge pages.
        drop(partitions);
        self.residency.expect_many();
        let new = self.open_published(&built.rows)?;
        let report = ImportReport { rows, stale: built.stale, segments: new.len(), elsewhere: 0 };
        self.swap(report.stale < rows, &built.retired, &built.rows, &new, |map| self.superseded(map))?;
        self.wake.wake();
        Ok(report)
    }
}
