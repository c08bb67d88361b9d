//! redb panics on some pages that were changed behind its back. Such a panic ends the call, and not the host.
//!
//! Pages are checked when they are read ([`super::paged`]), so this is about pages whose checksums somebody made. A host that is built
//! with `panic = "abort"` is not protected.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::words::{Error, Result};

/// Runs what calls redb; a panic in it is an error. Nobody sees what the work left half done: a transaction that was not
/// committed is gone, and whoever writes is poisoned by any error.
pub(super) fn contained<T>(action: &'static str, path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(Error::DatabasePanicked { action, path: path.to_owned() }))
}

/// What must not panic when it is dropped either: a redb file writes when it is closed.
#[derive(Debug)]
pub(super) struct Contained<T> {
    /// `None` only while it is dropped.
    inner: Option<T>,
    path: PathBuf,
}

impl<T> Contained<T> {
    pub(super) fn new(inner: T, path: &Path) -> Self {
        Self { inner: Some(inner), path: path.to_owned() }
    }

    pub(super) fn get(&self) -> Result<&T> {
        let closed = || Error::database("use the database", &self.path)(redb::StorageError::DatabaseClosed);
        self.inner.as_ref().ok_or_else(closed)
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        let inner = self.inner.take();
        if let Err(error) = contained("close the database", &self.path, || {
            drop(inner);
            Ok(())
        }) {
            tracing::error!(
                error = error.with_causes(),
                "a database file is damaged; check it before the next use"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Db, DbOptions};
    use super::*;
    use crate::disk::Disk;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("as redb may");
        }
    }

    #[test]
    fn a_panic_is_an_error_and_the_database_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let options = DbOptions { disk: Disk::Real, cache_bytes: 1 << 20, check: true };
        let db = Db::create(&dir.path().join("file"), &options).unwrap();
        let read = db.read::<()>(|_| panic!("as redb may"));
        assert!(matches!(read, Err(Error::DatabasePanicked { action: "read", .. })), "{read:?}");
        let rows = redb::TableDefinition::<u64, u64>::new("rows");
        let put = |value, fail: bool| {
            db.write(|txn| {
                txn.open_table(rows).map_err(db.error("open"))?.insert(1, value).map_err(db.error("insert"))?;
                assert!(!fail, "as redb may");
                Ok(())
            })
        };
        put(7, false).unwrap();
        assert!(matches!(put(8, true), Err(Error::DatabasePanicked { action: "write", .. })));
        let read = || {
            db.read(|txn| {
                let table = txn.open_table(rows).map_err(db.error("open"))?;
                Ok(redb::ReadableTable::get(&table, 1).map_err(db.error("get"))?.map(|row| row.value()))
            })
        };
        assert_eq!(read().unwrap(), Some(7), "what was not committed is not there");
        put(9, false).unwrap();
        assert_eq!(read().unwrap(), Some(9));
    }

    #[test]
    fn a_panic_of_a_close_goes_no_further() {
        drop(Contained::new(Bomb, Path::new("file")));
    }
}
