//! The ledger as a whole: charges, leases, novelty; `levers` has what an operator does.

mod bucket_log;
mod histories;
mod known;
mod levers;
mod together;
mod vacuum;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::database::DbOptions;
use crate::disk::Disk;
use crate::words::{Error, ManualClock, Quota};

const DATABASE: DbOptions = DbOptions { disk: Disk::Real, cache_bytes: 1 << 20, check: true };
const DAY: Duration = Duration::from_secs(86_400);

/// Kinds with a quota each, as many an hour come back.
const QUOTAS: [(&str, u64, u64); 12] = [
    ("b4", 4, 1),
    ("b10", 10, 60),
    ("b30", 30, 60),
    ("b40", 40, 1),
    ("b100", 100, 60),
    ("b400", 400, 30),
    ("b1000", 1_000, 1),
    ("b5000", 5_000, 60),
    ("b16000", 16_000, 60),
    ("b160000", 160_000, 60),
    ("b1000000", 1_000_000, 60),
    ("b70000000", 70_000_000, 60),
];

fn policy() -> QuotaPolicy {
    QUOTAS.into_iter().fold(QuotaPolicy::default(), |policy, (kind, burst, refill)| {
        policy.with_origin(kind, Quota::per_hour(burst, refill).unwrap()).unwrap()
    })
}

fn of_burst(id: ScopeId, burst: u64) -> Scope<'static> {
    let (kind, ..) = QUOTAS.into_iter().find(|(_, of, _)| *of == burst).unwrap();
    Scope { id, kind: ScopeKind::Origin(kind) }
}

fn scope(id: u8, burst: u64) -> Scope<'static> {
    of_burst([id; 16], burst)
}

fn options(clock: &Arc<ManualClock>) -> LedgerOptions {
    LedgerOptions {
        database: DATABASE,
        max_clock_jump: DAY,
        clock: clock.clone(),
        active_buckets: 1 << 12,
        max_lease: 1 << 16,
        novelty_window: Duration::ZERO,
        novelty_bytes: 1 << 20,
        activity: ActivityOptions { scopes: 1 << 10, retention: DAY },
        background: false,
    }
}

fn create(options: &LedgerOptions) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let first = LedgerState::new([1; 16], [2; 16], policy(), options.clock.wall_ms());
    RedbLedger::create(dir.path(), &DATABASE, &first).unwrap();
    dir
}

fn open(dir: &Path, clock: &Arc<ManualClock>) -> RedbLedger {
    RedbLedger::open(dir, &options(clock)).unwrap()
}

/// A ledger that remembers no numbers.
fn fresh() -> (tempfile::TempDir, Arc<ManualClock>, RedbLedger) {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000));
    let dir = create(&options(&clock));
    let ledger = open(dir.path(), &clock);
    (dir, clock, ledger)
}

