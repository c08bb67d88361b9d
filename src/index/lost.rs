//! Noticing that segments were pushed out of memory, so that lookups ask for their pages again.
//!
//! The kernel does not tell, and to ask it costs more than a lookup. So a batch that took long is looked into: if its
//! thread waited for pages since the last time, the kernel is asked about a few pages that should be there. Waiting alone says little:
//! the first touch of a page of the disclosure log counts as a wait for the disk, and the host may map files of its own.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::segments::{LiveSegment, SegmentMap};
use crate::disk::{self, Horizon};

/// A batch that takes longer than this, and than a time for each key, may have waited for the disk.
const SLOW: Duration = Duration::from_micros(100);
/// More than twice what a key costs in memory, without huge pages.
const SLOW_OF_KEY: Duration = Duration::from_nanos(500);
/// Pages that a thread waited for one by one before that is looked into: one or two may be of other memory.
const MANY_FAULTS: u64 = 4;
/// Pages that are looked at then: if one percent is gone, one of them is nine times out of ten.
const LOOKED_AT: usize = 256;

/// 2^64 by the golden ratio: multiples of it are spread evenly, however many there are.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

thread_local! {
    /// Major faults of this thread when they were last looked at.
    static FAULTS_SEEN: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Looks after pages that are taken to be in memory.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// Pages that were looked at so far, to look at others next.
    looked_at: AtomicUsize,
}

impl Lookout {
    /// May this batch have waited for pages one by one that were taken to be in memory? It costs a look at the clock, and
    /// only a batch that was slow asks the system. What the thread waited for may be other memory of the process, a fresh page
    /// of the disclosure log too.
    pub(super) fn has_faulted(elapsed: Duration, keys: usize) -> bool {
        let patience = SLOW + SLOW_OF_KEY * u32::try_from(keys).unwrap_or(u32::MAX);
        if elapsed < patience {
            return false;
        }
        let Some(faults) = disk::major_faults() else { return false };
        // The first look of a thread only learns where the count stands.
        let before = FAULTS_SEEN.replace(Some(faults)).unwrap_or(faults);
        faults.wrapping_sub(before) >= MANY_FAULTS
    }

    /// Of some pages of these segments that are taken to be in memory, is any not? Each look is at the next segment, and at
    /// others of its pages than the looks before.
    #[cold]
    pub(super) fn has_lost_pages(&self, segments: &SegmentMap, horizon: &Horizon) -> bool {
        let live: Vec<_> = segments.live().collect();
        let first = self.looked_at.fetch_add(LOOKED_AT, Ordering::Relaxed);
        let has_lost = |look: usize| {
            let segment = look.checked_rem(live.len()).and_then(|number| live.get(number));
            segment.is_some_and(|segment| has_lost_page(segment, look / live.len(), horizon))
        };
        (0..LOOKED_AT).any(|look| has_lost(first.wrapping_add(look)))
    }
}

/// Is the page missing at this of many places that are spread evenly over a segment, and taken to be in memory?
fn has_lost_page(segment: &LiveSegment, place: usize, horizon: &Horizon) -> bool {
    let file = segment.segment().bytes();
    let place = (place as u64).wrapping_mul(SPREAD);
    let at = ((u128::from(place) * file.as_ref().len() as u128) >> u64::BITS) as usize;
    segment.expects(at, horizon) && file.is_there(at) == Some(false)
}

/// Begins to count the faults of this thread anew: those so far were meant to be.
#[cfg(feature = "internals")]
pub(super) fn overlook_faults() {
    FAULTS_SEEN.set(disk::major_faults());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn pages_that_were_pushed_out_are_told_from_pages_of_others() {
        use std::sync::Arc;
        use std::thread;

        use crate::index::{Index, Options};
        use crate::words::{AccountId, Listing, OptIns, PhoneHash, Secret, Version};

        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(Secret::from_bytes([7; 32])).background(false).segment_listings(2_000);
        let index = Index::open(dir.path(), options).unwrap();
        let listing = |i: u64| Listing {
            hash: PhoneHash::from_bytes(*blake3::hash(&i.to_le_bytes()).as_bytes()),
            account: AccountId::from(i),
            opt_ins: OptIns::SEARCH,
            version: Version::default(),
        };
        index.import((0..10_000).map(listing)).unwrap();
        index.warm().unwrap();
        let inner = &index.inner;
        let slow_and_faulted = || {
            FAULTS_SEEN.set(disk::major_faults().map(|faults| faults.wrapping_sub(MANY_FAULTS)));
            inner.watched(1, || thread::sleep(SLOW * 2));
        };
        let drop_pages = || {
            for live in inner.segments.load().live() {
                live.segment().bytes().drop_pages(live.path(), live.segment().table_part()).unwrap();
            }
        };
        slow_and_faulted();
        assert!(inner.residency.horizon().is_none(), "the faults were of other memory");
        drop_pages();
        // A file system in memory keeps all pages, whatever it is told.
        let stays =
            |live: &Arc<LiveSegment>| live.segment().bytes().is_there(live.segment().len() / 2) == Some(true);
        if inner.segments.load().live().all(stays) {
            return;
        }
        slow_and_faulted();
        let horizon = inner.residency.horizon().expect("its own pages were gone");
        let is_lost =
            |segment: &Arc<LiveSegment>| (0..LOOKED_AT).any(|place| has_lost_page(segment, place, horizon));
        assert!(!inner.segments.load().live().any(is_lost), "nothing is expected of the tables now");
        for live in inner.segments.load().live() {
            live.ask(live.segment().table_part(), horizon);
            live.segment().bytes().populate(live.segment().table_part());
        }
        assert!(!inner.segments.load().live().any(is_lost), "what was asked for is there");
        drop_pages();
        assert!(inner.segments.load().live().all(is_lost), "what was asked for is gone");
    }

    #[test]
    fn a_batch_that_memory_explains_is_no_sign() {
        assert!(!Lookout::has_faulted(Duration::ZERO, 1));
        FAULTS_SEEN.set(disk::major_faults().map(|faults| faults.wrapping_sub(MANY_FAULTS)));
        assert!(!Lookout::has_faulted(SLOW, 1));
        #[cfg(target_os = "linux")]
        {
            FAULTS_SEEN.set(None);
            assert!(!Lookout::has_faulted(Duration::from_secs(1), 1), "a thread's first look learns");
        }
        assert!(!Lookout::has_faulted(Duration::from_secs(1), 1), "it did not fault since");
    }
}
