//! The filter of known scopes, in a ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::words::ManualClock;

const NEVER: &dyn Fn() -> bool = &|| false;

fn id(number: u64) -> ScopeId {
    *blake3::hash(&number.to_le_bytes()).as_bytes().first_chunk().unwrap()
}

/// Buckets and memories of callers are evicted at nearly every charge.
fn small(clock: &Arc<ManualClock>) -> LedgerOptions {
    let (novelty_window, max_clock_jump) = (Duration::from_secs(40 * 86_400), Duration::MAX);
    LedgerOptions { active_buckets: 64, novelty_bytes: 1 << 10, novelty_window, max_clock_jump, ..options(clock) }
}

fn scope(id: ScopeId, burst: u64) -> Scope<'static> {
    of_burst(id, burst)
}

fn charge(ledger: &RedbLedger, caller: u64, first: u32, count: u32) -> Verdict {
    // Never in the shard of the caller, which has room for one bucket.
    let [shard, ..] = id(caller);
    let mut network = id(1_000_000 + caller % 7);
    network[0] = shard ^ 1;
    let scopes = [scope(id(caller), 40), scope(network, 400)];
    let fingerprints: Vec<u32> = (first..first + count).map(|i| i.wrapping_mul(0x9e37_79b9) >> 1).collect();
    ledger.charge(&scopes, &fingerprints).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Charge {
        caller: u64,
        first: u32,
        count: u32,
    },
    Wait {
        minutes: u64,
    },
    WriteNovelty,
    ForgetNovelty,
    Erase {
        caller: u64,
    },
    /// Puts a filter in place that soon has more than it has room for; charges follow before the walk.
    Begin,
    Walk,
    StoppedWalk,
    Learn,
    Reopen {
        cleanly: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let caller = 0_u64..80;
    prop_oneof![
        12 => (caller.clone(), 0_u32..30, 0_u32..12)
            .prop_map(|(caller, first, count)| Step::Charge { caller, first, count }),
        1 => (0_u64..20_000).prop_map(|minutes| Step::Wait { minutes }),
        1 => Just(Step::WriteNovelty),
        1 => Just(Step::ForgetNovelty),
        1 => caller.prop_map(|caller| Step::Erase { caller }),
        1 => Just(Step::Begin),
        2 => Just(Step::Walk),
        1 => Just(Step::StoppedWalk),
        1 => Just(Step::Learn),
        1 => any::<bool>().prop_map(|cleanly| Step::Reopen { cleanly }),
    ]
}

/// What both ledgers do, but the filter.
fn run(ledger: &RedbLedger, step: &Step) -> Option<Verdict> {
    match step {
        Step::Charge { caller, first, count } => return Some(charge(ledger, *caller, *first, *count)),
        Step::WriteNovelty => ledger.write_novelty().unwrap(),
        Step::ForgetNovelty => ledger.forget_novelty().unwrap(),
        Step::Erase { caller } => ledger.erase_novelty(&[id(*caller)]).unwrap(),
        _ => {}
    }
    None
}

fn filter(ledger: &RedbLedger, step: &Step) {
    match step {
        Step::Begin => ledger.between_commits(|| ledger.known.begin(20)),
        Step::Walk => {
            let walked = ledger.walk_known(NEVER).unwrap();
            ledger.known.end(walked);
        }
        Step::StoppedWalk => ledger.learn_known_with(20, &|| true).unwrap(),
        Step::Learn => ledger.learn_known(NEVER).unwrap(),
        _ => {}
    }
}

fn reopened(ledger: RedbLedger, dir: &tempfile::TempDir, options: &LedgerOptions, cleanly: bool) -> RedbLedger {
    if cleanly {
        ledger.settle().unwrap();
    }
    drop(ledger);
    RedbLedger::open(dir.path(), options).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn every_charge_is_as_without_a_filter(steps in prop::collection::vec(step(), 1..150)) {
        let clock = Arc::new(ManualClock::at_wall_ms(1_000));
        let options = small(&clock);
        let dirs = [create(&options), create(&options)];
        let [mut with, mut without] =
            dirs.each_ref().map(|dir| RedbLedger::open(dir.path(), &options).unwrap());
        for step in &steps {
            match step {
                Step::Wait { minutes } => clock.advance(Duration::from_secs(minutes * 60)),
                Step::Reopen { cleanly } => {
                    with = reopened(with, &dirs[0], &options, *cleanly);
                    without = reopened(without, &dirs[1], &options, *cleanly);
                }
                _ => {}
            }
            filter(&with, step);
            prop_assert_eq!(run(&with, step), run(&without, step));
        }
        // Every scope, whatever came last.
        with.learn_known(NEVER).unwrap();
        for caller in 0..80 {
            prop_assert_eq!(charge(&with, caller, 0, 40), charge(&without, caller, 0, 40));
        }
        prop_assert_eq!(without.known_usage().spared, 0);
    }
}

#[test]
fn a_flood_of_fresh_callers_reads_next_to_nothing() {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000));
    let options = small(&clock);
    let dir = create(&options);
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    (0..200).for_each(|caller| assert_eq!(charge(&ledger, caller, 0, 10).grant.granted, 10));
    ledger.write_novelty().unwrap();
    let flood = |callers: std::ops::Range<u64>| {
        let before = ledger.known_usage();
        callers.for_each(|caller| {
            assert_eq!(ledger.charge(&[scope(id(caller), 40)], &[]).unwrap().grant.remaining, 40);
        });
        let after = ledger.known_usage();
        (after.reads - before.reads, after.spared - before.spared)
    };
    assert_eq!(flood(10_000..20_000), (20_000, 0), "a bucket and a memory each");
    ledger.learn_known(NEVER).unwrap();
    let (reads, spared) = flood(20_000..30_000);
    assert_eq!(reads + spared, 20_000);
    assert!(reads <= 200, "{reads} reads for 10,000 fresh callers");
    // Those with rows are read as ever.
    assert!((0..200).all(|caller| charge(&ledger, caller, 0, 10).grant.granted == 0));
    assert!((0..200).all(|caller| charge(&ledger, caller, 100, 40).grant.granted <= 31));
}

