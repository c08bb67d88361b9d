//! A copy of a database, table by table, out of one snapshot, while the file itself goes on.

use std::path::PathBuf;
use std::sync::Arc;

use redb::{
    Key, MultimapTableHandle, ReadTransaction, ReadableDatabase, ReadableTableMetadata, TableDefinition,
    TableError, TableHandle, Value,
};

use super::{Contained, Db, Opened, Paged, contained, database_error};
use crate::words::{Error, Result};

/// Rows of one transaction of a copy. It bounds the memory, and how often the device is waited for.
const ROWS_AT_ONCE: usize = 65_536;

/// A database at one moment. Pages that it needs are not used again while it is there, so the file may grow meanwhile.
pub(crate) struct Snapshot {
    txn: Contained<ReadTransaction>,
    path: PathBuf,
    /// Another may have taken its place meanwhile. Dropped after the transaction.
    opened: Arc<Opened>,
}

/// What becomes of a row in a copy.
pub(crate) enum Kept {
    Same,
    Changed(Vec<u8>),
    Gone,
}

impl Db {
    /// What the last transaction left.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let opened = self.opened.load_full();
        let txn = contained("begin to read", &self.path, || {
            opened.get()?.begin_read().map_err(self.error("begin to read"))
        })?;
        Ok(Snapshot { txn: Contained::new(txn, &self.path), path: self.path.clone(), opened })
    }
}

impl Snapshot {
    /// Refuses a database with a table that a copy would leave out.
    pub(crate) fn expect_tables(&self, known: &[&str]) -> Result<()> {
        let txn = self.txn.get()?;
        contained("list the tables", &self.path, || {
            let plain =
                txn.list_tables().map_err(self.error("list the tables"))?.map(|table| table.name().to_owned());
            let multimap = txn.list_multimap_tables().map_err(self.error("list the tables"))?;
            let multimap = multimap.map(|table| table.name().to_owned());
            match plain.chain(multimap).find(|name| !known.contains(&name.as_str())) {
                Some(table) => Err(Error::UnknownTable { path: self.path.clone(), table }),
                None => Ok(()),
            }
        })
    }

