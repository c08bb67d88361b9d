//! Group commit: whoever finds no commit under way leads the next one, for everybody who came until it begins.

use std::thread;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::buckets::Advances;
use crate::words::Result;

/// How often a leader lets others run before it begins. A turn of the processor is a small part of what a commit takes.
const MOST_YIELDS: usize = 16;

/// Charges that wait to become durable together.
#[derive(Default)]
pub(super) struct Group {
    queue: Mutex<Queue>,
    /// Batches wait by turns, so that the end of one wakes nobody of the next but its leader.
    ended: [Condvar; 2],
}

#[derive(Default)]
struct Queue {
    /// The number of the batch that still takes charges.
    open: u64,
    waiting: Advances,
    /// Batches that ended.
    ended: u64,
    is_led: bool,
    /// A commit failed or its thread panicked: no later batch is tried.
    failed: bool,
}

/// What became of a charge's batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Durable,
    /// The leader knows why.
    Failed,
}

impl Group {
    /// Waits until these states are durable. One of the threads that wait runs `commit` for all of them.
    pub(super) fn commit(
        &self,
        advances: Advances,
        commit: impl FnOnce(Advances) -> Result<()>,
    ) -> Result<Outcome> {
        let mut queue = self.queue.lock();
        queue.waiting.extend(advances);
        let batch = queue.open;
        loop {
            if queue.failed {
                return Ok(Outcome::Failed);
            }
            if queue.ended > batch {
                return Ok(Outcome::Durable);
            }
            // Without a leader every batch before this one has ended.
            if !queue.is_led {
                return self.lead(queue, batch, commit);
            }
            self.condition(batch).wait(&mut queue);
        }
    }

    fn lead(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        batch: u64,
        commit: impl FnOnce(Advances) -> Result<()>,
    ) -> Result<Outcome> {
        queue.is_led = true;
        // Those whose commit just ended are about to ask again: let them come along, as long as some do.
        let mut came = 0;
        for _ in 0..MOST_YIELDS {
            if queue.waiting.len() == came {
                break;
            }
            came = queue.waiting.len();
            MutexGuard::unlocked(&mut queue, thread::yield_now);
        }
        queue.open = batch + 1;
        let advances = std::mem::take(&mut queue.waiting);
        drop(queue);
        // Also if `commit` panics: nobody must wait for ever.
        let mut turn = Turn { group: self, batch, failed: true };
        commit(advances)?;
        turn.failed = false;
        Ok(Outcome::Durable)
    }

    fn condition(&self, batch: u64) -> &Condvar {
        let [even, odd] = &self.ended;
        if batch.is_multiple_of(2) { even } else { odd }
    }
}

/// A leader's turn; its end ends the batch.
struct Turn<'a> {
    group: &'a Group,
    batch: u64,
    failed: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.group.queue.lock();
        queue.is_led = false;
        queue.ended = self.batch + 1;
        queue.failed |= self.failed;
        let failed = queue.failed;
        drop(queue);
        self.group.condition(self.batch).notify_all();
        if failed {
            self.group.condition(self.batch + 1).notify_all();
        } else {
            self.group.condition(self.batch + 1).notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::words::Error;

    #[test]
    fn every_charge_is_in_a_commit_that_ended_before_it_returned() {
        let group = Group::default();
        let durable = Mutex::new(Vec::new());
        let commits = AtomicUsize::new(0);
        thread::scope(|scope| {
            for worker in 0..16_u8 {
                let (group, durable, commits) = (&group, &durable, &commits);
                scope.spawn(move || {
                    for i in 0..200_u8 {
                        let mut row = [worker; 16];
                        row[15] = i;
                        let commit = |rows: Advances| {
                            thread::sleep(Duration::from_micros(50));
                            commits.fetch_add(1, Ordering::Relaxed);
                            durable.lock().extend(rows);
                            Ok(())
                        };
                        assert_eq!(group.commit(vec![row], commit).unwrap(), Outcome::Durable);
                        assert!(durable.lock().contains(&row));
                    }
                });
            }
        });
        assert_eq!(durable.lock().len(), 16 * 200);
        assert!(commits.into_inner() < 16 * 200 / 2, "the threads shared no commit");
    }

    #[test]
    fn a_failure_and_a_panic_fail_everybody_who_waits_and_all_later() {
        for panics in [false, true] {
            let group = Group::default();
            let fail = |_| {
                thread::sleep(Duration::from_millis(50));
                assert!(!panics, "as the test wants");
                Err(Error::EmptyCaller)
            };
            let outcomes = thread::scope(|scope| {
                let workers: Vec<_> = (0..8)
                    .map(|i| {
                        scope.spawn({
                            let group = &group;
                            move || group.commit(vec![[i; 16]], fail)
                        })
                    })
                    .collect();
                workers.into_iter().map(|worker| worker.join()).collect::<Vec<_>>()
            });
            let durable =
                |outcome: &std::thread::Result<Result<Outcome>>| matches!(outcome, Ok(Ok(Outcome::Durable)));
            assert!(!outcomes.iter().any(durable));
            assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok(Ok(Outcome::Failed)))).count(), 7);
            assert_eq!(group.commit(Vec::new(), |_| Ok(())).unwrap(), Outcome::Failed);
        }
    }
}
