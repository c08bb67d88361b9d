//! Everything at once from many threads, for a while: nobody gets a wrong answer, nobody gets stuck, and neither memory nor
//! handles, maps, threads, files or bytes on the disk grow without end.
//!
//! `UNLISTED_SOAK_SECONDS=3600` runs the load for an hour, and as many cycles of opening and closing as fit in a tenth of it.
//! `UNLISTED_SOAK_PATIENCE_SECONDS` is for machines that have little time for it.

#![cfg(target_os = "linux")]

mod common;
#[path = "soak/watch.rs"]
mod watch;
#[path = "soak/work.rs"]
mod work;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use unlisted::{BackupMode, Caller, Error, Index, Options, PhoneHash, Purpose};

use watch::{Usage, Watch};
use work::Load;

/// An ordinary run.
const LOAD: Duration = Duration::from_secs(3);
/// A thread that is at the same for so long is stuck, or the machine has no time for it.
const PATIENCE: Duration = Duration::from_secs(180);

fn patience() -> Duration {
    setting("UNLISTED_SOAK_PATIENCE_SECONDS").unwrap_or(PATIENCE)
}
/// What comes and goes besides: arenas of the allocator, threads of imports, files that are just being replaced.
const SLACK: Usage =
    Usage { resident_bytes: 64 << 20, handles: 48, maps: 96, threads: 16, disk_bytes: 64 << 20, files: 64 };

/// Figures of the process are of one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds() -> Option<Duration> {
    setting("UNLISTED_SOAK_SECONDS")
}

fn setting(name: &str) -> Option<Duration> {
    std::env::var(name).ok()?.parse().ok().map(Duration::from_secs)
}

/// With a background thread, the system's clock, and retentions that end within a long run.
fn options() -> Options {
    Options::new(common::secret())
        .quotas(common::wide_quotas())
        .index_cache_bytes(4 << 20)
        .ledger_cache_bytes(4 << 20)
        .import_memory_bytes(8 << 20)
        .segment_listings(4_000)
        .fold_at_changes(2_000)
        .novelty_window(Duration::from_secs(600))
        .removal_retention(Duration::from_secs(60))
        .disclosure_retention(Duration::from_secs(120))
}

/// The most of each sample from `from` to `to`, in parts of the run.
fn most(samples: &[Usage], from: f64, to: f64) -> Usage {
    let at = |part: f64| (samples.len() as f64 * part) as usize;
    samples[at(from)..at(to)].iter().copied().reduce(Usage::most).unwrap_or_default()
}

/// The end of a run takes no more than its beginning, but for half as much and some slack.
fn check_bounded(samples: &[Usage]) {
    let (early, late) = (most(samples, 0.1, 0.5), most(samples, 0.5, 1.0));
    println!("the first half took at most {early:?}\nthe second half took at most {late:?}");
    let figures = |usage: Usage| {
        [usage.resident_bytes, usage.handles, usage.maps, usage.threads, usage.disk_bytes, usage.files]
    };
    let names = ["resident bytes", "handles", "maps", "threads", "bytes on the disk", "files"];
    for (((name, early), late), slack) in names.iter().zip(figures(early)).zip(figures(late)).zip(figures(SLACK)) {
        assert!(late <= early + early / 2 + slack, "{name} grow: {early}, then {late}");
    }
}

fn run_load(index: &Index, backups: &Path, time: Duration) -> (Vec<Usage>, Arc<Watch>) {
    let watch = Arc::new(Watch::default());
    let _guard = watch.guard(patience());
    let (stop, small_charged, answered) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let load = Load { index, stop: &stop, backups, small_charged: &small_charged, answered: &answered };
    let mut samples = Vec::new();
    thread::scope(|scope| {
        // Also if one of them fails, the others end.
        let spawn = |name: &'static str, work: fn(&Load<'_>, &watch::Hand)| {
            let (hand, load) = (watch.hand(name), &load);
            scope.spawn(move || {
                let _stopper = Stopper(load.stop);
                work(load, &hand);
            });
        };
        spawn("lookups 1", |load, hand| work::look(load, hand, 1));
        spawn("lookups 2", |load, hand| work::look(load, hand, 2));
        spawn("lookups 3", |load, hand| work::look(load, hand, 3));
        spawn("updates", work::update);
        spawn("erasures", work::erase);
        spawn("maintenance", work::maintain);
        spawn("backups", work::back_up);
        spawn("operator", work::operate);
        let until = Instant::now() + time;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            thread::sleep((time / 60).clamp(Duration::from_millis(50), Duration::from_secs(5)));
            samples.push(Usage::now(index.dir()));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let small = small_charged.load(Ordering::Relaxed);
    // One an hour comes back.
    let hours = time.as_secs() / 3_600 + 1;
    assert!(small <= work::SMALL_BURST + hours, "{small} numbers of {} were charged", work::SMALL_BURST);
    println!("{} lookups answered", answered.load(Ordering::Relaxed));
    (samples, watch)
}

/// Tells the others to stop when its thread ends, however it ends.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn everything_at_once_stays_right_and_bounded() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (dir, backups) = (folder.path().join("index"), folder.path().join("backups"));
    let index = Index::open(&dir, options()).unwrap();
    work::fill(&index);
    let time = seconds().unwrap_or(LOAD);
    let (samples, watch) = run_load(&index, &backups, time);
    for hand in watch.hands() {
        println!("{:<12} {:>9} steps", hand.name(), hand.done());
        assert!(hand.done() > 2, "{} did nothing", hand.name());
    }
    check_bounded(&samples);
    index.verify(|_, _| ()).unwrap();
    drop(index);
    // What was backed up under load is whole, too.
    let restored = Index::restore(&backups, folder.path().join("restored"), options()).unwrap();
    restored.verify(|_, _| ()).unwrap();
    restored.exhaust_budgets().unwrap();
    drop(restored);
    let index = Index::open(&dir, options()).unwrap();
    index.verify(|_, _| ()).unwrap();
    assert!(index.stats().unwrap().listings >= work::STEADY);
}

