//! A database written anew, so that no page keeps bytes of rows that are gone.
//!
//! redb never writes over what it frees: a page that is free keeps its bytes until it is used again, and one in use may
//! keep, behind its rows, those of a row that was removed. A file that only holds what was copied into it has neither.

use std::path::PathBuf;

use parking_lot::RwLockWriteGuard;

use super::{Db, Snapshot};
use crate::words::Result;

/// The copy of a database that is to take its place. Until then nobody writes to the database; reads go on.
pub(crate) struct Rewritten<'a> {
    of: &'a Db,
    /// `None` once it took the place.
    copy: Option<Db>,
    temporary: PathBuf,
    _turn: RwLockWriteGuard<'a, ()>,
}

impl Db {
    /// Copies the database beside its file, by `copy`. An error leaves everything as it was.
    pub(crate) fn rewritten(&self, copy: impl FnOnce(&Snapshot, &Self) -> Result<()>) -> Result<Rewritten<'_>> {
        let turn = self.replacing.write();
        let mut name = self.path.clone().into_os_string();
        name.push(".tmp");
        let temporary = PathBuf::from(name);
        self.options.disk.remove_file(&temporary)?;
        // From here on what is left of it goes with an error.
        let mut rewritten = Rewritten { of: self, copy: None, temporary, _turn: turn };
        let to = Self::create(&rewritten.temporary, &self.options)?;
        copy(&self.snapshot()?, &to)?;
        rewritten.copy = Some(to);
        Ok(rewritten)
    }
}

impl Rewritten<'_> {
    /// Puts it in the place of the database, durably. After an error it is not known which of them is there, so nobody may
    /// write any more.
    pub(crate) fn replace(mut self) -> Result<()> {
        let Some(copy) = self.copy.take() else { return Ok(()) };
        self.of.options.disk.rename(&self.temporary, &self.of.path)?;
        // Who reads the old one keeps it; its file has no name any more.
        self.of.opened.store(copy.opened.load_full());
        Ok(())
    }
}

impl Drop for Rewritten<'_> {
    fn drop(&mut self) {
        self.copy = None;
        // Gone already if it took the place; otherwise the next open removes it.
        let _ = self.of.options.disk.remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use redb::{ReadableTable, TableDefinition};

    use super::super::{DbOptions, Kept};
    use super::*;
    use crate::disk::Disk;
    use crate::words::Error;

    const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
    const OPTIONS: DbOptions = DbOptions { disk: Disk::Real, cache_bytes: 4 << 20, check: false };

    fn put(db: &Db, row: u64, bytes: &[u8]) {
        let done = db.write(|txn| {
            let mut table = txn.open_table(ROWS).map_err(db.error("open"))?;
            table.insert(row, bytes).map(drop).map_err(db.error("write"))
        });
        done.unwrap();
    }

    fn remove(db: &Db, row: u64) {
        let done = db.write(|txn| {
            let mut table = txn.open_table(ROWS).map_err(db.error("open"))?;
            table.remove(row).map(drop).map_err(db.error("write"))
        });
        done.unwrap();
    }

    fn rows(db: &Db) -> Vec<(u64, Vec<u8>)> {
        let rows = db.read(|txn| {
            let table = txn.open_table(ROWS).map_err(db.error("open"))?;
            let rows = table.iter().map_err(db.error("read"))?.map(|row| row.unwrap());
            Ok(rows.map(|(key, value)| (key.value(), value.value().to_vec())).collect())
        });
        rows.unwrap()
    }

    fn has(db: &Db, bytes: &[u8]) -> bool {
        std::fs::read(db.path()).unwrap().windows(bytes.len()).any(|window| window == bytes)
    }

    #[test]
    fn what_was_removed_is_in_the_file_until_it_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::create(&dir.path().join("db"), &OPTIONS).unwrap();
        let secret = b"only here and nowhere else";
        put(&db, 1, b"one");
        put(&db, 2, secret);
        put(&db, 3, b"three");
        remove(&db, 2);
        assert!(has(&db, secret), "redb writes over what it frees: there is nothing to do here");
        let before = db.snapshot().unwrap();
        db.rewritten(|from, to| from.copy_table(ROWS, to)).unwrap().replace().unwrap();
        assert!(!has(&db, secret));
        let expected = vec![(1, b"one".to_vec()), (3, b"three".to_vec())];
        assert_eq!(rows(&db), expected);
        // Whoever read the old file goes on reading it.
        let copy = Db::create(&dir.path().join("copy"), &OPTIONS).unwrap();
        put(&db, 4, b"four");
        before.copy_table(ROWS, &copy).unwrap();
        assert_eq!(rows(&copy), expected);
        drop((db, before));
        let db = Db::open(&dir.path().join("db"), &OPTIONS, "a database").unwrap();
        assert_eq!(rows(&db).len(), 3);
    }

    #[test]
    fn an_error_while_copying_leaves_everything_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::create(&dir.path().join("db"), &OPTIONS).unwrap();
        put(&db, 1, b"one");
        let failed = db.rewritten(|from, to| {
            from.copy_table(ROWS, to)?;
            Err(Error::EmptyCaller)
        });
        assert!(matches!(failed.map(drop), Err(Error::EmptyCaller)));
        assert!(!dir.path().join("db.tmp").exists());
        put(&db, 2, b"two");
        assert_eq!(rows(&db).len(), 2);
    }

    #[test]
    fn rows_are_kept_changed_or_gone_as_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::create(&dir.path().join("db"), &OPTIONS).unwrap();
        (0..6).for_each(|row| put(&db, row, b"same"));
        let keep = |row: &u64, _: &[u8]| {
            Ok(match row % 3 {
                0 => Kept::Same,
                1 => Kept::Changed(b"changed".to_vec()),
                _ => Kept::Gone,
            })
        };
        db.rewritten(|from, to| from.copy_some(ROWS, to, keep)).unwrap().replace().unwrap();
        let (same, changed) = (b"same".to_vec(), b"changed".to_vec());
        assert_eq!(rows(&db), [(0, same.clone()), (1, changed.clone()), (3, same), (4, changed)]);
    }
}
