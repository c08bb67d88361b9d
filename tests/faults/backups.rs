//! What a stop leaves of backups: the last one that was finished is whole and can be restored, also after a restore that was
//! stopped.

use std::time::Duration;

use unlisted::internals::SimDisk;
use unlisted::{Error, Index, ManualClock};

use super::history::{BACKUPS, Plan, RESTORED, Step, random};
use super::model::{Books, Listings, audit, check_is_spent};
use super::{Stop, Told, Tried, stop_at};

impl Told {
    /// The listings of the backups that may be there: the last that was finished, and the one under way. The second says
    /// whether there must be one.
    fn backed_up(&self, done: usize) -> (Vec<Listings>, bool) {
        let is_backup = |at: &usize| matches!(self.steps.get(*at), Some(Step::Backup(_)));
        let finished = (0..done).rev().find(is_backup);
        let under_way = Some(done).filter(is_backup);
        // A backup changes no listing: what was there before it is what it has.
        let listings = finished.iter().chain(&under_way).map(|at| self.after[*at].0.clone()).collect();
        (listings, finished.is_some())
    }

    /// Restores what a stop, and a power loss after it, left on this disk.
    pub fn check_backup(&self, call: u64, stop: &Stop, disk: &SimDisk, tried: &Tried) {
        let (candidates, must_be) = self.backed_up(stop.done);
        if candidates.is_empty() {
            return;
        }
        let random = |what| random(self.plan.seed, call, what);
        tried.count(true);
        let clock = stop.clock();
        let second = stop_at(disk, 1 + random(21) % 200, random(22));
        let restore =
            |disk: &SimDisk, clock: &_| Index::restore(BACKUPS, RESTORED, self.plan.options(disk, clock));
        match restore(disk, &clock) {
            Ok(index) => compare_restored(self.plan, &index, &clock, &candidates),
            Err(Error::NotABackup { .. }) if !must_be => return,
            Err(error) => panic!("a finished backup cannot be restored: {error}"),
        }
        let left = second.lock().unwrap().take();
        if let Some(disk) = left {
            tried.count(true);
            let clock = stop.clock();
            let index = match restore(&disk, &clock) {
                // It was there already, whole.
                Err(Error::NotEmpty { .. }) => Index::open(RESTORED, self.plan.options(&disk, &clock)),
                other => other,
            };
            compare_restored(
                self.plan,
                &index.expect("a restore that was stopped is done again"),
                &clock,
                &candidates,
            );
        }
    }
}

/// A restored index has the listings of its backup, and no budget until it is refilled.
fn compare_restored(plan: Plan, index: &Index, clock: &ManualClock, candidates: &[Listings]) {
    check_is_spent(index);
    // By then every budget is full.
    clock.advance(Duration::from_secs(2 * 3_600));
    audit(index, &mut Books::new(plan), candidates, 0);
    index.verify(|_, _| ()).expect("the restored index is whole");
}
