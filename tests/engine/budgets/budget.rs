//! Budgets through the public interface: prefixes, scopes, restarts, clocks, and ledgers that are not the right one.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use unlisted::{
    AccountId, Caller, Error, Index, ManualClock, NumberState, OptIns, Origin, PhoneHash, Purpose, Quota,
    QuotaPolicy,
};

use crate::common;

const HOUR: Duration = Duration::from_secs(3_600);

fn quota(text: &str) -> Quota {
    text.parse().unwrap()
}

fn open(dir: &Path, clock: &Arc<ManualClock>, policy: QuotaPolicy) -> Index {
    Index::open(dir, common::options(clock).quotas(policy)).unwrap()
}

fn numbers(range: std::ops::Range<u64>) -> Vec<PhoneHash> {
    range.map(common::number).collect()
}

#[test]
fn a_short_budget_answers_a_prefix_and_defers_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let index = open(dir.path(), &clock, QuotaPolicy::of_caller(quota("10/60")));
    index
        .update(|batch| {
            (0..40).try_for_each(|i| batch.put(common::number(i), AccountId::from(i), OptIns::ALL_PURPOSES, 1))
        })
        .unwrap();
    // Positions 0-5, then duplicates of them, then new numbers.
    let batch: Vec<PhoneHash> = [numbers(0..6), numbers(0..6), numbers(6..20)].concat();
    let caller = Caller::new("user");
    let reply = index.lookup(&caller, Purpose::Search, &batch).unwrap();
    assert_eq!((reply.charged(), reply.remaining()), (10, 0));
    // 6 distinct, their 6 duplicates, and 4 more are answered.
    assert_eq!(reply.deferred().collect::<Vec<_>>(), (16..26).collect::<Vec<_>>());
    assert_eq!(reply.matches().map(|m| m.position).collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    assert_eq!(reply.state(15), Some(NumberState::Answered));
    assert_eq!(reply.state(16), Some(NumberState::Deferred));
    assert_eq!(reply.state(26), None);
    // Ten more take ten minutes at one a minute.
    assert_eq!(reply.retry_after(), Some(Duration::from_secs(600)));
    clock.advance(Duration::from_secs(600));
    let reply = index.lookup(&caller, Purpose::Payments, &numbers(10..20)).unwrap();
    assert_eq!((reply.matches().len(), reply.retry_after()), (10, None));
}

#[test]
fn every_scope_pays_and_the_shortest_decides() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let policy = QuotaPolicy::of_caller(quota("100/1"))
        .with_origin("network", quota("150/1"))
        .unwrap()
        .with_origin("device", quota("40/1"))
        .unwrap()
        .with_everyone(quota("260/1"));
    let index = open(dir.path(), &clock, policy);
    let network = |last: u8| Origin::network(std::net::Ipv4Addr::new(198, 51, 100, last).into());
    let charged = |caller: &Caller, first: u64| {
        index.lookup(caller, Purpose::Search, &numbers(first..first + 100)).unwrap().charged()
    };
    assert_eq!(charged(&Caller::new("a").via(network(1)), 0), 100);
    // The same network through another address: 50 of its 150 are left.
    assert_eq!(charged(&Caller::new("b").via(network(2)), 100), 50);
    // A device has 40; of the caller's 100 the other 60 stay.
    let device = Origin::named("device", "d").unwrap();
    assert_eq!(charged(&Caller::new("c").via(device.clone()), 200), 40);
    assert_eq!(charged(&Caller::new("c"), 300), 60);
    // Everyone together had 260, of which 250 are gone; a kind without a quota does not limit.
    assert_eq!(charged(&Caller::new("d").via(Origin::named("cohort", "x").unwrap()), 400), 10);
    assert_eq!(charged(&Caller::new("e"), 500), 0);
}

#[test]
fn purposes_share_one_budget() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path(), &common::clock(), QuotaPolicy::of_caller(quota("12/1")));
    let caller = Caller::new("hopper");
    let charged: Vec<u64> = Purpose::ALL
        .into_iter()
        .enumerate()
        .map(|(i, purpose)| {
            let first = i as u64 * 3;
            index.lookup(&caller, purpose, &numbers(first..first + 3)).unwrap().charged()
        })
        .collect();
    assert_eq!(charged, [3, 3, 3, 3, 0, 0]);
}

#[test]
fn restarts_and_clock_steps_give_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let policy = || QuotaPolicy::of_caller(quota("100/10"));
    let caller = Caller::new("user");
    let remaining = |index: &Index| index.lookup(&caller, Purpose::Search, &[]).unwrap().remaining();
    let index = open(dir.path(), &clock, policy());
    index.lookup(&caller, Purpose::Search, &numbers(0..100)).unwrap();
    assert_eq!(remaining(&index), 0);
    // The wall clock steps inside a run: nothing.
    clock.set_wall_ms(common::START_MS + 1_000_000_000);
    assert_eq!(remaining(&index), 0);
    drop(index);
    // It steps back between runs: nothing.
    clock.set_wall_ms(common::START_MS - 1_000_000_000);
    let index = open(dir.path(), &clock, policy());
    assert_eq!(remaining(&index), 0);
    drop(index);
    // It steps a century forward between runs: one allowed jump, a day of 10 an hour, which a burst of 100 caps.
    clock.set_wall_ms(common::START_MS + 3_155_760_000_000);
    let index = Index::open(dir.path(), common::options(&clock).max_clock_jump(3 * HOUR)).unwrap();
    assert_eq!(remaining(&index), 30);
    // A policy given at a later open does not replace the ledger's.
    assert_eq!(index.quotas(), policy());
    clock.advance(HOUR);
    assert_eq!(remaining(&index), 40);
}

