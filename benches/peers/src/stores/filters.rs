//! Library filters: they hold who is listed and answer maybe or no, without account or opt-ins, so that their rows stand
//! beside the questions that nobody answers, and are no stores.
//!
//! The Bloom filters get what unlisted spends on a member, 12 bits; the number of hashes is the library's own choice.

use std::marker::PhantomData;

use fastbloom::BloomFilter;
use foldhash::fast::RandomState;
use unlisted::PhoneHash;
use xorf::{BinaryFuse8, Filter as _};

use crate::population::{Key, Row, keys_of};
use crate::store::{Answers, Place, Reader, Result, Source, Store};

const BITS_PER_KEY: usize = 12;

/// What the three have in common.
pub trait Filter: Sized + Send + Sync {
    const NAME: &'static str;
    const VERSION: &'static str;

    fn build(rows: &[Row]) -> Result<Self>;
    fn may_have(&self, key: &Key) -> bool;
    fn bytes(&self) -> u64;
}

/// A filter as a contestant.
pub struct Filtered<F>(F);

pub struct FilterReader<'a, F>(&'a F, PhantomData<F>);

impl<F: Filter> Store for Filtered<F> {
    const NAME: &'static str = F::NAME;
    const SOURCE: Source = Source::Unsorted;
    const ON_DISK: bool = false;
    const ANSWERS: Answers = Answers::Maybe;
    type Batch = Vec<Key>;
    type Reader<'a>
        = FilterReader<'a, F>
    where
        F: 'a;

    fn version() -> String {
        F::VERSION.to_owned()
    }

    fn load(_: &Place, rows: &[Row]) -> Result<Self> {
        F::build(rows).map(Self)
    }

    fn open(_: &Place) -> Result<Self> {
        Err("a filter in memory is not kept".into())
    }

    fn prepare(&self, hashes: &[PhoneHash]) -> Vec<Key> {
        keys_of(hashes)
    }

    fn reader(&self) -> Result<FilterReader<'_, F>> {
        Ok(FilterReader(&self.0, PhantomData))
    }

    fn memory_bytes(&self) -> u64 {
        self.0.bytes()
    }
}

impl<F: Filter> Reader for FilterReader<'_, F> {
    type Batch = Vec<Key>;

    fn warm(&mut self) -> Result<()> {
        Ok(())
    }

    fn probe(&mut self, batch: &Vec<Key>) -> Result<u64> {
        Ok(batch.iter().filter(|key| self.0.may_have(key)).count() as u64)
    }
}

/// Crate `bloomfilter`: its size is in bytes, and it hashes with two SipHash keys, which must differ.
pub struct Bloomfilter(bloomfilter::Bloom<Key>);

impl Filter for Bloomfilter {
    const NAME: &'static str = "bloomfilter";
    const VERSION: &'static str = "3.0";

    fn build(rows: &[Row]) -> Result<Self> {
        let mut seed = [0x11; 32];
        seed[16..].fill(0xee);
        let bytes = (rows.len() * BITS_PER_KEY).div_ceil(8);
        let mut filter = bloomfilter::Bloom::new_with_seed(bytes, rows.len(), &seed)?;
        rows.iter().for_each(|row| filter.set(&row.key));
        Ok(Self(filter))
    }

    fn may_have(&self, key: &Key) -> bool {
        self.0.check(key)
    }

    fn bytes(&self) -> u64 {
        self.0.len() / 8
    }
}

/// Crate `fastbloom`, with the hasher that its own measurements use.
pub struct Fastbloom(BloomFilter<RandomState>);

impl Filter for Fastbloom {
    const NAME: &'static str = "fastbloom";
    const VERSION: &'static str = "0.17";

    fn build(rows: &[Row]) -> Result<Self> {
        let empty = BloomFilter::with_num_bits(rows.len() * BITS_PER_KEY).hasher(RandomState::default());
        let mut filter = empty.expected_items(rows.len());
        rows.iter().for_each(|row| {
            filter.insert(&row.key);
        });
        Ok(Self(filter))
    }

    fn may_have(&self, key: &Key) -> bool {
        self.0.contains(key)
    }

    fn bytes(&self) -> u64 {
        self.0.num_bits() as u64 / 8
    }
}

/// Crate `xorf`: a binary fuse filter of 8-bit fingerprints over 64 bits of the key, which are uniform already. It takes
/// no further keys once it is built.
pub struct BinaryFuse(BinaryFuse8);

fn head(key: &Key) -> u64 {
    u128::from_be_bytes(*key) as u64
}

impl Filter for BinaryFuse {
    const NAME: &'static str = "binary-fuse";
    const VERSION: &'static str = "xorf 0.13";

    fn build(rows: &[Row]) -> Result<Self> {
        let keys: Vec<u64> = rows.iter().map(|row| head(&row.key)).collect();
        Ok(Self(BinaryFuse8::try_from(&keys)?))
    }

    fn may_have(&self, key: &Key) -> bool {
        self.0.contains(&head(key))
    }

    fn bytes(&self) -> u64 {
        self.0.fingerprints.len() as u64
    }
}
