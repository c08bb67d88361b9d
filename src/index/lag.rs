//! How far the index may be behind the feed that it follows.
//!
//! What a host reports is a cause and no time stamp: "everything that was in the feed when I took this moment is in the
//! index". So clocks of other machines play no part in it, and a feed in which nothing happens is not a late one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::{Index, Inner};
use crate::words::{Clock, Error, Result};

/// A moment of an open index, by its own clocks: see [`Index::feed_moment`]. It is worth nothing after the index was
/// closed, and to no other index.
///
/// ```
/// use std::time::Duration;
/// use unlisted::{Index, Options, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let moment = index.feed_moment();
/// // The feed has no end that could be asked for, and its last entry was ten seconds old by the feed's own clock.
/// index.followed_until(moment.earlier_by(Duration::from_secs(10)))?;
/// assert!(index.lag() >= Some(Duration::from_secs(10)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedMoment {
    /// Which opening of which index.
    opening: u64,
    // Signed and wide: a moment may lie before the clocks' own beginnings, and must not be taken for a later one.
    monotonic_ns: i128,
    wall_ns: i128,
}

impl FeedMoment {
    /// A moment this much before. For a feed whose end cannot be asked for, and whose entries carry times: the age of the last
    /// entry by the *feed's* clock. A clock of the feed that steps back makes an entry look younger than it is, so prefer
    /// the end of the feed where there is one.
    #[must_use]
    pub const fn earlier_by(self, age: Duration) -> Self {
        let age_ns = age.as_nanos() as i128;
        let (monotonic_ns, wall_ns) =
            (self.monotonic_ns.saturating_sub(age_ns), self.wall_ns.saturating_sub(age_ns));
        Self { opening: self.opening, monotonic_ns, wall_ns }
    }

    /// The longer of what both clocks say. The monotonic clock may stand still while a machine sleeps, or is a copy of one
    /// that did; the wall clock may be set back. Neither makes an age shorter than the other knows it to be.
    fn age_at(&self, now: &Self) -> Duration {
        let monotonic_ns = now.monotonic_ns.saturating_sub(self.monotonic_ns);
        let wall_ns = now.wall_ns.saturating_sub(self.wall_ns);
        // More than a Duration of u64 nanoseconds is 584 years.
        Duration::from_nanos(u64::try_from(monotonic_ns.max(wall_ns).max(0)).unwrap_or(u64::MAX))
    }
}

/// What was reported to an open index. It is kept in memory only: what was so before a restart says nothing of now.
#[derive(Debug)]
pub(super) struct Followed {
    opening: u64,
    until: ArcSwapOption<FeedMoment>,
}

/// Tells the openings of a process apart.
static OPENINGS: AtomicU64 = AtomicU64::new(0);

impl Default for Followed {
    fn default() -> Self {
        Self { opening: OPENINGS.fetch_add(1, Ordering::Relaxed), until: ArcSwapOption::empty() }
    }
}

impl Followed {
    fn now(&self, clock: &dyn Clock) -> FeedMoment {
        let (monotonic_ns, wall_ns) =
            (i128::from(clock.monotonic_ns()), i128::from(clock.wall_ms()).saturating_mul(1_000_000));
        FeedMoment { opening: self.opening, monotonic_ns, wall_ns }
    }

    /// A report takes the place of the one before, unless that was of a later moment.
    fn report(&self, moment: FeedMoment) -> Result<()> {
        if moment.opening != self.opening {
            return Err(Error::ForeignMoment);
        }
        self.until.rcu(|until| match until {
            Some(until) if until.monotonic_ns > moment.monotonic_ns => Some(until.clone()),
            _ => Some(Arc::new(moment)),
        });
        Ok(())
    }

    fn lag(&self, clock: &dyn Clock) -> Option<Duration> {
        let until = self.until.load_full()?;
        Some(until.age_at(&self.now(clock)))
    }
}

impl Index {
    /// Now, to be taken *before* the host asks its feed how far it goes: see [`Index::followed_until`].
    #[must_use]
    pub fn feed_moment(&self) -> FeedMoment {
        self.inner.followed.now(&*self.inner.clock)
    }