    /// Copies a table, in transactions of some ten thousand rows. One that is not there is not made.
    pub(crate) fn copy_table<K, V>(&self, table: TableDefinition<'_, K, V>, to: &Db) -> Result<()>
    where
        K: Key + 'static,
        V: Value + 'static,
    {
        let txn = self.txn.get()?;
        contained("copy a table", &self.path, || self.copy_rows(txn, table, to))
    }

    fn copy_rows<K, V>(&self, txn: &ReadTransaction, table: TableDefinition<'_, K, V>, to: &Db) -> Result<()>
    where
        K: Key + 'static,
        V: Value + 'static,
    {
        let read = || self.error("copy a table");
        let source = match txn.open_table(table) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            other => other.map_err(self.error("open a table"))?,
        };
        let mut rows = source.range::<K::SelfType<'_>>(..).map_err(read())?;
        loop {
            let copied = to.write(|txn| {
                let mut target = txn.open_table(table).map_err(to.error("open a table"))?;
                let mut copied = 0;
                for row in rows.by_ref().take(ROWS_AT_ONCE) {
                    let (key, value) = row.map_err(read())?;
                    target.insert(key.value(), value.value()).map_err(to.error("copy a table"))?;
                    copied += 1;
                }
                Ok(copied)
            })?;
            if copied < ROWS_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// As [`Snapshot::copy_table`], of the rows that are to be kept.
    pub(crate) fn copy_some<K>(
        &self,
        table: TableDefinition<'_, K, &'static [u8]>,
        to: &Db,
        mut keep: impl FnMut(&K, &[u8]) -> Result<Kept>,
    ) -> Result<()>
    where
        K: Key + for<'a> Value<SelfType<'a> = K> + 'static,
    {
        let txn = self.txn.get()?;
        contained("copy a table", &self.path, || self.copy_kept(txn, table, to, &mut keep))
    }

    fn copy_kept<K>(
        &self,
        txn: &ReadTransaction,
        table: TableDefinition<'_, K, &'static [u8]>,
        to: &Db,
        keep: &mut impl FnMut(&K, &[u8]) -> Result<Kept>,
    ) -> Result<()>
    where
        K: Key + for<'a> Value<SelfType<'a> = K> + 'static,
    {
        let read = || self.error("copy a table");
        let source = match txn.open_table(table) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            other => other.map_err(self.error("open a table"))?,
        };
        let mut rows = source.range::<K>(..).map_err(read())?;
        loop {
            let seen = to.write(|txn| {
                let mut target = txn.open_table(table).map_err(to.error("open a table"))?;
                let mut seen = 0;
                for row in rows.by_ref().take(ROWS_AT_ONCE) {
                    let (key, value) = row.map_err(read())?;
                    let key = key.value();
                    let copied = match keep(&key, value.value())? {
                        Kept::Same => target.insert(&key, value.value()).map(drop),
                        Kept::Changed(bytes) => target.insert(&key, bytes.as_slice()).map(drop),
                        Kept::Gone => Ok(()),
                    };
                    copied.map_err(to.error("copy a table"))?;
                    seen += 1;
                }
                Ok(seen)
            })?;
            if seen < ROWS_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Reads every page of every table.
    pub(super) fn read_all(&self) -> Result<()> {
        self.read(|txn| {
            for table in txn.list_tables().map_err(self.error("list the tables"))? {
                let table = txn.open_untyped_table(table).map_err(self.error("open a table"))?;
                // It looks at every page of the tree.
                table.stats().map_err(self.error("read a table"))?;
            }
            Ok(())
        })
    }

    /// The file that it is of, if it has checksums.
    pub(super) fn pages(&self) -> Option<&Paged> {
        self.opened.pages.as_ref()
    }

    fn error<E: Into<redb::Error>>(&self, action: &'static str) -> impl FnOnce(E) -> Error + use<E> {
        database_error(action, &self.path, self.pages())
    }

    /// Runs `work` on it.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        let txn = self.txn.get()?;
        contained("read", &self.path, || work(txn))
    }
}

#[cfg(test)]
mod tests {
    use redb::ReadableTable;

    use super::super::DbOptions;
    use super::*;
    use crate::disk::Disk;

    const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
    const NONE: TableDefinition<'_, u64, u64> = TableDefinition::new("none");
    const OPTIONS: DbOptions = DbOptions { disk: Disk::Real, cache_bytes: 4 << 20, check: false };

    fn put(db: &Db, rows: std::ops::Range<u64>) {
        let done = db.write(|txn| {
            let mut table = txn.open_table(ROWS).map_err(db.error("open"))?;
            for row in rows {
                table.insert(row, row.to_le_bytes().as_slice()).map_err(db.error("write"))?;
            }
            Ok(())
        });
        done.unwrap();
    }

    #[test]
    fn a_copy_is_of_its_moment_and_has_every_row() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::create(&dir.path().join("from"), &OPTIONS).unwrap();
        let count = 2 * ROWS_AT_ONCE as u64;
        put(&db, 0..count);
        let snapshot = db.snapshot().unwrap();
        put(&db, count..count + 10);
        let to = dir.path().join("to");
        let copy = Db::create(&to, &OPTIONS).unwrap();
        snapshot.copy_table(ROWS, &copy).unwrap();
        snapshot.copy_table(NONE, &copy).unwrap();
        drop(copy);
        let copy = Db::open(&to, &OPTIONS, "a copy").unwrap();
        let rows = copy.read(|txn| {
            let table = txn.open_table(ROWS).map_err(copy.error("open"))?;
            let rows = table.iter().map_err(copy.error("read"))?.map(|row| row.unwrap());
            Ok(rows.map(|(key, value)| (key.value(), value.value().to_vec())).collect::<Vec<_>>())
        });
        assert_eq!(rows.unwrap(), (0..count).map(|row| (row, row.to_le_bytes().to_vec())).collect::<Vec<_>>());
        copy.snapshot().unwrap().expect_tables(&["rows"]).unwrap();
    }

    #[test]
    fn a_table_that_would_be_left_out_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::create(&dir.path().join("from"), &OPTIONS).unwrap();
        put(&db, 0..1);
        let many = redb::MultimapTableDefinition::<u64, u64>::new("many");
        db.write(|txn| txn.open_multimap_table(many).map(drop).map_err(db.error("open"))).unwrap();
        let snapshot = db.snapshot().unwrap();
        snapshot.expect_tables(&["rows", "many", "none"]).unwrap();
        for (known, left) in [("rows", "many"), ("many", "rows")] {
            match snapshot.expect_tables(&[known]) {
                Err(Error::UnknownTable { table, .. }) => assert_eq!(table, left),
                other => panic!("{other:?}"),
            }
        }
    }
}
