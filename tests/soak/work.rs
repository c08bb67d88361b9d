//! What each thread of the load does, over and over. Every answer is checked: against what never changes, and against what
//! only this thread changes.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use unlisted::{
    AccountId, BackupMode, Caller, Error, Index, Listing, OptIns, Origin, PhoneHash, Purpose, Quota,
    QuotaOverride, SignalQuery, TopBy, TopQuery, VerifyDepth, Version,
};

use super::common;
use super::watch::{Hand, OVER};

/// Numbers that nobody changes, found by everybody.
pub const STEADY: u64 = 20_000;
/// Numbers that nobody changes, found by nobody.
const HIDDEN: u64 = 1 << 32;
const HIDDEN_COUNT: u64 = 2_000;
/// Numbers of the thread that updates.
const FLIPPING: u64 = 2 << 32;
const FLIPPING_COUNT: u64 = 500;
/// Numbers of the thread that erases.
const ERASED: u64 = 3 << 32;
const ERASED_COUNT: u64 = 200;
/// Numbers of the thread that imports: the same ones over and over.
const IMPORTED: u64 = 4 << 32;
const IMPORTED_COUNT: u64 = 1_000;
const CALLERS: u64 = 48;
/// What the caller with a quota of its own may ask, ever: its refill takes longer than any run.
pub const SMALL_BURST: u64 = 1_000;

/// What all threads share.
pub struct Load<'a> {
    pub index: &'a Index,
    pub stop: &'a AtomicBool,
    /// Where backups go.
    pub backups: &'a Path,
    /// What the caller with a quota of its own was charged.
    pub small_charged: &'a AtomicU64,
    pub answered: &'a AtomicU64,
}