fn charge(ledger: &RedbLedger, scopes: &[Scope<'_>], want: u32) -> Grant {
    ledger.charge(scopes, &(0..want).collect::<Vec<_>>()).unwrap().grant
}

fn granted(ledger: &RedbLedger, scopes: &[Scope<'_>], want: u32) -> u64 {
    charge(ledger, scopes, want).granted
}

#[test]
fn the_shortest_scope_decides_and_all_pay_the_same() {
    let (_dir, clock, ledger) = fresh();
    let scopes = [scope(1, 100), scope(2, 30)];
    let grant = charge(&ledger, &scopes, 50);
    assert_eq!((grant.granted, grant.remaining), (30, 0));
    assert_eq!(grant.retry_after, Some(Duration::from_secs(20 * 60)));
    // The first scope paid 30, not 50.
    assert_eq!(granted(&ledger, &scopes[..1], 100), 70);
    clock.advance(Duration::from_secs(20 * 60));
    assert_eq!(granted(&ledger, &scopes, 50), 20);
}

#[test]
fn a_reopened_ledger_remembers() {
    let (dir, clock, ledger) = fresh();
    assert_eq!(granted(&ledger, &[scope(1, 10)], 10), 10);
    drop(ledger);
    clock.set_wall_ms(0);
    assert_eq!(granted(&open(dir.path(), &clock), &[scope(1, 10)], 10), 0);
    clock.set_wall_ms(2 * 60_000 + 1_000);
    assert_eq!(granted(&open(dir.path(), &clock), &[scope(1, 10)], 10), 2);
}

#[test]
fn a_lease_is_spent_without_a_commit_given_back_by_a_close_and_forfeited_by_a_crash() {
    let (dir, clock, ledger) = fresh();
    let scopes = [scope(1, 16_000), scope(2, 160_000)];
    for _ in 0..10 {
        assert_eq!(granted(&ledger, &scopes, 100), 100);
    }
    let commits = ledger.commits();
    // 100 at first, then 200, 400 and so on ahead.
    assert_eq!(commits, 4);
    assert_eq!(granted(&ledger, &scopes, 100), 100);
    assert_eq!(ledger.commits(), commits);
    // A crash: nothing was said before the file closed.
    drop(ledger);
    let ledger = open(dir.path(), &clock);
    let left = charge(&ledger, &scopes, 0).remaining;
    assert!((14_000..=14_900).contains(&left), "{left} left of 16,000 after 1,100 were spent");
    // A clean close: exactly what was spent.
    assert_eq!(granted(&ledger, &scopes, 100), 100);
    assert_eq!(granted(&ledger, &scopes, 1), 1);
    ledger.settle().unwrap();
    drop(ledger);
    assert_eq!(charge(&open(dir.path(), &clock), &scopes, 0).remaining, left - 101);
}

#[test]
fn no_crash_gives_back_what_was_granted() {
    let (dir, clock, mut ledger) = fresh();
    let scopes = [scope(1, 5_000)];
    let mut answered = 0;
    for i in 0..2_000 {
        answered += granted(&ledger, &scopes, 1 + i % 7);
        if i % 11 == 0 {
            drop(ledger);
            ledger = open(dir.path(), &clock);
        }
    }
    assert!(answered <= 5_000, "{answered} answered of 5,000");
    assert_eq!(granted(&ledger, &scopes, 5_000), 0);
    assert!(answered > 2_000, "{answered}: crashes cost more than a sixteenth of what was left each");
}

/// Buckets are evicted all the time, by threads that spend from all of them.
#[test]
fn an_evicted_bucket_is_never_refilled() {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000));
    let small = LedgerOptions { active_buckets: 64, ..options(&clock) };
    let dir = create(&small);
    let ledger = RedbLedger::open(dir.path(), &small).unwrap();
    let id = |i: u64| *blake3::hash(&i.to_le_bytes()).as_bytes().first_chunk().unwrap();
    let answered: u64 = std::thread::scope(|threads| {
        let spend = |thread: u64| {
            let ledger = &ledger;
            threads.spawn(move || {
                let charge = |i: u64| {
                    let scopes = [of_burst(id((i * 7 + thread) % 500), 40)];
                    granted(ledger, &scopes, 1 + (i % 9) as u32)
                };
                (0..3_000).map(charge).sum::<u64>()
            })
        };
        let threads: Vec<_> = (0..8).map(spend).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    // 500 buckets of 40, which all were asked for more; an eviction may cost a lease of two.
    assert!(answered <= 20_000, "{answered}");
    assert!(answered > 15_000, "{answered}");
    for i in 0..500 {
        assert_eq!(granted(&ledger, &[of_burst(id(i), 40)], 40), 0);
    }
}

/// Shards of one bucket each, and all scopes of a charge in the same shard.
#[test]
fn scopes_of_one_charge_do_not_evict_each_other() {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000));
    let small = LedgerOptions { active_buckets: 64, ..options(&clock) };
    let dir = create(&small);
    let ledger = RedbLedger::open(dir.path(), &small).unwrap();
    let scopes = [1, 2, 3].map(|last| {
        let mut id = [5; 16];
        id[15] = last;
        of_burst(id, 100)
    });
    assert_eq!((0..20).map(|_| granted(&ledger, &scopes, 6)).sum::<u64>(), 100);
    assert_eq!((0..3).map(|at| granted(&ledger, &scopes[at..=at], 6)).sum::<u64>(), 0);
}

/// A ledger that remembers numbers for forty days, in generations of ten.
fn remembering() -> (tempfile::TempDir, Arc<ManualClock>, LedgerOptions) {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000));
    let options = LedgerOptions { novelty_window: DAY * 40, max_clock_jump: DAY * 1_000, ..options(&clock) };
    (create(&options), clock, options)
}

