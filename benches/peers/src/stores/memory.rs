//! A hash table in memory: hashbrown with the hasher it comes with, and room for everything from the start.

use hashbrown::HashMap;
use unlisted::PhoneHash;

use crate::population::{Key, Row, Value, found, keys_of};
use crate::store::{Place, Reader, Result, Source, Store};

pub struct Hashbrown(HashMap<Key, Value>);

pub struct HashbrownReader<'a> {
    store: &'a Hashbrown,
    accounts: Vec<[u8; 16]>,
}

impl Store for Hashbrown {
    const NAME: &'static str = "hashbrown";
    const SOURCE: Source = Source::Unsorted;
    const ON_DISK: bool = false;
    type Batch = Vec<Key>;
    type Reader<'a> = HashbrownReader<'a>;

    fn version() -> String {
        "0.17".to_owned()
    }

    fn load(_: &Place, rows: &[Row]) -> Result<Self> {
        let mut map = HashMap::with_capacity(rows.len());
        map.extend(rows.iter().map(|row| (row.key, row.value)));
        Ok(Self(map))
    }

    fn open(_: &Place) -> Result<Self> {
        Err("a table in memory is not kept".into())
    }

    fn prepare(&self, hashes: &[PhoneHash]) -> Vec<Key> {
        keys_of(hashes)
    }

    fn reader(&self) -> Result<HashbrownReader<'_>> {
        Ok(HashbrownReader { store: self, accounts: Vec::new() })
    }

    fn memory_bytes(&self) -> u64 {
        self.0.allocation_size() as u64
    }
}

impl Reader for HashbrownReader<'_> {
    type Batch = Vec<Key>;

    fn warm(&mut self) -> Result<()> {
        Ok(())
    }

    fn probe(&mut self, batch: &Vec<Key>) -> Result<u64> {
        self.accounts.clear();
        self.accounts.extend(batch.iter().filter_map(|key| self.store.0.get(key).and_then(|value| found(value))));
        Ok(self.accounts.len() as u64)
    }
}
