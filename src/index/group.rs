//! Work that arrives together is done together: the first caller leads, the others wait for their outcome.
//!
//! No thread of its own. A caller that finds nobody leading leads at once; whoever comes meanwhile queues up, and
//! the first of the queue leads next. Callers that have just been served tend to come back, so a leader who was
//! not alone the last time waits a moment for as many as there were, a small part of what the work itself takes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// A leader waits for others at most this part of what the last turn took ...
const PATIENCE: u32 = 4;
/// ... and at most so long.
const MOST_PATIENCE: Duration = Duration::from_millis(1);

/// Callers with work `W`, of which each gets an outcome `R`.
#[derive(Debug)]
pub(super) struct Group<W, R> {
    queue: Mutex<Queue<W, R>>,
    /// As many wait as the leader waits for.
    arrived: Condvar,
}

#[derive(Debug)]
struct Queue<W, R> {
    waiting: VecDeque<Arc<Ticket<W, R>>>,
    /// Somebody leads, or was told to.
    led: bool,
    /// The leader waits for more to come.
    gathering: bool,
    /// Callers that were about at the end of the last turn.
    expected: usize,
    /// When the last turn ended, and how long it took.
    last: Option<(Instant, Duration)>,
}

/// A caller in the queue.
#[derive(Debug)]
struct Ticket<W, R> {
    state: Mutex<TicketState<W, R>>,
    changed: Condvar,
}

#[derive(Debug)]
struct TicketState<W, R> {
    /// Until a leader takes it.
    work: Option<W>,
    leads: bool,
    /// The outer one: there is an outcome. The inner one: the leader lived to tell it.
    outcome: Option<Option<R>>,
}

/// What a caller is to do.
pub(super) enum Entered<'a, W, R> {
    /// Nothing: another did the work. `None` if that one ended by a panic.
    Done(Option<R>),
    /// Take the work and finish it.
    Lead(Turn<'a, W, R>),
}

/// One leader's turn. Dropping it unfinished tells everybody whose work was taken, and hands over.
pub(super) struct Turn<'a, W, R> {
    group: &'a Group<W, R>,
    tickets: Vec<Arc<Ticket<W, R>>>,
    start: Instant,
    finished: bool,
}

impl<W, R> Default for Group<W, R> {
    fn default() -> Self {
        let queue = Queue { waiting: VecDeque::new(), led: false, gathering: false, expected: 0, last: None };
        Self { queue: Mutex::new(queue), arrived: Condvar::new() }
    }
}

impl<W, R> Group<W, R> {
    /// Brings work; returns when it is done or when the caller is to lead.
    pub(super) fn enter(&self, work: W) -> Entered<'_, W, R> {
        let state = TicketState { work: Some(work), leads: false, outcome: None };
        let ticket = Arc::new(Ticket { state: Mutex::new(state), changed: Condvar::new() });
        let mut queue = self.queue.lock();
        queue.waiting.push_back(ticket.clone());
        if queue.led {
            if queue.gathering && queue.waiting.len() >= queue.expected {
                self.arrived.notify_one();
            }
            drop(queue);
            if let Some(outcome) = ticket.wait() {
                return Entered::Done(outcome);
            }
            queue = self.queue.lock();
        }
        queue.led = true;
        self.gather(&mut queue);
        Entered::Lead(Turn { group: self, tickets: Vec::new(), start: Instant::now(), finished: false })
    }

    /// Waits for those who were there the last time, if that was just now.
    fn gather(&self, queue: &mut MutexGuard<'_, Queue<W, R>>) {
        let Some((ended, took)) = queue.last.filter(|(ended, took)| ended.elapsed() < *took) else { return };
        let until = ended + (took / PATIENCE).min(MOST_PATIENCE);
        queue.gathering = true;
        while queue.waiting.len() < queue.expected {
            if self.arrived.wait_until(queue, until).timed_out() {
                break;
            }
        }
        queue.gathering = false;
    }
}

