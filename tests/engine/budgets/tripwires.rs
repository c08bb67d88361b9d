//! Tripwires: to a caller they are numbers that nobody has, to the host they are evidence, and whoever is given such a number
//! wins over them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use unlisted::{
    AccountId, Caller, Error, Event, Index, Listing, ManualClock, OptIns, Origin, PhoneHash, Purpose, Quota,
    TopBy, TopQuery, TripwireAction, TripwirePolicy, Version,
};

use crate::common;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Found for every purpose, by anybody.
fn open_to_all() -> OptIns {
    Purpose::ALL.map(OptIns::from).into_iter().collect()
}

fn network() -> Origin {
    Origin::network("198.51.100.7".parse().unwrap())
}

fn numbers(range: std::ops::Range<u64>) -> Vec<PhoneHash> {
    range.map(common::number).collect()
}

/// Tripwires and misses of a caller.
fn met(index: &Index, caller: &Caller) -> (u32, u64) {
    let query = TopQuery::new(TopBy::Charged).caller(caller).window(20 * DAY);
    let rows = index.inspector().top_callers(&query).unwrap().rows;
    rows.first().map_or((0, 0), |row| (row.tripwires, row.missed))
}

fn open_with(dir: &Path, clock: &Arc<ManualClock>, policy: TripwirePolicy) -> (Index, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let to = told.clone();
    let options = common::options(clock)
        .tripwires(policy)
        .on_event(move |event: &Event<'_>| to.lock().unwrap().push(event.to_string()));
    (Index::open(dir, options).unwrap(), told)
}

fn list(index: &Index, number: u64, account: AccountId, opt_ins: OptIns) {
    index.update(|batch| batch.put(common::number(number), account, opt_ins, 1)).unwrap();
}

#[test]
fn to_a_caller_a_tripwire_is_an_absent_number() {
    // Accounts that are numbers make narrow slots, others wide ones.
    for account in [AccountId::from(7), AccountId::from_bytes([0x77; 16])] {
        for (purpose, fold) in Purpose::ALL.into_iter().flat_map(|purpose| [(purpose, false), (purpose, true)]) {
            let dir = tempfile::tempdir().unwrap();
            let index = common::open(dir.path(), &common::clock());
            let put = |i| (common::number(i), account);
            index
                .update(|batch| (0..50).map(put).try_for_each(|(hash, of)| batch.put(hash, of, open_to_all(), 1)))
                .unwrap();
            assert_eq!(index.set_tripwires(numbers(100..110)).unwrap(), 10);
            if fold {
                index.fold().unwrap();
            }
            let ask = |who: &str, hashes: &[PhoneHash]| {
                let caller = Caller::new(who).via(network());
                let reply = index.lookup(&caller, purpose, hashes).unwrap();
                (
                    format!("{reply:?}"),
                    index.budget(&caller).unwrap().remaining,
                    index.stats().unwrap().disclosures,
                )
            };
            let absent = ask("a", &numbers(200..210));
            assert_eq!(ask("b", &numbers(100..110)), absent, "{purpose}, folded: {fold}");
            let mixed = |who: &str, nobodys: u64| {
                let hashes = [3, nobodys, 4, nobodys, nobodys + 1, 5].map(common::number);
                index.lookup(&Caller::new(who), purpose, &hashes).map(|reply| format!("{reply:?}")).unwrap()
            };
            assert_eq!(mixed("c", 100), mixed("d", 200));
            // The comparison can fail.
            assert_ne!(ask("e", &numbers(0..10)), absent);
            assert_eq!(met(&index, &Caller::new("b")), (10, 10));
            assert_eq!((met(&index, &Caller::new("a")), met(&index, &Caller::new("c"))), ((0, 10), (2, 2)));
            assert!(index.inspector().disclosed_to(&Caller::new("b")).unwrap().is_empty());
        }
    }
}

#[test]
fn a_tripwire_counts_once_for_each_caller_and_the_count_outlives_hours_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let index = common::open(dir.path(), &clock);
    index.set_tripwires(numbers(0..10)).unwrap();
    let ask = |index: &Index, who: &str, range: std::ops::Range<u64>| {
        index.lookup(&Caller::new(who).via(network()), Purpose::Search, &numbers(range)).unwrap();
    };
    ask(&index, "a", 0..2);
    ask(&index, "a", 0..2); // known: free, and counted already
    ask(&index, "b", 0..1);
    assert_eq!((met(&index, &Caller::new("a")), met(&index, &Caller::new("b"))), ((2, 2), (1, 1)));
    clock.advance(2 * HOUR);
    ask(&index, "a", 0..3);
    drop(index);
    let index = common::open(dir.path(), &clock);
    ask(&index, "a", 3..5);
    assert_eq!(met(&index, &Caller::new("a")), (5, 5));
    let networks = index.inspector().top_callers(&TopQuery::new(TopBy::Charged).origins("network")).unwrap();
    assert_eq!(networks.rows[0].tripwires, 6);
    assert_eq!(index.stats().unwrap().tripwires, 10);
    index.verify(|_, _| ()).unwrap();
}

