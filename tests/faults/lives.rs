//! Histories in which something fails, once, and that go on.

use std::sync::Arc;

use unlisted::internals::{Fault, SimDisk};
use unlisted::{Clock, Error, Index, ManualClock};

use super::common;
use super::history::{Plan, Step, random, run};
use super::model::{Books, Listings};
use super::{compare, mark_of, setting, settle};

/// Lives of each kind in a history.
const LIVES: u64 = 16;
/// Steps without space.
const FULL_STEPS: usize = 6;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A call that changes the disk.
    Call(Fault),
    Read,
    /// From a step on there is no more space, for some steps.
    Full,
}

/// The lives of a history, spread over all its calls, reads and steps.
pub fn all_of(plan: Plan) -> Vec<(u64, (Trouble, u64))> {
    let mut quiet = Life::begin(plan);
    quiet.run(None);
    assert_eq!(quiet.first_failure, None, "nothing was wrong");
    let (changes, reads) = (quiet.disk.changes(), quiet.disk.reads());
    let kinds = [
        (Trouble::Call(Fault::Error), changes),
        (Trouble::Call(Fault::Short), changes),
        (Trouble::Call(Fault::Gone), changes),
        (Trouble::Read, reads),
        (Trouble::Full, plan.steps().len() as u64),
    ];
    let lives = setting("UNLISTED_FAULT_LIVES").unwrap_or(LIVES);
    let mut all = Vec::new();
    for (kind, (trouble, most)) in (0..).zip(kinds) {
        let lives = lives.min(most);
        // One somewhere in each part of the history.
        all.extend((0..lives).map(|part| {
            let (from, to) = (most * part / lives, most * (part + 1) / lives);
            let at = 1 + from + random(plan.seed, part, 900 + kind) % (to - from).max(1);
            (at * 8 + kind, (trouble, at))
        }));
    }
    all
}

/// Lives one of them.
pub fn live(plan: Plan, trouble: Trouble, at: u64) {
    let mut life = Life::begin(plan);
    match trouble {
        Trouble::Call(fault) => life.disk.fail(at, fault),
        Trouble::Read => life.disk.fail_read(at),
        Trouble::Full => {}
    }
    life.run(Some((trouble, at)));
    let crashed = life.disk.crash(random(plan.seed, at, 901));
    life.index = None;
    life.disk.limit(None);
    if !plan.is_synced() {
        life.books.lose_unsynced();
    }
    let clock = || Arc::new(ManualClock::at_wall_ms(life.clock.wall_ms()));
    let check = |disk: &SimDisk| {
        let clock = clock();
        let index = plan.open(disk, &clock).expect("it opens when nothing fails");
        compare(&index, &clock, &life.durable, life.books.clone(), at % 2);
    };
    check(&crashed);
    if trouble != Trouble::Call(Fault::Gone) {
        check(&life.disk);
    }
}

/// A history under way.
struct Life {
    plan: Plan,
    disk: SimDisk,
    clock: Arc<ManualClock>,
    index: Option<Index>,
    /// What lookups may say now.
    visible: Vec<Listings>,
    /// What may be there after a reopening.
    durable: Vec<Listings>,
    books: Books,
    /// The step that failed first since the index was opened.
    first_failure: Option<&'static str>,
}

fn kind_of(step: &Step) -> &'static str {
    match step {
        Step::Update(_) | Step::SetOptIns(_) => "update",
        Step::Lookup { .. } => "lookup",
        Step::Import(_) => "import",
        Step::Erase(_) => "erase",
        Step::Fold | Step::Compact | Step::Vacuum | Step::Backup(_) | Step::Reopen | Step::Wait(_) => "other",
    }
}

impl Life {
    fn begin(plan: Plan) -> Self {
        Self {
            plan,
            disk: SimDisk::new(plan.seed),
            clock: common::clock(),
            index: None,
            visible: vec![Listings::default()],
            durable: vec![Listings::default()],
            books: Books::new(plan),
            first_failure: None,
        }
    }