pub fn random(seed: u64, step: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step.wrapping_mul(0xd1b5_4a32_d192_ed03);
    for _ in 0..3 {
        x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    x ^ (x >> 29)
}

fn listing(number: u64, opt_ins: OptIns, version: u64) -> Listing {
    let version = Version::new(version).unwrap();
    Listing { hash: common::number(number), account: AccountId::from(number), opt_ins, version }
}

/// What is there before the load begins.
pub fn fill(index: &Index) {
    let steady = (0..STEADY).map(|number| listing(number, OptIns::ALL_PURPOSES, 1));
    let hidden = (HIDDEN..HIDDEN + HIDDEN_COUNT).map(|number| listing(number, OptIns::empty(), 1));
    index.import(steady.chain(hidden)).unwrap();
    let small = QuotaOverride::fixed(Quota::per_hour(SMALL_BURST, 1).unwrap());
    index.set_quota_of(&Caller::new("small"), Some((small, Duration::ZERO))).unwrap();
}

/// A thread's work until it is told to stop; `work` is told how often it was called before.
pub fn repeat(load: &Load<'_>, hand: &Hand, mut work: impl FnMut(u64)) {
    for round in 0.. {
        if load.stop.load(Ordering::Relaxed) {
            break;
        }
        work(round);
    }
    hand.begins(OVER);
}

/// Lookups of many sizes by many callers: what is steady is found, what is hidden is not, deferred or not.
pub fn look(load: &Load<'_>, hand: &Hand, seed: u64) {
    repeat(load, hand, |round| {
        let draw = |what| random(seed, 64 * round + what);
        let size = [1, 16, 256][draw(0) as usize % 3];
        let numbers: Vec<u64> = (0..size)
            .map(|i| match draw(100 + i) % 8 {
                0 => HIDDEN + draw(400 + i) % HIDDEN_COUNT,
                // Of nobody, and not more of them than are remembered.
                1 => (9 << 32) + draw(400 + i) % 20_000,
                _ => draw(400 + i) % STEADY,
            })
            .collect();
        let hashes: Vec<PhoneHash> = numbers.iter().map(|number| common::number(*number)).collect();
        let is_small = draw(1) % 16 == 0;
        let name = if is_small { "small".to_owned() } else { format!("caller {}", draw(2) % CALLERS) };
        let caller = Caller::new(name).via(Origin::network([198, 51, draw(3) as u8 % 8, 1].into()));
        let purpose = Purpose::ALL[draw(4) as usize % Purpose::ALL.len()];
        hand.begins("looking up");
        let reply = load.index.lookup(&caller, purpose, &hashes).expect("the lookup is answered");
        let deferred: Vec<usize> = reply.deferred().collect();
        assert!(is_small || deferred.is_empty(), "the budgets are wide");
        if is_small {
            load.small_charged.fetch_add(reply.charged(), Ordering::Relaxed);
        }
        let found: Vec<(usize, AccountId)> =
            reply.matches().map(|found| (found.position, found.account)).collect();
        let is_there = |(at, number): (usize, &u64)| {
            (*number < STEADY && deferred.binary_search(&at).is_err()).then(|| (at, AccountId::from(*number)))
        };
        let expected: Vec<_> = numbers.iter().enumerate().filter_map(is_there).collect();
        assert_eq!(found, expected);
        load.answered.fetch_add(1, Ordering::Relaxed);
    });
}

/// Changes numbers, each seen by the next lookup.
pub fn update(load: &Load<'_>, hand: &Hand) {
    let caller = Caller::new("updater");
    repeat(load, hand, |round| {
        let numbers: Vec<u64> =
            (0..1 + random(7, round) % 40).map(|i| FLIPPING + (round + i * 11) % FLIPPING_COUNT).collect();
        let is_put = round % 3 != 2;
        hand.begins("updating");
        let done = load.index.update(|batch| {
            batch.watermark(round.to_le_bytes())?;
            numbers.iter().try_for_each(|number| {
                let (hash, account) = (common::number(*number), AccountId::from(*number));
                match is_put {
                    true => batch.put(hash, account, OptIns::SEARCH, round + 1),
                    false => batch.remove(hash, account, round + 1),
                }
            })
        });
        done.expect("the update is taken");
        let hashes: Vec<PhoneHash> = numbers.iter().map(|number| common::number(*number)).collect();
        hand.begins("looking up what was updated");
        let reply = load.index.lookup(&caller, Purpose::Search, &hashes).expect("the lookup is answered");
        assert_eq!(reply.matches().count(), if is_put { numbers.len() } else { 0 }, "round {round}");
    });
}

/// Erases accounts, and lists them again later.
pub fn erase(load: &Load<'_>, hand: &Hand) {
    let caller = Caller::new("eraser");
    repeat(load, hand, |round| {
        let numbers: Vec<u64> = (0..5).map(|i| ERASED + (5 * round + i) % ERASED_COUNT).collect();
        let accounts: Vec<AccountId> = numbers.iter().map(|number| AccountId::from(*number)).collect();
        let hashes: Vec<PhoneHash> = numbers.iter().map(|number| common::number(*number)).collect();
        let shown = || {
            let reply = load.index.lookup(&caller, Purpose::Search, &hashes).expect("the lookup is answered");
            reply.matches().count()
        };
        hand.begins("listing what will be erased");
        let put = load.index.update(|batch| {
            let rows = hashes.iter().zip(&accounts);
            rows.into_iter().try_for_each(|(hash, account)| batch.put(*hash, *account, OptIns::SEARCH, round + 1))
        });
        put.expect("the update is taken");
        assert_eq!(shown(), 5, "round {round}");
        hand.begins("erasing");
        assert_eq!(load.index.erase_accounts(&accounts).expect("the erasure is done").removed, 5);
        assert_eq!(shown(), 0, "round {round}");
        if round % 8 == 0 {
            hand.begins("asking what is held");
            let held = load.index.inspector().held(accounts[0]).expect("it is said");
            assert_eq!((held.listings.rows, held.shown.rows), (0, 0));
        }
        std::thread::sleep(Duration::from_millis(20));
    });
}

/// Folds, compactions, vacuums, imports, figures and checks.
pub fn maintain(load: &Load<'_>, hand: &Hand) {
    repeat(load, hand, |round| {
        hand.begins("folding");
        load.index.fold().expect("the fold is done");
        hand.begins("compacting disclosures");
        load.index.compact_disclosures().expect("the compaction is done");
        if round % 4 == 1 {
            hand.begins("importing");
            let rows =
                (IMPORTED..IMPORTED + IMPORTED_COUNT).map(|number| listing(number, OptIns::SEARCH, round + 1));
            load.index.import(rows).expect("the import is done");
        }
        if round % 4 == 3 {
            hand.begins("vacuuming");
            load.index.vacuum().expect("the vacuum is done");
        }
        hand.begins("verifying");
        load.index.verify_to(VerifyDepth::Fast, |_, _| ()).expect("the index is whole");
        hand.begins("asking for figures");
        load.index.stats().expect("figures");
    });
}

/// Backups into a folder, and as a stream.
pub fn back_up(load: &Load<'_>, hand: &Hand) {
    repeat(load, hand, |round| {
        hand.begins("backing up");
        let mode = if round % 4 == 3 { BackupMode::Copied } else { BackupMode::Linked };
        load.index.backup(load.backups, mode).expect("the backup is made");
        if round % 4 == 0 {
            hand.begins("backing up into a stream");
            load.index.backup_to(io::sink()).expect("the backup is made");
        }
        std::thread::sleep(Duration::from_millis(20));
    });
}

/// Suspends callers of its own, gives to them, asks about them.
pub fn operate(load: &Load<'_>, hand: &Hand) {
    let number = [common::number(1)];
    repeat(load, hand, |round| {
        let caller = Caller::new(format!("bad {}", round % 8));
        hand.begins("suspending");
        load.index.suspend(&caller, "a crawl").expect("it is suspended");
        let refused = load.index.lookup(&caller, Purpose::Search, &number);
        assert!(matches!(refused, Err(Error::Suspended { .. })), "{refused:?}");
        hand.begins("reinstating");
        assert!(load.index.reinstate(&caller).expect("it is reinstated"));
        assert_eq!(load.index.lookup(&caller, Purpose::Search, &number).expect("it may ask").matches().count(), 1);
        hand.begins("granting");
        load.index.grant(&caller, 1).expect("it is granted");
        load.index.budget(&caller).expect("a budget");
        if round % 16 == 0 {
            hand.begins("forgetting a caller");
            load.index.forget_caller(&caller).expect("it is forgotten");
            hand.begins("asking for signals");
            let inspector = load.index.inspector();
            inspector.signals(&SignalQuery::new()).expect("signals");
            inspector.top_callers(&TopQuery::new(TopBy::Charged)).expect("callers");
            inspector.disclosed_to(&caller).expect("disclosures");
        }
        std::thread::sleep(Duration::from_millis(5));
    });
}
