//! Layer 2: redb as this crate uses it. Opening, one shape of transaction, and the codec of rows.

#[cfg(feature = "internals")]
mod backend;
mod codec;
mod contain;
mod copy;
mod rewrite;

use std::io::Read;
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use self::contain::{Contained, contained};
use crate::disk::Disk;
use crate::words::{Error, Result};

#[cfg(feature = "internals")]
pub(crate) use codec::{Reread, reread};
pub(crate) use codec::{decode, encode};
pub(crate) use copy::{Kept, Snapshot};
pub(crate) use rewrite::Rewritten;

/// The first bytes of every redb file.
const REDB_MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// How a redb file is opened.
#[derive(Debug, Clone)]
pub(crate) struct DbOptions {
    /// Where it is.
    pub(crate) disk: Disk,
    /// Memory for its pages.
    pub(crate) cache_bytes: usize,
    /// Whether every page is checked at open. redb trusts the pages of a file that was closed well, and may panic
    /// on one that was damaged since.
    pub(crate) check: bool,
}

/// A redb file and its path, which every error names.
#[derive(Debug)]
pub(crate) struct Db {
    /// Replaced as a whole when the file is written anew.
    database: ArcSwap<Contained<Database>>,
    path: PathBuf,
    options: DbOptions,
    /// Who writes shares it; who replaces the file has it alone.
    replacing: RwLock<()>,
}

impl Db {
    /// Creates the file, or opens an empty one.
    pub(crate) fn create(path: &Path, options: &DbOptions) -> Result<Self> {
        let mut builder = Database::builder();
        builder.set_cache_size(options.cache_bytes);
        let action = "create the database";
        let database = contained(action, path, || {
            let created = match &options.disk {
                Disk::Real => builder.create(path),
                #[cfg(feature = "internals")]
                Disk::Sim(disk) => on_sim(&builder, disk.open_or_create(path)),
            };
            created.map_err(Error::database(action, path))
        })?;
        Ok(Self::of(database, path, options))
    }

    fn of(database: Database, path: &Path, options: &DbOptions) -> Self {
        Self {
            database: ArcSwap::from_pointee(Contained::new(database, path)),
            path: path.to_owned(),
            options: options.clone(),
            replacing: RwLock::new(()),
        }
    }

    /// Opens an existing file; `what` names it where it turns out to be something else.
    pub(crate) fn open(path: &Path, options: &DbOptions, what: &'static str) -> Result<Self> {
        let mut magic = [0; REDB_MAGIC.len()];
        let mut file = options.disk.open(path)?;
        if file.read_exact(&mut magic).is_err() || magic != *REDB_MAGIC {
            return Err(Error::ForeignFormat { path: path.to_owned(), expected: what });
        }
        drop(file);
        let mut builder = Database::builder();
        builder.set_cache_size(options.cache_bytes).set_check_integrity_on_open(options.check);
        let action = "open the database";
        let database = contained(action, path, || {
            let opened = match &options.disk {
                Disk::Real => builder.open(path),
                #[cfg(feature = "internals")]
                Disk::Sim(disk) => on_sim(&builder, disk.open_file(path)),
            };
            opened.map_err(Error::database(action, path))
        })?;
        Ok(Self::of(database, path, options))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a snapshot.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        let database = self.database.load();
        let database = database.get()?;
        contained("read", &self.path, || {
            let txn = database.begin_read().map_err(self.error("begin to read"))?;
            work(&txn)
        })
    }

    /// Runs `work` in a transaction and commits it durably; an error leaves everything as it was.
    ///
    /// Quick-repair implies the two-phase commit, which does not trust checksums of data that callers shape,
    /// and lets an open after a crash go without a walk over the whole file.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T>) -> Result<T> {
        let _shared = self.replacing.read();
        let database = self.database.load();
        let database = database.get()?;
        contained("write", &self.path, || {
            let mut txn = database.begin_write().map_err(self.error("begin to write"))?;
            txn.set_quick_repair(true);
            let result = work(&txn)?;
            txn.commit().map_err(self.error("commit"))?;
            Ok(result)
        })
    }

    /// A closure for `map_err` on an operation on this file.
    pub(crate) fn error<E: Into<redb::Error>>(&self, action: &'static str) -> impl FnOnce(E) -> Error + use<E> {
        Error::database(action, &self.path)
    }
}

/// Counters are below this, which no writer reaches, so that counting on from one never overflows.
pub(crate) const MAX_COUNTER: u64 = 1 << 62;

/// Refuses a row with a counter that no writer reaches.
pub(crate) fn check_counters(counters: &[u64], table: &'static str, db: &Db) -> Result<()> {
    if counters.iter().all(|counter| *counter < MAX_COUNTER) {
        return Ok(());
    }
    let reason = "it counts further than any writer";
    Err(Error::DamagedRow { path: db.path().to_owned(), table, reason })
}

/// A redb file that is there, or an empty one, on the simulated disk.
#[cfg(feature = "internals")]
fn on_sim(
    builder: &redb::Builder,
    file: std::io::Result<crate::disk::sim::SimFile>,
) -> Result<Database, redb::DatabaseError> {
    let file = file.map_err(redb::StorageError::Io)?;
    builder.create_with_backend(backend::SimBackend(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let options = &DbOptions { disk: Disk::Real, cache_bytes: 1 << 20, check: true };
        for bytes in [&b""[..], b"red", b"SQLite format 3\0 and so on"] {
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(Db::open(&path, options, "a ledger"), Err(Error::ForeignFormat { .. })));
        }
        assert!(matches!(Db::open(&dir.path().join("none"), options, "a ledger"), Err(Error::Io { .. })));
    }
}
