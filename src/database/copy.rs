//! A copy of a database, table by table, out of one snapshot, while the file itself goes on.

use std::path::PathBuf;

use redb::{
    Key, MultimapTableHandle, ReadTransaction, ReadableDatabase, TableDefinition, TableError, TableHandle, Value,
};

use super::Db;
use crate::words::{Error, Result};

/// Rows of one transaction of a copy. It bounds the memory, and how often the device is waited for.
const ROWS_AT_ONCE: usize = 65_536;

/// A database at one moment. Pages that it needs are not used again while it is there, so the file may grow meanwhile.
pub(crate) struct Snapshot {
    txn: ReadTransaction,
    path: PathBuf,
}

impl Db {
    /// What the last transaction left.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let txn = self.database.begin_read().map_err(self.error("begin to read"))?;
        Ok(Snapshot { txn, path: self.path.clone() })
    }
}

impl Snapshot {
    /// Refuses a database with a table that a copy would leave out.
    pub(crate) fn expect_tables(&self, known: &[&str]) -> Result<()> {
        let error = |action| Error::database::<redb::StorageError>(action, &self.path);
        let plain = self.txn.list_tables().map_err(error("list the tables"))?.map(|table| table.name().to_owned());
        let multimap = self.txn.list_multimap_tables().map_err(error("list the tables"))?;
        let multimap = multimap.map(|table| table.name().to_owned());
        match plain.chain(multimap).find(|name| !known.contains(&name.as_str())) {
            Some(table) => Err(Error::UnknownTable { path: self.path.clone(), table }),
            None => Ok(()),
        }
    }

    /// Copies a table, in transactions of some ten thousand rows. One that is not there is not made.
    pub(crate) fn copy_table<K, V>(&self, table: TableDefinition<'_, K, V>, to: &Db) -> Result<()>
    where
        K: Key + 'static,
        V: Value + 'static,
    {
        let read = || Error::database::<redb::StorageError>("copy a table", &self.path);
        let source = match self.txn.open_table(table) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            other => other.map_err(Error::database("open a table", &self.path))?,
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
}
