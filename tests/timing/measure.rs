//! Times of public lookups, by class, interleaved at random.

use std::hint::black_box;
use std::time::Instant;

use unlisted::{AccountId, Caller, Index, Listing, OptIns, Options, PhoneHash, Purpose, Version};

use super::common;

/// Listings besides those that are measured.
const LISTINGS: u64 = 400_000;
/// Numbers of each class.
const POOL: u64 = 40_000;
/// Lookups after which another caller asks, so that most numbers are new to who asks.
const LOOKUPS_OF_A_CALLER: usize = 16_384;

/// What a caller must not tell apart, and what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Absent,
    Hidden,
    Deleted,
    /// For the measurement's own sake.
    Shown,
}

pub const CLASSES: usize = 4;
/// Pairs that must look alike.
pub const PAIRS: [(Class, Class); 3] =
    [(Class::Absent, Class::Hidden), (Class::Absent, Class::Deleted), (Class::Hidden, Class::Deleted)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All in memory, all folded.
    Warm,
    /// All in memory; what was hidden or deleted was so since the last fold.
    Unfolded,
    /// An index larger than memory: filters in memory, the pages of the table dropped before each lookup.
    Cold,
}

/// An index with numbers of every class.
pub struct Bench {
    index: Index,
    state: State,
    _dir: tempfile::TempDir,
}

const fn number_of(class: Class, i: u64) -> u64 {
    ((class as u64 + 1) << 40) + i
}

fn listing(number: u64, opt_ins: OptIns) -> Listing {
    let version = Version::new(1).unwrap();
    Listing { hash: common::number(number), account: AccountId::from(number), opt_ins, version }
}

impl Bench {
    pub fn new(state: State) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = || Options::new(common::secret()).quotas(common::wide_quotas()).background(false);
        let index = Index::open(dir.path(), options()).unwrap();
        let of = |class, opt_ins| (0..POOL).map(move |i| listing(number_of(class, i), opt_ins));
        let others = (0..LISTINGS).map(|number| listing(number, OptIns::ALL_PURPOSES));
        let measured = [Class::Hidden, Class::Deleted, Class::Shown].into_iter();
        index.import(others.chain(measured.flat_map(|class| of(class, OptIns::ALL_PURPOSES)))).unwrap();
        for i in 0..POOL {
            let put = |class| (common::number(number_of(class, i)), AccountId::from(number_of(class, i)));
            let ((hidden, of_hidden), (deleted, of_deleted)) = (put(Class::Hidden), put(Class::Deleted));
            let done = index.update(|batch| {
                batch.set_opt_ins(hidden, of_hidden, OptIns::empty(), 2)?;
                batch.remove(deleted, of_deleted, 2)
            });
            done.unwrap();
        }
        if state != State::Unfolded {
            index.fold().unwrap();
        }
        drop(index);
        let options = if state == State::Cold { options().segment_memory_bytes(1 << 20) } else { options() };
        let index = Index::open(dir.path(), options).unwrap();
        index.warm().unwrap();
        Self { index, state, _dir: dir }
    }

    /// Nanoseconds of lookups of so many numbers of one class each, by class.
    pub fn times(&self, batch: u64, samples: usize) -> [Vec<f64>; CLASSES] {
        let mut random = Random(0x1234_5678 ^ batch);
        let classes = [Class::Absent, Class::Hidden, Class::Deleted, Class::Shown];
        let mut times = [(); CLASSES].map(|()| Vec::with_capacity(samples));
        let mut caller = Caller::new("0");
        // What is first of everything is not measured.
        let warming = samples / 20;
        for round in 0..samples + warming {
            if round % (LOOKUPS_OF_A_CALLER / CLASSES) == 0 {
                caller = Caller::new(format!("caller {round} {batch}"));
            }
            let mut order = classes;
            (1..CLASSES).rev().for_each(|i| order.swap(i, random.below(i as u64 + 1) as usize));
            for class in order {
                let hashes: Vec<PhoneHash> =
                    (0..batch).map(|_| common::number(number_of(class, random.below(POOL)))).collect();
                let time = self.time(&caller, &hashes);
                if round >= warming {
                    times[class as usize].push(time);
                }
            }
        }
        times
    }

    fn time(&self, caller: &Caller, hashes: &[PhoneHash]) -> f64 {
        if self.state == State::Cold {
            self.index.raw_drop_pages().unwrap();
        }
        let start = Instant::now();
        let reply = self.index.lookup(caller, Purpose::Search, black_box(hashes)).unwrap();
        let time = start.elapsed();
        assert_eq!(black_box(reply).deferred().count(), 0);
        time.as_nanos() as f64
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % end
    }
}