#[test]
fn a_number_that_is_listed_hidden_or_was_lately_is_refused_and_nothing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let options = common::options(&clock).removal_retention(10 * DAY);
    let index = Index::open(dir.path(), options).unwrap();
    list(&index, 1, AccountId::from(1), open_to_all());
    list(&index, 2, AccountId::from(2), OptIns::empty());
    list(&index, 3, AccountId::from(3), open_to_all());
    index.update(|batch| batch.remove(common::number(3), AccountId::from(3), 2)).unwrap();
    for fold in [false, true] {
        if fold {
            index.fold().unwrap();
        }
        for real in [1, 2, 3] {
            let error = index.set_tripwires([10, real, 11].map(common::number)).unwrap_err();
            assert!(matches!(error, Error::TripwireListed));
            assert!(!format!("{error} {error:?}").contains(|c: char| c.is_ascii_digit()));
            assert_eq!(index.stats().unwrap().tripwires, 0);
        }
    }
    index.lookup(&Caller::new("a"), Purpose::Search, &numbers(10..12)).unwrap();
    assert_eq!(met(&index, &Caller::new("a")), (0, 2));
    // Once the removal is forgotten nobody has the number.
    clock.advance(12 * DAY);
    index.fold().unwrap();
    assert_eq!(index.set_tripwires([common::number(3)]).unwrap(), 1);
}

/// Lists a number in one of the ways in which a number can be listed.
fn assign(index: &Index, way: u8, number: u64) {
    let (hash, account) = (common::number(number), AccountId::from(9));
    match way {
        0 => list(index, number, account, open_to_all()),
        // Hidden: the probe of a lookup finds the tripwire alone.
        1 => list(index, number, account, OptIns::empty()),
        _ => {
            let row = Listing { hash, account, opt_ins: OptIns::CONTACT_SYNC, version: Version::new(1).unwrap() };
            index.import([row]).map(drop).unwrap();
        }
    }
}

#[test]
fn a_number_that_is_assigned_later_is_its_owners() {
    for (way, fold_before, fold_after) in [
        (0, false, false),
        (0, true, true),
        (1, false, true),
        (1, true, false),
        (2, false, false),
        (2, true, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let clock = common::clock();
        let options = common::options(&clock).removal_retention(10 * DAY).novelty_window(Duration::ZERO);
        let index = Index::open(dir.path(), options).unwrap();
        index.set_tripwires(numbers(0..3)).unwrap();
        if fold_before {
            index.fold().unwrap();
        }
        assign(&index, way, 1);
        if fold_after {
            index.fold().unwrap();
        }
        let caller = Caller::new("honest");
        let ask = || {
            let reply = index.lookup(&caller, Purpose::ContactSync, &numbers(1..2)).unwrap();
            reply.matches().map(|found| found.account).collect::<Vec<_>>()
        };
        assert_eq!(ask(), if way == 1 { vec![] } else { vec![AccountId::from(9)] });
        assert_eq!(met(&index, &caller).0, 0, "way {way}, folded: {fold_before} {fold_after}");
        // When he gives it back it is in the address books of his friends, and no tripwire again.
        index.update(|batch| batch.remove(common::number(1), AccountId::from(9), 2)).unwrap();
        assert!(ask().is_empty());
        index.fold().unwrap();
        clock.advance(12 * DAY);
        index.fold().unwrap();
        assert!(ask().is_empty());
        assert_eq!((met(&index, &caller).0, index.stats().unwrap().tripwires), (0, 2));
        // The others are as they were.
        index.lookup(&Caller::new("other"), Purpose::ContactSync, &numbers(0..3)).unwrap();
        assert_eq!(met(&index, &Caller::new("other")).0, 2);
        index.verify(|_, _| ()).unwrap();
    }
}

#[test]
fn the_reserved_account_is_refused_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let index = common::open(dir.path(), &common::clock());
    let (hash, reserved) = (common::number(1), AccountId::RESERVED);
    assert_eq!(reserved, AccountId::from(u64::MAX));
    index.set_tripwires([hash]).unwrap();
    let row = Listing { hash, account: reserved, opt_ins: open_to_all(), version: Version::MAX };
    let refused = [
        index.update(|batch| batch.put(hash, reserved, open_to_all(), 9)).map(drop),
        index.update(|batch| batch.remove(hash, reserved, 9)).map(drop),
        index.set_opt_ins(hash, reserved, OptIns::empty(), 9).map(drop),
        index.import([row]).map(drop),
        index.erase_account(reserved).map(drop),
    ];
    for outcome in refused {
        assert!(matches!(outcome, Err(Error::ReservedAccount)));
    }
    assert_eq!(index.stats().unwrap().tripwires, 1);
}

