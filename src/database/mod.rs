//! Layer 2: redb as this crate uses it. Opening, one shape of transaction, and the codec of rows.

mod codec;
mod contain;
mod copy;
mod paged;
mod plain;
mod rewrite;
mod sums;

use std::io::Read;
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use self::contain::{Contained, contained};
use self::paged::Paged;
use self::plain::PlainFile;
use crate::disk::{Disk, File};
use crate::words::{Damage, Error, Result};

#[cfg(feature = "internals")]
pub(crate) use codec::{Reread, reread};
pub(crate) use codec::{decode, encode};
pub(crate) use copy::{Kept, Snapshot};
pub(crate) use rewrite::Rewritten;

/// How every redb file begins. One that is not within [`Paged`] is of an earlier version.
const REDB_MAGIC: &[u8; 8] = b"redb\x1a\x0a\xa9\x0d";

/// How a redb file is opened.
#[derive(Debug, Clone)]
pub(crate) struct DbOptions {
    /// Where it is.
    pub(crate) disk: Disk,
    /// Memory for its pages.
    pub(crate) cache_bytes: usize,
    /// Whether the trees are walked at open too, against somebody who computes checksums.
    pub(crate) check: bool,
}

/// redb with the file that it has.
#[derive(Debug)]
struct Opened {
    database: Contained<Database>,
    /// `None` if an earlier version wrote the file.
    pages: Option<Paged>,
}

impl Opened {
    fn get(&self) -> Result<&Database> {
        self.database.get()
    }
}

/// A redb file and its path, which every error names.
#[derive(Debug)]
pub(crate) struct Db {
    /// Replaced as a whole when the file is written anew.
    opened: ArcSwap<Opened>,
    path: PathBuf,
    options: DbOptions,
    /// Who writes shares it; who replaces the file has it alone.
    replacing: RwLock<()>,
}

impl Db {
    /// Creates the file, or begins in an empty one.
    pub(crate) fn create(path: &Path, options: &DbOptions) -> Result<Self> {
        let action = "create the database";
        let file = options.disk.open_or_create(path)?;
        let mut builder = Database::builder();
        builder.set_cache_size(options.cache_bytes);
        start_paged(action, &builder, path, file).map(|opened| Self::of(opened, path, options))
    }

    /// Opens an existing file; `what` names it where it turns out to be something else.
    pub(crate) fn open(path: &Path, options: &DbOptions, what: &'static str) -> Result<Self> {
        let action = "open the database";
        let file = options.disk.open_to_write(path)?;
        let mut magic = [0; REDB_MAGIC.len()];
        let is_whole = (&file).read_exact(&mut magic).is_ok();
        let mut builder = Database::builder();
        builder.set_cache_size(options.cache_bytes);
        let opened = if is_whole && magic == sums::MAGIC {
            builder.set_check_integrity_on_open(options.check);
            start_paged(action, &builder, path, file)?
        } else if is_whole && magic == *REDB_MAGIC {
            // Pages that nothing checks when they are read are checked here.
            builder.set_check_integrity_on_open(true);
            start_plain(action, &builder, path, file)?
        } else {
            return Err(Error::ForeignFormat { path: path.to_owned(), expected: what });
        };
        Ok(Self::of(opened, path, options))
    }

    fn of(opened: Opened, path: &Path, options: &DbOptions) -> Self {
        Self {
            opened: ArcSwap::from_pointee(opened),
            path: path.to_owned(),
            options: options.clone(),
            replacing: RwLock::new(()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a snapshot.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        let database = self.opened.load();
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
        let database = self.opened.load();
        let database = database.get()?;
        contained("write", &self.path, || {
            let mut txn = database.begin_write().map_err(self.error("begin to write"))?;
            txn.set_quick_repair(true);
            let result = work(&txn)?;
            txn.commit().map_err(self.error("commit"))?;
            Ok(result)
        })
    }

    /// Reads every page of every table, and every page that was read or written before, from the file. Returns how many were
    /// right: none if an earlier version wrote the file, which was walked when it was opened.
    pub(crate) fn verify(&self) -> Result<u64> {
        // Of one file throughout: another may take its place meanwhile.
        let snapshot = self.snapshot()?;
        snapshot.read_all()?;
        let Some(pages) = snapshot.pages() else { return Ok(0) };
        pages.verify().map_err(|source| match pages.damage() {
            Some(damage) => damaged(&self.path, damage),
            None => Error::io("read", &self.path)(source),
        })
    }

    /// A closure for `map_err` on an operation on this file.
    pub(crate) fn error<E: Into<redb::Error>>(&self, action: &'static str) -> impl FnOnce(E) -> Error + use<E> {
        database_error(action, &self.path, self.opened.load().pages.as_ref())
    }
}

fn start_paged(action: &'static str, builder: &redb::Builder, path: &Path, file: File) -> Result<Opened> {
    let pages = Paged::new(file).map_err(Error::io(action, path))?;
    let backend = pages.clone();
    let database = contained(action, path, || {
        builder.create_with_backend(backend).map_err(database_error(action, path, Some(&pages)))
    })?;
    Ok(Opened { database: Contained::new(database, path), pages: Some(pages) })
}

/// Of a file that an earlier version wrote. It has no checksums until it is written anew.
fn start_plain(action: &'static str, builder: &redb::Builder, path: &Path, file: File) -> Result<Opened> {
    let database = contained(action, path, || {
        builder.create_with_backend(PlainFile(file)).map_err(Error::database(action, path))
    })?;
    Ok(Opened { database: Contained::new(database, path), pages: None })
}

/// redb itself, on a file of this crate that nobody else has open.
#[cfg(feature = "internals")]
pub(crate) fn open_redb(path: &Path) -> Result<Database> {
    let action = "open the database";
    let pages = Paged::new(Disk::Real.open_to_write(path)?).map_err(Error::io(action, path))?;
    Database::builder().set_cache_size(1 << 20).create_with_backend(pages).map_err(Error::database(action, path))
}

/// The error of an operation on a file. Once a page was found damaged, this is what every later one fails of.
fn database_error<E: Into<redb::Error>>(
    action: &'static str,
    path: &Path,
    pages: Option<&Paged>,
) -> impl FnOnce(E) -> Error + use<E> {
    let (path, pages) = (path.to_owned(), pages.cloned());
    move |source| match pages.and_then(|pages| pages.damage()) {
        Some(damage) => damaged(&path, damage),
        None => Error::database(action, &path)(source),
    }
}

fn damaged(path: &Path, (offset, what): (u64, Damage)) -> Error {
    Error::Damaged { path: path.to_owned(), offset, what }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let options = &DbOptions { disk: Disk::Real, cache_bytes: 1 << 20, check: false };
        for bytes in [&b""[..], b"red", b"SQLite format 3\0 and so on"] {
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(Db::open(&path, options, "a ledger"), Err(Error::ForeignFormat { .. })));
        }
        assert!(matches!(Db::open(&dir.path().join("none"), options, "a ledger"), Err(Error::Io { .. })));
    }
}