    /// The host's word that everything that was in its feed at this moment is in the index.
    ///
    /// Take the moment, ask the feed for its end (or read until nothing more comes), apply what is before that end, report the
    /// moment. A feed in which nothing happened is reported all the same: that there was nothing is what was found
    /// out. The answer must come from a server that was in charge of the feed when it gave it: a cut-off replica of
    /// the feed would say that nothing happened. An earlier moment than was reported before changes nothing.
    ///
    /// # Errors
    /// [`Error::ForeignMoment`] for a moment of another index, or from before this one was opened.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use unlisted::{Caller, Error, Index, ManualClock, Options, PhoneHash, Purpose, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let clock = Arc::new(ManualClock::default());
    /// let options = Options::new(Secret::from_hex(&"5e".repeat(32))?).clock(clock.clone());
    /// let index = Index::open(dir.path(), options.max_lag(Duration::from_secs(5)))?;
    /// let ask = || index.lookup(&Caller::new("user-7"), Purpose::Search, &[PhoneHash::from_bytes([7; 32])]);
    /// assert!(matches!(ask(), Err(Error::Lagging { found: None, .. }))); // nobody knows yet
    ///
    /// let moment = index.feed_moment();
    /// // Here the host reads its feed to the end, and applies it with `index.update`.
    /// index.followed_until(moment)?;
    /// assert!(ask().is_ok());
    ///
    /// clock.advance(Duration::from_secs(6));
    /// assert!(matches!(ask(), Err(Error::Lagging { found: Some(_), .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn followed_until(&self, moment: FeedMoment) -> Result<()> {
        self.inner.followed.report(moment)
    }

    /// How far the index may be behind the host's feed: how long ago everything in the feed was in the index. `None` before the
    /// first report, which is after every open. A metric that costs two reads of clocks, whether there is a limit or not.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        self.inner.followed.lag(&*self.inner.clock)
    }
}

impl Inner {
    /// What the index is known to hold, if that matters here: whatever is read after this call is not older.
    pub(super) fn known_until(&self) -> Option<Arc<FeedMoment>> {
        self.options.max_lag.and_then(|_| self.followed.until.load_full())
    }

    /// Refuses if what was read when this was known is further behind the host's feed now than it may be, or if nothing was
    /// known.
    pub(super) fn check_lag(&self, known: Option<&FeedMoment>) -> Result<()> {
        let Some(limit) = self.options.max_lag else { return Ok(()) };
        let found = known.map(|known| known.age_at(&self.followed.now(&*self.clock)));
        if found.is_some_and(|lag| lag <= limit) { Ok(()) } else { Err(Error::Lagging { found, limit }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ManualClock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_moment_before_the_clocks_began_is_not_taken_for_their_beginning() {
        let (clock, followed) = (ManualClock::default(), Followed::default());
        clock.advance(5 * SECOND);
        followed.report(followed.now(&clock).earlier_by(3_600 * SECOND)).unwrap();
        assert_eq!(followed.lag(&clock), Some(3_600 * SECOND));
        followed.report(followed.now(&clock).earlier_by(Duration::MAX)).unwrap();
        assert_eq!(followed.lag(&clock), Some(3_600 * SECOND));
    }

    #[test]
    fn the_most_that_can_be_said_is_centuries_and_not_nothing() {
        let (clock, followed) = (ManualClock::default(), Followed::default());
        followed.report(followed.now(&clock).earlier_by(Duration::MAX)).unwrap();
        assert_eq!(followed.lag(&clock), Some(Duration::from_nanos(u64::MAX)));
    }

    #[test]
    fn reports_only_go_forwards() {
        let (clock, followed) = (ManualClock::default(), Followed::default());
        assert_eq!(followed.lag(&clock), None);
        let early = followed.now(&clock);
        clock.advance(4 * SECOND);
        let late = followed.now(&clock);
        clock.advance(SECOND);
        for (moment, lag) in [(early, 5), (late, 1), (early, 1)] {
            followed.report(moment).unwrap();
            assert_eq!(followed.lag(&clock), Some(lag * SECOND));
        }
    }

    #[test]
    fn neither_clock_makes_it_fresher_than_the_other_knows() {
        let (clock, followed) = (ManualClock::at_wall_ms(1_000_000), Followed::default());
        followed.report(followed.now(&clock)).unwrap();
        clock.advance(2 * SECOND);
        clock.set_wall_ms(0);
        assert_eq!(followed.lag(&clock), Some(2 * SECOND));
        clock.set_wall_ms(1_060_000);
        assert_eq!(followed.lag(&clock), Some(60 * SECOND));
    }

    #[test]
    fn a_moment_belongs_to_one_opening() {
        let (clock, before, after) = (ManualClock::default(), Followed::default(), Followed::default());
        let moment = before.now(&clock);
        assert!(matches!(after.report(moment), Err(Error::ForeignMoment)));
        assert_eq!(after.lag(&clock), None);
    }
}
