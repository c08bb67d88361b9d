//! Whole histories on the simulated disk (`src/disk/sim`, which says what it does), against a model.
//!
//! A seed decides a history of updates, imports, erasures, folds, lookups, waits, compactions, vacuums, backups and reopenings.
//! It is stopped at every call that changes the disk: by a power loss or by the end of the process; or a call fails and the
//! history goes on. Whatever happens: what was acknowledged is there, what was not is there whole or not at all, no
//! budget came back, nobody is shown who opted out, who was shown is on record, and the last backup that was finished can be
//! restored.
//!
//! `UNLISTED_FAULT_SEEDS=n` runs n seeds, from `UNLISTED_FAULT_FROM` on (1), and `UNLISTED_FAULT_STRIDE=m` stops at every mth
//! call only, another one of the m for each seed, so that many histories are covered in the same time. What fails prints the
//! command that runs it again: `UNLISTED_FAULT_SEED` is a history, `UNLISTED_FAULT_AT` the number of the call.
//! `--nocapture` shows how many crash points were tried.

#![cfg(feature = "internals")]

#[path = "faults/backups.rs"]
mod backups;
mod common;
#[path = "faults/history.rs"]
mod history;
#[path = "faults/lives.rs"]
mod lives;
#[path = "faults/model.rs"]
mod model;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use unlisted::internals::{Moment, SimDisk};
use unlisted::{Clock, Index, ManualClock, Purpose};

use history::{Asker, Done, NUMBERS, Plan, Step, random, run};
use model::{Books, Listings, audit};

/// Seeds of an ordinary run.
const SEEDS: u64 = 1;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn seeds() -> Vec<u64> {
    match setting("UNLISTED_FAULT_SEED") {
        Some(seed) => vec![seed],
        None => {
            let from = setting("UNLISTED_FAULT_FROM").unwrap_or(1);
            (from..from + setting("UNLISTED_FAULT_SEEDS").unwrap_or(SEEDS)).collect()
        }
    }
}

/// Is this call of a seed's history one to stop at?
fn is_chosen(seed: u64, call: u64) -> bool {
    let stride = setting("UNLISTED_FAULT_STRIDE").unwrap_or(1).max(1);
    setting("UNLISTED_FAULT_AT").is_some() || call % stride == random(seed, 0, 8) % stride
}

/// What a test tried, over all seeds.
#[derive(Default)]
struct Tried {
    seeds: u64,
    /// Disks that a power loss or the end of a process left, opened and compared with the model.
    power_losses: AtomicU64,
    kills: AtomicU64,
}

impl Tried {
    fn count(&self, is_power_loss: bool) {
        let counter = if is_power_loss { &self.power_losses } else { &self.kills };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Prints the sum so far, so that a run that is ended early has told what it did.
    fn tell(&mut self, test: &str) {
        self.seeds += 1;
        let (losses, kills) = (self.power_losses.load(Ordering::Relaxed), self.kills.load(Ordering::Relaxed));
        println!(
            "{test}: {} crash points over {} seeds: {losses} power losses, {kills} ends of the process; nothing lost, \
             nothing refunded",
            losses + kills,
            self.seeds
        );
    }
}

/// Checks items on all cores. What fails says how to run it again.
fn check_all<T: Sync>(test: &str, seed: u64, items: &[(u64, T)], check: impl Fn(u64, &T) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((at, item)) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if setting("UNLISTED_FAULT_AT").is_some_and(|only| only != *at) {
                continue;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(*at, item))) {
                eprintln!(
                    "\nrun it again: UNLISTED_FAULT_SEED={seed} UNLISTED_FAULT_AT={at} \
                     cargo test --all-features --test faults {test}\n"
                );
                std::panic::resume_unwind(panic);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..std::thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    });
}

fn mark_of(at: usize) -> [u8; 8] {
    (at as u64).to_le_bytes()
}

/// Where a history stood when its disk was stopped.
struct Stop {
    disk: SimDisk,
    /// Steps that had ended.
    done: usize,
    wall_ms: u64,
    is_power_loss: bool,
}

/// A history that nothing disturbed: what it must hold after each number of steps.
struct Told {
    plan: Plan,
    steps: Vec<Step>,
    after: Vec<(Listings, Books)>,
}

