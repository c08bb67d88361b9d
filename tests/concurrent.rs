//! Many threads at once: lookups, updates, folds and imports do not disturb each other.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use unlisted::{AccountId, Caller, Index, Listing, OptIns, PhoneHash, Purpose, Version};

/// Numbers that nobody changes: every lookup must see exactly these.
const STEADY: u64 = 4_000;
/// Numbers that flip between shown and hidden all the time.
const FLIPPING: u64 = 64;

fn steady(i: u64) -> Listing {
    let opt_ins = if i.is_multiple_of(2) { OptIns::all() } else { OptIns::empty() };
    Listing { hash: common::number(i), account: AccountId::from(i), opt_ins, version: Version::new(1).unwrap() }
}

fn flipping(i: u64) -> (PhoneHash, AccountId) {
    (common::number(1_000_000 + i), AccountId::from(1_000_000 + i))
}

fn ask(index: &Index, caller: &str, hashes: &[PhoneHash]) -> Vec<usize> {
    let reply = index.lookup(&Caller::new(caller), Purpose::Search, hashes).unwrap();
    reply.matches().map(|found| found.position).collect()
}

/// Looks steady numbers up until told to stop; every answer must be whole.
fn look(index: &Index, caller: &str, stop: &AtomicBool, answers: &AtomicU64) {
    let hashes: Vec<PhoneHash> = (0..STEADY).step_by(13).map(common::number).collect();
    let expected: Vec<usize> =
        (0..STEADY).step_by(13).enumerate().filter(|(_, i)| i % 2 == 0).map(|(at, _)| at).collect();
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(ask(index, caller, &hashes), expected);
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

/// Flips every number shown and hidden; each flip must be seen by the very next lookup.
fn flip(index: &Index, rounds: u64) {
    for round in 0..rounds {
        for i in 0..FLIPPING {
            let (hash, account) = flipping(i);
            let opt_ins = if round % 2 == 0 { OptIns::SEARCH } else { OptIns::empty() };
            assert_eq!(index.set_opt_ins(hash, account, opt_ins, round + 1).unwrap().applied, 1);
            assert_eq!(ask(index, "flipper", &[hash]).len() as u64, (round + 1) % 2, "round {round}, number {i}");
        }
    }
}

#[test]
fn lookups_are_whole_and_updates_visible_while_ranges_are_folded_and_split() {
    let dir = tempfile::tempdir().unwrap();
    // Segments of 1,000 listings, so that imports and folds split ranges all the time.
    let index = Index::open(dir.path(), common::options(&common::clock()).segment_listings(1_000)).unwrap();
    index.import((0..STEADY).map(steady)).unwrap();
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let (index, stop, answers) = (&index, &stop, &answers);
        for caller in ["one", "two"] {
            scope.spawn(move || look(index, caller, stop, answers));
        }
        let folder = scope.spawn(move || {
            for round in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                index.fold().unwrap();
                let new = |i| Listing { hash: common::number(10_000_000 + round * 300 + i), ..steady(i) };
                index.import((0..300).map(new)).unwrap();
            }
        });
        flip(index, 6);
        stop.store(true, Ordering::Relaxed);
        folder.join().unwrap();
    });
    assert!(answers.into_inner() > 0, "no lookup ended in all the time");
    index.verify(|_, _| ()).unwrap();
}

#[test]
fn the_background_folds_what_is_worth_it_and_closes_with_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let options = common::options(&common::clock()).background(true).fold_at_changes(500);
        Index::open(dir.path(), options).unwrap()
    };
    let index = open();
    let put = |first: u64| {
        index
            .update(|batch| {
                (first..first + 600)
                    .map(steady)
                    .try_for_each(|row| batch.put(row.hash, row.account, row.opt_ins, 1))
            })
            .unwrap();
    };
    put(0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while index.stats().unwrap().delta > 0 {
        assert!(Instant::now() < deadline, "the background folded nothing in a minute");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(index.stats().unwrap().listings, 600);
    // Closed while a fold may be under way, again and again.
    drop(index);
    for round in 1..6_u64 {
        let index = open();
        index
            .update(|batch| {
                let rows = (round * 600..round * 600 + 600).map(steady);
                rows.into_iter().try_for_each(|row| batch.put(row.hash, row.account, row.opt_ins, 1))
            })
            .unwrap();
    }
    let index = open();
    assert_eq!(index.stats().unwrap().listings, 3_600);
    index.verify(|_, _| ()).unwrap();
}
