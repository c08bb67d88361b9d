//! What nodes of a fleet share: budgets, what callers paid for, decisions, quotas, records.

use std::time::Duration;

use proptest::prelude::*;
use unlisted::{
    AccountId, Caller, DisclosureMode, Error, FleetError, LookupOptions, OptIns, Origin, Ownership, Purpose,
    Quota, QuotaOverride, QuotaPolicy,
};

use crate::cluster::{ask, fleet, keys, numbers, quota, until};
use crate::common;

#[test]
fn two_nodes_spend_one_budget() {
    let Some(mut fleet) = fleet("one-budget") else { return };
    let (first, second) = (fleet.node(quota(100)), fleet.node(quota(100)));
    let caller = Caller::new("alice");
    assert_eq!(ask(&first, &caller, 0..60), (60, 60));
    assert_eq!(ask(&second, &caller, 100..160), (40, 40));
    assert_eq!(first.budget(&caller).unwrap().remaining, 0);
    let reply = first.lookup(&caller, Purpose::Search, &numbers(200..201)).unwrap();
    assert!(reply.retry_after().unwrap() > Duration::from_secs(3_000));
    // Somebody else's is another one.
    assert_eq!(ask(&second, &Caller::new("bob"), 0..10), (10, 10));
}

#[test]
fn a_lookup_inside_a_lease_calls_nobody() {
    let Some(mut fleet) = fleet("leases") else { return };
    let node = fleet.node(quota(1_000_000));
    let caller = Caller::new("alice");
    for round in 0..10 {
        ask(&node, &caller, round * 10..round * 10 + 10);
    }
    let before = node.fleet_health().unwrap().network_calls;
    for round in 10..30 {
        assert_eq!(ask(&node, &caller, round * 10..round * 10 + 10), (10, 10));
    }
    let health = node.fleet_health().unwrap();
    // The thread that follows the fleet calls too, twice a second; twenty lookups take milliseconds.
    assert!(health.network_calls - before <= 8, "{health:?}");
    assert!(health.leased_numbers > 0 && !health.is_degraded && health.trouble.is_none());
}

#[test]
fn what_was_paid_on_one_node_is_free_on_another() {
    let Some(mut fleet) = fleet("novelty") else { return };
    let (first, second) = (fleet.node(quota(1_000)), fleet.node(quota(1_000)));
    let caller = Caller::new("alice");
    assert_eq!(ask(&first, &caller, 0..500), (500, 500));
    until("the fleet is told", || first.fleet_health().unwrap().untold_numbers == 0);
    let free = second.lookup(&caller, Purpose::Search, &numbers(0..500)).unwrap();
    assert_eq!((free.charged(), free.remaining()), (0, 500));
    assert_eq!(ask(&second, &caller, 400..600), (200, 100));
    // Forgotten everywhere.
    second.forget_caller(&caller).unwrap();
    until("the other node forgets", || ask(&first, &caller, 0..1).1 == 1);
    assert!(!keys(&fleet).iter().any(|key| key.contains(":n:") && key.contains("alice")));
}

#[test]
fn what_many_callers_paid_is_told_in_few_calls() {
    let Some(mut fleet) = fleet("told") else { return };
    let (first, second) = (fleet.node(quota(1_000)), fleet.node(quota(1_000)));
    let callers: Vec<Caller> = (0..150).map(|i| Caller::new(format!("caller {i}"))).collect();
    for caller in &callers {
        ask(&first, caller, 0..3); // a question and a lease each
    }
    until("the fleet is told", || first.fleet_health().unwrap().untold_numbers == 0);
    // And what the threads of both nodes do meanwhile, however long it takes; the first one's tells three servers as well.
    let [calls, idle] = [&first, &second].map(|node| node.fleet_health().unwrap().network_calls);
    assert!(
        calls < 300 + 50 + idle * 4,
        "{calls} calls, of which 300 are of lookups; a node that is not asked makes {idle}"
    );
    for caller in &callers {
        assert_eq!(ask(&second, caller, 0..3), (3, 0));
    }
}