fn ask(ledger: &RedbLedger, numbers: std::ops::Range<u32>) -> u64 {
    // Spread over all fingerprints, as those of real numbers are.
    let fingerprints: Vec<u32> = numbers.map(|i| i.wrapping_mul(0x9e37_79b9) >> 1).collect();
    ledger.charge(&[scope(1, 1_000_000)], &fingerprints).unwrap().grant.granted
}

#[test]
fn what_was_paid_is_free_through_reopenings_and_until_its_window_ends() {
    let (dir, clock, options) = remembering();
    let open = || RedbLedger::open(dir.path(), &options).unwrap();
    let ledger = open();
    assert_eq!((ask(&ledger, 0..500), ask(&ledger, 0..500), ask(&ledger, 400..600)), (500, 0, 100));
    ledger.settle().unwrap();
    drop(ledger);
    let ledger = open();
    assert_eq!((ask(&ledger, 0..600), ask(&ledger, 600..20_000)), (0, 19_400));
    ledger.settle().unwrap();
    drop(ledger);
    clock.advance(DAY * 39);
    let ledger = open();
    assert_eq!((ask(&ledger, 0..20_000), ask(&ledger, 20_000..20_100)), (0, 100));
    // In memory and in the file, the old generation ends between one window and one and a quarter.
    clock.advance(DAY * 12);
    assert_eq!((ask(&ledger, 20_000..20_100), ask(&ledger, 0..500)), (0, 500));
    ledger.settle().unwrap();
    ledger.forget_novelty().unwrap();
    drop(ledger);
    let ledger = open();
    assert_eq!((ask(&ledger, 20_000..20_100), ask(&ledger, 0..500), ask(&ledger, 500..600)), (0, 0, 100));
}

/// Charges that have to be made durable wait for a transaction: none may be long because a few callers paid for much.
#[test]
fn much_is_written_in_several_transactions() {
    let (dir, _clock, options) = remembering();
    let fingerprints: Vec<u32> = (0..40_000_u32).map(|i| i.wrapping_mul(0x9e37_79b9) >> 1).collect();
    let ask = |ledger: &RedbLedger, caller: u8| {
        ledger.charge(&[of_burst([caller; 16], 1_000_000)], &fingerprints).unwrap().grant.granted
    };
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    assert!((0..5).all(|caller| ask(&ledger, caller) == 40_000));
    let commits = ledger.commits();
    ledger.write_novelty().unwrap();
    // Two callers' numbers are more than one transaction takes on.
    assert_eq!(ledger.commits() - commits, 3);
    ledger.write_novelty().unwrap();
    assert_eq!(ledger.commits() - commits, 3, "nothing waits any more");
    drop(ledger);
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    assert!((0..5).all(|caller| ask(&ledger, caller) == 0));
}

#[test]
fn what_is_not_written_when_a_process_dies_is_paid_again_and_never_the_reverse() {
    let (dir, _clock, options) = remembering();
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    assert_eq!(ask(&ledger, 0..100), 100);
    ledger.write_novelty().unwrap();
    assert_eq!(ask(&ledger, 100..150), 50);
    drop(ledger);
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    assert_eq!((ask(&ledger, 0..100), ask(&ledger, 100..150)), (0, 50));
}

#[test]
fn only_what_was_charged_is_remembered() {
    let (dir, _clock, options) = remembering();
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    let scopes = [scope(1, 10)];
    let fingerprints: Vec<u32> = (0..20_u32).map(|i| i << 20).collect();
    let verdict = ledger.charge(&scopes, &fingerprints).unwrap();
    assert_eq!((verdict.grant.granted, verdict.deferred), (10, (10..20).collect()));
    // Known numbers are answered wherever they stand, and only the others wait.
    let mixed: Vec<u32> = [15, 3, 12, 9, 0].map(|i: u32| i << 20).into();
    let verdict = ledger.charge(&scopes, &mixed).unwrap();
    assert_eq!((verdict.grant.granted, verdict.deferred), (0, vec![0, 2]));
}

