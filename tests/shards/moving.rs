//! Ranges move while lookups and updates go on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use unlisted::{
    Caller, Error, Index, LookupOptions, OptIns, Options, Ownership, PhoneHash, Purpose, Reply, ShardError,
};

use super::common::number;
use super::fleet::{Fleet, found, span, update};

const NODES: [&str; 3] = ["a", "b", "c"];
/// Numbers that are listed all along, and numbers that are listed and hidden all along.
const SHOWN: std::ops::Range<u64> = 0..40;
const HIDDEN: std::ops::Range<u64> = 40..60;
/// Numbers that become listed, one after the other, and later opt out, one after the other.
const CHANGING: std::ops::Range<u64> = 60..1_000_000;
/// How long a lookup goes on asking nodes that hear of a move one after the other.
const PATIENCE: Duration = Duration::from_secs(20);

/// How far the feed is: of the changing numbers so many are listed, and so many of those have opted out, at every node.
#[derive(Default)]
struct Feed {
    listing: AtomicU64,
    listed: AtomicU64,
    hiding: AtomicU64,
    hidden: AtomicU64,
    is_over: AtomicBool,
}

fn small(options: Options) -> Options {
    // Folds come often, so that segments split, are replaced and are cut while they move.
    options.segment_listings(1_000).fold_at_changes(50).background(true)
}