impl<W, R> Ticket<W, R> {
    /// The outcome, or `None` if the caller is to lead.
    fn wait(&self) -> Option<Option<R>> {
        let mut state = self.state.lock();
        loop {
            if let Some(outcome) = state.outcome.take() {
                return Some(outcome);
            }
            if state.leads {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    fn lead(&self) {
        self.state.lock().leads = true;
        self.changed.notify_one();
    }

    fn end(&self, outcome: Option<R>) {
        self.state.lock().outcome = Some(outcome);
        self.changed.notify_one();
    }
}

impl<W, R> Turn<'_, W, R> {
    /// Takes the work of those who wait, in the order in which they came, the leader's own first. Stops before
    /// `size` adds up to more than `limit`, but takes at least one.
    pub(super) fn take(&mut self, limit: usize, size: impl Fn(&W) -> usize) -> Vec<W> {
        let mut queue = self.group.queue.lock();
        let mut total = 0;
        let mut taken = Vec::with_capacity(queue.waiting.len());
        while let Some(ticket) = queue.waiting.front() {
            let mut state = ticket.state.lock();
            total += state.work.as_ref().map_or(0, &size);
            if total > limit && !taken.is_empty() {
                break;
            }
            taken.extend(state.work.take());
            drop(state);
            self.tickets.extend(queue.waiting.pop_front());
        }
        self.start = Instant::now();
        taken
    }

    /// Tells everybody the outcome of what was taken, in the same order; returns the leader's own.
    pub(super) fn finish(mut self, outcomes: impl IntoIterator<Item = R>) -> Option<R> {
        let mut outcomes = outcomes.into_iter();
        self.finished = true;
        // The next turn gathers while this one tells.
        self.hand_over();
        let own = outcomes.next();
        for ticket in self.tickets.iter().skip(1) {
            ticket.end(outcomes.next());
        }
        own
    }

    /// The first of the queue leads next.
    fn hand_over(&self) {
        let mut queue = self.group.queue.lock();
        queue.last = Some((Instant::now(), self.start.elapsed()));
        queue.expected = self.tickets.len() + queue.waiting.len();
        queue.led = !queue.waiting.is_empty();
        let next = queue.waiting.front().cloned();
        drop(queue);
        if let Some(next) = next {
            next.lead();
        }
    }
}

impl<W, R> Drop for Turn<'_, W, R> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if self.tickets.is_empty() {
            // The leader's own, not taken yet.
            self.tickets.extend(self.group.queue.lock().waiting.pop_front());
        }
        self.hand_over();
        self.tickets.iter().for_each(|ticket| ticket.end(None));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// Enters; a leader answers each number with its square and counts the turn.
    fn square(group: &Group<usize, usize>, number: usize, turns: &AtomicUsize) -> usize {
        match group.enter(number) {
            Entered::Done(outcome) => outcome.unwrap(),
            Entered::Lead(mut turn) => {
                let work = turn.take(usize::MAX, |_| 1);
                turns.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(300));
                turn.finish(work.iter().map(|number| number * number)).unwrap()
            }
        }
    }

    #[test]
    fn everybody_gets_the_outcome_of_his_own_work_and_turns_are_shared() {
        const THREADS: usize = 16;
        const EACH: usize = 100;
        let (group, turns) = (Group::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (group, turns) = (&group, &turns);
                scope.spawn(move || {
                    for i in 0..EACH {
                        let number = thread * EACH + i;
                        assert_eq!(square(group, number, turns), number * number);
                    }
                });
            }
        });
        let turns = turns.into_inner();
        assert!(turns < THREADS * EACH / 2, "{turns} turns for {} pieces of work", THREADS * EACH);
        assert!(!group.queue.into_inner().led);
    }

    #[test]
    fn a_turn_takes_no_more_than_its_limit_and_the_rest_goes_next() {
        let group = Group::<usize, usize>::default();
        let Entered::Lead(mut turn) = group.enter(7) else { panic!("nobody else leads") };
        thread::scope(|scope| {
            let others: Vec<_> = (0..4)
                .map(|i| {
                    let group = &group;
                    let other = scope.spawn(move || match group.enter(10 + i) {
                        Entered::Done(outcome) => (1, outcome.unwrap()),
                        Entered::Lead(mut turn) => {
                            let work = turn.take(100, |work| *work);
                            let count = work.len();
                            (count, turn.finish(work).unwrap())
                        }
                    });
                    while group.queue.lock().waiting.len() < i + 2 {
                        thread::yield_now();
                    }
                    other
                })
                .collect();
            // 7 + 10 + 11 are within 30, with 12 they are not.
            assert_eq!(turn.take(30, |work| *work), [7, 10, 11]);
            assert_eq!(turn.finish([7, 10, 11]), Some(7));
            let ended: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
            assert_eq!(ended.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [10, 11, 12, 13]);
            assert_eq!(ended[2].0, 2, "the third leads for itself and the fourth");
        });
    }

    #[test]
    fn a_leader_that_panics_leaves_nobody_waiting() {
        let group = Group::<usize, usize>::default();
        let Entered::Lead(mut turn) = group.enter(1) else { panic!("nobody else leads") };
        thread::scope(|scope| {
            let follower = scope.spawn(|| matches!(group.enter(2), Entered::Done(None)));
            while group.queue.lock().waiting.len() < 2 {
                thread::yield_now();
            }
            let ended = catch_unwind(AssertUnwindSafe(|| {
                turn.take(usize::MAX, |_| 1);
                let _turn = turn;
                panic!("in the middle of it");
            }));
            assert!(ended.is_err());
            assert!(follower.join().unwrap());
        });
        // Before it took anything: its own work goes, and the next caller leads.
        let Entered::Lead(turn) = group.enter(3) else { panic!("nobody else leads") };
        drop(turn);
        let Entered::Lead(mut turn) = group.enter(4) else { panic!("nobody else leads") };
        assert_eq!(turn.take(usize::MAX, |_| 1), [4]);
        assert_eq!(turn.finish([5]), Some(5));
    }
}
