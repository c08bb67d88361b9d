//! A ledger that is written anew gives nothing back and takes nothing.

use super::*;
use crate::words::Suspension;

const MINUTE: Duration = Duration::from_secs(60);

/// What is left when the process ends without a close: the file alone.
fn after_a_crash(dir: &Path, clock: &Arc<ManualClock>, ledger: RedbLedger) -> RedbLedger {
    drop(ledger);
    open(dir, clock)
}

#[test]
fn buckets_that_owe_nothing_go_and_others_stay() {
    let (dir, clock, ledger) = fresh();
    let (paid, owing, suspended) = (scope(1, 10), scope(2, 100), scope(3, 10));
    for scope in [paid, owing, suspended] {
        assert_eq!(granted(&ledger, &[scope], 10), 10);
    }
    ledger.suspend(suspended, Suspension { since_ms: 0, reason: "a crawl".to_owned() }).unwrap();
    assert_eq!(granted(&ledger, &[owing], 90), 90);
    assert_eq!(ledger.vacuum().unwrap(), 0);
    clock.advance(11 * MINUTE);
    assert_eq!(ledger.vacuum().unwrap(), 1);
    assert!(ledger.held_of(paid.id).unwrap().bucket_for_ms.is_none());
    // The buckets in memory go on as they were.
    assert!((10..=11).contains(&granted(&ledger, &[owing], 100)));
    assert_eq!(granted(&ledger, &[paid], 100), 10);
    let ledger = after_a_crash(dir.path(), &clock, ledger);
    assert_eq!((granted(&ledger, &[paid], 1), granted(&ledger, &[owing], 1)), (0, 0));
    assert!(matches!(ledger.charge(&[suspended], &[1]), Err(Error::Suspended { .. })));
}

/// The row says when it was paid up under the quotas of that time; a slower refill since makes that later.
#[test]
fn a_debt_that_a_new_policy_stretched_is_no_paid_one() {
    let (dir, clock, ledger) = fresh();
    assert_eq!(granted(&ledger, &[scope(1, 100)], 100), 100);
    clock.advance(50 * MINUTE);
    ledger.set_policy(policy().with_origin("b100", Quota::per_hour(100, 30).unwrap()).unwrap()).unwrap();
    clock.advance(60 * MINUTE);
    assert_eq!(ledger.vacuum().unwrap(), 0);
    let ledger = after_a_crash(dir.path(), &clock, ledger);
    let left = granted(&ledger, &[scope(1, 100)], 100);
    assert!((79..=80).contains(&left), "{left}");
}

/// After a restore whoever has no row owes everything, so a row of somebody who was forgiven must stay.
#[test]
fn who_was_forgiven_after_a_restore_is_not_in_debt_again() {
    let (dir, clock, ledger) = fresh();
    clock.advance(MINUTE);
    ledger.exhaust().unwrap();
    assert_eq!(granted(&ledger, &[scope(1, 100)], 100), 0);
    ledger.forgive(scope(1, 100), 100).unwrap();
    clock.advance(MINUTE);
    assert_eq!(ledger.vacuum().unwrap(), 0);
    let ledger = after_a_crash(dir.path(), &clock, ledger);
    assert!(granted(&ledger, &[scope(1, 100)], 100) >= 99);
    assert!(granted(&ledger, &[scope(2, 100)], 100) <= 1);
}
