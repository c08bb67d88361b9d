//! Tickets that are not to be answered: each is refused by name, before anything is looked up or recorded.

use std::time::Duration;

use unlisted::{
    Caller, Error, Index, LookupOptions, OptIns, Options, Ownership, Pending, Purpose, Secret, ShardError,
};

use super::common::{self, number};
use super::fleet::{Fleet, found, span};

const NUMBERS: u64 = 20;

fn fleet() -> Fleet {
    let fleet = Fleet::new(&["a", "b"], |options| options);
    let listed: Vec<_> = (0..NUMBERS).map(|n| (n, n, Some(OptIns::SEARCH.bits()), 1)).collect();
    fleet.update(&listed);
    fleet
}

fn issue(front: &Index) -> Pending {
    let numbers: Vec<_> = (0..NUMBERS).map(number).collect();
    front.issue(&Caller::new("one"), Purpose::Search, &numbers, LookupOptions::default()).unwrap()
}

fn ticket_for(pending: &Pending, node: &str) -> Vec<u8> {
    let (_, ticket) = pending.tickets().find(|(owner, _)| *owner == node).unwrap();
    ticket.to_vec()
}

#[track_caller]
fn refusal(redeemed: unlisted::Result<Vec<u8>>) -> ShardError {
    match redeemed {
        Err(Error::Shard(error)) => error,
        other => panic!("expected a refusal of the ticket, found {other:?}"),
    }
}

fn disclosures(index: &Index) -> u64 {
    index.stats().unwrap().disclosures
}

#[test]
fn no_cut_and_no_changed_byte_is_redeemed() {
    let fleet = fleet();
    let pending = issue(fleet.node("a"));
    let (owner, ticket) = (fleet.node("b"), ticket_for(&pending, "b"));
    for len in 0..ticket.len() {
        refusal(owner.redeem(&ticket[..len]));
    }
    for at in 0..ticket.len() {
        for bit in [0, 7] {
            let mut changed = ticket.clone();
            changed[at] ^= 1 << bit;
            let error = refusal(owner.redeem(&changed));
            let is_format = at < 12;
            assert_eq!(error == ShardError::TicketForged, !is_format, "byte {at}: {error}");
        }
    }
    refusal(owner.redeem(&[&ticket[..], &[0]].concat()));
    assert_eq!(disclosures(owner), 0, "nothing was shown");
    owner.redeem(&ticket).unwrap();
    assert!(disclosures(owner) > 0);
}

#[test]
fn a_ticket_has_its_time() {
    let mut fleet = fleet();
    let pending = issue(fleet.node("a"));
    let ticket = ticket_for(&pending, "b");
    // Ten seconds, and two of skew.
    fleet.clock.advance(Duration::from_millis(11_999));
    fleet.node("b").redeem(&ticket).unwrap();
    fleet.clock.advance(Duration::from_millis(1));
    assert_eq!(refusal(fleet.node("b").redeem(&ticket)), ShardError::TicketExpired { by_ms: 2_000 });
    let late = issue(fleet.node("a"));
    // A node whose clock is behind.
    let behind = std::sync::Arc::new(unlisted::ManualClock::at_wall_ms(common::START_MS + 9_000));
    fleet.nodes.remove("b");
    let options = common::options(&behind).node("b");
    let owner = Index::open(fleet.dir.path().join("b"), options).unwrap();
    assert_eq!(refusal(owner.redeem(&ticket_for(&late, "b"))), ShardError::TicketEarly { by_ms: 3_000 });
    behind.advance(Duration::from_secs(1));
    owner.redeem(&ticket_for(&late, "b")).unwrap();
}

#[test]
fn a_ticket_is_for_its_fleet_and_its_owner() {
    let fleet = fleet();
    let pending = issue(fleet.node("a"));
    let ticket = ticket_for(&pending, "b");
    assert_eq!(refusal(fleet.node("a").redeem(&ticket)), ShardError::WrongOwner);
    // The same secret and another fleet, as of a copy for tests.
    let copy = Fleet::new(&["a", "b"], |options| options);
    assert_eq!(refusal(copy.node("b").redeem(&ticket)), ShardError::TicketForeign);
    // Another secret.
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(Secret::from_bytes([9; 32])).clock(fleet.clock.clone()).background(false).node("b");
    let other = Index::open(dir.path(), options).unwrap();
    other.begin_ownership(&fleet.records.get()).unwrap();
    assert_eq!(refusal(other.redeem(&ticket)), ShardError::TicketForged);
    // No node at all, and one that was told nothing.
    let plain = common::open(&dir.path().join("plain"), &fleet.clock);
    assert_eq!(refusal(plain.redeem(&ticket)), ShardError::NotANode);
    let fresh = Index::open(dir.path().join("fresh"), fleet.options().node("c")).unwrap();
    assert_eq!(refusal(fresh.redeem(&ticket)), ShardError::NoRecord);
    let issued = fresh.issue(&Caller::new("one"), Purpose::Search, &[number(1)], LookupOptions::default());
    assert!(matches!(issued, Err(Error::Shard(ShardError::NoRecord))));
}