/// Filters are made all the time while threads charge callers, most of which are evicted before they come again.
#[test]
fn a_filter_that_is_made_while_threads_charge_misses_nobody() {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000));
    let options = LedgerOptions { novelty_window: Duration::ZERO, ..small(&clock) };
    let dir = create(&options);
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    let charge = |caller: u64| ledger.charge(&[of_burst(id(caller), 4)], &[0, 1, 2]).unwrap().grant.granted;
    let ended = AtomicBool::new(false);
    let (answered, made) = thread::scope(|threads| {
        let spend = |thread: u64| {
            let charge = &charge;
            // Each caller is charged by all threads, and soon again.
            threads.spawn(move || (0..3_000).map(|i| charge((i / 3 + thread * 3) % 1_000)).sum::<u64>())
        };
        let spenders: Vec<_> = (0..6).map(spend).collect();
        let maker = threads.spawn(|| {
            let mut made = 0;
            while !ended.load(Ordering::Relaxed) {
                ledger.learn_known_with(5_000, NEVER).unwrap();
                made += 1;
            }
            made
        });
        let answered = spenders.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>();
        ended.store(true, Ordering::Relaxed);
        (answered, maker.join().unwrap())
    });
    assert!(made > 10, "{made} filters");
    assert!(answered <= 4_000, "{answered} answered of 4 for each of 1,000 callers");
    assert!(ledger.known_usage().spared > 0, "no filter spared anything");
    assert!((0..1_000).map(charge).sum::<u64>() + answered <= 4_000);
    assert!((0..1_000).all(|caller| charge(caller) == 0));
}

#[test]
fn an_outgrown_filter_answers_until_a_larger_one_does() {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000));
    let options = small(&clock);
    let dir = create(&options);
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    charge(&ledger, 0, 0, 1);
    ledger.learn_known_with(100, NEVER).unwrap();
    let bytes = ledger.known_usage().bytes;
    assert!(bytes > 0 && !ledger.known.is_outgrown());
    (1..40).for_each(|caller| drop(charge(&ledger, caller, 0, 1)));
    assert!(!ledger.known.is_outgrown());
    (40..200).for_each(|caller| drop(charge(&ledger, caller, 0, 1)));
    assert!(ledger.known.is_outgrown() && ledger.is_work_due());
    ledger.learn_known_with(100, &|| true).unwrap();
    assert!(ledger.known.is_outgrown(), "a walk that was stopped replaces nothing");
    assert!((0..200).all(|caller| ledger.known.may_have(id(caller))));
    ledger.learn_known(NEVER).unwrap();
    assert!(!ledger.known.is_outgrown() && ledger.known_usage().bytes > bytes);
    assert!((0..200).all(|caller| ledger.known.may_have(id(caller))));
}
