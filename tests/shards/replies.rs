//! Replies where not every node answered, what a move overtook, and what owners tell fronts in each mode.

use std::collections::BTreeMap;

use unlisted::{
    Caller, DisclosureMode, Error, LookupOptions, NumberState, OptIns, Options, PhoneHash, Purpose, ShardError,
    TopBy, TopQuery,
};

use super::common::number;
use super::fleet::{Fleet, ask, found, span};

const NUMBERS: u64 = 24;

fn tune(options: Options) -> Options {
    options.unlinked_min_novel(8)
}

fn fleet() -> Fleet {
    let fleet = Fleet::new(&["a", "b"], tune);
    let listed: Vec<_> = (0..NUMBERS).map(|n| (n, n, Some(OptIns::SEARCH.bits()), 1)).collect();
    fleet.update(&listed);
    fleet
}

fn numbers(of: std::ops::Range<u64>) -> Vec<PhoneHash> {
    of.map(number).collect()
}

/// Who owns each of the numbers.
fn owners(fleet: &Fleet) -> BTreeMap<u64, String> {
    let found_at = |n: u64| {
        let pending = fleet
            .node("a")
            .issue(&Caller::new("surveyor"), Purpose::Host2, &[number(n)], LookupOptions::default())
            .unwrap();
        let (node, _) = pending.tickets().next().unwrap();
        node.to_owned()
    };
    (0..NUMBERS).map(|n| (n, found_at(n))).collect()
}

#[test]
fn what_a_silent_node_has_is_unavailable_and_free_the_next_time() {
    let fleet = fleet();
    let owners = owners(&fleet);
    let (front, caller) = (fleet.node("a"), Caller::new("one"));
    let all = numbers(0..NUMBERS);
    let mut pending = front.issue(&caller, Purpose::Search, &all, LookupOptions::default()).unwrap();
    let to_a = pending.tickets().find(|(node, _)| *node == "a").unwrap().1.to_vec();
    pending.accept(&front.redeem(&to_a).unwrap()).unwrap();
    let reply = pending.finish().unwrap();
    assert_eq!(reply.charged(), NUMBERS);
    for n in 0..NUMBERS {
        let (state, is_found) =
            (reply.state(n as usize).unwrap(), reply.matches().any(|found| found.position as u64 == n));
        let expected = if owners[&n] == "a" { NumberState::Answered } else { NumberState::Unavailable };
        assert_eq!((state, is_found), (expected, owners[&n] == "a"), "{n}");
    }
    let silent: Vec<usize> = reply.unavailable().collect();
    assert_eq!(silent.len(), owners.values().filter(|owner| *owner == "b").count());
    // What nobody answered is not missed: an outage makes nobody suspicious.
    let activity = |caller: &Caller| {
        front.inspector().top_callers(&TopQuery::new(TopBy::Charged).caller(caller)).unwrap().rows[0]
    };
    let row = activity(&caller);
    assert_eq!((row.charged, row.missed, row.found), (NUMBERS, 0, NUMBERS - silent.len() as u64));
    let again = fleet.ask("a", &caller, Purpose::Search, &all);
    assert_eq!((again.charged(), found(&again).len(), again.unavailable().count()), (0, NUMBERS as usize, 0));
}

#[test]
fn in_the_stricter_modes_a_silent_node_links_nobody() {
    let fleet = fleet();
    let owners = owners(&fleet);
    let front = fleet.node("a");
    let of =
        |node: &str| owners.iter().filter(move |(_, owner)| *owner == node).map(|(n, _)| *n).collect::<Vec<_>>();
    // One number of a's, and enough of b's that the batch may be asked.
    let asked: Vec<PhoneHash> = of("a")[..1].iter().chain(&of("b")[..7]).map(|n| number(*n)).collect();
    for (name, mode) in [("one", DisclosureMode::Unlinked), ("two", DisclosureMode::CountOnly)] {
        let options = LookupOptions::default().mode(mode);
        let mut pending = front.issue(&Caller::new(name), Purpose::Search, &asked, options).unwrap();
        let to_a = pending.tickets().find(|(node, _)| *node == "a").unwrap().1.to_vec();
        pending.accept(&front.redeem(&to_a).unwrap()).unwrap();
        let reply = pending.finish().unwrap();
        assert_eq!((reply.count(), reply.accounts().len(), reply.unavailable().count()), (0, 0, 8));
        let all = ask(front, &fleet.nodes, &Caller::new(format!("{name}-2")), Purpose::Search, &asked, options);
        assert_eq!(all.unwrap().count(), 8);
    }
}

#[test]
fn an_account_with_numbers_at_two_nodes_counts_once() {
    let fleet = Fleet::new(&["a", "b"], tune);
    let listed: Vec<_> = (0..NUMBERS).map(|n| (n, n % 3, Some(OptIns::SEARCH.bits()), 1)).collect();
    fleet.update(&listed);
    let options = |mode| LookupOptions::default().mode(mode);
    let ask = |name: &str, mode| {
        let caller = Caller::new(name);
        ask(fleet.node("b"), &fleet.nodes, &caller, Purpose::Search, &numbers(0..NUMBERS), options(mode)).unwrap()
    };
    assert_eq!(ask("one", DisclosureMode::CountOnly).count(), 3);
    assert_eq!(ask("two", DisclosureMode::Unlinked).accounts(), [0.into(), 1.into(), 2.into()]);
    assert_eq!(ask("three", DisclosureMode::Linked).count(), 3);
}

