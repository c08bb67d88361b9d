//! Segments in memory: held whole, mapped and read ahead, or mapped and larger than memory.
//!
//! A batch whose pages are not in memory must not wait for them one after the other: it asks the kernel for all of them
//! first. Asking costs a call for each page, so it is done only while a segment is not known to be in memory, and only
//! for pages that were not asked for lately.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;

use super::lost::Lookout;
use super::segments::LiveSegment;
use super::{Index, Inner, Options};
use crate::disk::{self, Horizon};
use crate::segment::reader::Segment;
use crate::words::{Error, Result};

/// Of the memory that is available, the share that mapped segments may need to be read ahead as a whole: what lookups,
/// folds and the host take on top comes from the rest.
const SHARE_TO_FILL: (u64, u64) = (3, 4);
/// Of the memory that is available, the share whose pages are taken to be there after they were asked for: the kernel
/// lets go of the longest unused first, and not quite in that order.
const SHARE_TO_TRUST: (u64, u64) = (1, 2);

/// Where the segments of an index are while it is open.
///
/// ```
/// use unlisted::{Index, Memory, Options, Secret};
/// let dir = tempfile::tempdir()?;
/// let options = Options::new(Secret::from_hex(&"5e".repeat(32))?).memory(Memory::Resident);
/// let index = Index::open(dir.path(), options)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Memory {
    /// In their files, as the page cache holds them. An open reads next to nothing, and segments may be larger than
    /// memory: what fits comfortably is then read ahead by [`Index::warm`], which the background thread runs after an
    /// open, and otherwise the filters alone, 2.3 bytes a listing. A lookup whose pages are not in memory asks the
    /// disk for all of them at once.
    #[default]
    Mapped,
    /// In memory of the process, in huge pages where the system has them. An open reads and checks every page before
    /// it returns, and fails with [`Error::NotEnoughMemory`] if they do not fit. What happens to the files afterwards
    /// does not reach lookups.
    Resident,
}

/// What an index knows about its segments and memory.
#[derive(Debug)]
pub(super) struct Residency {
    memory: Memory,
    limit_bytes: Option<u64>,
    /// Every live segment is in memory as a whole: nothing has to be asked for.
    complete: AtomicBool,
    /// The segments do not fit, or did not stay: only their filters are kept in memory.
    short: AtomicBool,
    horizon: Horizon,
    lookout: Lookout,
    /// Whoever reads segments ahead: a second one waits and finds it done.
    ahead: Mutex<()>,
}

impl Residency {
    pub(super) fn new(options: &Options) -> Self {
        let residency = Self {
            memory: options.memory,
            limit_bytes: options.segment_memory_bytes,
            complete: AtomicBool::new(options.memory == Memory::Resident),
            short: AtomicBool::new(false),
            horizon: Horizon::of_bytes(0),
            lookout: Lookout::default(),
            ahead: Mutex::new(()),
        };
        residency.look_ahead();
        residency
    }

    pub(super) const fn is_resident(&self) -> bool {
        matches!(self.memory, Memory::Resident)
    }

    /// What remembers which pages were asked for; `None` if none has to be.
    #[inline]
    pub(super) fn horizon(&self) -> Option<&Horizon> {
        (!self.complete.load(Ordering::Relaxed)).then_some(&self.horizon)
    }

    /// Bytes that segments may take: what the options say, or what is available. Where the system does not tell, none.
    fn bytes(&self) -> u64 {
        self.limit_bytes.or_else(disk::available_bytes).unwrap_or(0)
    }

    /// May mapped segments of so many bytes be read ahead as a whole?
    fn fits(&self, bytes: u64) -> bool {
        bytes <= self.bytes() / SHARE_TO_FILL.1 * SHARE_TO_FILL.0
    }

    /// Bounds what is taken to be in memory by what memory is available now.
    fn look_ahead(&self) {
        self.horizon.set_bytes(self.bytes() / SHARE_TO_TRUST.1 * SHARE_TO_TRUST.0);
    }

    /// Refuses what resident segments cannot have.
    pub(super) fn check_room(&self, needed_bytes: u64) -> Result<()> {
        let available_bytes = self.limit_bytes.or_else(disk::available_bytes).unwrap_or(u64::MAX);
        if self.is_resident() && needed_bytes > available_bytes {
            return Err(Error::NotEnoughMemory { needed_bytes, available_bytes });
        }
        Ok(())
    }

