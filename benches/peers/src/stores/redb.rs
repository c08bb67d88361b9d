//! redb.
//!
//! As its documentation has it: keys and values of fixed width, so that pages hold no lengths; rows in key order, many
//! in a transaction; a cache with room for the data (`Builder::set_cache_size`); one read transaction for a batch. Its own
//! benchmark loads in one transaction; here a million rows are in each, which bounds the memory and cost 2 % or less.

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use unlisted::PhoneHash;

use crate::population::{Key, Row, Value, found, keys_of};
use crate::store::{Place, Reader, Result, Source, Store};

const ENTRIES: TableDefinition<'_, Key, Value> = TableDefinition::new("entries");
const ROWS_OF_TRANSACTION: usize = 1_000_000;

pub struct Redb(Database);

pub struct RedbReader<'a> {
    store: &'a Redb,
    accounts: Vec<[u8; 16]>,
}

impl RedbReader<'_> {
    fn table(&self) -> Result<ReadOnlyTable<Key, Value>> {
        Ok(self.store.0.begin_read()?.open_table(ENTRIES)?)
    }
}

fn builder(place: &Place) -> Result<redb::Builder> {
    let mut builder = Database::builder();
    builder.set_cache_size(usize::try_from(place.cache_bytes())?);
    Ok(builder)
}

impl Store for Redb {
    const NAME: &'static str = "redb";
    const SOURCE: Source = Source::Sorted;
    const ON_DISK: bool = true;
    type Batch = Vec<Key>;
    type Reader<'a> = RedbReader<'a>;

    fn version() -> String {
        "4.6".to_owned()
    }

    fn load(place: &Place, rows: &[Row]) -> Result<Self> {
        let database = builder(place)?.create(place.dir.join("entries.redb"))?;
        for part in rows.chunks(ROWS_OF_TRANSACTION) {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(ENTRIES)?;
                for row in part {
                    table.insert(row.key, row.value)?;
                }
            }
            transaction.commit()?;
        }
        Ok(Self(database))
    }

    fn open(place: &Place) -> Result<Self> {
        Ok(Self(builder(place)?.open(place.dir.join("entries.redb"))?))
    }

    fn prepare(&self, hashes: &[PhoneHash]) -> Vec<Key> {
        keys_of(hashes)
    }

    fn reader(&self) -> Result<RedbReader<'_>> {
        Ok(RedbReader { store: self, accounts: Vec::new() })
    }
}

impl Reader for RedbReader<'_> {
    type Batch = Vec<Key>;

    fn warm(&mut self) -> Result<()> {
        for entry in self.table()?.iter()? {
            self.accounts.clear();
            self.accounts.extend(found(&entry?.1.value()));
        }
        Ok(())
    }

    fn probe(&mut self, batch: &Vec<Key>) -> Result<u64> {
        self.accounts.clear();
        let table = self.table()?;
        for key in batch {
            self.accounts.extend(table.get(key)?.and_then(|value| found(&value.value())));
        }
        Ok(self.accounts.len() as u64)
    }
}