#[test]
fn a_batch_that_can_never_fit_is_an_error_and_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let policy = QuotaPolicy::of_caller(quota("100/10"));
    let index = Index::open(dir.path(), common::options(&clock).quotas(policy).max_batch(50)).unwrap();
    let caller = Caller::new("user");
    let error = index.lookup(&caller, Purpose::Search, &numbers(0..51)).unwrap_err();
    assert!(matches!(error, Error::BatchTooLarge { len: 51, limit: 50 }));
    let long = Caller::new("x".repeat(257));
    assert!(matches!(index.lookup(&long, Purpose::Search, &[]), Err(Error::CallerIdTooLong { len: 257 })));
    let many = (0..9).fold(Caller::new("m"), |c, i| c.via(Origin::named("device", format!("{i}")).unwrap()));
    assert!(matches!(index.lookup(&many, Purpose::Search, &[]), Err(Error::TooManyOrigins { found: 9 })));
    assert_eq!(index.lookup(&caller, Purpose::Search, &[]).unwrap().remaining(), 100);
}

#[test]
fn two_lookups_cannot_spend_the_same_unit() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path(), &common::clock(), QuotaPolicy::of_caller(quota("100/1")));
    let charged: u64 = std::thread::scope(|scope| {
        let ask = |thread: u64| {
            let index = &index;
            scope.spawn(move || {
                let first = 1_000 * thread;
                let ask =
                    |i| index.lookup(&Caller::new("user"), Purpose::Search, &numbers(first + i..first + i + 3));
                (0..30).map(|i| ask(i * 3).unwrap().charged()).sum::<u64>()
            })
        };
        let threads: Vec<_> = (0..4).map(ask).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(charged, 100);
}

/// A spent index, closed, and copies of both its files from before.
fn spent() -> (tempfile::TempDir, Arc<ManualClock>, Vec<u8>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    drop(common::open(dir.path(), &clock));
    let old_ledger = fs::read(dir.path().join("ledger.redb")).unwrap();
    let old_index = fs::read(dir.path().join("index.redb")).unwrap();
    let index = common::open(dir.path(), &clock);
    index.update(|batch| batch.put(common::number(1), AccountId::from(1), OptIns::empty(), 1)).unwrap();
    index.lookup(&Caller::new("user"), Purpose::Search, &numbers(0..10)).unwrap();
    drop(index);
    (dir, clock, old_ledger, old_index)
}

fn reopen(dir: &Path, clock: &Arc<ManualClock>) -> Result<Index, Error> {
    Index::open(dir, common::options(clock))
}

#[test]
fn a_ledger_that_is_not_the_newest_of_this_index_is_never_taken_for_a_fresh_one() {
    let (dir, clock, old_ledger, old_index) = spent();
    let (ledger_path, index_path) = (dir.path().join("ledger.redb"), dir.path().join("index.redb"));
    let (ledger, index) = (fs::read(&ledger_path).unwrap(), fs::read(&index_path).unwrap());

    fs::remove_file(&ledger_path).unwrap();
    assert!(matches!(reopen(dir.path(), &clock), Err(Error::LedgerMissing { .. })));
    assert!(!ledger_path.exists(), "no fresh ledger was made");

    fs::write(&ledger_path, &old_ledger).unwrap();
    assert!(matches!(reopen(dir.path(), &clock), Err(Error::LedgerOlder { .. })));

    let other = tempfile::tempdir().unwrap();
    drop(common::open(other.path(), &clock));
    fs::copy(other.path().join("ledger.redb"), &ledger_path).unwrap();
    assert!(matches!(reopen(dir.path(), &clock), Err(Error::LedgerForeign { .. })));

    fs::write(&ledger_path, b"").unwrap();
    assert!(matches!(reopen(dir.path(), &clock), Err(Error::ForeignFormat { .. })));

    fs::write(&ledger_path, &ledger).unwrap();
    fs::write(&index_path, &old_index).unwrap();
    assert!(matches!(reopen(dir.path(), &clock), Err(Error::IndexOlder { .. })));

    // An index without its file but with a used ledger is a loss, not a new index.
    fs::remove_file(&index_path).unwrap();
    assert!(matches!(reopen(dir.path(), &clock), Err(Error::IndexOlder { .. })));

    fs::write(&index_path, &index).unwrap();
    let index = reopen(dir.path(), &clock).unwrap();
    let left = index.lookup(&Caller::new("user"), Purpose::Search, &[]).unwrap().remaining();
    assert_eq!(left, common::wide_quotas().caller().burst() - 10);
}

#[test]
fn a_half_written_creation_is_finished_by_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("index.redb.tmp"), b"half written").unwrap();
    drop(common::open(dir.path(), &common::clock()));
    assert!(!dir.path().join("index.redb.tmp").exists());
}