    /// Brings a new segment to where the others are.
    pub(super) fn settle(&self, segment: &LiveSegment) -> Result<()> {
        if self.is_resident() {
            return Ok(());
        }
        if self.complete.load(Ordering::Relaxed) {
            segment.fill()
        } else {
            segment.fill_filter(self.short.load(Ordering::Relaxed))
        }
    }

    /// Many segments are about to come. Reading all of them is not an import's to wait for: their pages are asked for
    /// until somebody read them ahead.
    pub(super) fn expect_many(&self) {
        if !self.is_resident() {
            self.complete.store(false, Ordering::Relaxed);
        }
    }
}

impl Index {
    /// Reads ahead what lookups need, and checks it: every segment if they fit comfortably into memory, otherwise their
    /// filters, which are locked in memory where the system lets this process. Lookups go on meanwhile. With
    /// [`Options::background`] it happens by itself after an open.
    ///
    /// It also learns which callers and origins the ledger has rows of, so that one that was never seen costs no read
    /// of the ledger. Resident indexes have only that to do.
    ///
    /// ```
    /// use unlisted::{Index, Options, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let options = Options::new(Secret::from_hex(&"5e".repeat(32))?).background(false);
    /// let index = Index::open(dir.path(), options)?;
    /// index.warm()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Damaged`] for the first damaged page; lookups that touch it fail likewise. [`Error::Database`] if the ledger
    /// cannot be read.
    pub fn warm(&self) -> Result<()> {
        self.inner.ledger.learn_known(&|| false)?;
        self.inner.residency.short.store(false, Ordering::Relaxed);
        self.inner.warm(&|| false)
    }
}

impl Inner {
    /// [`Index::warm`], until told to stop.
    pub(super) fn warm(&self, stopped: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        let residency = &self.residency;
        let _ahead = residency.ahead.lock();
        if residency.is_resident() || residency.complete.load(Ordering::Relaxed) {
            return Ok(());
        }
        // The segments and not their map, which a fold waits for.
        let live: Vec<Arc<LiveSegment>> = self.segments.load().live().cloned().collect();
        let whole = !residency.short.load(Ordering::Relaxed) && residency.fits(bytes_of(live.iter()));
        residency.short.store(!whole, Ordering::Relaxed);
        residency.look_ahead();
        // Filters first: with them, every lookup that finds nothing is at full speed.
        on_all_cores(&live, stopped, |segment| segment.fill_filter(!whole))?;
        if whole {
            on_all_cores(&live, stopped, |segment| segment.fill())?;
            // What was folded meanwhile has to be there too.
            let complete = self.segments.load().live().all(|segment| segment.is_filled());
            residency.complete.store(complete, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Is there something that [`Inner::warm`] would do?
    pub(super) fn is_cold(&self) -> bool {
        let short = self.residency.short.load(Ordering::Relaxed);
        let is_there = |segment: &Arc<LiveSegment>| segment.is_filled() || short && segment.has_filter();
        self.residency.horizon().is_some() && !self.segments.load().live().all(is_there)
    }

    /// Watches how long batches take, to learn that memory was given to others.
    #[inline]
    pub(super) fn watched<T>(&self, keys: usize, probe: impl FnOnce() -> T) -> T {
        if self.residency.is_resident() {
            return probe();
        }
        let start = Instant::now();
        let probed = probe();
        if Lookout::has_faulted(start.elapsed(), keys) && self.has_lost_pages() {
            self.ask_again();
        }
        probed
    }

    #[cold]
    fn has_lost_pages(&self) -> bool {
        let residency = &self.residency;
        residency.lookout.has_lost_pages(&self.segments.load(), &residency.horizon)
    }

    /// Segments that were taken to be in memory are not: asks for pages from now on, and forgets which were asked for.
    #[cold]
    fn ask_again(&self) {
        let residency = &self.residency;
        residency.short.store(true, Ordering::Relaxed);
        if residency.complete.swap(false, Ordering::Relaxed) {
            tracing::info!("segments were pushed out of memory: lookups ask for their pages from now on");
        }
        residency.look_ahead();
        residency.horizon.forget();
        self.segments.load().live().for_each(|segment| segment.distrust());
        self.wake.wake();
    }

    /// Segments came or went: if they no longer fit, they are not read ahead any more.
    pub(super) fn reconsider_memory(&self) {
        let bytes = bytes_of(self.segments.load().live());
        if !self.residency.is_resident() && self.residency.horizon().is_none() && !self.residency.fits(bytes) {
            self.ask_again();
        }
    }
}

fn bytes_of<'a>(segments: impl Iterator<Item = &'a Arc<LiveSegment>>) -> u64 {
    segments.map(|segment| segment.segment().len() as u64).sum()
}

/// Does `work` for every item, on as many threads as there are cores, until it fails or is told to stop.
pub(super) fn on_all_cores<T: Sync>(
    items: &[T],
    stopped: &(dyn Fn() -> bool + Sync),
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let next = AtomicUsize::new(0);
    let share = || -> Result<()> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stopped()) {
            work(item)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(share)).collect();
        let mine = share();
        let ended = others.into_iter().map(|other| other.join());
        let panicked = |_| Err(Error::Panicked { during: "read segments" });
        ended.fold(mine, |all, other| all.and(other.unwrap_or_else(panicked)))
    })
}