#[test]
fn novelty_that_is_not_shared_stays_with_its_node() {
    let Some(mut fleet) = fleet("apart") else { return };
    let _creator = fleet.node(quota(1_000));
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let apart = || fleet.options().share_novelty(false);
    let [first, second] = [0, 1].map(|i| fleet.join(dirs[i].path(), apart()).unwrap());
    let caller = Caller::new("alice");
    assert_eq!(ask(&first, &caller, 0..50), (50, 50));
    assert_eq!(ask(&first, &caller, 0..50), (50, 0));
    assert_eq!(ask(&second, &caller, 0..50), (50, 50));
    assert!(!keys(&fleet).iter().any(|key| key.contains(":n:")));
}

#[test]
fn suspensions_reach_every_node() {
    let Some(mut fleet) = fleet("suspensions") else { return };
    let (first, second) = (fleet.node(quota(100)), fleet.node(quota(100)));
    let network = Origin::network("198.51.100.7".parse().unwrap());
    let caller = Caller::new("alice").via(network.clone());
    ask(&second, &caller, 0..10);
    let refused = |node: &unlisted::Index| {
        matches!(node.lookup(&caller, Purpose::Search, &numbers(0..1)), Err(Error::Suspended { .. }))
    };
    first.suspend(&network, "a crowd of fresh accounts").unwrap();
    assert!(refused(&first));
    let after = until("the other node refuses", || refused(&second));
    println!("a suspension held on the other node after {after:?}");
    assert!(second.reinstate(&network).unwrap());
    assert!(!refused(&second));
    until("the first node answers again", || !refused(&first));
    // A node that comes later knows as well.
    first.suspend(&caller, "x").unwrap();
    assert!(refused(&fleet.node(quota(100))));
}

#[test]
fn quotas_and_overrides_hold_on_every_node() {
    let Some(mut fleet) = fleet("quotas") else { return };
    let (first, second) = (fleet.node(quota(100)), fleet.node(quota(7)));
    let (alice, bob) = (Caller::new("alice"), Caller::new("bob"));
    // The fleet's, whatever a node was opened with.
    assert_eq!(second.quotas(), quota(100));
    assert_eq!(ask(&first, &alice, 0..60), (60, 60));
    second.set_quotas(quota(80)).unwrap();
    assert_eq!(second.budget(&alice).unwrap().remaining, 20);
    until("the first node has the quotas", || first.quotas() == quota(80));
    assert_eq!(ask(&first, &alice, 100..200), (20, 20));

    let own = QuotaOverride::fixed(Quota::per_hour(500, 10).unwrap());
    first.set_quota_of(&bob, Some((own, Duration::ZERO))).unwrap();
    assert_eq!(ask(&first, &bob, 0..300), (300, 300));
    until("the second node has the override", || {
        second.budget(&bob).unwrap().scopes.first().is_some_and(|scope| scope.is_override)
    });
    assert_eq!(ask(&second, &bob, 1_000..1_500), (200, 200));
    first.grant(&bob, 50).unwrap();
    until("what was granted is there", || ask(&second, &bob, 2_000..2_050).0 == 50);
}

#[test]
fn a_batch_is_charged_to_all_scopes_alike() {
    let Some(mut fleet) = fleet("scopes") else { return };
    let policy = quota(1_000).with_origin("network", Quota::per_hour(100, 1).unwrap()).unwrap();
    let policy = policy.with_everyone(Quota::per_hour(10_000, 1).unwrap());
    let (first, second) = (fleet.node(policy.clone()), fleet.node(policy));
    let network = Origin::network("198.51.100.7".parse().unwrap());
    let [alice, bob] = ["alice", "bob"].map(|name| Caller::new(name).via(network.clone()));
    assert_eq!(ask(&first, &alice, 0..70), (70, 70));
    assert_eq!(ask(&second, &bob, 0..70), (30, 30));
    // What the network could not pay was not charged to bob: it is leased to his node at most.
    assert_eq!(second.budget(&bob).unwrap().scopes.first().unwrap().remaining, 970);
    assert_eq!(second.budget(&bob).unwrap().remaining, 0);
}

