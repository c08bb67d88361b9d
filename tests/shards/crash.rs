//! A move that is stopped at every call that changes the disk: by a power loss, or by the end of both processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use unlisted::internals::{Moment, SimDisk};
use unlisted::{Caller, Index, KeySpan, LookupOptions, OptIns, Options, Ownership, PhoneHash, Purpose};

use super::common::{self, number};
use super::fleet::{Change, ask, found, span, update};

const NUMBERS: u64 = 60;

/// What both nodes are told, in order: the place of a batch is its watermark.
fn feed() -> Vec<Vec<Change>> {
    let shown = Some(OptIns::SEARCH.bits());
    vec![
        (0..40).map(|n| (n, n, shown, 1)).collect(),
        (0..10).map(|n| (n, n, Some(0), 2)).collect(),
        // Between the steps of the move.
        (40..50).map(|n| (n, n, shown, 1)).collect(),
        (10..20).map(|n| (n, n, None, 2)).collect(),
        (50..60).map(|n| (n, n, shown, 1)).chain((20..25).map(|n| (n, n, Some(0), 2))).collect(),
        (0..5).map(|n| (n, n, shown, 3)).collect(),
    ]
}

/// The numbers that are shown once so many batches are in.
fn expected(batches: usize) -> Vec<u64> {
    let mut newest = BTreeMap::new();
    for (n, _, opt_ins, _) in feed().into_iter().take(batches).flatten() {
        newest.insert(n, opt_ins.is_some_and(|bits| bits != 0));
    }
    newest.into_iter().filter_map(|(n, is_shown)| is_shown.then_some(n)).collect()
}

fn moved() -> KeySpan {
    span(0x2000, 0xa000)
}

fn dir(name: &str) -> PathBuf {
    Path::new("/fleet").join(name)
}

fn options(disk: &SimDisk, node: &str) -> Options {
    common::options(&common::clock()).disk(disk).node(node)
}

/// Both nodes on one disk, and what the host knows.
struct Host {
    nodes: BTreeMap<String, Index>,
    record: Ownership,
    exports: u64,
}

impl Host {
    fn open(disk: &SimDisk, record: &Ownership) -> Self {
        let open = |name: &str| (name.to_owned(), Index::open(dir(name), options(disk, name)).unwrap());
        Self { nodes: ["a", "b"].map(open).into(), record: record.clone(), exports: 0 }
    }

    fn node(&self, name: &str) -> &Index {
        &self.nodes[name]
    }

    /// Every node reads the feed on from its watermark.
    fn catch_up(&self, batches: usize) {
        for node in self.nodes.values() {
            let mark = node.watermark().map_or(0, |mark| u64::from_be_bytes(mark.try_into().unwrap()));
            for (at, batch) in feed().iter().enumerate().take(batches).skip(mark as usize) {
                update(node, batch, Some(at as u64 + 1));
            }
        }
    }

    fn shown(&self) -> Vec<u64> {
        let hashes: Vec<PhoneHash> = (0..NUMBERS).map(number).collect();
        let reply = ask(
            self.node("a"),
            &self.nodes,
            &Caller::new("one"),
            Purpose::Search,
            &hashes,
            LookupOptions::default(),
        );
        found(&reply.unwrap()).into_iter().map(|(_, account)| account).collect()
    }

    fn export(&mut self) -> PathBuf {
        self.exports += 1;
        // What an export before the crash left, whole or not, is not looked at.
        dir(&format!("again-{}", self.exports))
    }

    /// What an operator does who finds a move in an unknown state: what is there decides.
    fn resume(&mut self) {
        let (a, b) = (self.node("a").clone(), self.node("b").clone());
        if self.record.version() == 1 {
            if b.held_ranges().is_empty() {
                if b.expected_ranges().is_empty() {
                    b.expect_range(moved()).unwrap();
                }
                let folder = self.export();
                a.export_range(moved(), &folder, |here| here >= b.watermark().as_deref()).unwrap();
                b.import_range(&folder).unwrap();
            }
            self.record = self.record.moved(moved(), "b").unwrap();
        }
        self.nodes.values().for_each(|node| node.follow_ownership(&self.record).unwrap());
        a.drop_range(moved()).unwrap();
    }
}

