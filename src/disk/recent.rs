//! Which pages of a file were asked for so lately that they should still be in memory.
//!
//! The kernel does not tell for free whether a page is there, so this remembers what was asked for. What it remembers
//! is bounded by memory: once so many pages were asked for that the kernel may have let go of the first of them,
//! all is forgotten, and pages are asked for again.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a page here. Where the system's are larger, one is asked for more than once.
const PAGE_LEN: usize = 4096;

/// How far back asking is remembered, over all files together.
#[derive(Debug)]
pub(crate) struct Horizon {
    /// Goes up with each forgetting.
    era: AtomicU64,
    /// Pages asked for in this era.
    asked: AtomicU64,
    /// Pages of an era.
    most: AtomicU64,
}

impl Horizon {
    /// Forgets after so many bytes were asked for.
    pub(crate) fn of_bytes(bytes: u64) -> Self {
        let horizon = Self { era: AtomicU64::new(1), asked: AtomicU64::new(0), most: AtomicU64::new(1) };
        horizon.set_bytes(bytes);
        horizon
    }

    /// Forgets after so many bytes from now on.
    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.most.store((bytes / PAGE_LEN as u64).max(1), Ordering::Relaxed);
    }

    /// Nothing is taken to be in memory any more.
    pub(crate) fn forget(&self) {
        self.asked.store(0, Ordering::Relaxed);
        self.era.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, pages: u64) {
        if self.asked.fetch_add(pages, Ordering::Relaxed) >= self.most.load(Ordering::Relaxed) {
            self.forget();
        }
    }
}

/// The pages of one file that were asked for lately. Threads may race: then a page is asked for twice, or one that was
/// let go of is read when it is touched. Answers do not depend on it.
#[derive(Debug)]
pub(crate) struct Recent {
    words: Vec<AtomicU64>,
    /// The era that the words are of.
    era: AtomicU64,
}

impl Recent {
    /// Nothing was asked of a file of so many bytes.
    pub(crate) fn of_file(len: usize) -> Self {
        let words = (0..len.div_ceil(PAGE_LEN).div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { words, era: AtomicU64::new(0) }
    }

    /// Notes that the pages of a part are asked for now. `true` if any of them was not, lately.
    #[inline]
    pub(crate) fn is_new(&self, part: &Range<usize>, horizon: &Horizon) -> bool {
        let era = horizon.era.load(Ordering::Relaxed);
        if self.era.load(Ordering::Relaxed) != era {
            self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            self.era.store(era, Ordering::Relaxed);
        }
        let mut new = 0;
        for page in part.start / PAGE_LEN..part.end.div_ceil(PAGE_LEN) {
            let Some(word) = self.words.get(page / 64) else { break };
            let bit = 1 << (page % 64);
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
                new += 1;
            }
        }
        if new > 0 {
            horizon.count(new);
        }
        new > 0
    }

    /// Was the page of this byte asked for lately?
    pub(crate) fn has(&self, at: usize, horizon: &Horizon) -> bool {
        let page = at / PAGE_LEN;
        let word = self.words.get(page / 64).map_or(0, |word| word.load(Ordering::Relaxed));
        self.era.load(Ordering::Relaxed) == horizon.era.load(Ordering::Relaxed) && word >> (page % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_for_once_until_all_are_forgotten() {
        let horizon = Horizon::of_bytes(1 << 30);
        let (one, other) = (Recent::of_file(100 * PAGE_LEN), Recent::of_file(100 * PAGE_LEN));
        assert!(one.is_new(&(0..10), &horizon));
        assert!(!one.is_new(&(4_000..PAGE_LEN), &horizon));
        assert!(one.has(PAGE_LEN - 1, &horizon) && !one.has(PAGE_LEN, &horizon) && !other.has(0, &horizon));
        assert!(one.is_new(&(4_000..PAGE_LEN + 1), &horizon), "it reaches into the second page");
        assert!(!one.is_new(&(10..2 * PAGE_LEN), &horizon));
        assert!(other.is_new(&(0..10), &horizon));
        horizon.forget();
        assert!(!one.has(0, &horizon) && !one.has(usize::MAX, &horizon));
        assert!(one.is_new(&(0..10), &horizon));
        assert!(other.is_new(&(0..10), &horizon));
        assert!(!one.is_new(&(0..10), &horizon));
    }

    #[test]
    fn more_pages_than_memory_holds_are_not_remembered() {
        let horizon = Horizon::of_bytes(10 * PAGE_LEN as u64);
        let recent = Recent::of_file(100 * PAGE_LEN);
        let page = |i: usize| i * PAGE_LEN..(i + 1) * PAGE_LEN;
        assert!((0..10).all(|i| recent.is_new(&page(i), &horizon)));
        assert!((0..10).all(|i| !recent.is_new(&page(i), &horizon)));
        assert!(recent.is_new(&page(10), &horizon), "the eleventh ends the era");
        assert!(recent.is_new(&page(0), &horizon));
    }

    #[test]
    fn a_place_behind_the_file_is_never_new() {
        let horizon = Horizon::of_bytes(0);
        assert!(!Recent::of_file(0).is_new(&(0..PAGE_LEN), &horizon));
        assert!(!Recent::of_file(PAGE_LEN).is_new(&(64 * PAGE_LEN..usize::MAX), &horizon));
    }
}