/// Bytes between nodes: a linked answer links; an unlinked one has accounts and no numbers; a counted one has neither.
#[test]
fn owners_tell_fronts_no_more_than_the_mode_needs() {
    let fleet = Fleet::new(&["a", "b"], tune);
    // Accounts whose bytes are nothing else.
    let id = |n: u64| 0x0123_4567_89ab_0000 + n;
    let account = |n: u64| u128::from(id(n)).to_be_bytes();
    fleet.update(&(0..NUMBERS).map(|n| (n, id(n), Some(OptIns::SEARCH.bits()), 1)).collect::<Vec<_>>());
    for (name, mode) in DisclosureMode::ALL.into_iter().enumerate() {
        let caller = Caller::new(format!("caller-{name}"));
        let options = LookupOptions::default().mode(mode);
        let pending = fleet.node("a").issue(&caller, Purpose::Search, &numbers(0..NUMBERS), options).unwrap();
        let (node, ticket) = pending.tickets().next().unwrap();
        let keys = u64::from_le_bytes(ticket[88..96].try_into().unwrap()) as usize;
        let before = fleet.node(node).stats().unwrap().disclosures;
        let answer = fleet.node(node).redeem(ticket).unwrap();
        let named = (0..NUMBERS).filter(|n| answer.windows(16).any(|bytes| bytes == account(*n))).count();
        let recorded = fleet.node(node).stats().unwrap().disclosures - before;
        let (row, shown) = match mode {
            DisclosureMode::Linked => (20, keys),
            DisclosureMode::Unlinked => (16, keys),
            _ => (16, 0),
        };
        assert_eq!((answer.len(), named, recorded), (96 + row * keys, shown, shown as u64), "{mode}");
        // No ticket has a number, an account or a caller's id.
        assert!(!ticket.windows(8).any(|bytes| bytes == caller_id(name).as_bytes()));
        assert!(!(0..NUMBERS).any(|n| ticket.windows(32).any(|bytes| bytes == number(n).as_bytes())));
    }
}

fn caller_id(name: usize) -> String {
    format!("caller-{name}")
}

#[test]
fn what_a_move_overtakes_is_asked_again_without_a_charge() {
    let mut fleet = fleet();
    for mode in [DisclosureMode::Linked, DisclosureMode::Unlinked] {
        let caller = Caller::new(mode.name());
        let options = LookupOptions::default().mode(mode);
        let mut pending = fleet.node("a").issue(&caller, Purpose::Search, &numbers(0..NUMBERS), options).unwrap();
        let owner = fleet.records.get().spans().last().map(|(_, owner)| owner.to_owned()).unwrap();
        let to = if owner == "a" { "b" } else { "a" };
        fleet.move_range(span(0xc000, 0x1_0000), to, |_| ());
        let first: Vec<_> = pending.tickets().map(|(node, ticket)| (node.to_owned(), ticket.to_vec())).collect();
        for (node, ticket) in &first {
            match fleet.node(node).redeem(ticket) {
                Ok(answer) => pending.accept(&answer).unwrap(),
                Err(Error::Shard(ShardError::TicketOlder { .. })) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let overtaken = pending.tickets().count();
        assert!(overtaken > 0);
        pending.reissue().unwrap();
        let again: Vec<_> = pending.tickets().map(|(node, ticket)| (node.to_owned(), ticket.to_vec())).collect();
        for (node, ticket) in &again {
            pending.accept(&fleet.node(node).redeem(ticket).unwrap()).unwrap();
        }
        let reply = pending.finish().unwrap();
        assert_eq!((reply.charged(), reply.count(), reply.unavailable().count()), (NUMBERS, NUMBERS, 0));
    }
    let mut late = fleet
        .node("a")
        .issue(&Caller::new("late"), Purpose::Search, &[number(1)], LookupOptions::default())
        .unwrap();
    fleet.clock.advance(std::time::Duration::from_secs(10));
    assert!(matches!(late.reissue(), Err(ShardError::TicketExpired { .. })));
}

/// A listing for contacts only: its node decides by its own ledger, and shows nobody where that knows nothing.
#[test]
fn a_mutual_audience_is_decided_by_the_ledger_of_the_owner() {
    let fleet = Fleet::new(&["a", "b"], tune);
    let mutual = (OptIns::SEARCH | OptIns::MUTUAL).bits();
    fleet.update(&[(1, 42, Some(mutual), 1)]);
    let bob = || Caller::new("bob").own_number(number(7));
    let pending = fleet.node("a").issue(&bob(), Purpose::Search, &[number(1)], LookupOptions::default()).unwrap();
    let owner = pending.tickets().next().unwrap().0.to_owned();
    let elsewhere = if owner == "a" { "b" } else { "a" };
    let shown = || found(&fleet.ask(elsewhere, &bob(), Purpose::Search, &[number(1)])).len();
    assert_eq!(shown(), 0, "42 asked for nobody");
    // 42 asks for bob's number at a node that is not the owner of its own listing: that one does not know.
    let asked = |front: &str| {
        fleet.ask(front, &Caller::of_account(42.into()), Purpose::Search, &[number(7)]);
    };
    asked(elsewhere);
    assert_eq!(shown(), 0);
    asked(&owner);
    assert_eq!(shown(), 1);
    let nobody = fleet.ask(elsewhere, &Caller::new("carol"), Purpose::Search, &[number(1)]);
    assert_eq!(nobody.count(), 0);
}
