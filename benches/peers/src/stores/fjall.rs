//! fjall.
//!
//! As its documentation advises: sorted rows by ingestion, which it prefers to inserts for bulk loads; a block cache with
//! room for everything, since the data fits into memory; blocks of 4 KiB for point reads. Keys and values are random, so
//! compression could save nothing and is off; filters (10 bits a key by default) stay on the last level, because half of
//! the questions miss. The hash index in blocks is for cached data, and on.

use fjall::config::{CompressionPolicy, HashRatioPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use unlisted::PhoneHash;

use crate::population::{Key, Row, found, keys_of};
use crate::store::{Place, Reader, Result, Source, Store};

pub struct Fjall {
    entries: Keyspace,
    _database: Database,
}

pub struct FjallReader<'a> {
    store: &'a Fjall,
    accounts: Vec<[u8; 16]>,
}

fn open(place: &Place) -> Result<Fjall> {
    let database = Database::builder(&place.dir).cache_size(place.cache_bytes()).open()?;
    let options = || {
        KeyspaceCreateOptions::default()
            .data_block_compression_policy(CompressionPolicy::disabled())
            .index_block_compression_policy(CompressionPolicy::disabled())
            .data_block_hash_ratio_policy(HashRatioPolicy::all(1.33))
            .expect_point_read_hits(false)
    };
    Ok(Fjall { entries: database.keyspace("entries", options)?, _database: database })
}

impl Store for Fjall {
    const NAME: &'static str = "fjall";
    const SOURCE: Source = Source::Sorted;
    const ON_DISK: bool = true;
    type Batch = Vec<Key>;
    type Reader<'a> = FjallReader<'a>;

    fn version() -> String {
        "3.1".to_owned()
    }

    fn load(place: &Place, rows: &[Row]) -> Result<Self> {
        let store = open(place)?;
        let mut ingestion = store.entries.start_ingestion()?;
        for row in rows {
            ingestion.write(row.key.as_slice(), row.value.as_slice())?;
        }
        ingestion.finish()?;
        store._database.persist(PersistMode::SyncAll)?;
        Ok(store)
    }

    fn open(place: &Place) -> Result<Self> {
        open(place)
    }

    fn prepare(&self, hashes: &[PhoneHash]) -> Vec<Key> {
        keys_of(hashes)
    }

    fn reader(&self) -> Result<FjallReader<'_>> {
        Ok(FjallReader { store: self, accounts: Vec::new() })
    }
}

impl Reader for FjallReader<'_> {
    type Batch = Vec<Key>;

    fn warm(&mut self) -> Result<()> {
        for entry in self.store.entries.iter() {
            self.accounts.clear();
            self.accounts.extend(found(&entry.value()?));
        }
        Ok(())
    }

    fn probe(&mut self, batch: &Vec<Key>) -> Result<u64> {
        self.accounts.clear();
        for key in batch {
            self.accounts.extend(self.store.entries.get(key)?.and_then(|value| found(&value)));
        }
        Ok(self.accounts.len() as u64)
    }
}