#[test]
fn a_ticket_of_another_version_is_answered_only_where_it_is_known_to_be_right() {
    let mut fleet = fleet();
    let old = issue(fleet.node("a"));
    let (to_a, to_b) = (ticket_for(&old, "a"), ticket_for(&old, "b"));
    let before = fleet.records.get();
    // The upper half of what b has goes to a.
    let moved = span(0xc000, 0x1_0000);
    let folder = fleet.folder();
    fleet.node("a").expect_range(moved).unwrap();
    fleet.node("b").export_range(moved, &folder, |_| true).unwrap();
    fleet.node("a").import_range(&folder).unwrap();
    let next = before.moved(moved, "a").unwrap();
    fleet.node("a").follow_ownership(&next).unwrap();
    // The front knows it, b does not yet.
    let new = issue(fleet.node("a"));
    assert_eq!(
        refusal(fleet.node("b").redeem(&ticket_for(&new, "b"))),
        ShardError::TicketNewer { found: 2, known: 1 }
    );
    fleet.node("b").redeem(&to_b).unwrap();
    fleet.node("b").follow_ownership(&next).unwrap();
    fleet.node("b").redeem(&ticket_for(&new, "b")).unwrap();
    // It gave keys of the old ticket away; what another owns all along it answers.
    assert_eq!(refusal(fleet.node("b").redeem(&to_b)), ShardError::TicketOlder { found: 1, known: 2 });
    fleet.node("a").redeem(&to_a).unwrap();
    // A node that owns a range by the record and never got it.
    let wrong = next.moved(span(0, 0x2000), "b").unwrap();
    fleet.nodes.values().for_each(|node| node.follow_ownership(&wrong).unwrap());
    let lost = issue(fleet.node("a"));
    let asks_for_it = lost
        .tickets()
        .any(|(node, ticket)| node == "b" && refusal(fleet.node("b").redeem(ticket)) == ShardError::RangeMissing);
    assert!(asks_for_it, "some of twenty numbers are in an eighth of the keys");
}

#[test]
fn a_replay_gives_the_same_caller_the_same_again_and_says_so_in_the_record() {
    let fleet = fleet();
    let mut pending = issue(fleet.node("a"));
    let charged = fleet.node("a").budget(&Caller::new("one")).unwrap().remaining;
    let (owner, ticket) = (fleet.node("b"), ticket_for(&pending, "b"));
    let first = owner.redeem(&ticket).unwrap();
    let once = disclosures(owner);
    assert_eq!(owner.redeem(&ticket).unwrap(), first);
    assert_eq!(disclosures(owner), 2 * once);
    assert_eq!(fleet.node("a").budget(&Caller::new("one")).unwrap().remaining, charged);
    owner.compact_disclosures().unwrap();
    assert_eq!(disclosures(owner), once, "each disclosure once, with its first and last time");
    // The front takes one answer of each.
    pending.accept(&first).unwrap();
    assert_eq!(pending.accept(&first), Err(ShardError::AnswerUnexpected));
}

#[test]
fn an_answer_is_for_its_ticket() {
    let fleet = fleet();
    let (mut one, other) = (issue(fleet.node("a")), issue(fleet.node("a")));
    let answer = fleet.node("b").redeem(&ticket_for(&one, "b")).unwrap();
    let of_other = fleet.node("b").redeem(&ticket_for(&other, "b")).unwrap();
    assert_eq!(one.accept(&of_other), Err(ShardError::AnswerUnexpected));
    for at in 0..answer.len() {
        assert!(one.accept(&answer[..at]).is_err());
        let mut changed = answer.clone();
        changed[at] ^= 4;
        assert!(one.accept(&changed).is_err(), "byte {at}");
    }
    assert!(matches!(one.accept(&ticket_for(&other, "b")), Err(ShardError::AnswerMalformed { .. })));
    one.accept(&answer).unwrap();
    one.accept(&fleet.node("a").redeem(&ticket_for(&one, "a")).unwrap()).unwrap();
    assert_eq!(found(&one.finish().unwrap()).len(), NUMBERS as usize);
}

