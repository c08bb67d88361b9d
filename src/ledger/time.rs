//! The ledger's own time, which no clock step can hurry.
//!
//! Inside a run it follows the monotonic clock. Between two runs it follows the wall clock, but never back and
//! never further than a configured jump. Budgets refill by this time alone, so a wall clock that is set forward
//! gives back at most one jump's worth at each open, and one that is set back gives nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::words::Clock;

/// Where ledger time stood when it was last written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Ledger time.
    pub(super) ledger_ns: u64,
    /// The wall clock at the same moment.
    pub(super) wall_ms: u64,
}

/// A running ledger time.
#[derive(Debug)]
pub(super) struct LedgerTime {
    clock: Arc<dyn Clock>,
    start_ledger_ns: u64,
    start_monotonic_ns: u64,
}

impl LedgerTime {
    /// Goes on from a mark, believing the wall clock for at most `max_jump`.
    pub(super) fn resume(clock: Arc<dyn Clock>, mark: Mark, max_jump: Duration) -> Self {
        let jump_ms = u64::try_from(max_jump.as_millis()).unwrap_or(u64::MAX);
        let gap_ms = clock.wall_ms().saturating_sub(mark.wall_ms).min(jump_ms);
        Self {
            start_ledger_ns: mark.ledger_ns.saturating_add(gap_ms.saturating_mul(1_000_000)),
            start_monotonic_ns: clock.monotonic_ns(),
            clock,
        }
    }

    /// Ledger time now.
    pub(super) fn ledger_ns(&self) -> u64 {
        let run_ns = self.clock.monotonic_ns().saturating_sub(self.start_monotonic_ns);
        self.start_ledger_ns.saturating_add(run_ns)
    }

    /// Now, on both clocks.
    pub(super) fn now(&self) -> Mark {
        Mark { ledger_ns: self.ledger_ns(), wall_ms: self.clock.wall_ms() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ManualClock;

    const HOUR: Duration = Duration::from_secs(3_600);
    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn steps_of_the_wall_clock_do_not_move_a_run() {
        let clock = Arc::new(ManualClock::at_wall_ms(10 * HOUR_MS));
        let mark = Mark { ledger_ns: 5, wall_ms: 10 * HOUR_MS };
        let time = LedgerTime::resume(clock.clone(), mark, HOUR);
        clock.set_wall_ms(1_000 * HOUR_MS);
        assert_eq!(time.now().ledger_ns, 5);
        clock.set_wall_ms(0);
        assert_eq!(time.now().ledger_ns, 5);
        clock.advance(HOUR);
        assert_eq!(time.now().ledger_ns, 5 + HOUR_MS * 1_000_000);
    }

    #[test]
    fn between_runs_the_wall_clock_is_believed_forwards_and_up_to_the_jump() {
        let resume = |wall_ms| {
            let clock = Arc::new(ManualClock::at_wall_ms(wall_ms));
            let mark = Mark { ledger_ns: 0, wall_ms: 10 * HOUR_MS };
            LedgerTime::resume(clock, mark, HOUR * 24).now().ledger_ns / 1_000_000
        };
        assert_eq!(resume(12 * HOUR_MS), 2 * HOUR_MS);
        assert_eq!(resume(9 * HOUR_MS), 0);
        assert_eq!(resume(10_000 * HOUR_MS), 24 * HOUR_MS);
    }
}