#[test]
fn tripwires_are_set_and_removed_by_thousands_and_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let index = common::open(dir.path(), &clock);
    list(&index, 50_000, AccountId::from(1), open_to_all());
    assert_eq!(index.set_tripwires(numbers(0..10_000).into_iter().chain(numbers(0..10))).unwrap(), 10_000);
    assert_eq!(index.set_tripwires(numbers(9_990..10_010)).unwrap(), 10);
    index.fold().unwrap();
    assert_eq!(
        index.remove_tripwires(numbers(0..10_005).into_iter().chain(numbers(50_000..50_001))).unwrap(),
        10_005
    );
    assert_eq!(index.set_tripwires(numbers(0..3)).unwrap(), 3);
    drop(index);
    let index = common::open(dir.path(), &clock);
    let stats = index.stats().unwrap();
    assert_eq!((stats.tripwires, stats.listings, stats.opted_in), (8, 1, 1));
    for folded in [false, true] {
        if folded {
            index.fold().unwrap();
        }
        let caller = Caller::new(if folded { "a" } else { "b" });
        for some in numbers(0..10_020).chunks(10_000) {
            index.lookup(&caller, Purpose::Search, some).unwrap();
        }
        assert_eq!(met(&index, &caller).0, 8);
    }
    assert_eq!(index.remove_tripwires(numbers(0..20_000)).unwrap(), 8);
    assert_eq!(index.remove_tripwires(numbers(0..20_000)).unwrap(), 0);
    assert_eq!(index.stats().unwrap().tripwires, 0);
    assert_eq!(common::ask(&index, Purpose::Search, &numbers(50_000..50_001)).len(), 1);
    drop(index);
    let full = Index::open(dir.path(), common::options(&clock).max_bytes(1)).unwrap();
    assert!(matches!(full.set_tripwires(numbers(0..1)), Err(Error::SizeLimit { .. })));
    assert_eq!(full.remove_tripwires(numbers(0..1)).unwrap(), 0);
}

#[test]
fn rules_tell_then_tighten_then_suspend_and_last() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let tight = Quota::per_hour(100, 1).unwrap();
    let policy = TripwirePolicy::none()
        .caller(1, DAY, TripwireAction::Event)
        .caller(2, DAY, TripwireAction::TightenQuota(tight))
        .caller(4, DAY, TripwireAction::Suspend);
    let (index, told) = open_with(dir.path(), &clock, policy.clone());
    index.set_tripwires(numbers(0..20)).unwrap();
    let caller = Caller::new("enumerator").via(network());
    let ask = |index: &Index, range| index.lookup(&caller, Purpose::Search, &numbers(range));
    let burst = |index: &Index| index.budget(&caller).unwrap().scopes[0].burst;
    let take = || std::mem::take(&mut *told.lock().unwrap());

    ask(&index, 100..110).unwrap();
    assert!(take().is_empty());
    ask(&index, 0..1).unwrap();
    assert_eq!((take(), burst(&index)), (vec!["a caller has met tripwires: 1".to_owned()], 1_000_000_000));
    // The lookup that meets the second is answered; the next one is under the new quota.
    clock.advance(3 * HOUR);
    ask(&index, 1..2).unwrap();
    assert_eq!((take(), burst(&index)), (vec!["a caller has met tripwires: 2".to_owned()], 100));
    // Nobody gets more by it.
    let tighter = unlisted::QuotaOverride::fixed(Quota::per_hour(50, 2).unwrap());
    index.set_quota_of(&caller, Some((tighter, Duration::ZERO))).unwrap();
    index.grant(&caller, 50).unwrap();
    ask(&index, 2..3).unwrap();
    let budget = index.budget(&caller).unwrap();
    assert_eq!((budget.scopes[0].burst, budget.scopes[0].refill_per_hour), (50, 1));
    take();
    drop(index);

    // Both hours before are in the file, and the count goes on from it.
    clock.advance(HOUR);
    let (index, told) = open_with(dir.path(), &clock, policy);
    ask(&index, 3..4).unwrap();
    let events = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(events, ["a caller has met tripwires: 4", "suspended: 4 tripwires in 86400 s"]);
    let refused = ask(&index, 200..201).unwrap_err();
    assert!(matches!(refused, Error::Suspended { scope } if scope == "caller"));
    drop(index);
    let index = common::open(dir.path(), &clock);
    assert!(matches!(ask(&index, 200..201), Err(Error::Suspended { .. })));
    // Somebody else through the same network may ask: no rule is for it.
    index.lookup(&Caller::new("other").via(network()), Purpose::Search, &numbers(0..5)).unwrap();
}

