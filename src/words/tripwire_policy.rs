//! What happens to who asks for tripwires.

use std::time::Duration;

use super::caller::check_kind;
use super::{OriginError, Quota};

/// What to do about a caller or an origin that met as many tripwires as its rule says.
///
/// ```
/// use unlisted::{Quota, TripwireAction};
/// let tighten = TripwireAction::TightenQuota(Quota::per_hour(100, 1)?);
/// assert_ne!(tighten, TripwireAction::Suspend);
/// # Ok::<(), unlisted::ParseQuotaError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TripwireAction {
    /// Tell the host ([`crate::Event::TripwireHit`]); so do the others.
    Event,
    /// Give it this quota of its own, or of burst and refill what it has less of already: nobody gets more by it.
    TightenQuota(Quota),
    /// Suspend it.
    Suspend,
}

/// From how many tripwires on something happens to a caller, and to the origins it comes through. Each scope may have
/// several rules.
///
/// Only numbers that were just paid for count, so that an address book that is synced each night meets the same tripwire
/// once. By default the host is told of every caller that meets one, and nothing else happens.
///
/// A rule holds as long as the count of its window is at or above its number: whoever is reinstated is suspended again by
/// the next tripwire, unless the window has passed.
///
/// ```
/// use std::time::Duration;
/// use unlisted::{Quota, TripwireAction, TripwirePolicy};
/// const DAY: Duration = Duration::from_secs(86_400);
/// let policy = TripwirePolicy::none()
///     .caller(1, DAY, TripwireAction::Event)
///     .caller(2, DAY, TripwireAction::TightenQuota(Quota::per_hour(100, 1)?))
///     .caller(4, 30 * DAY, TripwireAction::Suspend)
///     .origins("network", 50, DAY, TripwireAction::Event)?;
/// assert!(policy.clone().origins("Not a kind", 1, DAY, TripwireAction::Event).is_err());
/// assert_ne!(policy, TripwirePolicy::default());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TripwirePolicy {
    rules: Vec<TripwireRule>,
}

/// One threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TripwireRule {
    /// `caller`, or the kind of origins.
    scope: String,
    pub(crate) tripwires: u32,
    pub(crate) window: Duration,
    pub(crate) action: TripwireAction,
}

const CALLER: &str = "caller";

impl Default for TripwirePolicy {
    fn default() -> Self {
        Self::none().caller(1, Duration::from_secs(86_400), TripwireAction::Event)
    }
}

impl TripwirePolicy {
    /// Nothing happens: tripwires are counted only.
    #[must_use]
    pub const fn none() -> Self {
        Self { rules: Vec::new() }
    }

    /// What happens to a caller that met so many tripwires in a window. Windows go by whole hours, as those of
    /// [`crate::TopQuery::window`] do, and reach back at most [`crate::Options::activity_retention`].
    #[must_use]
    pub fn caller(self, tripwires: u32, window: Duration, action: TripwireAction) -> Self {
        self.with(CALLER, tripwires, window, action)
    }

    /// What happens to an origin of a kind whose callers together met so many tripwires in a window. A tripwire counts
    /// once for each caller.
    ///
    /// # Errors
    /// [`OriginError`] for what is no kind of origin.
    pub fn origins(
        self,
        kind: &str,
        tripwires: u32,
        window: Duration,
        action: TripwireAction,
    ) -> Result<Self, OriginError> {
        check_kind(kind)?;
        Ok(self.with(kind, tripwires, window, action))
    }

    fn with(mut self, scope: &str, tripwires: u32, window: Duration, action: TripwireAction) -> Self {
        self.rules.push(TripwireRule { scope: scope.to_owned(), tripwires, window, action });
        self
    }

    /// The rules for callers, or for a kind of origin.
    pub(crate) fn of<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = &'a TripwireRule> {
        self.rules.iter().filter(move |rule| rule.scope == scope)
    }
}
