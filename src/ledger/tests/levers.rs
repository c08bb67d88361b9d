//! What an operator does, through crashes, evictions and reopenings.

use super::*;
use crate::words::{QuotaOverride, Suspension};

const CALLER: Scope<'static> = Scope { id: [9; 16], kind: ScopeKind::Caller };
const NETWORK: Scope<'static> = Scope { id: [8; 16], kind: ScopeKind::Origin(crate::words::Origin::NETWORK) };

fn suspension() -> Suspension {
    Suspension { since_ms: 5, reason: "shuffled lists".to_owned() }
}

fn of_caller(burst: u64, refill: u64) -> QuotaPolicy {
    QuotaPolicy::of_caller(Quota::per_hour(burst, refill).unwrap())
}

fn remaining(ledger: &RedbLedger, scope: Scope<'_>) -> u64 {
    ledger.budget(&[scope]).unwrap()[0].remaining
}

/// The commit of the first charge is delayed until that of the second has ended.
#[test]
fn commits_in_the_wrong_order_take_nothing_back() {
    let (dir, clock, ledger) = fresh();
    let scopes = [scope(1, 16_000)];
    let spend = |want| {
        let mut loaded = super::super::buckets::Loaded::default();
        loop {
            use super::super::buckets::Attempt;
            match ledger.buckets.charge(&scopes, 0, want, std::mem::take(&mut loaded)) {
                Attempt::Missing(missing) => loaded = ledger.load(&scopes, missing).unwrap(),
                Attempt::Decided(grant, advances) => return (grant.granted, advances),
                Attempt::Stale | Attempt::Suspended(_) => unreachable!(),
            }
        }
    };
    let (first, second) = (spend(100), spend(900));
    assert_eq!((first.0, second.0), (100, 900));
    ledger.advance(second.1).unwrap();
    ledger.advance(first.1).unwrap();
    // A crash.
    drop(ledger);
    let left = remaining(&open(dir.path(), &clock), scopes[0]);
    assert!(left <= 15_000, "{left} left of 16,000 after 1,000 were spent");
}

#[test]
fn a_suspension_is_seen_by_the_next_charge_through_evictions_and_reopenings() {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000));
    let small = LedgerOptions { active_buckets: 64, ..options(&clock) };
    let dir = create(&small);
    let open = || RedbLedger::open(dir.path(), &small).unwrap();
    let ledger = open();
    let refused = |ledger: &RedbLedger, scopes: &[Scope<'_>]| match ledger.charge(scopes, &[1, 2]) {
        Err(Error::Suspended { scope }) => Some(scope),
        other => other.map(|_| None).unwrap(),
    };
    let crowd = |ledger: &RedbLedger| {
        for i in 0..500_u64 {
            let id = *blake3::hash(&i.to_le_bytes()).as_bytes().first_chunk().unwrap();
            granted(ledger, &[Scope { id, kind: ScopeKind::Caller }], 1);
        }
    };
    assert_eq!(granted(&ledger, &[CALLER], 10), 10);
    ledger.suspend(CALLER, suspension()).unwrap();
    assert_eq!(refused(&ledger, &[CALLER]).as_deref(), Some("caller"));
    // One that never asked, and a kind of origin that has no quota.
    let device = Scope { id: [7; 16], kind: ScopeKind::Origin("device") };
    ledger.suspend(device, suspension()).unwrap();
    let other = Scope { id: [6; 16], kind: ScopeKind::Caller };
    assert_eq!(refused(&ledger, &[other, device]).as_deref(), Some("device"));
    assert_eq!(refused(&ledger, &[other]), None);
    crowd(&ledger);
    assert_eq!(refused(&ledger, &[CALLER]).as_deref(), Some("caller"));
    drop(ledger);
    let ledger = open();
    assert_eq!(refused(&ledger, &[other, device]).as_deref(), Some("device"));
    let listed = ledger.standings(None, 10).unwrap();
    let listed: Vec<_> = listed.iter().map(|of| (of.id[0], of.scope.as_str(), of.suspension.clone())).collect();
    assert_eq!(listed, [(7, "device", Some(suspension())), (9, "caller", Some(suspension()))]);
    assert!(ledger.reinstate(CALLER).unwrap());
    assert!(!ledger.reinstate(CALLER).unwrap());
    crowd(&ledger);
    assert_eq!(refused(&ledger, &[CALLER]), None);
    // What was spent before stays spent; a refused charge cost nothing.
    let left = remaining(&ledger, CALLER);
    assert!((50_000 - 14..=50_000 - 12).contains(&left), "{left}: an eviction costs a lease of a second");
    assert_eq!(ledger.standings(None, 10).unwrap().len(), 1);
}