#[test]
fn a_node_that_leaves_gives_its_leases_back() {
    let Some(mut fleet) = fleet("leaves") else { return };
    let (first, second) = (fleet.node(quota(16_000)), fleet.node(quota(16_000)));
    let caller = Caller::new("alice");
    for round in 0..5 {
        ask(&first, &caller, round * 100..round * 100 + 100);
    }
    assert!(first.fleet_health().unwrap().leased_numbers > 0);
    let held = second.budget(&caller).unwrap().remaining;
    assert!(held < 15_500, "{held}");
    drop(first);
    assert_eq!(second.budget(&caller).unwrap().remaining, 15_500);
    // And what was paid for was told.
    assert_eq!(ask(&second, &caller, 0..500), (500, 0));
}

#[test]
fn a_lease_that_nobody_uses_goes_back() {
    let Some(mut fleet) = fleet("idle") else { return };
    let dir = tempfile::tempdir().unwrap();
    let creator = fleet.node(quota(16_000));
    let node = fleet.join(dir.path(), fleet.options().idle_after(Duration::from_millis(10))).unwrap();
    let caller = Caller::new("alice");
    for round in 0..5 {
        ask(&node, &caller, round * 100..round * 100 + 100);
    }
    until("the lease is back", || {
        creator.budget(&caller).unwrap().remaining == quota(16_000).caller().burst() - 500
    });
}

#[test]
fn numbers_are_answered_together_or_not_at_all() {
    let Some(mut fleet) = fleet("together") else { return };
    let node = fleet.node(quota(100));
    node.update(|batch| batch.put(common::number(1), AccountId::from(42), OptIns::SEARCH, 1)).unwrap();
    let caller = Caller::new("alice");
    let unlinked = |range: std::ops::Range<u64>| {
        let options = LookupOptions::default().mode(DisclosureMode::Unlinked);
        node.lookup_with(&caller, Purpose::Search, &numbers(range), options).unwrap()
    };
    assert_eq!(unlinked(0..9).charged(), 0); // fewer than ten
    assert_eq!(unlinked(0..95).charged(), 95);
    assert_eq!(unlinked(200..220).charged(), 0); // five left
}

#[test]
fn records_are_replaced_by_whoever_knows_their_version() {
    let Some(mut fleet) = fleet("records") else { return };
    let (first, second) = (fleet.node(quota(1)), fleet.node(quota(1)));
    assert_eq!(first.fleet_record("owners").unwrap(), (0, Vec::new()));
    assert_eq!(first.replace_fleet_record("owners", 0, b"a\x00\xff").unwrap(), 1);
    assert_eq!(second.fleet_record("owners").unwrap(), (1, b"a\x00\xff".to_vec()));
    let late = second.replace_fleet_record("owners", 0, b"b").unwrap_err();
    assert!(
        matches!(&late, Error::Fleet(FleetError::RecordChanged { name, found: 1, expected: 0 }) if name == "owners"),
        "{late}"
    );
    assert_eq!(second.replace_fleet_record("owners", 1, b"b").unwrap(), 2);
    assert_eq!(first.fleet_record("other").unwrap().0, 0);
}

#[test]
fn who_owns_which_keys_is_a_record_of_the_fleet() {
    let Some(mut fleet) = fleet("owners") else { return };
    let (first, second) = (fleet.node(quota(1)), fleet.node(quota(1)));
    let record = Ownership::of_equals(["a", "b"]).unwrap();
    let mut version = first.replace_fleet_record("owners", 0, &record.encode()).unwrap();
    // Two operators move something at once: one of them has to look again.
    let (seen, bytes) = second.fleet_record("owners").unwrap();
    let read = Ownership::decode(&bytes).unwrap();
    assert_eq!((seen, read.version()), (version, record.version()));
    let span = |owner: &str| record.spans().find(|(_, of)| *of == owner).unwrap().0;
    let moved = record.moved(span("a"), "b").unwrap();
    version = first.replace_fleet_record("owners", version, &moved.encode()).unwrap();
    let late = read.moved(span("b"), "a").unwrap();
    let lost = second.replace_fleet_record("owners", seen, &late.encode()).unwrap_err();
    assert!(matches!(lost, Error::Fleet(FleetError::RecordChanged { .. })), "{lost}");
    let (now, bytes) = second.fleet_record("owners").unwrap();
    assert_eq!((now, Ownership::decode(&bytes).unwrap().version()), (version, moved.version()));
}

