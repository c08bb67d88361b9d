//! What an open reads: after a crash no more than after a close, whether the databases are walked over or not, so that no repair
//! comes on top; and without the walk, which is the default, no more of large files than of small ones.
//!
//! `UNLISTED_OPENING_CALLERS=50000 cargo test --release --all-features --test opening measured -- --nocapture` measures opens
//! of a ledger of so many callers.

#![cfg(feature = "internals")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unlisted::internals::SimDisk;
use unlisted::{AccountId, Caller, Index, ManualClock, OptIns, Options, Purpose};

use common::number;

const DIR: &str = "/index";
/// Numbers that each caller paid for.
const BOOK: u64 = 200;
/// Reads that a crash may add: pages that a torn transaction wrote, and the same again to see that they do not count.
const SLACK: usize = 16;

fn caller(i: u64) -> Caller {
    Caller::new(format!("caller {i}"))
}

/// Callers whose memory of what they paid for is in the ledger, and some listings in a segment.
fn fill(index: &Index, clock: &ManualClock, callers: u64) {
    let put = index
        .update(|batch| (0..100).try_for_each(|i| batch.put(number(i), AccountId::from(i), OptIns::SEARCH, 1)));
    put.unwrap();
    index.fold().unwrap();
    for i in 0..callers {
        let book: Vec<_> = (i * BOOK..(i + 1) * BOOK).map(number).collect();
        index.lookup(&caller(i), Purpose::Search, &book).unwrap();
        if i % 64 == 0 {
            // So that what waits to be written down is.
            clock.advance(Duration::from_secs(61));
        }
    }
}

fn options(disk: &SimDisk, clock: &Arc<ManualClock>, is_checked: bool) -> Options {
    common::options(clock).disk(disk).check_databases(is_checked)
}

/// Reads of an open of what a power loss leaves.
fn reads(disk: &SimDisk, seed: u64, clock: &Arc<ManualClock>, is_checked: bool) -> usize {
    let left = disk.crash(seed);
    let index = Index::open(DIR, options(&left, clock, is_checked)).unwrap();
    let reads = left.reads() as usize;
    let again = index.lookup(&caller(0), Purpose::Search, &[number(3)]).unwrap();
    assert_eq!((again.charged(), again.matches().count()), (0, 1), "what was paid for stays paid for");
    index.verify(|_, _| ()).unwrap();
    reads
}

#[test]
fn after_a_crash_an_open_reads_no_more_than_after_a_close() {
    let (disk, clock) = (SimDisk::new(1), common::clock());
    let index = Index::open(DIR, options(&disk, &clock, true)).unwrap();
    fill(&index, &clock, 300);
    let crashed = disk.crash(7);
    drop(index);
    let [unchecked, checked] = [false, true].map(|is_checked| reads(&disk, 0, &clock, is_checked));
    println!("after a close {unchecked} reads, with the check {checked}");
    assert!(unchecked < checked, "the check reads nothing");
    // As it was in the middle of its work, and as a crash of the next run would leave that.
    for seed in 0..8 {
        for (is_checked, closed) in [(false, unchecked), (true, checked)] {
            let after = reads(&crashed, seed, &clock, is_checked);
            assert!(after <= closed + SLACK, "checked: {is_checked}; after a crash {after} reads, else {closed}");
        }
    }
}

/// Pages of both databases that were read since it is noted.
fn pages_read(disk: &SimDisk) -> usize {
    ["ledger.redb", "index.redb"].map(|name| disk.pages_read(Path::new(DIR).join(name)).len()).iter().sum()
}

/// The default: an open walks over no whole file, whatever ended before it.
#[test]
fn an_open_after_a_crash_reads_as_much_of_large_files_as_of_small_ones() {
    let [small, large] = [200, 4_000].map(|callers| {
        let (disk, clock) = (SimDisk::new(callers), common::clock());
        // What is replayed is bounded, here by a little that the smaller one reaches too.
        let options = |disk| common::options(&clock).active_callers(1 << 10).disk(disk);
        let index = Index::open(DIR, options(&disk)).unwrap();
        fill(&index, &clock, callers);
        let left = disk.crash(callers);
        drop(index);
        left.note_reads();
        let index = Index::open(DIR, options(&left)).unwrap();
        let opened = pages_read(&left);
        index.verify(|_, _| ()).unwrap();
        let all = pages_read(&left);
        println!("{callers} callers: an open read {opened} of {all} pages of both databases");
        (opened, all)
    });
    assert!(large.1 > 5 * small.1, "verify reads every page that a tree has: {} and {}", small.1, large.1);
    assert!(large.0 <= small.0 + SLACK, "an open reads {} and {} pages", small.0, large.0);
}

/// Copies what a killed process would leave.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// The least of some opens, whose files are in the page cache.
fn open_ms(dir: &Path, clock: &Arc<ManualClock>, is_checked: bool) -> f64 {
    let took = (0..5).map(|_| {
        let place = tempfile::tempdir_in(dir.parent().unwrap()).unwrap();
        copy(dir, place.path());
        let started = Instant::now();
        let index = Index::open(place.path(), common::options(clock).check_databases(is_checked)).unwrap();
        let took = started.elapsed();
        drop(index);
        took
    });
    took.min().unwrap().as_secs_f64() * 1e3
}

#[test]
fn measured() {
    let Some(callers) = std::env::var("UNLISTED_OPENING_CALLERS").ok().and_then(|text| text.parse().ok()) else {
        return;
    };
    let (place, clock) = (tempfile::tempdir().unwrap(), common::clock());
    let (dir, killed) = (place.path().join("index"), place.path().join("killed"));
    let index = Index::open(&dir, common::options(&clock)).unwrap();
    fill(&index, &clock, callers);
    copy(&dir, &killed);
    drop(index);
    let bytes = fs::metadata(dir.join("ledger.redb")).unwrap().len();
    println!("{callers} callers, a ledger of {:.1} MB", bytes as f64 / 1e6);
    for (left, dir) in [("closed", &dir), ("killed", &killed)] {
        let [unchecked, checked] = [false, true].map(|is_checked| open_ms(dir, &clock, is_checked));
        println!("{left}: {checked:.1} ms with the check, {unchecked:.1} ms without");
    }
}
