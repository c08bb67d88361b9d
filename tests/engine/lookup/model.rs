//! The index against a plain map: arbitrary histories of every operation, checked for every purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use unlisted::{AccountId, Index, Listing, ManualClock, Memory, OptIns, PhoneHash, Purpose, Version};

use crate::common;

const NUMBERS: u64 = 24;
const ACCOUNTS: u64 = 8;

/// Numbers alternate between the two domains, so that equal bytes of another domain are another number.
fn hash(number: u64) -> PhoneHash {
    let hash = common::number(number / 2);
    if number.is_multiple_of(2) { hash } else { hash.in_domain(unlisted::Domain::Email) }
}

#[derive(Debug, Clone)]
enum Op {
    Update(Vec<Change>),
    Import(Vec<Change>),
    Erase(Vec<u64>, Option<u64>),
    Fold,
    Reopen,
    Warm,
    Pass { hours: u64 },
}

/// Number, account, opt-ins (none means removal, which an import has not), version.
type Change = (u64, u64, Option<u8>, u64);

fn change(removals: bool) -> impl Strategy<Value = Change> {
    let opt_ins = if removals {
        prop::option::weighted(0.75, 0_u8..128).boxed()
    } else {
        (0_u8..128).prop_map(Some).boxed()
    };
    (0..NUMBERS, 0..ACCOUNTS, opt_ins, 0_u64..12)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop::collection::vec(change(true), 1..8).prop_map(Op::Update),
        3 => prop::collection::vec(change(false), 1..40).prop_map(Op::Import),
        1 => (prop::collection::vec(0..ACCOUNTS, 1..3), prop::option::of(0_u64..12)).prop_map(|(of, at)| Op::Erase(of, at)),
        2 => Just(Op::Fold),
        1 => Just(Op::Reopen),
        1 => Just(Op::Warm),
        1 => (1_u64..20 * 24).prop_map(|hours| Op::Pass { hours }),
    ]
}

/// What a listing is: its opt-ins (none if removed) and its version.
#[derive(Debug, Clone, Copy, PartialEq)]
struct State {
    opt_ins: Option<OptIns>,
    version: u64,
}

/// The plain map that the index must equal.
#[derive(Default)]
struct Model {
    listings: BTreeMap<(u64, u64), State>,
}

impl Model {
    /// Takes a change if it is newer; says whether it did.
    fn take(&mut self, (number, account, opt_ins, version): Change) -> bool {
        let opt_ins = opt_ins.map(OptIns::from_bits_truncate);
        let is_newer = self.listings.get(&(number, account)).is_none_or(|state| version > state.version);
        if is_newer {
            self.listings.insert((number, account), State { opt_ins, version });
        }
        is_newer
    }

    fn erase(&mut self, accounts: &BTreeSet<u64>, at: Option<u64>) -> usize {
        let mut newest = BTreeMap::new();
        for ((_, account), state) in &self.listings {
            let version = newest.entry(*account).or_insert(0);
            *version = state.version.max(*version);
        }
        let mut removed = 0;
        for ((_, account), state) in &mut self.listings {
            if accounts.contains(account) && state.opt_ins.is_some() {
                *state = State { opt_ins: None, version: state.version.max(at.unwrap_or(newest[account])) };
                removed += 1;
            }
        }
        removed
    }

    fn answers(&self, purpose: Purpose) -> Vec<(usize, AccountId)> {
        let is_shown = |opt_ins| common::is_shown(opt_ins, purpose);
        let shown = self.listings.iter().filter(|(_, state)| state.opt_ins.is_some_and(is_shown));
        shown.map(|((number, account), _)| (*number as usize, AccountId::from(*account))).collect()
    }
}

/// An index and the model beside it.
struct Pair {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    memory: Memory,
    index: Option<Index>,
    model: Model,
}