#[test]
fn a_thread_that_is_stuck_is_found_and_named_with_what_it_does() {
    let watch = Watch::default();
    let (busy, idle) = (watch.hand("busy"), watch.hand("idle"));
    busy.begins("working");
    idle.begins("waiting for a lock");
    let now = Instant::now();
    assert_eq!(watch.stuck(now, PATIENCE), None);
    let later = now + 2 * PATIENCE;
    let dump = watch.stuck(later, PATIENCE).unwrap();
    assert!(dump.contains("idle") && dump.contains("waiting for a lock") && dump.contains("working"), "{dump}");
}

/// Owners let go of an index one after the other while they ask: each lookup is answered, and the directory is free when
/// the last of them is gone, not before.
#[test]
fn a_close_under_load_answers_who_asks_and_is_complete_with_the_last_owner() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (dir, backups) = (folder.path().join("index"), folder.path().join("backups"));
    let watch = Arc::new(Watch::default());
    let _guard = watch.guard(patience());
    let open = || Index::open(&dir, options());
    work::fill(&open().unwrap());
    for _ in 0..if seconds().is_some() { 200 } else { 2 } {
        let index = open().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            // Every thread owns a handle, as every connection of a service does.
            let own = |name: &'static str, work: fn(&Index)| {
                let (index, hand, stop) = (index.clone(), watch.hand(name), &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        hand.begins(name);
                        work(&index);
                    }
                    hand.begins("closing");
                    drop(index);
                    hand.begins(watch::OVER);
                });
            };
            (0..3).for_each(|_| own("looking up", look_up));
            own("folding", |index| {
                index.fold().expect("an open index folds");
            });
            let hand = watch.hand("backing up");
            let (last, backups) = (index.clone(), &backups);
            scope.spawn(move || {
                hand.begins("backing up");
                last.backup(backups, BackupMode::Linked).expect("an open index is backed up");
                drop(last);
                hand.begins(watch::OVER);
            });
            drop(index);
            assert!(matches!(open(), Err(Error::InUse { .. })), "others still have it");
            thread::sleep(Duration::from_millis(50));
            stop.store(true, Ordering::Relaxed);
        });
    }
    open().unwrap().verify(|_, _| ()).unwrap();
}

fn look_up(index: &Index) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let caller = Caller::new(format!("owner {}", NEXT.fetch_add(1, Ordering::Relaxed) % 50));
    let hashes: Vec<PhoneHash> = (0..64).map(common::number).collect();
    let reply = index.lookup(&caller, Purpose::Search, &hashes).expect("an open index answers");
    assert_eq!(reply.matches().count(), 64);
}

#[test]
fn many_openings_and_closings_leave_nothing_behind() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (dir, backups) = (folder.path().join("index"), folder.path().join("backups"));
    let cycle = || {
        let index = Index::open(&dir, options()).unwrap();
        look_up(&index);
        let changed = index.update(|batch| {
            (0..50).try_for_each(|number| {
                let account = unlisted::AccountId::from(number);
                batch.put(common::number(number), account, unlisted::OptIns::ALL_PURPOSES, 1)
            })
        });
        changed.unwrap();
        index.fold().unwrap();
        index.compact_disclosures().unwrap();
        index.vacuum().unwrap();
        index.backup(&backups, BackupMode::Linked).unwrap();
    };
    work::fill(&Index::open(&dir, options()).unwrap());
    // What is made once, and the allocator's arenas.
    (0..3).for_each(|_| cycle());
    let before = Usage::now(folder.path());
    let cycles = if let Some(time) = seconds() {
        let until = Instant::now() + time / 10;
        let mut cycles = 0;
        while Instant::now() < until {
            cycle();
            cycles += 1;
        }
        cycles
    } else {
        (0..5).for_each(|_| cycle());
        5
    };
    let after = Usage::now(folder.path());
    println!("{cycles} openings and closings: {before:?}, then {after:?}");
    assert_eq!(after.handles, before.handles, "handles are left");
    assert!(after.threads <= before.threads, "threads are left: {} and then {}", before.threads, after.threads);
    assert!(after.files <= before.files, "files are left: {} and then {}", before.files, after.files);
    // What a cycle leaves, every cycle leaves.
    assert!(after.maps < before.maps + 5 + cycles / 50, "maps are left: {} and then {}", before.maps, after.maps);
    assert!(after.resident_bytes < before.resident_bytes + (32 << 20), "memory is left: {before:?}, {after:?}");
}
