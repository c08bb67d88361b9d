//! Many threads at once: lookups, updates, folds and imports do not disturb each other.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use unlisted::{AccountId, Caller, Error, Index, Listing, OptIns, PhoneHash, Purpose, Version};

use crate::common;

/// Numbers that nobody changes: every lookup must see exactly these.
const STEADY: u64 = 4_000;
/// Numbers that flip between shown and hidden all the time.
const FLIPPING: u64 = 64;

fn steady(i: u64) -> Listing {
    let opt_ins = if i.is_multiple_of(2) { OptIns::ALL_PURPOSES } else { OptIns::empty() };
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

/// A number that is the same for the same seed and differs a lot for the next.
fn random(seed: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 29)
}

#[test]
fn of_many_threads_that_share_commits_the_newest_version_wins() {
    const THREADS: u64 = 12;
    const EACH: u64 = 60;
    const NUMBERS: u64 = 50;
    // Version, number, account, opt-ins; no two changes have the same version.
    let rows = |thread: u64, i: u64| {
        (0..1 + random(thread << 32 | i) % 20).map(move |at| {
            let version = 1 + random(i * 31 + at) % 1_000 * 10_000 + thread * 800 + i * 13 % 800;
            let (what, other) = (random(version ^ at << 40), random(version ^ at << 50 ^ 1));
            (version, what % NUMBERS, other % 2, OptIns::from_bits_truncate((what >> 32) as u8))
        })
    };
    let dir = tempfile::tempdir().unwrap();
    let open = || Index::open(dir.path(), common::options(&common::clock())).unwrap();
    let index = open();
    let before = index.snapshot_version();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let index = &index;
            scope.spawn(move || {
                for i in 0..EACH {
                    let report = index
                        .update(|batch| {
                            rows(thread, i).try_for_each(|(version, number, account, opt_ins)| {
                                batch.put(common::number(number), AccountId::from(account), opt_ins, version)
                            })
                        })
                        .unwrap();
                    assert_eq!(report.applied + report.stale, rows(thread, i).count());
                }
            });
        }
    });
    let commits = index.snapshot_version() - before;
    assert!(commits < THREADS * EACH, "{commits} commits for {} updates: nothing was shared", THREADS * EACH);
    let mut newest: BTreeMap<(u64, u64), (u64, Vec<OptIns>)> = BTreeMap::new();
    for (version, number, account, opt_ins) in
        (0..THREADS).flat_map(|thread| (0..EACH).flat_map(move |i| rows(thread, i)))
    {
        let winner = newest.entry((number, account)).or_default();
        if version > winner.0 {
            *winner = (version, Vec::new());
        }
        if version == winner.0 {
            winner.1.push(opt_ins);
        }
    }
    let check = |index: &Index| {
        let all: Vec<PhoneHash> = (0..NUMBERS).map(common::number).collect();
        for purpose in Purpose::ALL {
            let found = common::ask(index, purpose, &all);
            for ((number, account), (version, candidates)) in &newest {
                let shown = found.contains(&(*number as usize, AccountId::from(*account)));
                let agreed = |opt_ins: &OptIns| common::is_shown(*opt_ins, purpose) == shown;
                assert!(candidates.iter().any(agreed), "number {number}, account {account}, version {version}");
            }
        }
        index.verify(|_, _| ()).unwrap();
    };
    check(&index);
    index.fold().unwrap();
    check(&index);
    drop(index);
    check(&open());
}

#[test]
fn of_equal_versions_in_one_group_one_takes_effect() {
    const THREADS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path(), common::options(&common::clock())).unwrap();
    let (barrier, applied) = (Barrier::new(THREADS), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let (index, barrier, applied) = (&index, &barrier, &applied);
            scope.spawn(move || {
                for version in 1..=40 {
                    barrier.wait();
                    let report = index.set_opt_ins(common::number(1), 1.into(), OptIns::SEARCH, version).unwrap();
                    applied.fetch_add(report.applied as u64, Ordering::Relaxed);
                    barrier.wait();
                    assert_eq!(applied.load(Ordering::Relaxed), version);
                }
            });
        }
    });
}

#[test]
fn a_batch_that_is_refused_takes_no_other_of_its_group_with_it() {
    const THREADS: u64 = 8;
    const EACH: u64 = 30;
    let dir = tempfile::tempdir().unwrap();
    let options = || common::options(&common::clock());
    let index = Index::open(dir.path(), options()).unwrap();
    let listed = |i| Listing { opt_ins: OptIns::ALL_PURPOSES, ..steady(i) };
    index.import((0..THREADS * EACH).map(listed)).unwrap();
    drop(index);
    let index = Index::open(dir.path(), options().max_bytes(1)).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let index = &index;
            scope.spawn(move || {
                for i in 0..EACH {
                    let row = steady(thread * EACH + i);
                    if thread % 2 == 0 {
                        // Refused as a whole, with the opt-out that it also has.
                        let refused = index.update(|batch| {
                            batch.put(row.hash, row.account, OptIns::empty(), 2)?;
                            batch.watermark("refused")?;
                            batch.put(common::number(7_000_000 + i), row.account, OptIns::ALL_PURPOSES, 2)
                        });
                        assert!(matches!(refused, Err(Error::SizeLimit { .. })), "{refused:?}");
                    } else {
                        let report = index.update(|batch| {
                            batch.put(row.hash, row.account, OptIns::empty(), 2)?;
                            batch.watermark("taken")
                        });
                        assert_eq!(report.unwrap().applied, 1);
                        assert!(ask(index, &format!("caller {thread}"), &[row.hash]).is_empty());
                    }
                }
            });
        }
    });
    assert_eq!(index.watermark().as_deref(), Some(&b"taken"[..]));
    let all: Vec<PhoneHash> = (0..THREADS * EACH).map(common::number).collect();
    let expected: Vec<usize> =
        (0..THREADS * EACH).filter(|i| (i / EACH).is_multiple_of(2)).map(|i| i as usize).collect();
    assert_eq!(ask(&index, "after", &all), expected);
    let refused: Vec<PhoneHash> = (0..EACH).map(|i| common::number(7_000_000 + i)).collect();
    assert!(ask(&index, "after", &refused).is_empty());
    assert_eq!(index.verify(|_, _| ()).unwrap().delta as u64, THREADS / 2 * EACH);
}

#[test]
fn who_lists_makes_room_in_memory_and_opt_outs_go_past_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path(), common::options(&common::clock()).max_unfolded(1_000)).unwrap();
    let update = |first: u64, opt_ins, version| {
        index
            .update(|batch| {
                let rows = (first..first + 400).map(steady);
                rows.into_iter().try_for_each(|row| batch.put(row.hash, row.account, opt_ins, version))
            })
            .unwrap()
    };
    for first in (0..4_000).step_by(400) {
        update(first, OptIns::ALL_PURPOSES, 1);
        assert!(index.stats().unwrap().delta < 1_400);
    }
    for first in (0..4_000).step_by(400) {
        update(first, OptIns::empty(), 2);
    }
    assert!(index.stats().unwrap().delta >= 4_000);
    update(4_000, OptIns::ALL_PURPOSES, 1);
    assert_eq!((index.stats().unwrap().delta, index.stats().unwrap().opted_in), (400, 400));
}
