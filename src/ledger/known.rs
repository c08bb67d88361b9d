//! Which scopes the ledger may have rows of: a Bloom filter in memory, so that a flood of callers that were never seen
//! costs no read of the file each.
//!
//! "Maybe" costs a read. "No" stands for a budget that nothing was spent of and a caller that nothing is remembered of,
//! so a wrong one would refill a budget. There is none, because an identity is added before its first row is committed:
//!
//! - Whoever writes rows that are looked for by identity calls [`Known::add`] inside that transaction. (A close writes
//!   buckets as well, but only such that have a row.)
//! - Until all rows of the file were seen the answer is always "maybe". A filter is made in this order: it is put in
//!   place, empty, at a moment when no transaction is under way; then the log of buckets is added, and after it the keys
//!   of the tables are walked, in pieces; then it answers. A transaction that ended before that moment is in the log or in
//!   every snapshot that the walk takes, and one that began after it adds to the filter. There is no third kind. A row that
//!   is removed while the walk goes on needs no answer.
//! - A filter that is to be replaced, because more were added than it was made for, answers and is added to until the
//!   new one is complete.
//!
//! It is asked only after the evictions were counted whose count decides whether a read was in time (`buckets.rs`,
//! `memory.rs`): what was evicted since then may have had its first row since then as well.
//!
//! The filter takes 9.6 bits for each scope that it has room for, twice as many as were found: 1.2 MB up to half a million
//! known scopes, and 2.4 bytes for each of more. While a new one is made there are both.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bloomfilter::Bloom;
use parking_lot::{Mutex, RwLock};
use redb::{ReadTransaction, ReadableTableMetadata, TableError};

use super::bucket_rows::BUCKETS;
use super::novelty_rows::{NOVELTY, RowKey};
use super::{RedbLedger, ScopeId};
use crate::database::Db;
use crate::words::Result;

/// Scopes that a filter has room for at least.
const MIN_CAPACITY: usize = 1_000_000;
/// Room for so many times the scopes that were found.
const ROOM: usize = 2;
/// "Maybe" for scopes that have no row, once the filter is as full as it was made for.
const FALSE_POSITIVES: f64 = 0.01;
/// Scopes that are added under one lock: lookups of scopes that are not in memory wait for it.
const ADDED_AT_ONCE: usize = 256;
/// Keys that are walked in one snapshot: an old snapshot keeps pages from being used again.
const WALKED_AT_ONCE: usize = 8_192;
/// Halves that differ, or the filter's two hash functions would be one. It need not be secret: identities are outputs of
/// a keyed function, so nobody can look for some that meet.
const SEED: [u8; 32] = *b"unlisted: which scopes may have ";

struct Filter {
    bloom: Bloom<ScopeId>,
    /// Scopes that were added and that it did not have.
    count: usize,
    capacity: usize,
}

impl Filter {
    /// An empty filter; `None`, which stands for "maybe", if the library refuses.
    fn of(capacity: usize) -> Option<Self> {
        let bloom = Bloom::new_for_fp_rate_with_seed(capacity.max(1), FALSE_POSITIVES, &SEED).ok()?;
        Some(Self { bloom, count: 0, capacity })
    }

    fn has(&self, id: &ScopeId) -> bool {
        self.bloom.check(id)
    }

    fn add(&mut self, id: &ScopeId) {
        self.count += usize::from(!self.bloom.check_and_set(id));
    }

    const fn is_outgrown(&self) -> bool {
        self.count > self.capacity
    }
}

#[derive(Default)]
struct Filters {
    /// Has every scope that has a row, and answers.
    complete: Option<Filter>,
    /// Will have, once the walk has ended. What is added meanwhile goes into both.
    next: Option<Filter>,
}

impl Filters {
    fn have(&self, id: &ScopeId) -> bool {
        [&self.complete, &self.next].into_iter().flatten().all(|filter| filter.has(id))
    }

    fn add(&mut self, id: &ScopeId) {
        [&mut self.complete, &mut self.next].into_iter().flatten().for_each(|filter| filter.add(id));
    }
}