/// Which parts of a segment are taken to be in memory, and which of its pages were asked for.
#[derive(Debug)]
pub(super) struct Presence {
    filter: AtomicBool,
    table: AtomicBool,
    locked: AtomicBool,
    recent: disk::Recent,
}

impl Presence {
    /// Of a file of so many bytes, of which all or nothing is in memory.
    pub(super) fn new(len: usize, all: bool) -> Self {
        Self {
            filter: AtomicBool::new(all),
            table: AtomicBool::new(all),
            locked: AtomicBool::new(false),
            recent: disk::Recent::of_file(if all { 0 } else { len }),
        }
    }
}

impl LiveSegment {
    /// Are the filters taken to be in memory?
    #[inline]
    pub(super) fn has_filter(&self) -> bool {
        self.presence().filter.load(Ordering::Relaxed)
    }

    /// Is everything taken to be in memory?
    #[inline]
    pub(super) fn is_filled(&self) -> bool {
        self.presence().table.load(Ordering::Relaxed)
    }

    /// Asks the kernel for a part, unless that was done lately.
    #[inline]
    pub(super) fn ask(&self, part: Range<usize>, horizon: &Horizon) {
        if self.presence().recent.is_new(&part, horizon) {
            self.segment().bytes().ask(part);
        }
    }

    /// Is this byte taken to be in memory?
    pub(super) fn expects(&self, at: usize, horizon: &Horizon) -> bool {
        self.is_filled()
            || self.has_filter() && self.segment().filter_part().contains(&at)
            || self.presence().recent.has(at, horizon)
    }