    fn run(&mut self, trouble: Option<(Trouble, u64)>) {
        self.reopen(trouble);
        for (at, step) in self.plan.steps().iter().enumerate() {
            if let Some((Trouble::Full, from)) = trouble {
                let full = (from as usize - 1..from as usize - 1 + FULL_STEPS).contains(&at);
                // Somewhere in the middle of what the next commit or segment needs.
                let more_bytes = random(self.plan.seed, from, 902) as usize % (64 << 10);
                match (full, at + 1 == from as usize) {
                    (true, true) => self.disk.limit(Some(more_bytes)),
                    (true, false) => {}
                    (false, _) => self.disk.limit(None),
                }
            }
            match step {
                Step::Reopen => self.reopen(trouble),
                Step::Wait(time) => {
                    self.clock.advance(*time);
                    self.books.wait(*time);
                }
                _ => self.step(step, at, trouble),
            }
        }
    }

    /// Closes and opens. What failed once does not fail again, unless the device is lost or full.
    fn reopen(&mut self, trouble: Option<(Trouble, u64)>) {
        self.index = None;
        if self.disk.has_lost() {
            // What reads well may not be on the disk, and no sync tells: only a restart of the system does.
            self.disk = self.disk.crash(random(self.plan.seed, 0, 903));
            if !self.plan.is_synced() {
                self.books.lose_unsynced();
            }
        }
        let mut opened = self.plan.open(&self.disk, &self.clock);
        if let Err(error) = &opened {
            assert!(trouble.is_some_and(|(trouble, _)| trouble != Trouble::Call(Fault::Short)), "{error}");
            if matches!(trouble, Some((Trouble::Full, _))) {
                self.disk.limit(None);
            }
            if self.disk.has_lost() {
                return self.reopen(trouble);
            }
            opened = self.plan.open(&self.disk, &self.clock);
        }
        match opened {
            Ok(index) => self.index = Some(index),
            Err(error) => assert!(matches!(trouble, Some((Trouble::Call(Fault::Gone), _))), "again: {error}"),
        }
        self.first_failure = None;
        self.visible = self.durable.clone();
    }

    fn step(&mut self, step: &Step, at: usize, trouble: Option<(Trouble, u64)>) {
        let Some(index) = &self.index else { return };
        match run(index, step, &mark_of(at)) {
            Ok(done) => {
                self.may_go_on(step, true, trouble);
                settle(&mut self.visible, &mut self.books, step, at, &done);
                self.durable.iter_mut().for_each(|listings| {
                    listings.apply(step, &mark_of(at));
                });
            }
            Err(error) => {
                assert!(
                    trouble.is_some_and(|(trouble, _)| trouble != Trouble::Call(Fault::Short)),
                    "step {at}, {step:?}: {error}"
                );
                self.may_go_on(step, false, trouble);
                self.fail(step, at, &error, trouble);
                self.first_failure.get_or_insert(kind_of(step));
            }
        }
    }

    /// What fails closed, and what goes on: a ledger that failed refuses lookups and lets updates be, and the reverse.
    fn may_go_on(&self, step: &Step, has_worked: bool, trouble: Option<(Trouble, u64)>) {
        let Some((Trouble::Call(Fault::Error), _)) = trouble else { return };
        let expected = match (self.first_failure, kind_of(step)) {
            (Some("lookup"), "update" | "import") | (Some("update"), "lookup") => true,
            (Some("lookup"), "lookup") | (Some("update"), "update") => false,
            _ => return,
        };
        assert_eq!(has_worked, expected, "{step:?} after a failed {:?}", self.first_failure);
    }

    fn fail(&mut self, step: &Step, at: usize, error: &Error, trouble: Option<(Trouble, u64)>) {
        let is_gone = matches!(trouble, Some((Trouble::Call(Fault::Gone), _))) && self.first_failure.is_some();
        if is_gone || matches!(error, Error::Poisoned { what: "index", .. }) {
            // It was not tried, or in vain.
            return;
        }
        let applied = |all: &[Listings]| -> Vec<Listings> {
            let mut with = all.to_vec();
            for listings in all {
                let mut listings = listings.clone();
                listings.apply(step, &mark_of(at));
                if !with.contains(&listings) {
                    with.push(listings);
                }
            }
            with
        };
        self.durable = applied(&self.durable);
        match step {
            Step::Erase(accounts) => {
                // An error of the disclosure log comes after the listings are gone.
                self.visible = applied(&self.visible);
                self.books.erase(accounts, false);
            }
            Step::Lookup { asker, purpose, numbers } => {
                self.books.may_show(&self.visible, asker, *purpose, numbers);
            }
            _ => {}
        }
    }
}