#[test]
fn an_erased_caller_pays_again_and_keeps_its_debt() {
    let (dir, _clock, options) = remembering();
    let open = || RedbLedger::open(dir.path(), &options).unwrap();
    let ledger = open();
    assert_eq!(ask(&ledger, 0..100), 100);
    ledger.write_novelty().unwrap();
    assert_eq!(ask(&ledger, 100..200), 100);
    let remaining = charge(&ledger, &[scope(1, 1_000_000)], 0).remaining;
    ledger.erase_novelty(&[[1; 16]]).unwrap();
    assert_eq!(charge(&ledger, &[scope(1, 1_000_000)], 0).remaining, remaining);
    assert_eq!(ask(&ledger, 0..150), 150);
    ledger.erase_novelty(&[[1; 16]]).unwrap();
    ledger.settle().unwrap();
    drop(ledger);
    assert_eq!(ask(&open(), 0..200), 200);
}

/// Nobody works in the background, and few callers ask: a crash still makes nobody pay for more than the last minute again.
#[test]
fn what_was_paid_for_is_written_within_a_minute_of_lookups() {
    let (dir, clock, options) = remembering();
    let open = || RedbLedger::open(dir.path(), &options).unwrap();
    let ledger = open();
    assert_eq!(ask(&ledger, 0..100), 100);
    clock.advance(Duration::from_secs(59));
    assert_eq!(ask(&ledger, 100..101), 1);
    clock.advance(Duration::from_secs(1));
    let commits = ledger.commits();
    assert_eq!(ask(&ledger, 101..102), 1);
    assert!(ledger.commits() > commits);
    assert_eq!(ask(&ledger, 102..110), 8);
    // A crash: what was asked since is paid again.
    drop(ledger);
    let ledger = open();
    assert_eq!(ask(&ledger, 0..102), 0);
    assert_eq!(ask(&ledger, 102..110), 8);
}

/// A caller's memory is evicted all the time, and nothing is forgotten by that.
#[test]
fn a_small_memory_reads_callers_back() {
    let (dir, _clock, options) = remembering();
    let options = LedgerOptions { novelty_bytes: 1 << 14, ..options };
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    let ask = |caller: u64| {
        let id = *blake3::hash(&caller.to_le_bytes()).as_bytes().first_chunk().unwrap();
        let fingerprints: Vec<u32> = (0..40_u32).map(|i| i << 25 | caller as u32).collect();
        ledger.charge(&[of_burst(id, 1_000)], &fingerprints).unwrap().grant.granted
    };
    assert!((0..600).all(|caller| ask(caller) == 40));
    ledger.write_novelty().unwrap();
    for _ in 0..2 {
        assert!((0..600).all(|caller| ask(caller) == 0));
    }
}

/// A number that a caller did not pay for is free with a probability of at most 1 in 10,000, whatever the caller has,
/// and also once its fingerprints were cut by a reopening.
#[test]
fn the_rate_of_falsely_free_numbers_is_as_stated() {
    let (dir, clock, options) = remembering();
    let mut stream = blake3::Hasher::new_keyed(&[7; 32]).finalize_xof();
    let mut numbers = |count: usize| -> Vec<u32> {
        let mut bytes = vec![0; count * 4];
        stream.fill(&mut bytes);
        bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four) >> 1).collect()
    };
    let scopes = [scope(1, 70_000_000)];
    // Numbers arrive in five generations and in parts of all sizes, up to the bound.
    for part in [300, 3_000, 500, 20_000, 7, 30_000, 10_000] {
        let ledger = RedbLedger::open(dir.path(), &options).unwrap();
        ledger.charge(&scopes, &numbers(part)).unwrap();
        ledger.settle().unwrap();
        drop(ledger);
        clock.advance(DAY * 6);
        let ledger = RedbLedger::open(dir.path(), &options).unwrap();
        // What this pays for is not written, for the ledger is dropped as a crash would.
        let asked = numbers(1_000_000);
        let free = asked.len() as u64 - ledger.charge(&scopes, &asked).unwrap().grant.granted;
        // Of a million a hundred are allowed; three standard deviations more are chance.
        assert!(free <= 130, "{free} of 1,000,000 were free after {part} more");
        drop(ledger);
        clock.advance(DAY * 1);
    }
}

#[test]
fn a_missing_ledger_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    assert!(matches!(RedbLedger::open(dir.path(), &options(&clock)), Err(Error::LedgerMissing { .. })));
}