    /// Reads filters and page checksums, and keeps them in memory if `lock` says so. Locking divides the map, which
    /// costs a huge page at each border, so it is only done where memory is short.
    fn fill_filter(&self, lock: bool) -> Result<()> {
        let (segment, file) = (self.segment(), self.segment().bytes());
        let parts = [segment.filter_part(), segment.sums_part()];
        let [filter, _] = parts.clone();
        if lock {
            file.expect_to_stay(filter);
        } else {
            self.expect_to_stay();
        }
        let locked = parts.into_iter().fold(lock, |locked, part| {
            if lock {
                // Nothing else of the file is wanted: all of it at once, and not a fault after the other, which took
                // 26 s for the filters of a billion listings.
                file.ask(part.clone());
            }
            file.populate(part.clone());
            locked && file.lock(part)
        });
        self.locate(Segment::check_filter)?;
        self.presence().locked.store(locked, Ordering::Relaxed);
        self.presence().filter.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// All of it is about to be read, in huge pages: the first ones may have come in small ones, and would stay so.
    fn expect_to_stay(&self) {
        let file = self.segment().bytes();
        file.let_go_of_parts(self.path());
        file.expect_to_stay(0..file.as_ref().len());
    }

    /// Reads and checks everything.
    fn fill(&self) -> Result<()> {
        self.expect_to_stay();
        self.segment().bytes().populate(0..self.segment().len());
        self.locate(Segment::check_pages_left)?;
        self.presence().filter.store(true, Ordering::Relaxed);
        self.presence().table.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Asks for everything: for who will read it all.
    pub(super) fn ask_for_all(&self) {
        if !self.is_filled() {
            self.segment().bytes().ask(0..self.segment().len());
        }
    }

    /// Takes nothing to be in memory but what is locked.
    fn distrust(&self) {
        let presence = self.presence();
        if presence.table.swap(false, Ordering::Relaxed) {
            self.segment().bytes().expect_random(self.segment().table_part());
        }
        if !presence.locked.load(Ordering::Relaxed) {
            presence.filter.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{
        AccountId, Caller, Listing, OptIns, PhoneHash, Purpose, Quota, QuotaPolicy, Secret, Version,
    };

    fn hash(i: u64) -> PhoneHash {
        PhoneHash::from_bytes(*blake3::hash(&i.to_le_bytes()).as_bytes())
    }

    #[test]
    fn what_was_pushed_out_is_asked_for_until_the_index_is_warmed() {
        let dir = tempfile::tempdir().unwrap();
        let wide = Quota::per_hour(1_000_000, 1_000).unwrap();
        let options = Options::new(Secret::from_bytes([7; 32]))
            .quotas(QuotaPolicy::of_caller(wide))
            .background(false)
            .segment_listings(2_000);
        let index = Index::open(dir.path(), options).unwrap();
        let listing = |i| Listing {
            hash: hash(i),
            account: AccountId::from(i),
            opt_ins: OptIns::SEARCH,
            version: Version::default(),
        };
        index.import((0..10_000).map(listing)).unwrap();
        let all: Vec<_> = (0..10_000).map(hash).collect();
        let found = || index.lookup(&Caller::new("one"), Purpose::Search, &all).unwrap().matches().count();
        let inner = &index.inner;
        let is_complete = || inner.residency.horizon().is_none();

        assert!(!is_complete() && inner.is_cold());
        let has_filter = |segment: &Arc<LiveSegment>| segment.has_filter() && !segment.is_filled();
        assert!(inner.segments.load().live().all(has_filter), "an import reads the filters of what it made");
        index.warm().unwrap();
        assert!(is_complete());
        inner.ask_again();
        assert!(!is_complete() && inner.is_cold());
        assert!(inner.segments.load().live().all(|segment| !segment.is_filled() && !segment.has_filter()));
        assert_eq!(found(), 10_000);
        inner.warm(&|| false).unwrap();
        assert!(!is_complete() && !inner.is_cold(), "by itself it keeps the filters only");
        assert_eq!(found(), 10_000);
        index.warm().unwrap();
        assert!(is_complete());
        assert_eq!(found(), 10_000);
    }

    #[test]
    fn callers_are_known_once_the_index_is_warm_or_its_thread_has_looked() {
        let dir = tempfile::tempdir().unwrap();
        let options = || Options::new(Secret::from_bytes([7; 32])).background(false);
        let index = Index::open(dir.path(), options()).unwrap();
        let ask = |index: &Index, name: &str| {
            index.lookup(&Caller::new(name), Purpose::Search, &[hash(1)]).unwrap();
            let stats = index.stats().unwrap();
            (stats.ledger_reads, stats.ledger_reads_spared)
        };
        assert_eq!(ask(&index, "one"), (1, 0));
        index.warm().unwrap();
        assert_eq!(ask(&index, "two"), (1, 1));
        drop(index);
        let index = Index::open(dir.path(), options().background(true)).unwrap();
        while index.stats().unwrap().known_callers_filter_bytes == 0 {
            thread::sleep(std::time::Duration::from_millis(1));
        }
        // A budget and a memory each, of which the file now has some.
        assert_eq!(ask(&index, "one"), (2, 0));
        assert_eq!(ask(&index, "three"), (2, 2));
    }

    #[test]
    fn every_item_is_worked_on_once_unless_one_fails() {
        let items: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        let count = |item: &AtomicUsize| {
            item.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        on_all_cores(&items, &|| false, count).unwrap();
        on_all_cores(&items, &|| true, count).unwrap();
        assert!(items.iter().all(|item| item.load(Ordering::Relaxed) == 1));
        on_all_cores(&[] as &[AtomicUsize], &|| false, count).unwrap();
        let failed = on_all_cores(&items, &|| false, |_| Err(Error::EmptyCaller));
        assert!(matches!(failed, Err(Error::EmptyCaller)));
    }
}