#[test]
fn another_policy_keeps_every_debt() {
    let (dir, clock, ledger) = fresh();
    ledger.set_policy(of_caller(100, 60)).unwrap();
    assert_eq!(granted(&ledger, &[CALLER], 40), 40);
    let unseen = Scope { id: [3; 16], kind: ScopeKind::Caller };
    for (burst, refill) in [(200, 1), (50, 3_600), (100, 7)] {
        ledger.set_policy(of_caller(burst, refill)).unwrap();
        assert_eq!(remaining(&ledger, CALLER), burst - 40);
        assert_eq!(remaining(&ledger, unseen), burst);
    }
    // From the file, the same, whether or not the bucket was touched since.
    ledger.settle().unwrap();
    drop(ledger);
    let ledger = open(dir.path(), &clock);
    assert_eq!(remaining(&ledger, CALLER), 60);
    assert_eq!(*ledger.policy(), of_caller(100, 7));
    drop(ledger);
    let ledger = open(dir.path(), &clock);
    ledger.set_policy(of_caller(45, 60)).unwrap();
    assert_eq!(granted(&ledger, &[CALLER], 10), 5);
    // Less than what is owed: nothing is left, and it comes back one by one.
    ledger.set_policy(of_caller(20, 60)).unwrap();
    assert_eq!(granted(&ledger, &[CALLER], 10), 0);
    clock.advance(Duration::from_secs(24 * 60));
    assert_eq!(remaining(&ledger, CALLER), 0);
    clock.advance(Duration::from_secs(3 * 60));
    assert_eq!(remaining(&ledger, CALLER), 2);
}

#[test]
fn the_network_keeps_its_debt_while_it_has_no_quota() {
    let (_dir, _clock, ledger) = fresh();
    let both = [CALLER, NETWORK];
    assert_eq!(granted(&ledger, &both, 30_000), 30_000);
    ledger.set_policy(of_caller(50_000, 6)).unwrap();
    assert_eq!(granted(&ledger, &both, 5), 5);
    let network = Quota::per_hour(200_000, 2_000).unwrap();
    ledger.set_policy(of_caller(50_000, 6).with_origin("network", network).unwrap()).unwrap();
    assert_eq!(remaining(&ledger, NETWORK), 170_000);
}

