//! The numbers that callers paid for, in memory: bounded, read from the file when a caller comes back, written to it
//! some time after the charge.
//!
//! A number enters this memory only once its charge is durable. What is not written yet when a process dies is
//! charged again: that costs the caller, and never the budget's guarantee.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::{Mutex, RwLock};
use redb::WriteTransaction;

use super::ScopeId;
use super::known::Known;
use super::novelty_rows::{self, Unwritten};
use crate::database::Db;
use crate::novelty::{FULL_BITS, MAX_CUT_EXPOSURE, MAX_REMEMBERED, NoveltySet, exposure_of};
use crate::words::Result;

const SHARDS: usize = 64;
/// What a caller's entry takes beside its table: the entry, the set and what an allocator adds.
const ENTRY_BYTES: usize = 224;
const MINUTE_NS: u64 = 60_000_000_000;
/// Generations in a window: a number is forgotten between one and one and a quarter windows after its charge.
const GENERATIONS: u64 = 4;
/// Callers, and numbers, that wait until it is time to write them. So many callers are written in one transaction.
const UNWRITTEN_CALLERS: usize = 4_096;
const UNWRITTEN_NUMBERS: usize = 1 << 20;
/// How many times as many callers wait before a background thread sees to it: each of the transactions that follow is of callers
/// whose rows are side by side, and the more of them there are, the more share a page.
const CALLERS_TOGETHER: usize = 8;
/// How long something waits at most until it is written, if lookups go on: what a crash makes callers pay again.
const UNWRITTEN_NS: u64 = MINUTE_NS;
/// How many times as many may wait, and as long, where a background thread sees to it, before a lookup does.
const BACKGROUND_SLACK: usize = 16;

/// What one caller paid for.
#[derive(Default)]
pub(super) struct Remembered {
    set: NoveltySet,
    cut_exposure: u64,
    /// Not in the file yet, by the end of the generation.
    unwritten: Vec<(u32, Vec<u32>)>,
    /// Minute of ledger time at which some of it must be forgotten.
    stale_at_min: u64,
    is_queued: bool,
}

pub(super) type Shared = Arc<Mutex<Remembered>>;

/// Callers with numbers that the file does not hold.
pub(super) type Waiting = Vec<(ScopeId, Shared)>;

impl Remembered {
    /// Positions of the numbers that are not free for this caller, in order.
    pub(super) fn novel(&self, fingerprints: &[u32]) -> Vec<u32> {
        self.set.unknown(fingerprints)
    }

    /// Did this caller pay for the number?
    pub(super) fn knows(&self, fingerprint: u32) -> bool {
        self.set.contains(fingerprint)
    }

    /// How many numbers are remembered.
    pub(super) const fn len(&self) -> usize {
        self.set.len()
    }

    /// How many more numbers can be remembered.
    pub(super) const fn room(&self) -> usize {
        MAX_REMEMBERED.saturating_sub(self.set.len())
    }
}

struct Cached {
    caller: ScopeId,
    remembered: Shared,
    recent: bool,
}

#[derive(Default)]
struct Shard {
    callers: HashTable<Cached>,
    /// How many were evicted. What was read from the file before that may be older than what was evicted.
    evictions: u64,
}

/// What callers paid for within the window.
pub(super) struct Memory {
    shards: Vec<Mutex<Shard>>,
    /// Whose rows there is no need to look for.
    known: Arc<Known>,
    /// Bytes in each shard; apart, for a table grows without the shard's lock.
    bytes: Vec<AtomicUsize>,
    shard_bytes: usize,
    window_min: u64,
    slack: usize,
    queue: Mutex<Waiting>,
    queued: AtomicUsize,
    unwritten: AtomicUsize,
    /// When the first of them was queued; the largest if there is none.
    waiting_since_ns: AtomicU64,
    /// Generations that the file has rows of, oldest first.
    generations: RwLock<Vec<u32>>,
}

fn shard_of(caller: ScopeId) -> usize {
    let [first, ..] = caller;
    usize::from(first) % SHARDS
}

fn hash(caller: ScopeId) -> u64 {
    u64::from_le_bytes(caller.last_chunk().copied().unwrap_or_default())
}