/// How far the host is: batches in the feed, and whether the record changed.
#[derive(Default)]
struct Progress {
    batches: AtomicUsize,
    version: AtomicU64,
}

/// The whole move, told where it is before each step that others can see.
fn live(disk: &SimDisk, first: &Ownership, progress: &Progress) -> Vec<u64> {
    let publish = |host: &Host, batches: usize| {
        progress.batches.store(batches, Ordering::SeqCst);
        host.catch_up(batches);
    };
    let mut host = Host::open(disk, first);
    publish(&host, 3);
    host.node("b").expect_range(moved()).unwrap();
    publish(&host, 4);
    host.node("b").fold().unwrap();
    let folder = dir("export");
    host.node("a").export_range(moved(), &folder, |_| true).unwrap();
    publish(&host, 5);
    host.node("b").import_range(&folder).unwrap();
    host.record = first.moved(moved(), "b").unwrap();
    progress.version.store(2, Ordering::SeqCst);
    publish(&host, 6);
    host.nodes.values().for_each(|node| node.follow_ownership(&host.record).unwrap());
    host.node("a").drop_range(moved()).unwrap();
    host.shown()
}

/// A disk with both nodes before the move.
fn before(first: &Ownership) -> SimDisk {
    let disk = SimDisk::new(1);
    let host = Host::open(&disk, first);
    host.nodes.values().for_each(|node| node.begin_ownership(first).unwrap());
    host.catch_up(2);
    host.node("a").fold().unwrap();
    assert_eq!(host.shown(), expected(2));
    drop(host);
    disk
}

fn check(disk: &SimDisk, first: &Ownership, batches: usize, version: u64) {
    let record = if version == 2 { first.moved(moved(), "b").unwrap() } else { first.clone() };
    let mut host = Host::open(disk, &record);
    host.nodes.values().for_each(|node| node.follow_ownership(&record).unwrap());
    host.catch_up(batches);
    assert_eq!(host.shown(), expected(batches), "as it was found");
    host.resume();
    assert_eq!(host.shown(), expected(batches), "after the move was taken up again");
    host.catch_up(6);
    assert_eq!(host.shown(), expected(6));
    assert_eq!(host.node("b").held_ranges(), [moved()]);
    assert_eq!(host.node("a").held_ranges(), [span(0, 0x2000), span(0xa000, 0x1_0000)]);
    host.nodes.values().for_each(|node| {
        node.verify(|_, _| ()).unwrap();
    });
}

#[test]
fn a_move_that_is_stopped_anywhere_loses_and_shows_nothing() {
    let first = Ownership::of_one("a").unwrap();
    let disk = before(&first);
    let progress = Arc::new(Progress::default());
    progress.version.store(1, Ordering::SeqCst);
    progress.batches.store(2, Ordering::SeqCst);
    let stride = u64::from(super::setting("UNLISTED_SHARD_STRIDE", 9));
    let stopped = Arc::new(Mutex::new(Vec::new()));
    disk.watch(Arc::new({
        let (progress, stopped) = (progress.clone(), stopped.clone());
        move |call: u64, moment: &Moment<'_>| {
            if call.is_multiple_of(stride) {
                let at = (progress.batches.load(Ordering::SeqCst), progress.version.load(Ordering::SeqCst));
                // A killed process leaves what was written; a power loss some of it.
                let left = if call.is_multiple_of(2) { moment.crash(call) } else { moment.kill() };
                stopped.lock().unwrap().push((call, at, left));
            }
        }
    }));
    assert_eq!(live(&disk, &first, &progress), expected(6));
    let stopped = std::mem::take(&mut *stopped.lock().unwrap());
    println!("a move stopped at {} places", stopped.len());
    assert!(stopped.len() > 20);
    for (call, (batches, version), left) in stopped {
        println!("call {call}: {batches} batches, version {version}");
        check(&left, &first, batches, version);
    }
}
