//! Budgets under threads and kills: whatever dies when, nobody is answered more than a burst and its refill, and an
//! honest caller is answered again.
//!
//! The parent starts this same test binary as a child whose threads ask for new numbers and print what was answered,
//! and kills it. `UNLISTED_KILLS` asks for more rounds.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use unlisted::{Caller, Index, Options, Origin, PhoneHash, Purpose, Quota, QuotaPolicy};

use crate::common;

const CHILD_DIR: &str = "UNLISTED_SPEND_DIR";
const CHILD_ROUND: &str = "UNLISTED_SPEND_ROUND";
const THREADS: u64 = 8;
const CALLERS: u64 = 3;
const NETWORKS: u64 = 2;

fn kills() -> u64 {
    std::env::var("UNLISTED_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(25)
}

/// Quotas that refill within a round, so that every kill hits a ledger that grants.
fn quotas() -> [(&'static str, Quota); 3] {
    let quota = |burst, a_second: u64| Quota::per_hour(burst, a_second * 3_600).unwrap();
    [("caller", quota(2_000, 1_500)), ("network", quota(3_000, 2_000)), ("everyone", quota(5_000, 3_500))]
}

fn open(dir: &Path) -> Index {
    let [(_, caller), (_, network), (_, everyone)] = quotas();
    let policy = QuotaPolicy::of_caller(caller).with_origin("network", network).unwrap().with_everyone(everyone);
    Index::open(dir, Options::new(common::secret()).background(false).check_databases(false).quotas(policy))
        .unwrap()
}

fn caller(number: u64) -> Caller {
    let network = Origin::network([192, 0, 2 + (number % NETWORKS) as u8, 1].into());
    Caller::new(format!("spender-{number}")).via(network)
}

/// The child: not a test of its own, it does nothing unless the parent asks.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let round: u64 = std::env::var(CHILD_ROUND).unwrap().parse().unwrap();
    let index = open(Path::new(&dir));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let index = &index;
            scope.spawn(move || {
                for step in 0.. {
                    let who = (thread + step) % CALLERS;
                    let first = ((round * THREADS + thread) << 40) | (step * 64);
                    let numbers: Vec<PhoneHash> = (first..first + 1 + step * 7 % 40).map(common::number).collect();
                    let reply = index.lookup(&caller(who), Purpose::Search, &numbers).unwrap();
                    let answered = numbers.len() - reply.deferred().count();
                    // One write for a line, so that a kill never leaves half of one with a wrong number in it.
                    let line = format!("\nanswered {who} {answered};\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                    if answered == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
    });
}

/// Runs a child until it is killed; adds what it said to have answered.
fn run_child(dir: &Path, round: u64, life: Duration, answered: &mut BTreeMap<u64, u64>) {
    let mut child = common::child(module_path!())
        .env(CHILD_DIR, dir)
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let parse = |line: String| -> Option<(u64, u64)> {
            let (who, count) = line.strip_prefix("answered ")?.strip_suffix(';')?.split_once(' ')?;
            Some((who.parse().ok()?, count.parse().ok()?))
        };
        BufReader::new(stdout).lines().map_while(Result::ok).filter_map(parse).collect::<Vec<_>>()
    });
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    for (who, count) in reader.join().unwrap() {
        *answered.entry(who).or_default() += count;
    }
}

#[test]
fn threads_that_are_killed_again_and_again_get_no_more_than_their_budgets() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    drop(open(dir.path()));
    let mut answered = BTreeMap::new();
    for round in 0..kills() {
        let life = Duration::from_millis(20 + round * 37 % 180);
        run_child(dir.path(), round, life, &mut answered);
        // A wall clock counts in milliseconds, so that each opening may see one too many.
        let elapsed = start.elapsed() + Duration::from_millis(2 * (round + 2));
        let sum =
            |of: &dyn Fn(u64) -> bool| answered.iter().filter(|(who, _)| of(**who)).map(|(_, n)| n).sum::<u64>();
        let [(_, each), (_, network), (_, everyone)] = quotas();
        let most = |quota: Quota| quota.burst() + elapsed.as_nanos() as u64 / quota.interval_ns() + 1;
        for who in 0..CALLERS {
            assert!(sum(&|of| of == who) <= most(each), "round {round}: caller {who}: {answered:?}");
        }
        for which in 0..NETWORKS {
            assert!(
                sum(&|of| of % NETWORKS == which) <= most(network),
                "round {round}: network {which}: {answered:?}"
            );
        }
        assert!(sum(&|_| true) <= most(everyone), "round {round}: everyone: {answered:?}");
    }
    let total: u64 = answered.values().sum();
    assert!(total > 5_000, "only {total} answered: too few to show anything");
    println!("{} kills, {total} answered in {:?}", kills(), start.elapsed());

    // An honest caller that asks for the same numbers again after the time that it was told to wait is answered whole:
    // what was answered before is free, and the rest can be paid.
    let index = open(dir.path());
    let numbers: Vec<PhoneHash> = (0..1_000).map(|i| common::number(1 << 62 | i)).collect();
    let ask = || index.lookup(&caller(0), Purpose::Search, &numbers).unwrap();
    let first = ask();
    std::thread::sleep(first.retry_after().unwrap_or_default());
    let second = ask();
    assert_eq!((second.deferred().count(), second.retry_after()), (0, None), "after {:?}", first.retry_after());
    assert_eq!(first.charged() + second.charged(), 1_000);
}

/// Numbers of one caller, asked by threads at once: every distinct number is paid once at least, and the last unit is
/// spent once.
#[test]
fn threads_of_one_caller_share_one_budget_to_the_last_unit() {
    for burst in [1, 2, 10, 1_000, 5_000] {
        let dir = tempfile::tempdir().unwrap();
        let policy = QuotaPolicy::of_caller(Quota::per_hour(burst, 1).unwrap());
        let options = common::options(&common::clock()).quotas(policy).active_callers(64);
        let index = Index::open(dir.path(), options).unwrap();
        let answered: u64 = std::thread::scope(|scope| {
            let ask = |thread: u64| {
                let index = &index;
                scope.spawn(move || {
                    let mut answered = 0;
                    for step in 0..400 {
                        let first = (thread << 32) | (step * 8);
                        let numbers: Vec<PhoneHash> = (first..first + 1 + step % 4).map(common::number).collect();
                        let reply = index.lookup(&Caller::new("user"), Purpose::Search, &numbers).unwrap();
                        answered += numbers.len() as u64 - reply.deferred().count() as u64;
                        assert_eq!(reply.charged(), numbers.len() as u64 - reply.deferred().count() as u64);
                    }
                    answered
                })
            };
            let threads: Vec<_> = (0..8).map(ask).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(answered, burst.min(8 * 100 * 10));
    }
}
