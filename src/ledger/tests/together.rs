//! Charges that are answered together or not at all.

use super::*;

fn reopen(dir: &Path, clock: &Arc<ManualClock>) -> RedbLedger {
    let options = LedgerOptions { novelty_window: DAY, novelty_bytes: 64 << 20, ..options(clock) };
    RedbLedger::open(dir, &options).unwrap()
}

/// A ledger that remembers numbers for a day.
fn remembering() -> (tempfile::TempDir, Arc<ManualClock>, RedbLedger) {
    let (dir, clock, ledger) = fresh();
    drop(ledger);
    let ledger = reopen(dir.path(), &clock);
    (dir, clock, ledger)
}

/// Fingerprints that differ in their first bits, which are what the file keeps.
fn spread(i: u32) -> u32 {
    i.wrapping_mul(0x9e37_79b9) >> 1
}

#[test]
fn enough_new_numbers_are_charged_or_none() {
    let (_dir, _clock, ledger) = remembering();
    let scopes = [scope(1, 30)];
    let ask = |numbers: std::ops::Range<u32>, least| {
        let fingerprints: Vec<u32> = numbers.collect();
        let Verdict { grant, charged, deferred, withheld } =
            ledger.charge_together(&scopes, &fingerprints, least).unwrap();
        assert_eq!(charged.len() + deferred.len() + withheld.len(), fingerprints.len());
        (grant.granted, charged, deferred, withheld)
    };
    assert_eq!(ask(0..3, 4), (0, vec![], vec![], vec![0, 1, 2]));
    assert_eq!(ask(0..4, 4), (4, vec![0, 1, 2, 3], vec![], vec![]));
    // Three are known; the new ones are two, then four.
    assert_eq!(ask(1..6, 4).1, [0_u32; 0]);
    assert_eq!(ask(1..8, 4), (4, vec![3, 4, 5, 6], vec![], vec![0, 1, 2]));
    // 22 are left: the first 22 of 30 are paid, and then nothing is.
    assert_eq!(ask(100..130, 4).2, (22..30).collect::<Vec<u32>>());
    assert_eq!(ask(200..210, 4), (0, vec![], (0..10).collect(), vec![]));
    assert_eq!(ask(0..0, 4), (0, vec![], vec![], vec![]));
}

#[test]
fn a_budget_short_of_enough_is_not_touched() {
    let (_dir, _clock, ledger) = remembering();
    let scopes = [scope(1, 10), scope(2, 4)];
    let fingerprints: Vec<u32> = (0..6).collect();
    let verdict = ledger.charge_together(&scopes, &fingerprints, 5).unwrap();
    assert_eq!((verdict.grant.granted, verdict.grant.remaining), (0, 4));
    assert!(verdict.grant.retry_after.is_some());
    assert_eq!(ledger.charge_together(&scopes, &fingerprints, 4).unwrap().charged, [0, 1, 2, 3]);
}

#[test]
fn what_could_not_be_remembered_is_withheld() {
    let (_dir, _clock, ledger) = remembering();
    let scopes = [scope(1, 1_000_000)];
    let spread = |numbers: std::ops::Range<u32>| numbers.map(spread).collect::<Vec<u32>>();
    let full = crate::novelty::MAX_REMEMBERED as u32;
    ledger.charge(&scopes, &spread(0..full - 5)).unwrap();
    let verdict = ledger.charge_together(&scopes, &spread(full..full + 20), 4).unwrap();
    assert_eq!((verdict.grant.granted, verdict.charged.len(), verdict.withheld.len()), (5, 5, 15));
    let verdict = ledger.charge_together(&scopes, &spread(2 * full..2 * full + 20), 4).unwrap();
    assert_eq!((verdict.grant.granted, verdict.withheld.len()), (0, 20));
}

#[test]
fn what_somebody_paid_for_is_told_without_a_charge() {
    let (dir, clock, ledger) = remembering();
    let scopes = [scope(1, 10)];
    ledger.charge(&scopes, &[7, 8].map(spread)).unwrap();
    let before = ledger.state();
    let paid = |ledger: &RedbLedger, of: u8, numbers: &[u32]| {
        let fingerprints: Vec<u32> = numbers.iter().map(|number| spread(*number)).collect();
        ledger.has_paid(scope(of, 10).id, &fingerprints).unwrap()
    };
    assert!(paid(&ledger, 1, &[7]) && paid(&ledger, 1, &[1, 8]));
    assert!(!paid(&ledger, 1, &[1]) && !paid(&ledger, 2, &[7]) && !paid(&ledger, 1, &[]));
    assert_eq!(ledger.state().commits, before.commits);
    ledger.settle().unwrap();
    drop(ledger);
    let ledger = reopen(dir.path(), &clock);
    assert!(paid(&ledger, 1, &[7]) && !paid(&ledger, 1, &[1]));
    assert_eq!(ledger.charge(&scopes, &[]).unwrap().grant.remaining, 8);
}