impl Pair {
    fn new(memory: Memory) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = common::clock();
        let mut pair = Self { dir, clock, memory, index: None, model: Model::default() };
        pair.open();
        pair
    }

    fn open(&mut self) {
        // Removals outlive every test, so that the model need not date them.
        let retention = Duration::from_secs(100 * 365 * 86_400);
        let options = common::options(&self.clock).removal_retention(retention).memory(self.memory);
        self.index = Some(Index::open(self.dir.path(), options).unwrap());
    }

    fn index(&self) -> &Index {
        self.index.as_ref().unwrap()
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Update(changes) => self.update(changes),
            Op::Import(changes) => self.import(changes),
            Op::Erase(accounts, at) => {
                let ids: Vec<AccountId> = accounts.iter().map(|a| AccountId::from(*a)).collect();
                let report = match at {
                    Some(version) => self.index().erase_accounts_at(&ids, *version).unwrap(),
                    None => self.index().erase_accounts(&ids).unwrap(),
                };
                let accounts = accounts.iter().copied().collect();
                assert_eq!(report.removed, self.model.erase(&accounts, *at));
            }
            Op::Fold => {
                self.index().fold().unwrap();
                assert_eq!(self.index().stats().unwrap().delta, 0);
            }
            Op::Reopen => {
                self.index = None;
                self.open();
            }
            Op::Warm => self.index().warm().unwrap(),
            Op::Pass { hours } => self.clock.advance(Duration::from_secs(hours * 3_600)),
        }
    }

    fn update(&mut self, changes: &[Change]) {
        let report = self
            .index()
            .update(|batch| {
                changes.iter().try_for_each(|(number, account, opt_ins, version)| {
                    let (hash, account) = (hash(*number), AccountId::from(*account));
                    match opt_ins {
                        Some(bits) => batch.put(hash, account, OptIns::from_bits_truncate(*bits), *version),
                        None => batch.remove(hash, account, *version),
                    }
                })
            })
            .unwrap();
        let applied = changes.iter().filter(|change| self.model.take(**change)).count();
        assert_eq!((report.applied, report.stale), (applied, changes.len() - applied));
    }

    fn import(&mut self, changes: &[Change]) {
        let rows = changes.iter().map(|(number, account, opt_ins, version)| Listing {
            hash: hash(*number),
            account: AccountId::from(*account),
            opt_ins: OptIns::from_bits_truncate(opt_ins.unwrap_or(0)),
            version: Version::new(*version).unwrap(),
        });
        let report = self.index().import(rows).unwrap();
        assert_eq!(report.rows, changes.len() as u64);
        changes.iter().for_each(|change| {
            self.model.take(*change);
        });
    }

    fn check(&self) {
        let all: Vec<PhoneHash> = (0..NUMBERS).map(hash).collect();
        for purpose in Purpose::ALL {
            assert_eq!(common::ask(self.index(), purpose, &all), self.model.answers(purpose), "{purpose}");
        }
        let stats = self.index().stats().unwrap();
        let live = self.model.listings.values().filter_map(|state| state.opt_ins);
        assert_eq!(stats.listings, live.clone().count() as u64);
        assert_eq!(stats.opted_in, live.filter(|o| o.purposes().next().is_some()).count() as u64);
        self.index().verify(|_, _| ()).unwrap();
    }
}

/// How many histories to try; `UNLISTED_MODEL_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("UNLISTED_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn every_history_answers_like_a_plain_map(resident: bool, ops in prop::collection::vec(op(), 1..25)) {
        let mut pair = Pair::new(if resident { Memory::Resident } else { Memory::Mapped });
        for op in &ops {
            pair.apply(op);
            pair.check();
        }
        pair.apply(&Op::Reopen);
        pair.check();
    }
}

/// Enough listings that ranges split, slots are narrow, and buckets spill.
#[test]
fn a_large_index_answers_like_a_plain_map_through_splits_and_folds() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let open = || Index::open(dir.path(), common::options(&clock).segment_listings(300_000)).unwrap();
    let total = 1_000_000_u64;
    let listing = |i: u64, version| Listing {
        hash: common::number(i),
        account: AccountId::from(i * 3),
        opt_ins: OptIns::from_bits_truncate((i % 64) as u8),
        version: Version::new(version).unwrap(),
    };
    let index = open();
    let report = index.import((0..total).map(|i| listing(i, 5))).unwrap();
    assert_eq!((report.rows, report.stale, report.segments), (total, 0, 4));

    // The same rows again change nothing, not even into how many segments the keys are cut.
    let version = index.snapshot_version();
    let again = index.import((0..total).map(|i| listing(i, 5))).unwrap();
    assert_eq!((again.stale, index.stats().unwrap().segments, index.snapshot_version()), (total, 4, version));

    // Older rows are stale, newer ones replace, new numbers come in.
    let report = index
        .import((0..3_000).map(|i| Listing { opt_ins: OptIns::ALL_PURPOSES, ..listing(i, 4 + i % 3) }))
        .unwrap();
    assert_eq!((report.rows, report.stale), (3_000, 2_000));
    let flipped: Vec<u64> = (0..total).step_by(97).collect();
    index
        .update(|batch| {
            flipped.iter().try_for_each(|i| {
                batch.set_opt_ins(common::number(*i), AccountId::from(i * 3), OptIns::empty(), 100)
            })
        })
        .unwrap();
    index.erase_accounts(&[AccountId::from(3), AccountId::from(300)]).unwrap();

    let expected = |i: u64| {
        if i.is_multiple_of(97) || i == 1 || i == 100 {
            OptIns::empty()
        } else if i < 3_000 && i % 3 == 2 {
            OptIns::ALL_PURPOSES
        } else {
            OptIns::from_bits_truncate((i % 64) as u8)
        }
    };
    let check = |index: &Index, purpose: Purpose| {
        let asked: Vec<u64> = (0..total + 50_000).step_by(7).chain(0..3_100).collect();
        let hashes: Vec<PhoneHash> = asked.iter().map(|i| common::number(*i)).collect();
        let shown = asked.iter().enumerate().filter(|(_, i)| **i < total && expected(**i).allows(purpose));
        let shown: Vec<_> = shown.map(|(position, i)| (position, AccountId::from(i * 3))).collect();
        assert_eq!(common::ask(index, purpose, &hashes), shown);
    };
    check(&index, Purpose::Search);
    assert_eq!(index.fold().unwrap().ranges, 4);
    check(&index, Purpose::Search);
    drop(index);
    let index = open();
    Purpose::ALL.into_iter().for_each(|purpose| check(&index, purpose));
    let stats = index.stats().unwrap();
    assert_eq!((stats.listings, stats.delta), (total - 2, 0));
    assert_eq!(index.verify(|_, _| ()).unwrap().listings, total);
}