/// The scopes that may have rows.
#[derive(Default)]
pub(super) struct Known {
    /// No other lock is taken while it is held.
    filters: RwLock<Filters>,
    is_outgrown: AtomicBool,
    /// Whoever makes a filter: a second one waits and finds it made.
    making: Mutex<()>,
    reads: AtomicU64,
    spared: AtomicU64,
}

/// What the filter of known scopes takes and spares.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KnownUsage {
    /// Bytes of the filter; zero until it is complete.
    pub(crate) bytes: u64,
    /// Times that rows of a scope were looked for in the file.
    pub(crate) reads: u64,
    /// Times that they were not, since the scope has none.
    pub(crate) spared: u64,
}

impl Known {
    /// May there be rows of this scope?
    pub(super) fn may_have(&self, id: ScopeId) -> bool {
        let maybe = self.filters.read().complete.as_ref().is_none_or(|filter| filter.has(&id));
        let counter = if maybe { &self.reads } else { &self.spared };
        counter.fetch_add(1, Ordering::Relaxed);
        maybe
    }

    /// There will be rows of these scopes. Called inside the transaction that writes them.
    pub(super) fn add(&self, mut ids: impl Iterator<Item = ScopeId>) {
        loop {
            let mut some: Vec<ScopeId> = ids.by_ref().take(ADDED_AT_ONCE).collect();
            if some.is_empty() {
                return;
            }
            // Most have rows already, and looking keeps nobody waiting. No filter is put in place between this and the
            // lock below: this is a transaction, or the walk that put the last one there.
            let filters = self.filters.read();
            some.retain(|id| !filters.have(id));
            drop(filters);
            if some.is_empty() {
                continue;
            }
            let mut filters = self.filters.write();
            some.iter().for_each(|id| filters.add(id));
            if filters.complete.as_ref().is_some_and(Filter::is_outgrown) {
                self.is_outgrown.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Were more scopes added than the filter was made for?
    pub(super) fn is_outgrown(&self) -> bool {
        self.is_outgrown.load(Ordering::Relaxed)
    }

    fn is_complete(&self) -> bool {
        self.filters.read().complete.is_some()
    }

    /// Puts an empty filter in place. Called while no transaction is under way.
    pub(super) fn begin(&self, capacity: usize) {
        let next = Filter::of(capacity);
        self.filters.write().next = next;
    }

    /// The walk is over: the new filter has everything and answers from now on; or, if it did not get to the end, none.
    pub(super) fn end(&self, walked: bool) {
        let mut filters = self.filters.write();
        let next = filters.next.take();
        if walked && next.is_some() {
            filters.complete = next;
        }
        let is_outgrown = filters.complete.as_ref().is_some_and(Filter::is_outgrown);
        self.is_outgrown.store(is_outgrown, Ordering::Relaxed);
    }

    pub(super) fn usage(&self) -> KnownUsage {
        let filters = self.filters.read();
        KnownUsage {
            bytes: filters.complete.as_ref().map_or(0, |filter| filter.bloom.len() / 8),
            reads: self.reads.load(Ordering::Relaxed),
            spared: self.spared.load(Ordering::Relaxed),
        }
    }
}

impl RedbLedger {
    /// Learns which scopes have rows, until told to stop; nothing to do if that is known. Charges go on meanwhile.
    pub(crate) fn learn_known(&self, stopped: &dyn Fn() -> bool) -> Result<()> {
        let _turn = self.known.making.lock();
        if self.known.is_complete() && !self.known.is_outgrown() {
            return Ok(());
        }
        let found = self.db.read(|txn| count(&self.db, txn))?;
        let capacity = usize::try_from(found).unwrap_or(usize::MAX).saturating_mul(ROOM);
        self.learn_known_with(capacity.max(MIN_CAPACITY), stopped)
    }

    pub(super) fn learn_known_with(&self, capacity: usize, stopped: &dyn Fn() -> bool) -> Result<()> {
        self.between_commits(|| self.known.begin(capacity));
        let walked = self.walk_known(stopped);
        self.known.end(matches!(walked, Ok(true)));
        walked.map(drop)
    }

    /// Adds every scope that the file has rows of; `false` if it was told to stop before the end.
    pub(super) fn walk_known(&self, stopped: &dyn Fn() -> bool) -> Result<bool> {
        // Before the first snapshot of the table: what leaves the log is in the table from then on.
        self.known.add(self.bucket_log.ids().into_iter());
        let mut last = None;
        while !stopped() {
            let ids = self.db.read(|txn| buckets_after(&self.db, txn, last))?;
            self.known.add(ids.iter().copied());
            if ids.len() < WALKED_AT_ONCE {
                return self.walk_known_callers(stopped);
            }
            last = ids.last().copied();
        }
        Ok(false)
    }

    /// Whoever has novelty has a bucket. That is not relied on.
    fn walk_known_callers(&self, stopped: &dyn Fn() -> bool) -> Result<bool> {
        let mut last = None;
        while !stopped() {
            let found = self.db.read(|txn| callers_after(&self.db, txn, last))?;
            self.known.add(found.iter().map(|(_, caller, _)| *caller));
            if found.len() < WALKED_AT_ONCE {
                return Ok(true);
            }
            last = found.last().copied();
        }
        Ok(false)
    }

    /// What the filter of known scopes takes and spares.
    pub(crate) fn known_usage(&self) -> KnownUsage {
        self.known.usage()
    }
}

/// Scopes that have a bucket.
fn count(db: &Db, txn: &ReadTransaction) -> Result<u64> {
    match txn.open_table(BUCKETS) {
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        other => other.map_err(db.error("open the buckets"))?.len().map_err(db.error("count the buckets")),
    }
}

/// The next scopes that have a bucket.
fn buckets_after(db: &Db, txn: &ReadTransaction, last: Option<ScopeId>) -> Result<Vec<ScopeId>> {
    let table = match txn.open_table(BUCKETS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the buckets"))?,
    };
    let from = last.map_or(Bound::Unbounded, Bound::Excluded);
    let rows = table.range::<ScopeId>((from, Bound::Unbounded)).map_err(db.error("read the buckets"))?;
    rows.take(WALKED_AT_ONCE)
        .map(|row| row.map(|(id, _)| id.value()).map_err(db.error("read the buckets")))
        .collect()
}

/// The first row of each of the next callers that have novelty, generation by generation. The rows between are passed by.
fn callers_after(db: &Db, txn: &ReadTransaction, last: Option<RowKey>) -> Result<Vec<RowKey>> {
    let table = match txn.open_table(NOVELTY) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the novelty"))?,
    };
    let mut found: Vec<RowKey> = Vec::new();
    while found.len() < WALKED_AT_ONCE {
        let from =
            found.last().copied().or(last).map_or(Bound::Unbounded, |(generation, caller, _)| {
                Bound::Excluded((generation, caller, u16::MAX))
            });
        let mut rows = table.range::<RowKey>((from, Bound::Unbounded)).map_err(db.error("read the novelty"))?;
        match rows.next().transpose().map_err(db.error("read the novelty"))? {
            Some((key, _)) => found.push(key.value()),
            None => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_filter_errs_in_one_of_a_hundred() {
        let mut filter = Filter::of(MIN_CAPACITY).unwrap();
        let id = |number: usize| *blake3::hash(&number.to_le_bytes()).as_bytes().first_chunk().unwrap();
        let ids = |from: usize, to: usize| (from..to).map(id);
        ids(0, MIN_CAPACITY).for_each(|id| filter.add(&id));
        assert!(!filter.is_outgrown());
        assert!(ids(0, MIN_CAPACITY).all(|id| filter.has(&id)));
        let wrong = ids(MIN_CAPACITY, MIN_CAPACITY + 100_000).filter(|id| filter.has(id)).count();
        assert!((800..1_200).contains(&wrong), "{wrong} of 100,000");
        let bytes = filter.bloom.len() / 8;
        assert!((1_190_000..1_210_000).contains(&bytes), "{bytes} bytes");
    }
}