#[test]
fn a_quota_of_ones_own_keeps_the_debt_too_and_outlives_policies() {
    let (dir, clock, ledger) = fresh();
    ledger.set_policy(of_caller(100, 60)).unwrap();
    assert_eq!(granted(&ledger, &[CALLER], 40), 40);
    let fixed = |burst| QuotaOverride::fixed(Quota::per_hour(burst, 1).unwrap());
    ledger.set_override(CALLER, Some((fixed(1_000), Duration::ZERO))).unwrap();
    assert_eq!(remaining(&ledger, CALLER), 960);
    ledger.set_policy(of_caller(10, 10_000)).unwrap();
    assert_eq!(remaining(&ledger, CALLER), 960);
    ledger.settle().unwrap();
    drop(ledger);
    let ledger = open(dir.path(), &clock);
    assert_eq!(remaining(&ledger, CALLER), 960);
    assert!(ledger.budget(&[CALLER]).unwrap()[0].is_override);
    ledger.set_override(CALLER, None).unwrap();
    ledger.set_policy(of_caller(100, 60)).unwrap();
    assert_eq!(remaining(&ledger, CALLER), 60);
    // It grows with ledger time, from the age that it was given.
    let growing = QuotaOverride::growing(10, Quota::per_hour(110, 60).unwrap(), DAY * 10).unwrap();
    let young = Scope { id: [5; 16], kind: ScopeKind::Caller };
    ledger.set_override(young, Some((growing, DAY))).unwrap();
    assert_eq!(remaining(&ledger, young), 20);
    clock.advance(DAY * 4);
    assert_eq!((remaining(&ledger, young), granted(&ledger, &[young], 1_000)), (60, 60));
    clock.advance(DAY * 20);
    assert_eq!(remaining(&ledger, young), 110);
}

#[test]
fn what_is_forgiven_is_durable_and_never_more_than_a_burst() {
    let (dir, clock, ledger) = fresh();
    ledger.set_policy(of_caller(1_600, 60)).unwrap();
    for _ in 0..10 {
        assert_eq!(granted(&ledger, &[CALLER], 100), 100);
    }
    ledger.forgive(CALLER, 300).unwrap();
    assert_eq!(remaining(&ledger, CALLER), 900);
    // A crash forfeits a lease of a sixteenth of the burst at most, not the gift.
    drop(ledger);
    let ledger = open(dir.path(), &clock);
    assert!((800..=900).contains(&remaining(&ledger, CALLER)));
    ledger.forgive(CALLER, u64::MAX).unwrap();
    assert_eq!(remaining(&ledger, CALLER), 1_600);
    assert_eq!(granted(&ledger, &[CALLER], 5_000), 1_600);
}

#[test]
fn after_a_restore_nothing_is_left_of_any_budget() {
    let (dir, clock, ledger) = fresh();
    assert_eq!(granted(&ledger, &[CALLER, NETWORK], 10), 10);
    clock.advance(DAY);
    ledger.exhaust().unwrap();
    let unseen = Scope { id: [3; 16], kind: ScopeKind::Caller };
    let check = |ledger: RedbLedger| {
        assert_eq!(remaining(&ledger, CALLER), 0);
        assert_eq!(remaining(&ledger, unseen), 0);
        assert_eq!(granted(&ledger, &[unseen, NETWORK], 10), 0);
    };
    check(ledger);
    check(open(dir.path(), &clock));
    let ledger = open(dir.path(), &clock);
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(granted(&ledger, &[unseen], 10), 6);
}

/// Threads charge while the policy changes and gifts are made: nothing is spent twice.
#[test]
fn changes_under_load_lose_nothing() {
    let (dir, clock, ledger) = fresh();
    const BURST: u64 = 20_000;
    ledger.set_policy(of_caller(BURST, 1)).unwrap();
    let answered: u64 = std::thread::scope(|threads| {
        let spend = |_| threads.spawn(|| (0..2_000).map(|i| granted(&ledger, &[CALLER], 1 + i % 5)).sum::<u64>());
        let spenders: Vec<_> = (0..4).map(spend).collect();
        for i in 0..50 {
            match i % 3 {
                0 => drop(ledger.set_policy(of_caller(BURST, 1 + i % 7)).unwrap()),
                1 => ledger.forgive(CALLER, 10).unwrap(),
                _ => assert!(!ledger.reinstate(CALLER).unwrap()),
            }
        }
        spenders.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let gifts = 17 * 10;
    assert!(answered <= BURST + gifts, "{answered}");
    // A crash: what the file says is no less than what was answered.
    drop(ledger);
    let left = remaining(&open(dir.path(), &clock), CALLER);
    assert!(left + answered <= BURST + gifts, "{left} left of {BURST} after {answered}");
}