#[test]
fn a_window_that_has_passed_is_forgotten_and_a_reinstated_caller_is_suspended_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let policy = TripwirePolicy::none().caller(2, 2 * HOUR, TripwireAction::Suspend);
    let (index, _) = open_with(dir.path(), &clock, policy);
    index.set_tripwires(numbers(0..20)).unwrap();
    let caller = Caller::new("a");
    let ask = |number: u64| index.lookup(&caller, Purpose::Search, &numbers(number..number + 1));
    for i in 0..4 {
        // One each six hours.
        ask(i).unwrap();
        clock.advance(6 * HOUR);
    }
    ask(4).unwrap();
    ask(5).unwrap();
    assert!(ask(100).is_err());
    assert!(index.reinstate(&caller).unwrap());
    ask(100).unwrap();
    ask(6).unwrap();
    assert!(ask(101).is_err());
    assert!(index.reinstate(&caller).unwrap());
    clock.advance(4 * HOUR);
    ask(7).unwrap();
    ask(102).unwrap();
}

#[test]
fn an_origin_has_rules_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let policy = TripwirePolicy::none().origins("network", 3, DAY, TripwireAction::Suspend).unwrap();
    let (index, told) = open_with(dir.path(), &clock, policy);
    index.set_tripwires(numbers(0..20)).unwrap();
    let ask = |who: u64, origin: Origin| {
        let caller = Caller::new(who.to_string()).via(Origin::named("device", "x").unwrap()).via(origin);
        index.lookup(&caller, Purpose::Search, &numbers(who..who + 1))
    };
    let elsewhere = Origin::network("203.0.113.7".parse().unwrap());
    for who in 0..3 {
        ask(who, network()).unwrap();
        ask(10, elsewhere.clone()).unwrap();
    }
    assert!(matches!(ask(4, network()), Err(Error::Suspended { scope }) if scope == "network"));
    ask(4, elsewhere).unwrap();
    let told = told.lock().unwrap();
    let expected = [
        "callers of one network have met tripwires: 3",
        "suspended: 3 tripwires in 86400 s",
        "a suspended caller was refused",
    ];
    assert_eq!(*told, expected);
}

/// What a sequence of operations does to a number.
#[derive(Debug, Clone)]
enum Step {
    Set(u64),
    Unset(u64),
    List(u64, u8),
    Remove(u64),
    Fold,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..12_u64;
    prop_oneof![
        4 => number.clone().prop_map(Step::Set),
        2 => number.clone().prop_map(Step::Unset),
        2 => (number.clone(), 0..3_u8).prop_map(|(number, way)| Step::List(number, way)),
        1 => number.prop_map(Step::Remove),
        2 => Just(Step::Fold),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_tripwire_is_counted_unless_somebody_has_or_had_its_number(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let clock = common::clock();
        let mut index = common::open(dir.path(), &clock);
        // Numbers that are tripwires, and those that anybody ever had.
        let (mut set, mut had) = (BTreeSet::new(), BTreeSet::new());
        for (version, step) in (2..).zip(&steps) {
            match step {
                Step::Set(number) => match index.set_tripwires([common::number(*number)]) {
                    Ok(changed) => {
                        prop_assert!(!had.contains(number));
                        prop_assert_eq!(changed == 1, set.insert(*number));
                    }
                    Err(error) => prop_assert!(matches!(error, Error::TripwireListed) && had.contains(number)),
                },
                Step::Unset(number) => {
                    let changed = index.remove_tripwires([common::number(*number)]).unwrap();
                    // A fold may have dropped one whose number somebody has.
                    prop_assert!(changed == usize::from(set.remove(number)) || had.contains(number));
                }
                Step::List(number, way) => {
                    assign(&index, *way, *number);
                    had.insert(*number);
                }
                Step::Remove(number) => {
                    let account = AccountId::from(9);
                    index.update(|batch| batch.remove(common::number(*number), account, version)).unwrap();
                    had.insert(*number);
                }
                Step::Fold => drop(index.fold().unwrap()),
                Step::Reopen => {
                    drop(index);
                    index = common::open(dir.path(), &clock);
                }
            }
        }
        let live = set.difference(&had).count();
        let counted = index.stats().unwrap().tripwires as usize;
        prop_assert!((live..=set.len()).contains(&counted), "{live} {counted} {set:?}");
        let caller = Caller::new("fresh");
        let reply = index.lookup(&caller, Purpose::ContactSync, &numbers(0..12)).unwrap();
        prop_assert!(reply.matches().all(|found| found.account == AccountId::from(9)));
        prop_assert_eq!(met(&index, &caller).0 as usize, live);
        index.verify(|_, _| ()).unwrap();
    }
}