/// Runs a history, stopping at every call in so many ways, of which every second one is a power loss; a single one is
/// chosen by the seed.
fn tell(plan: Plan, steps: Vec<Step>, ways: u64) -> (Told, Vec<(u64, Stop)>) {
    let (disk, clock) = (SimDisk::new(plan.seed), common::clock());
    let (stops, done) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let watch = {
        let (stops, done, clock) = (stops.clone(), done.clone(), clock.clone());
        move |call: u64, moment: &Moment<'_>| {
            if !is_chosen(plan.seed, call) {
                return;
            }
            let (done, wall_ms) = (done.load(Ordering::SeqCst), clock.wall_ms());
            for at in (0..ways).map(|way| call * ways + way) {
                let is_power_loss =
                    if ways == 1 { !random(plan.seed, at, 1).is_multiple_of(4) } else { at.is_multiple_of(2) };
                let disk = if is_power_loss { moment.crash(random(plan.seed, at, 2)) } else { moment.kill() };
                stops.lock().unwrap().push((at, Stop { disk, done, wall_ms, is_power_loss }));
            }
        }
    };
    disk.watch(Arc::new(watch));
    let mut index = Some(plan.open(&disk, &clock).expect("the index is made"));
    let mut after = vec![(Listings::default(), Books::new(plan))];
    for (at, step) in steps.iter().enumerate() {
        let (listings, mut books) = after[at].clone();
        let mut listings = vec![listings];
        match step {
            Step::Reopen => {
                drop(index.take());
                index = Some(plan.open(&disk, &clock).expect("the index opens again"));
            }
            Step::Wait(time) => {
                clock.advance(*time);
                books.wait(*time);
            }
            _ => {
                let done =
                    run(index.as_ref().unwrap(), step, &mark_of(at)).expect("nothing is wrong with the disk");
                settle(&mut listings, &mut books, step, at, &done);
            }
        }
        after.push((listings.remove(0), books));
        done.store(at + 1, Ordering::SeqCst);
    }
    let (listings, mut books) = after[steps.len()].clone();
    let index = index.unwrap();
    clock.advance(Duration::from_secs(1_800));
    books.wait(Duration::from_secs(1_800));
    // The audit changes the disk too; it is not a step, so the model knows nothing of it.
    let before = stops.lock().unwrap().len();
    audit(&index, &mut books, &[listings], 0);
    books.check_shown(&index);
    index.verify(|_, _| ()).expect("the index is whole");
    drop(index);
    let mut stops = std::mem::take(&mut *stops.lock().unwrap());
    stops.truncate(before);
    (Told { plan, steps, after }, stops)
}

/// Takes what a step did to the model. Of the states that the index may have been in, those stay that agree.
fn settle(candidates: &mut Vec<Listings>, books: &mut Books, step: &Step, at: usize, done: &Done) {
    let applied = match done {
        Done::Changed { applied } => Some(*applied),
        Done::Answered(_) | Done::Other => None,
    };
    match (step, done) {
        (Step::Erase(accounts), _) => books.erase(accounts, true),
        (Step::Lookup { asker, purpose, numbers }, Done::Answered(reply)) => {
            books.note(candidates, (asker, *purpose, numbers), reply);
        }
        _ => {}
    }
    let mut expected = Vec::new();
    candidates.retain_mut(|listings| {
        expected.push(listings.apply(step, &mark_of(at)));
        applied.is_none_or(|applied| expected.last() == Some(&applied))
    });
    assert!(!candidates.is_empty(), "step {at}, {step:?}: {applied:?} were newer, and not one of {expected:?}");
}

impl Told {
    /// What may be there when it was stopped behind so many steps.
    fn at(&self, done: usize) -> (Vec<Listings>, Books) {
        let (before, mut books) = self.after[done].clone();
        let mut candidates = vec![before.clone()];
        if let Some(step) = self.steps.get(done) {
            let mut with = before;
            with.apply(step, &mark_of(done));
            match step {
                Step::Erase(accounts) => books.erase(accounts, false),
                Step::Lookup { asker, purpose, numbers } => {
                    books.may_show(&candidates, asker, *purpose, numbers);
                }
                _ => {}
            }
            candidates.push(with);
        }
        (candidates, books)
    }

    /// Opens what a stop left and compares it with the model. Opening is stopped too, somewhere; or the index goes on
    /// a little before the power goes.
    fn check(&self, call: u64, stop: &Stop, turn: u64, tried: &Tried) {
        let random = |what| random(self.plan.seed, call, what);
        let power = if stop.is_power_loss { "a power loss" } else { "the end of the process" };
        if setting("UNLISTED_FAULT_AT").is_some() {
            self.steps.iter().take(stop.done).for_each(|step| println!("done: {step:?}"));
            println!("call {call}: {power} in {:?}", self.steps.get(stop.done));
        }
        let (candidates, mut books) = self.at(stop.done);
        if stop.is_power_loss && !self.plan.is_synced() {
            books.lose_unsynced();
        }
        // Before anything else happens on the disk: what goes on makes backups too.
        let is_backup = turn == 2 || matches!(self.steps.get(stop.done), Some(Step::Backup(_)));
        let with_backup = is_backup.then(|| stop.disk.crash(random(20)));
        let second = stop_at(&stop.disk, 1 + random(3) % 24, random(4));
        let clock = stop.clock();
        tried.count(stop.is_power_loss);
        let index = self.plan.open(&stop.disk, &clock).expect("what a stop leaves opens");
        let (mut left, mut books_left) = compare(&index, &clock, &candidates, books.clone(), call % 2);
        if !self.plan.is_synced() {
            books.lose_unsynced();
            books_left.lose_unsynced();
        }
        let disk = second.lock().unwrap().take();
        if let Some(disk) = disk.filter(|_| turn == 0) {
            let clock = stop.clock();
            tried.count(true);
            let index = self.plan.open(&disk, &clock).expect("what a second stop leaves opens");
            compare(&index, &clock, &candidates, books, call / 2 % 2);
        } else if turn == 1 {
            go_on(&index, Plan { seed: random(6) }, &mut left, &mut books_left);
            if !self.plan.is_synced() {
                books_left.lose_unsynced();
            }
            tried.count(true);
            let index =
                self.plan.open(&stop.disk.crash(random(7)), &clock).expect("what a later stop leaves opens");
            compare(&index, &clock, &left, books_left, 2 + call / 2 % 2);
        }
        if let Some(disk) = with_backup {
            self.check_backup(call, stop, &disk, tried);
        }
    }
}

