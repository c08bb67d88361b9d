//! unlisted itself, twice: the raw probe from prepared keys, which is what the peers do, and the public lookup from
//! hashes, with keyed PRF, durable charge and disclosures, which no peer has.
//!
//! Its load begins with hashes in no order and includes the PRF, sorting, checksums and verification.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use unlisted::internals::PreparedKeys;
use unlisted::{Caller, Index, Options, PhoneHash, Quota, QuotaPolicy, Secret};

use crate::population::{PURPOSE, Row, SECRET, listing};
use crate::store::{Place, Reader, Result, Source, Store};

/// Listings made at a time.
const CHUNK: u64 = 8_192;
/// Callers of the public lookups. Nearly every number is new to the one that asks.
const CALLERS: usize = 256;
/// Numbers that each caller is charged for ahead, so that it is inside its budget.
const LEASE: u64 = 1 << 20;

fn open(place: &Place) -> Result<Index> {
    let wide = Quota::per_hour(1_000_000_000, 1_000_000)?;
    let options = Options::new(Secret::from_bytes(SECRET)).quotas(QuotaPolicy::of_caller(wide));
    Ok(Index::open(&place.dir, options)?)
}

/// Imports all listings, on both cores.
fn import(place: &Place) -> Result<Index> {
    let index = open(place)?;
    let importer = index.importer()?;
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let count = place.listings;
    thread::scope(|scope| {
        let importer = &importer;
        let work = move |first: u64| -> Result<()> {
            let mut rows = Vec::with_capacity(CHUNK as usize);
            for start in (first * CHUNK..count).step_by((threads * CHUNK) as usize) {
                rows.clear();
                rows.extend((start..count.min(start + CHUNK)).map(listing));
                importer.add(&rows)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || work(first))).collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        ended
            .into_iter()
            .try_for_each(|ended| ended.unwrap_or_else(|_| Err("a thread of the import panicked".into())))
    })?;
    importer.finish()?;
    Ok(index)
}

/// The raw probe.
pub struct Raw(Index);

pub struct RawReader<'a>(&'a Index);

impl Store for Raw {
    const NAME: &'static str = "unlisted raw";
    const SOURCE: Source = Source::Itself;
    const ON_DISK: bool = true;
    const LOAD_THREADS: u64 = 2;
    type Batch = PreparedKeys;
    type Reader<'a> = RawReader<'a>;

    fn version() -> String {
        "this one".to_owned()
    }

    fn load(place: &Place, _: &[Row]) -> Result<Self> {
        import(place).map(Self)
    }

    fn open(place: &Place) -> Result<Self> {
        open(place).map(Self)
    }

    fn prepare(&self, hashes: &[PhoneHash]) -> Self::Batch {
        self.0.prepare(hashes)
    }

    fn reader(&self) -> Result<RawReader<'_>> {
        Ok(RawReader(&self.0))
    }
}

impl Reader for RawReader<'_> {
    type Batch = PreparedKeys;

    fn warm(&mut self) -> Result<()> {
        Ok(self.0.warm()?)
    }

    fn probe(&mut self, batch: &Self::Batch) -> Result<u64> {
        Ok(self.0.raw_probe(PURPOSE, batch)? as u64)
    }
}

/// The public lookup.
pub struct Public {
    index: Index,
    readers: AtomicU64,
}

pub struct PublicReader<'a> {
    index: &'a Index,
    callers: Vec<Caller>,
    lookups: usize,
}

impl Store for Public {
    const NAME: &'static str = "unlisted public";
    const SOURCE: Source = Source::Itself;
    const ON_DISK: bool = true;
    const LOAD_THREADS: u64 = 2;
    const SINGLES: u64 = 1_000;
    type Batch = Vec<PhoneHash>;
    type Reader<'a> = PublicReader<'a>;

    fn version() -> String {
        Raw::version()
    }

    fn load(place: &Place, _: &[Row]) -> Result<Self> {
        Ok(Self { index: import(place)?, readers: AtomicU64::new(0) })
    }

    fn open(place: &Place) -> Result<Self> {
        Ok(Self { index: open(place)?, readers: AtomicU64::new(0) })
    }

    fn prepare(&self, hashes: &[PhoneHash]) -> Vec<PhoneHash> {
        hashes.to_vec()
    }

    fn reader(&self) -> Result<PublicReader<'_>> {
        let reader = self.readers.fetch_add(1, Ordering::Relaxed);
        let name = |caller| Caller::new(format!("{}-{reader}-{caller}", std::process::id()));
        let callers: Vec<Caller> = (0..CALLERS).map(name).collect();
        let prepared: Vec<_> = callers.iter().map(|caller| self.index.prepare_caller(caller)).collect();
        for numbers in [LEASE, 1] {
            self.index.raw_charge_all(&prepared, numbers)?;
        }
        Ok(PublicReader { index: &self.index, callers, lookups: 0 })
    }
}

impl Reader for PublicReader<'_> {
    type Batch = Vec<PhoneHash>;

    fn warm(&mut self) -> Result<()> {
        Ok(self.index.warm()?)
    }

    /// Callers ask in turn.
    fn probe(&mut self, batch: &Vec<PhoneHash>) -> Result<u64> {
        let caller = self.callers.get(self.lookups % self.callers.len()).ok_or("there is no caller")?;
        self.lookups += 1;
        Ok(self.index.lookup(caller, PURPOSE, batch)?.matches().count() as u64)
    }
}