#[test]
fn keys_hold_nothing_but_keyed_identities() {
    let Some(mut fleet) = fleet("keyed") else { return };
    let node = fleet.node(quota(100).with_origin("device", Quota::per_hour(50, 1).unwrap()).unwrap());
    let device = Origin::named("device", "pixel-of-alice").unwrap();
    let caller = Caller::new("alice").via(device.clone());
    ask(&node, &caller, 0..10);
    node.suspend(&device, "why").unwrap();
    until("the fleet is told", || node.fleet_health().unwrap().untold_numbers == 0);
    let keys = keys(&fleet);
    let buckets = keys.iter().filter(|key| key.ends_with(":b")).count();
    assert_eq!((buckets, keys.iter().any(|key| key.contains(":n:"))), (2, true), "{} keys", keys.len());
    let is_plain = |c: char| c.is_ascii_hexdigit() || "{}:mbncontrlehagsdi".contains(c);
    for key in &keys {
        let rest = key.strip_prefix(&fleet.prefix).unwrap();
        assert!(!rest.contains("alice") && !rest.contains("pixel") && rest.chars().all(is_plain), "{key}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask { node: usize, caller: usize, numbers: u64 },
    Reopen { node: usize },
    Grant { caller: usize, numbers: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ask = (0..3_usize, 0..2_usize, 1..80_u64).prop_map(|(node, caller, numbers)| Step::Ask {
        node,
        caller,
        numbers,
    });
    let reopen = (0..3_usize).prop_map(|node| Step::Reopen { node });
    let grant = (0..2_usize, 1..30_u64).prop_map(|(caller, numbers)| Step::Grant { caller, numbers });
    prop::collection::vec(prop_oneof![8 => ask, 1 => reopen, 1 => grant], 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever nodes do in whatever order: never more than the quota and what was granted, and all of it where leases are given
    /// back.
    #[test]
    fn nodes_together_never_answer_more_than_the_quota(steps in steps()) {
        const BURST: u64 = 320;
        let Some(mut fleet) = fleet("model") else { return Ok(()) };
        // Refills of one an hour do not matter within a test.
        let policy = || quota(BURST).with_everyone(Quota::per_hour(500, 1).unwrap());
        let mut nodes: Vec<_> = (0..3).map(|_| Some(fleet.node(policy()))).collect();
        let callers = ["alice", "bob"].map(Caller::new);
        let (mut answered, mut granted, mut next) = ([0_u64; 2], [0_u64; 2], 0);
        for step in steps {
            match step {
                Step::Ask { node, caller, numbers } => {
                    let (found, charged) = ask(nodes[node].as_ref().unwrap(), &callers[caller], next..next + numbers);
                    prop_assert_eq!(found as u64, charged);
                    next += numbers;
                    answered[caller] += charged;
                }
                Step::Reopen { node } => {
                    drop(nodes[node].take());
                    nodes[node] = Some(fleet.node(policy()));
                }
                Step::Grant { caller, numbers } => {
                    nodes[0].as_ref().unwrap().grant(&callers[caller], numbers).unwrap();
                    granted[caller] += numbers;
                }
            }
            for caller in 0..2 {
                prop_assert!(answered[caller] <= BURST + granted[caller]);
            }
            prop_assert!(answered[0] + answered[1] <= 500);
        }
        nodes.clear();
        // Everything was given back: what was not answered can still be asked, by a node that was not there.
        let last = fleet.node(policy());
        for (caller, answered) in callers.iter().zip(answered) {
            let budget = last.budget(caller).unwrap();
            let own = budget.scopes.first().unwrap().remaining;
            prop_assert!(own >= BURST - answered.min(BURST), "{own} left, {answered} answered");
        }
    }
}

#[test]
fn a_policy_of_presets_is_shared_whole() {
    let Some(mut fleet) = fleet("presets") else { return };
    let first = fleet.node(QuotaPolicy::messenger());
    assert_eq!(fleet.node(QuotaPolicy::default()).quotas(), QuotaPolicy::messenger());
    first.set_quotas(QuotaPolicy::strict()).unwrap();
    assert_eq!(fleet.node(QuotaPolicy::default()).quotas(), QuotaPolicy::strict());
}