impl Stop {
    fn clock(&self) -> Arc<ManualClock> {
        Arc::new(ManualClock::at_wall_ms(self.wall_ms))
    }
}

/// What a power loss at this call leaves, once it was made.
fn stop_at(disk: &SimDisk, at: u64, seed: u64) -> Arc<Mutex<Option<SimDisk>>> {
    let left = Arc::new(Mutex::new(None));
    let to = left.clone();
    disk.watch(Arc::new(move |call, moment: &Moment<'_>| {
        if call == at {
            *to.lock().unwrap() = Some(moment.crash(seed));
        }
    }));
    left
}

/// Compares an index with the model. Returns those of the candidates that it may hold.
fn compare(
    index: &Index,
    clock: &ManualClock,
    candidates: &[Listings],
    mut books: Books,
    life: u64,
) -> (Vec<Listings>, Books) {
    books.check_shown(index);
    books.drain(index, candidates, life);
    clock.advance(Duration::from_secs(1_800));
    books.wait(Duration::from_secs(1_800));
    let left = audit(index, &mut books, candidates, life);
    index.verify(|_, _| ()).expect("the index is whole");
    (left, books)
}

/// Runs some steps of another history.
fn go_on(index: &Index, plan: Plan, left: &mut Vec<Listings>, books: &mut Books) {
    for (at, step) in (1_000..).zip(plan.steps().iter().take(6)) {
        if !matches!(step, Step::Reopen | Step::Wait(_)) {
            let done = run(index, step, &mark_of(at)).expect("it goes on");
            settle(left, books, step, at, &done);
        }
    }
    books.check_shown(index);
}

/// Making an index and sealing and compacting its log: every kind of stop at each call.
#[test]
fn creation() {
    let (seeds, mut tried) = (seeds(), Tried::default());
    // An ordinary run has enough of one.
    for seed in seeds.iter().copied().take(if seeds.len() > SEEDS as usize { seeds.len() } else { 1 }) {
        let started = std::time::Instant::now();
        let plan = Plan { seed };
        let steps = plan.steps();
        let first = |wanted: fn(&Step) -> bool| steps.iter().find(|step| wanted(step)).cloned();
        let update = first(|step| matches!(step, Step::Update(_)));
        let asker = Asker { name: "caller 0".to_owned(), network: None };
        let numbers = (0..NUMBERS).collect();
        let lookup = Step::Lookup { asker, purpose: Purpose::Search, numbers };
        let short = [update, Some(lookup), Some(Step::Compact)].into_iter().flatten().collect();
        let (told, stops) = tell(plan, short, 4);
        check_all("creation", seed, &stops, |at, stop| told.check(at, stop, at / 2 % 2, &tried));
        println!("seed {seed}: {} stops of a short history in {:?}", stops.len(), started.elapsed());
        tried.tell("creation");
    }
}

#[test]
fn crash() {
    let mut tried = Tried::default();
    for seed in seeds() {
        let started = std::time::Instant::now();
        let (told, stops) = tell(Plan { seed }, Plan { seed }.steps(), 1);
        check_all("crash", seed, &stops, |call, stop| {
            told.check(call, stop, random(seed, call, 5) % 4, &tried);
        });
        println!("seed {seed}: stopped at {} calls in {:?}", stops.len(), started.elapsed());
        tried.tell("crash");
    }
}

#[test]
fn failure() {
    let mut all = 0;
    for seed in seeds() {
        let started = std::time::Instant::now();
        let lives = lives::all_of(Plan { seed });
        check_all("failure", seed, &lives, |_, (trouble, at)| lives::live(Plan { seed }, *trouble, *at));
        all += lives.len();
        println!("seed {seed}: {} lives with a failure in {:?}; {all} so far", lives.len(), started.elapsed());
    }
}