/// Asks until every number has an answer.
fn ask(fleet: &Fleet, front: &Index, caller: &Caller, numbers: &[PhoneHash]) -> (Reply, u64) {
    let mut pending = front.issue(caller, Purpose::Search, numbers, LookupOptions::default()).unwrap();
    let (since, mut again) = (Instant::now(), 0);
    loop {
        let tickets: Vec<(String, Vec<u8>)> =
            pending.tickets().map(|(node, ticket)| (node.to_owned(), ticket.to_vec())).collect();
        if tickets.is_empty() {
            return (pending.finish().unwrap(), again);
        }
        for (node, ticket) in tickets {
            match fleet.node(&node).redeem(&ticket) {
                Ok(answer) => pending.accept(&answer).unwrap(),
                Err(Error::Shard(ShardError::TicketOlder { .. } | ShardError::TicketNewer { .. })) => again += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(since.elapsed() < PATIENCE, "a move kept a lookup waiting");
        pending.reissue().unwrap();
    }
}

fn feed(fleet: &Fleet, feed: &Feed) {
    let to_all = |changes: &[super::fleet::Change], mark: u64| {
        fleet.nodes.values().for_each(|node| {
            update(node, changes, Some(mark));
        });
    };
    let mut mark = 0;
    let mut next = CHANGING.start;
    while !feed.is_over.load(Ordering::SeqCst) {
        let some: Vec<u64> = (next..next + 5).collect();
        feed.listing.store(next + 5, Ordering::SeqCst);
        let listed: Vec<_> = some.iter().map(|n| (*n, *n, Some(OptIns::SEARCH.bits()), 1)).collect();
        mark += 1;
        to_all(&listed, mark);
        feed.listed.store(next + 5, Ordering::SeqCst);
        // Those of a while ago opt out.
        if next >= CHANGING.start + 50 {
            let until = next - 45;
            feed.hiding.store(until, Ordering::SeqCst);
            let hidden: Vec<_> = (until - 5..until).map(|n| (n, n, Some(0), 2)).collect();
            mark += 1;
            to_all(&hidden, mark);
            feed.hidden.store(until, Ordering::SeqCst);
        }
        next += 5;
        thread::sleep(Duration::from_millis(1));
    }
}

/// One lookup of all kinds of numbers, compared with what the feed said before and after it.
fn look(fleet: &Fleet, feed: &Feed, name: &str, round: u64) -> u64 {
    let (listed, hidden) = (feed.listed.load(Ordering::SeqCst), feed.hidden.load(Ordering::SeqCst));
    let listed = listed.max(CHANGING.start);
    let recent = listed.saturating_sub(70).max(CHANGING.start)..listed + 10;
    let asked: Vec<u64> = SHOWN.chain(HIDDEN).chain(recent).collect();
    let hashes: Vec<PhoneHash> = asked.iter().map(|n| number(*n)).collect();
    // Each front has a ledger of its own here.
    let front = fleet.node(NODES[round as usize % NODES.len()]);
    let (reply, again) = ask(fleet, front, &Caller::new(name), &hashes);
    let (listing, hiding) = (feed.listing.load(Ordering::SeqCst), feed.hiding.load(Ordering::SeqCst));
    let found: Vec<u64> = found(&reply)
        .into_iter()
        .map(|(position, account)| {
            assert_eq!(asked[position], account, "a number of somebody else");
            account
        })
        .collect();
    for n in &asked {
        let is_found = found.contains(n);
        let must = SHOWN.contains(n) || (CHANGING.contains(n) && *n < listed && *n >= hiding);
        let must_not = HIDDEN.contains(n) || (CHANGING.contains(n) && (*n < hidden || *n >= listing));
        assert!(is_found || !must, "{n} was lost: listed to {listed}, hidden to {hiding}");
        assert!(!is_found || !must_not, "{n} was shown: hidden to {hidden}, listed to {listing}");
    }
    again
}

#[test]
fn a_range_moves_under_lookups_and_updates_and_nothing_is_lost_or_shown() {
    let mut fleet = Fleet::new(&NODES, small);
    let shown = OptIns::SEARCH.bits();
    let first: Vec<_> = SHOWN.map(|n| (n, n, Some(shown), 1)).chain(HIDDEN.map(|n| (n, n, Some(0), 1))).collect();
    fleet.update(&first);
    let moves = super::setting("UNLISTED_SHARD_MOVES", 12);
    let state = Feed::default();
    let (again, rounds) = (AtomicU64::new(0), AtomicU64::new(0));
    let folders: Vec<_> = (0..moves).map(|_| fleet.folder()).collect();
    let fleet = &fleet;
    thread::scope(|scope| {
        scope.spawn(|| feed(fleet, &state));
        for looker in 0..2 {
            let (state, again, rounds) = (&state, &again, &rounds);
            scope.spawn(move || {
                let mut round = looker;
                while !state.is_over.load(Ordering::SeqCst) {
                    again.fetch_add(look(fleet, state, &format!("looker-{looker}"), round), Ordering::SeqCst);
                    rounds.fetch_add(1, Ordering::SeqCst);
                    round += 1;
                }
            });
        }
        let _over = OverWhenDropped(&state.is_over);
        for (number, folder) in folders.iter().enumerate() {
            move_once(fleet, number as u32, folder);
        }
    });
    let (again, rounds) = (again.into_inner(), rounds.into_inner());
    println!("{moves} moves, {rounds} lookups, {again} tickets that a move overtook");
    assert!(rounds > u64::from(moves), "lookups went on");
    for node in fleet.nodes.values() {
        node.verify(|_, _| ()).unwrap();
    }
}

/// Also when an assertion fails: otherwise the other threads would go on for ever.
struct OverWhenDropped<'a>(&'a AtomicBool);

impl Drop for OverWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A part of what one node owns goes to the next.
fn move_once(fleet: &Fleet, number: u32, folder: &std::path::Path) {
    let record = fleet.records.get();
    let owned: Vec<_> = record.spans().map(|(piece, owner)| (piece, owner.to_owned())).collect();
    let (piece, from) = &owned[number as usize % owned.len()];
    let to = NODES[(NODES.iter().position(|name| name == from).unwrap() + 1) % NODES.len()];
    let half = (piece.to() - piece.from()).div_ceil(2);
    let moved = if number.is_multiple_of(2) { *piece } else { span(piece.from(), piece.from() + half) };
    let expected = fleet.node(to).expect_range(moved).unwrap();
    let since = Instant::now();
    // The owner may be behind where the next one began to keep.
    while let Err(error) = fleet.node(from).export_range(moved, folder, |here| here >= expected.as_deref()) {
        assert!(matches!(error, Error::Shard(ShardError::FeedBehind)), "{error}");
        assert!(since.elapsed() < PATIENCE, "the owner never came up");
        thread::sleep(Duration::from_millis(1));
    }
    fleet.node(to).import_range(folder).unwrap();
    let next = record.moved(moved, to).unwrap();
    assert!(fleet.records.compare_and_set(record.version(), &next));
    for node in fleet.nodes.values() {
        node.follow_ownership(&next).unwrap();
    }
    fleet.node(from).drop_range(moved).unwrap();
}

/// One operator's move is lost, and he decides again on what is true now.
#[test]
fn of_two_operators_one_loses() {
    let record = Ownership::of_one("a").unwrap();
    let fleet = Fleet::with_record(&record, &["a"], |options| options);
    let (one, other) = (fleet.records.get(), fleet.records.get());
    let first = one.moved(span(0, 0x8000), "b").unwrap();
    let second = other.moved(span(0, 0x1000), "c").unwrap();
    assert!(fleet.records.compare_and_set(one.version(), &first));
    assert!(!fleet.records.compare_and_set(other.version(), &second));
    assert_eq!(fleet.records.get(), first);
    // A host that sets without comparing is found out by every node that saw the first.
    fleet.node("a").follow_ownership(&first).unwrap();
    let forked = fleet.node("a").follow_ownership(&second);
    assert!(matches!(forked, Err(Error::Shard(ShardError::RecordForked { version: 2 }))));
    let older = fleet.node("a").follow_ownership(&one);
    assert!(matches!(older, Err(Error::Shard(ShardError::RecordOlder { found: 1, known: 2 }))));
    let other_fleet = Ownership::of_one("a").unwrap();
    let foreign = fleet.node("a").follow_ownership(&other_fleet);
    assert!(matches!(foreign, Err(Error::Shard(ShardError::RecordForeign))));
    let third = fleet.records.get().moved(span(0, 0x1000), "c").unwrap();
    assert!(fleet.records.compare_and_set(2, &third));
    fleet.node("a").follow_ownership(&third).unwrap();
    fleet.node("a").follow_ownership(&third).unwrap();
}