#[test]
fn a_part_of_the_keys_is_never_asked_without_tickets() {
    let mut fleet = fleet();
    let ask = |index: &Index| index.lookup(&Caller::new("one"), Purpose::Search, &[number(1)]);
    for node in fleet.nodes.values() {
        assert!(matches!(ask(node), Err(Error::Shard(ShardError::NotWhole))));
        assert_eq!(node.budget(&Caller::new("one")).unwrap().remaining, 1_000_000_000, "nothing was charged");
    }
    // Whole again, the index answers alone.
    fleet.move_range(span(0, 0x1_0000), "a", |_| ());
    assert_eq!(ask(fleet.node("a")).unwrap().matches().count(), 1);
    assert!(matches!(ask(fleet.node("b")), Err(Error::Shard(ShardError::NotWhole))));
}

#[test]
fn the_checks_of_a_lookup_are_those_of_a_ticket() {
    let fleet = fleet();
    let front = fleet.node("a");
    let ask = |caller: &Caller, numbers: &[unlisted::PhoneHash]| {
        front.issue(caller, Purpose::Search, numbers, LookupOptions::default()).map(drop)
    };
    assert!(matches!(ask(&Caller::new(""), &[number(1)]), Err(Error::EmptyCaller)));
    assert!(matches!(ask(&Caller::new("x"), &[number(1); 10_001]), Err(Error::BatchTooLarge { .. })));
    front.suspend(&Caller::new("x"), "a test").unwrap();
    assert!(matches!(ask(&Caller::new("x"), &[number(1)]), Err(Error::Suspended { .. })));
    // Nothing to ask, nothing to carry.
    let pending = front.issue(&Caller::new("y"), Purpose::Search, &[], LookupOptions::default()).unwrap();
    assert_eq!(pending.tickets().count(), 0);
    assert_eq!(pending.finish().unwrap().count(), 0);
    assert!(matches!(Ownership::of_one("Not a name"), Err(Error::Shard(ShardError::BadName))));
}

#[test]
fn a_node_keeps_its_name() {
    let mut fleet = fleet();
    fleet.nodes.clear();
    let dir = fleet.dir.path().join("a");
    let other = Index::open(&dir, fleet.options().node("b"));
    assert!(matches!(other, Err(Error::Shard(ShardError::OtherNode { .. }))));
    assert!(matches!(Index::open(&dir, fleet.options().node("")), Err(Error::Shard(ShardError::BadName))));
    // Tools need not know it.
    let node = Index::open(&dir, fleet.options()).unwrap();
    assert_eq!(node.held_ranges(), [span(0, 0x8000)]);
    assert_eq!(node.ownership().unwrap(), fleet.records.get());
    let late = Duration::from_secs(61);
    assert!(matches!(
        Index::open(fleet.dir.path().join("x"), fleet.options().ticket_lifetime(late)),
        Err(Error::BadOption { name: "ticket_lifetime", .. })
    ));
}

#[test]
fn an_owner_that_is_late_answers_no_ticket() {
    let fleet = Fleet::new(&["a", "b"], |options| options.max_lag(Duration::from_secs(60)));
    let listed: Vec<_> = (0..NUMBERS).map(|n| (n, n, Some(OptIns::SEARCH.bits()), 1)).collect();
    fleet.update(&listed);
    let (front, owner) = (fleet.node("a"), fleet.node("b"));
    front.followed_until(front.feed_moment()).unwrap();
    let ticket = ticket_for(&issue(front), "b");
    let is_late = |redeemed| matches!(redeemed, Err(Error::Lagging { .. }));
    // It was opened, and never said how far it is.
    assert!(is_late(owner.redeem(&ticket)));
    assert_eq!(disclosures(owner), 0);
    owner.followed_until(owner.feed_moment()).unwrap();
    owner.redeem(&ticket).unwrap();
    // A front that is late charges nothing.
    fleet.clock.advance(Duration::from_secs(61));
    let numbers = [number(NUMBERS)];
    let late = front.issue(&Caller::new("one"), Purpose::Search, &numbers, LookupOptions::default());
    assert!(matches!(late, Err(Error::Lagging { .. })));
}
