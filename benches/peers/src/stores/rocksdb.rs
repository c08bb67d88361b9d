//! RocksDB through the crate `rocksdb`, with Bloom filters.
//!
//! As its wiki advises: files of sorted rows by `SstFileWriter`, then ingested, for a bulk load ("Creating and Ingesting SST
//! files"); full Bloom filters of 10 bits a key; the hash index in data blocks for point lookups; blocks of 4 KiB and a
//! HyperClockCache with room for everything; filters and indexes outside that cache, where they are always in memory;
//! `MultiGet` in its batched form for a batch ("MultiGet Performance"). Keys and values are random, so compression could
//! save nothing and is off.

use std::path::PathBuf;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DataBlockIndexType, IngestExternalFileOptions, IteratorMode,
    Options, SstFileWriter,
};
use unlisted::PhoneHash;

use crate::population::{Key, Row, found, keys_of};
use crate::store::{Place, Reader, Result, Source, Store};

const COLUMN_FAMILY: &str = "default";
/// About 190 MB a file.
const ROWS_OF_FILE: usize = 4_000_000;
const BLOCK_BYTES: usize = 4_096;

pub struct RocksDb(DB);

pub struct RocksDbReader<'a> {
    store: &'a RocksDb,
    accounts: Vec<[u8; 16]>,
}

fn options(place: &Place) -> Result<Options> {
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    table.set_block_size(BLOCK_BYTES);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_data_block_hash_ratio(0.75);
    let capacity = usize::try_from(place.cache_bytes())?;
    // A charge of 0 lets the cache find the size of its entries itself.
    table.set_block_cache(&Cache::new_hyper_clock_cache(capacity, 0));
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&table);
    // All files open, and with them their indexes and filters.
    options.set_max_open_files(-1);
    Ok(options)
}

/// The options are named for the column family: without them it would get default ones, and no filter.
fn open(place: &Place) -> Result<RocksDb> {
    let options = options(place)?;
    let families = [(COLUMN_FAMILY, options.clone())];
    Ok(RocksDb(DB::open_cf_with_opts(&options, place.dir.join("db"), families)?))
}

impl Store for RocksDb {
    const NAME: &'static str = super::ROCKSDB;
    const SOURCE: Source = Source::Sorted;
    const ON_DISK: bool = true;
    type Batch = Vec<Key>;
    type Reader<'a> = RocksDbReader<'a>;

    fn version() -> String {
        "rocksdb 0.25 (bundles RocksDB 11.8)".to_owned()
    }

    fn load(place: &Place, rows: &[Row]) -> Result<Self> {
        let store = open(place)?;
        let options = options(place)?;
        let mut files: Vec<PathBuf> = Vec::new();
        for (number, part) in rows.chunks(ROWS_OF_FILE).enumerate() {
            let path = place.dir.join(format!("{number}.sst"));
            let mut writer = SstFileWriter::create(&options);
            writer.open(&path)?;
            for row in part {
                writer.put(row.key, row.value)?;
            }
            writer.finish()?;
            files.push(path);
        }
        let mut how = IngestExternalFileOptions::default();
        how.set_move_files(true);
        store.0.ingest_external_file_opts(&how, files)?;
        Ok(store)
    }

    fn open(place: &Place) -> Result<Self> {
        open(place)
    }

    fn prepare(&self, hashes: &[PhoneHash]) -> Vec<Key> {
        keys_of(hashes)
    }

    fn reader(&self) -> Result<RocksDbReader<'_>> {
        Ok(RocksDbReader { store: self, accounts: Vec::new() })
    }
}

impl Reader for RocksDbReader<'_> {
    type Batch = Vec<Key>;

    fn warm(&mut self) -> Result<()> {
        for entry in self.store.0.iterator(IteratorMode::Start) {
            self.accounts.clear();
            self.accounts.extend(found(&entry?.1));
        }
        Ok(())
    }

    fn probe(&mut self, batch: &Vec<Key>) -> Result<u64> {
        self.accounts.clear();
        if let [key] = batch.as_slice() {
            self.accounts.extend(self.store.0.get_pinned(key)?.and_then(|value| found(&value)));
            return Ok(self.accounts.len() as u64);
        }
        let family = self.store.0.cf_handle(COLUMN_FAMILY).ok_or("the column family is not there")?;
        for answer in self.store.0.batched_multi_get_cf(family, batch, false) {
            self.accounts.extend(answer?.and_then(|value| found(&value)));
        }
        Ok(self.accounts.len() as u64)
    }
}
