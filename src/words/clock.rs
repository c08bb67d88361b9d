//! Time, injected: the wall clock, which may step, and a monotonic clock, which may not.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the index takes its time from.
///
/// Inside a run only the monotonic clock moves budgets; the wall clock bridges the time between two runs, and
/// is believed only forwards and only up to a limit.
///
/// ```
/// use unlisted::{Clock, SystemClock};
/// /// A clock whose wall time is an hour ahead.
/// #[derive(Debug)]
/// struct Ahead(SystemClock);
/// impl Clock for Ahead {
///     fn wall_ms(&self) -> u64 {
///         self.0.wall_ms() + 3_600_000
///     }
///     fn monotonic_ns(&self) -> u64 {
///         self.0.monotonic_ns()
///     }
/// }
/// let system = SystemClock::default();
/// assert!(Ahead(system.clone()).wall_ms() > system.wall_ms());
/// ```
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since 1970.
    fn wall_ms(&self) -> u64;
    /// Nanoseconds since some fixed moment of this process. Never goes back.
    fn monotonic_ns(&self) -> u64;
}

/// The operating system's clocks.
///
/// ```
/// use unlisted::{Clock, SystemClock};
/// let clock = SystemClock::default();
/// let before = clock.monotonic_ns();
/// assert!(clock.wall_ms() > 1_700_000_000_000);
/// assert!(clock.monotonic_ns() >= before);
/// ```
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        wall_now_ms()
    }

    fn monotonic_ns(&self) -> u64 {
        // In 64 bits: every charge asks for it.
        let since = self.start.elapsed();
        since.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(since.subsec_nanos()))
    }
}

/// Milliseconds since 1970 by the system's wall clock; zero before that.
pub(crate) fn wall_now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A clock that stands still until it is moved: for tests and simulations.
///
/// ```
/// use std::time::Duration;
/// use unlisted::{Clock, ManualClock};
/// let clock = ManualClock::at_wall_ms(1_000);
/// clock.advance(Duration::from_secs(1));
/// assert_eq!((clock.wall_ms(), clock.monotonic_ns()), (2_000, 1_000_000_000));
/// clock.set_wall_ms(0); // the wall clock steps, the monotonic one does not
/// assert_eq!(clock.monotonic_ns(), 1_000_000_000);
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ms: AtomicU64,
    monotonic_ns: AtomicU64,
}

impl ManualClock {
    /// A clock whose wall time is this many milliseconds since 1970.
    #[must_use]
    pub const fn at_wall_ms(wall_ms: u64) -> Self {
        Self { wall_ms: AtomicU64::new(wall_ms), monotonic_ns: AtomicU64::new(0) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let wall = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let monotonic = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.wall_ms.fetch_add(wall, Ordering::SeqCst);
        self.monotonic_ns.fetch_add(monotonic, Ordering::SeqCst);
    }

    /// Steps the wall clock, as an operator or a time daemon may.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.load(Ordering::SeqCst)
    }
}