impl Memory {
    /// A memory of so many bytes; a window of zero remembers nothing. With `background`, somebody calls
    /// [`Memory::write`] now and then.
    pub(super) fn open(
        db: &Db,
        known: Arc<Known>,
        window: Duration,
        max_bytes: usize,
        background: bool,
    ) -> Result<Self> {
        let window_min = window.as_secs().div_ceil(60);
        let generations = db.read(|txn| novelty_rows::generations(db, txn))?;
        Ok(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            known,
            bytes: (0..SHARDS).map(|_| AtomicUsize::new(0)).collect(),
            shard_bytes: max_bytes / SHARDS,
            window_min,
            slack: if background { BACKGROUND_SLACK } else { 1 },
            queue: Mutex::default(),
            queued: AtomicUsize::new(0),
            unwritten: AtomicUsize::new(0),
            waiting_since_ns: AtomicU64::new(u64::MAX),
            generations: RwLock::new(generations),
        })
    }

    /// The end of the generation in which something is paid now.
    fn generation(&self, now_min: u64) -> u32 {
        let len = (self.window_min / GENERATIONS).max(1);
        u32::try_from((now_min / len + 1) * len).unwrap_or(u32::MAX)
    }

    /// The oldest generation that is remembered. All of a generation was paid before its end.
    fn oldest(&self, now_min: u64) -> u32 {
        u32::try_from((now_min + 1).saturating_sub(self.window_min)).unwrap_or(u32::MAX)
    }

    /// What a caller paid for; `None` if nothing is ever remembered.
    pub(super) fn recall(&self, db: &Db, caller: ScopeId, now_ns: u64) -> Result<Option<Shared>> {
        if self.window_min == 0 {
            return Ok(None);
        }
        let now_min = now_ns / MINUTE_NS;
        let Some(shard) = self.shards.get(shard_of(caller)) else { return Ok(None) };
        let same = |cached: &Cached| cached.caller == caller;
        let evictions = {
            let mut locked = shard.lock();
            if let Some(cached) = locked.callers.find_mut(hash(caller), same) {
                cached.recent = true;
                let found = cached.remembered.clone();
                drop(locked);
                return self.renewed(db, caller, found, now_min).map(Some);
            }
            locked.evictions
        };
        let mut loaded = self.load(db, caller, now_min)?;
        let mut locked = shard.lock();
        if locked.evictions != evictions {
            // Under the lock nobody evicts: rare, and better than to remember too little of what is exposed.
            loaded = self.load(db, caller, now_min)?;
        }
        let bytes = ENTRY_BYTES + loaded.set.memory_bytes();
        let shared = match locked.callers.entry(hash(caller), same, |cached| hash(cached.caller)) {
            Entry::Occupied(other) => other.get().remembered.clone(),
            Entry::Vacant(vacant) => {
                let remembered = Arc::new(Mutex::new(loaded));
                vacant.insert(Cached { caller, remembered: remembered.clone(), recent: true });
                self.grew(caller, bytes);
                remembered
            }
        };
        self.evict(&mut locked, caller);
        Ok(Some(shared))
    }

    /// Reads a caller again if some of what is remembered of it must be forgotten.
    fn renewed(&self, db: &Db, caller: ScopeId, found: Shared, now_min: u64) -> Result<Shared> {
        let mut remembered = found.lock();
        if remembered.stale_at_min <= now_min {
            let mut fresh = self.load(db, caller, now_min)?;
            let (before, oldest) = (remembered.set.memory_bytes(), self.oldest(now_min));
            for (generation, fingerprints) in remembered.unwritten.iter().filter(|(of, _)| *of >= oldest) {
                fresh.stale_at_min = fresh.stale_at_min.min(self.stale_at(*generation));
                for fingerprint in fingerprints {
                    fresh.set.insert(*fingerprint, FULL_BITS);
                }
            }
            remembered.set = fresh.set;
            remembered.cut_exposure = fresh.cut_exposure;
            remembered.stale_at_min = fresh.stale_at_min;
            self.grew(caller, remembered.set.memory_bytes().saturating_sub(before));
        }
        drop(remembered);
        Ok(found)
    }

    /// The minute at which a generation must be forgotten.
    fn stale_at(&self, generation: u32) -> u64 {
        u64::from(generation) + self.window_min
    }

    /// How long a number that was paid for by now is remembered at most.
    pub(super) fn longest_ms(&self, now_ns: u64) -> u64 {
        let now_min = now_ns / MINUTE_NS;
        (self.stale_at(self.generation(now_min)).saturating_sub(now_min)).saturating_mul(MINUTE_NS / 1_000_000)
    }

    fn load(&self, db: &Db, caller: ScopeId, now_min: u64) -> Result<Remembered> {
        let mut remembered = Remembered { stale_at_min: u64::MAX, ..Remembered::default() };
        let oldest = self.oldest(now_min);
        let live: Vec<u32> = self.generations.read().iter().copied().filter(|of| *of >= oldest).collect();
        if live.is_empty() || !self.known.may_have(caller) {
            return Ok(remembered);
        }
        let sections = db.read(|txn| novelty_rows::load(db, txn, caller, &live))?;
        remembered.set.reserve(sections.iter().map(|(_, section)| section.len()).sum());
        for (generation, section) in sections {
            for fingerprint in section.fingerprints() {
                remembered.set.insert(fingerprint, section.bits());
            }
            if section.is_cut() {
                remembered.cut_exposure += exposure_of(section.bits(), section.len());
            }
            remembered.stale_at_min = remembered.stale_at_min.min(self.stale_at(generation));
        }
        Ok(remembered)
    }

    /// Remembers numbers whose charge is durable; tells which of them were not remembered yet and are now, in order.
    pub(super) fn remember(
        &self,
        caller: ScopeId,
        shared: &Shared,
        now_ns: u64,
        paid: &[u32],
        told: impl FnOnce(&[u32]),
    ) {
        self.remember_paid(caller, shared, (now_ns, now_ns), paid, told);
    }

    /// The same for numbers that were paid for at one moment and are heard of at another.
    pub(super) fn remember_paid(
        &self,
        caller: ScopeId,
        shared: &Shared,
        (paid_ns, now_ns): (u64, u64),
        paid: &[u32],
        told: impl FnOnce(&[u32]),
    ) {
        let generation = self.generation(paid_ns / MINUTE_NS);
        let mut remembered = shared.lock();
        let before = remembered.set.memory_bytes();
        let of_generation = match remembered.unwritten.iter().position(|(of, _)| *of == generation) {
            Some(at) => at,
            None => {
                remembered.unwritten.push((generation, Vec::new()));
                remembered.unwritten.len() - 1
            }
        };
        let Remembered { set, unwritten, .. } = &mut *remembered;
        let Some((_, unwritten)) = unwritten.get_mut(of_generation) else { return };
        let waiting = unwritten.len();
        // Another lookup of the caller may have paid for some of them as well.
        set.insert_all(paid, unwritten);
        let added = unwritten.len() - waiting;
        told(unwritten.get(waiting..).unwrap_or_default());
        remembered.stale_at_min = remembered.stale_at_min.min(self.stale_at(generation));
        let grown = remembered.set.memory_bytes() - before;
        let queue = !std::mem::replace(&mut remembered.is_queued, true);
        drop(remembered);
        self.unwritten.fetch_add(added, Ordering::Relaxed);
        if queue {
            let mut waiting = self.queue.lock();
            waiting.push((caller, shared.clone()));
            self.waiting_since_ns.fetch_min(now_ns, Ordering::Relaxed);
            drop(waiting);
            self.queued.fetch_add(1, Ordering::Relaxed);
        }
        if grown > 0 {
            self.grew(caller, grown);
        }
    }

    fn grew(&self, caller: ScopeId, by: usize) {
        if let Some(bytes) = self.bytes.get(shard_of(caller)) {
            bytes.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Evicts callers of a shard that is too large, those not seen lately first, until a quarter is free. Who is in use
    /// or waits to be written stays.
    fn evict(&self, shard: &mut Shard, caller: ScopeId) {
        let Some(bytes) = self.bytes.get(shard_of(caller)) else { return };
        for _ in 0..2 {
            if bytes.load(Ordering::Relaxed) <= self.shard_bytes {
                return;
            }
            let mut left = 0;
            let gone = shard.callers.extract_if(|cached| {
                let taken = ENTRY_BYTES + cached.remembered.lock().set.memory_bytes();
                let idle = Arc::strong_count(&cached.remembered) == 1;
                let evict = idle && !std::mem::take(&mut cached.recent) && left >= 0;
                left += if evict { 0 } else { taken as isize };
                evict
            });
            shard.evictions += gone.count() as u64;
            bytes.store(usize::try_from(left).unwrap_or_default(), Ordering::Relaxed);
        }
    }

    /// Does enough wait to be written that somebody should see to it?
    pub(super) fn is_due(&self) -> bool {
        self.queued.load(Ordering::Relaxed) >= UNWRITTEN_CALLERS * CALLERS_TOGETHER
            || self.unwritten.load(Ordering::Relaxed) >= UNWRITTEN_NUMBERS
    }

    /// Does so much wait, or for so long, that a lookup must see to it? Of those that see at the same time that something
    /// waits too long, one is told.
    pub(super) fn must_write(&self, now_ns: u64) -> bool {
        if self.waits_for(self.slack) {
            return true;
        }
        let since = &self.waiting_since_ns;
        let since_ns = since.load(Ordering::Relaxed);
        now_ns.saturating_sub(since_ns) >= UNWRITTEN_NS * self.slack as u64
            && since.compare_exchange(since_ns, u64::MAX, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn waits_for(&self, times: usize) -> bool {
        self.queued.load(Ordering::Relaxed) >= UNWRITTEN_CALLERS * times
            || self.unwritten.load(Ordering::Relaxed) >= UNWRITTEN_NUMBERS * times
    }

    /// Takes callers off the queue, to be written. Whatever they pay for until then goes along.
    pub(super) fn take(&self, most_callers: usize) -> Waiting {
        let mut queue = self.queue.lock();
        // Callers whose rows are side by side share pages.
        queue.sort_unstable_by_key(|(caller, _)| *caller);
        let rest = queue.len().saturating_sub(most_callers);
        if rest == 0 {
            // Whoever is queued from now on begins to wait now.
            self.waiting_since_ns.store(u64::MAX, Ordering::Relaxed);
        }
        queue.split_off(rest)
    }

    /// As many as one transaction writes.
    pub(super) fn take_some(&self) -> Waiting {
        self.take(UNWRITTEN_CALLERS)
    }

    /// Writes some of those that were taken, until they have so many numbers. The transaction must be committed, or the ledger
    /// be poisoned.
    pub(super) fn write(
        &self,
        db: &Db,
        txn: &WriteTransaction,
        waiting: &mut Waiting,
        most_numbers: usize,
    ) -> Result<()> {
        let (mut taken, mut rows, mut numbers) = (Vec::new(), Vec::new(), 0);
        while taken.len() < UNWRITTEN_CALLERS
            && numbers < most_numbers
            && let Some((caller, shared)) = waiting.pop()
        {
            let mut remembered = shared.lock();
            remembered.is_queued = false;
            let known = remembered.set.len();
            let mut cut_exposure = remembered.cut_exposure;
            for (generation, fingerprints) in std::mem::take(&mut remembered.unwritten) {
                numbers += fingerprints.len();
                rows.push(Unwritten { generation, caller, fingerprints, known, cut_exposure });
                // Two generations at once, which is rare, must not both use what is left: the second cuts nothing.
                cut_exposure = MAX_CUT_EXPOSURE;
            }
            drop(remembered);
            taken.push((caller, shared));
        }
        self.queued.fetch_sub(taken.len(), Ordering::Relaxed);
        self.known.add(taken.iter().map(|(caller, _)| *caller));
        novelty_rows::write(db, txn, &mut rows)?;
        self.unwritten.fetch_sub(numbers, Ordering::Relaxed);
        self.note_generations(rows.iter().map(|row| row.generation));
        // The first row of a caller is the one whose exposure counts.
        rows.sort_by_key(|row| (row.caller, row.cut_exposure));
        for (caller, shared) in taken {
            let at = rows.partition_point(|row| row.caller < caller);
            if let Some(row) = rows.get(at).filter(|row| row.caller == caller) {
                shared.lock().cut_exposure = row.cut_exposure;
            }
        }
        Ok(())
    }

    /// Before the commit, so that whoever reads the file afterwards looks for them.
    fn note_generations(&self, found: impl Iterator<Item = u32>) {
        let mut known = self.generations.write();
        for generation in found {
            if let Err(at) = known.binary_search(&generation) {
                known.insert(at, generation);
            }
        }
    }

    /// Forgets what memory holds of a caller, written or not.
    pub(super) fn clear(&self, caller: ScopeId) {
        let Some(shard) = self.shards.get(shard_of(caller)) else { return };
        let mut shard = shard.lock();
        // Whoever reads the file just now must read it again.
        shard.evictions += 1;
        if let Some(cached) = shard.callers.find(hash(caller), |cached| cached.caller == caller) {
            let mut remembered = cached.remembered.lock();
            let is_queued = remembered.is_queued;
            let waiting: usize = remembered.unwritten.iter().map(|(_, numbers)| numbers.len()).sum();
            self.unwritten.fetch_sub(waiting, Ordering::Relaxed);
            *remembered = Remembered { stale_at_min: u64::MAX, is_queued, ..Remembered::default() };
        }
    }

    /// Removes what the file holds of a caller.
    pub(super) fn erase(&self, db: &Db, txn: &WriteTransaction, caller: ScopeId) -> Result<()> {
        novelty_rows::erase(db, txn, caller, &self.generations.read())
    }

    /// Removes some rows of generations whose time is over; false if none is left.
    pub(super) fn forget(&self, db: &Db, txn: &WriteTransaction, now_ns: u64) -> Result<bool> {
        let oldest = self.oldest(now_ns / MINUTE_NS);
        let more = novelty_rows::forget_before(db, txn, oldest)?;
        if !more {
            self.generations.write().retain(|generation| *generation >= oldest);
        }
        Ok(more)
    }

    /// Is there anything to forget?
    pub(super) fn has_expired(&self, now_ns: u64) -> bool {
        let oldest = self.oldest(now_ns / MINUTE_NS);
        self.generations.read().first().is_some_and(|generation| *generation < oldest)
    }
}
