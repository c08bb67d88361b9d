//! LMDB through heed.
//!
//! As heed and `lmdb.h` advise: a map larger than the data will get, rows in key order with `MDB_APPEND`, one write
//! transaction for the load, short read transactions. Readahead stays on: `lmdb.h` advises against it only where the data
//! is larger than memory.

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, PutFlags};
use unlisted::PhoneHash;

use crate::population::{Key, Row, found, keys_of};
use crate::store::{Place, Reader, Result, Source, Store};

pub struct Lmdb {
    env: Env,
    entries: Database<'static, Bytes, Bytes>,
}

pub struct LmdbReader<'a> {
    store: &'a Lmdb,
    accounts: Vec<[u8; 16]>,
}

fn env(place: &Place) -> Result<Env> {
    let map_len = usize::try_from(place.listings * 128 + (1 << 30))?.next_multiple_of(1 << 20);
    let mut options = EnvOpenOptions::new();
    options.map_size(map_len).max_readers(128);
    // SAFETY: the folder is this benchmark's own, and no other process changes the file while it is mapped.
    Ok(unsafe { options.open(&place.dir)? })
}

impl Store for Lmdb {
    const NAME: &'static str = "lmdb";
    const SOURCE: Source = Source::Sorted;
    const ON_DISK: bool = true;
    type Batch = Vec<Key>;
    type Reader<'a> = LmdbReader<'a>;

    fn version() -> String {
        let version = heed::lmdb_version();
        format!("heed 0.23, LMDB {}.{}.{}", version.major, version.minor, version.patch)
    }

    fn load(place: &Place, rows: &[Row]) -> Result<Self> {
        let store = Self::open(place)?;
        let mut transaction = store.env.write_txn()?;
        for row in rows {
            store.entries.put_with_flags(&mut transaction, PutFlags::APPEND, &row.key, &row.value)?;
        }
        transaction.commit()?;
        Ok(store)
    }

    fn open(place: &Place) -> Result<Self> {
        let env = env(place)?;
        let opened = env.create_databases_and_commit(env.write_txn()?, |opener, transaction| {
            opener.create_database::<Bytes, Bytes>(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        match opened {
            CommitOrAbort::Commit(entries) => Ok(Self { env, entries }),
            CommitOrAbort::Abort(()) => Err("the database was not opened".into()),
        }
    }

    fn prepare(&self, hashes: &[PhoneHash]) -> Vec<Key> {
        keys_of(hashes)
    }

    fn reader(&self) -> Result<LmdbReader<'_>> {
        Ok(LmdbReader { store: self, accounts: Vec::new() })
    }
}

impl Reader for LmdbReader<'_> {
    type Batch = Vec<Key>;

    fn warm(&mut self) -> Result<()> {
        let transaction = self.store.env.read_txn()?;
        for entry in self.store.entries.iter(&transaction)? {
            self.accounts.clear();
            self.accounts.extend(found(entry?.1));
        }
        Ok(())
    }

    fn probe(&mut self, batch: &Vec<Key>) -> Result<u64> {
        self.accounts.clear();
        let transaction = self.store.env.read_txn()?;
        for key in batch {
            self.accounts.extend(self.store.entries.get(&transaction, key)?.and_then(found));
        }
        Ok(self.accounts.len() as u64)
    }
}
