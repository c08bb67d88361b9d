//! How many distinct numbers a scope may ask for: a burst, and a refill.

mod presets;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::caller::check_kind;
use super::{Origin, OriginError};

/// A budget: `burst` distinct numbers at once, refilled one number at a time.
///
/// Text form: `burst/refill`, the refill in numbers per hour.
///
/// ```
/// use unlisted::Quota;
/// let quota: Quota = "50000/6".parse()?;
/// assert_eq!(quota, Quota::per_hour(50_000, 6)?);
/// assert_eq!(quota.to_string(), "50000/6");
/// assert!(Quota::per_hour(0, 6).is_err());
/// # Ok::<(), unlisted::ParseQuotaError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    burst: u64,
    interval_ns: u64,
}

/// Why something is not a quota or a policy.
///
/// ```
/// use unlisted::{ParseQuotaError, Quota};
/// assert_eq!("fifty".parse::<Quota>(), Err(ParseQuotaError::Malformed));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseQuotaError {
    /// Not `burst/refill`.
    #[error("expected a quota as BURST/REFILL with the refill per hour, for example 50000/6")]
    Malformed,
    /// Nothing could ever be asked.
    #[error("a quota has a burst of 1 to {max}, found {found}")]
    BurstOutOfRange {
        /// What was given.
        found: u64,
        /// Largest burst at this refill.
        max: u64,
    },
    /// A refill of zero never forgives; one above the clock's resolution is no limit.
    #[error("a quota refills 1 to {max} numbers an hour, found {found}")]
    RefillOutOfRange {
        /// What was given.
        found: u64,
        /// Largest refill.
        max: u64,
    },
    /// Not `scope=burst/refill`.
    #[error("expected SCOPE=BURST/REFILL where SCOPE is caller, everyone or a kind of origin")]
    NoScope,
    /// The scope is not a word.
    #[error("the scope of a quota is caller, everyone or a kind of origin")]
    BadScope(#[source] OriginError),
}

const HOUR_NS: u64 = 3_600_000_000_000;
/// Largest time that a full burst may stand for: 146 years, so that no sum of two overflows.
const MAX_DEBT_NS: u64 = 1 << 62;

impl Quota {
    /// A burst, and a refill per hour.
    ///
    /// # Errors
    /// [`ParseQuotaError::BurstOutOfRange`], [`ParseQuotaError::RefillOutOfRange`].
    pub const fn per_hour(burst: u64, refill: u64) -> Result<Self, ParseQuotaError> {
        if refill == 0 || refill > HOUR_NS {
            return Err(ParseQuotaError::RefillOutOfRange { found: refill, max: HOUR_NS });
        }
        // Rounded up: a quota never refills faster than it says.
        Self::from_parts(burst, HOUR_NS.div_ceil(refill))
    }

    /// A burst, and the nanoseconds in which one number comes back.
    pub(crate) const fn from_parts(burst: u64, interval_ns: u64) -> Result<Self, ParseQuotaError> {
        if interval_ns == 0 || interval_ns > HOUR_NS {
            return Err(ParseQuotaError::RefillOutOfRange { found: 0, max: HOUR_NS });
        }
        let max = MAX_DEBT_NS / interval_ns;
        if burst == 0 || burst > max {
            return Err(ParseQuotaError::BurstOutOfRange { found: burst, max });
        }
        Ok(Self { burst, interval_ns })
    }

    /// The same refill under a smaller burst.
    pub(crate) const fn with_burst(self, burst: u64) -> Self {
        Self { burst, ..self }
    }

    /// Distinct numbers that may be asked at once.
    #[must_use]
    pub const fn burst(self) -> u64 {
        self.burst
    }

    /// Nanoseconds in which one number comes back.
    #[must_use]
    pub const fn interval_ns(self) -> u64 {
        self.interval_ns
    }

    /// Numbers that come back in an hour, as they were given if they were at most 1,897,366. From there on several refills
    /// are the same number of nanoseconds, and this is the largest of them that reads back as the same quota.
    #[must_use]
    pub const fn refill_per_hour(self) -> u64 {
        // The interval was rounded up, so this is.
        HOUR_NS.div_ceil(self.interval_ns)
    }
}

impl FromStr for Quota {
    type Err = ParseQuotaError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (burst, refill) = text.split_once('/').ok_or(ParseQuotaError::Malformed)?;
        let number = |part: &str| part.parse::<u64>().map_err(|_| ParseQuotaError::Malformed);
        Self::per_hour(number(burst)?, number(refill)?)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.burst, self.refill_per_hour())
    }
}

/// The quotas of an index, by scope. It is kept in the ledger.
///
/// The default gives a caller 50,000 numbers and 6 an hour after that, which is what Signal's contact discovery
/// runs with, a network 200,000 and 2,000 an hour, and sets no bound on everyone together. [`QuotaPolicy::strict`],
/// [`QuotaPolicy::messenger`] and [`QuotaPolicy::social`] are for kinds of service, and tighter.
///
/// ```
/// use unlisted::{Quota, QuotaPolicy};
/// let policy = QuotaPolicy::default()
///     .with_caller(Quota::per_hour(1_000, 60)?)
///     .with_origin("device", Quota::per_hour(2_000, 60)?)?
///     .with_everyone(Quota::per_hour(10_000_000, 1_000_000)?);
/// assert_eq!(policy.origin("device"), Some(Quota::per_hour(2_000, 60)?));
/// assert_eq!(policy.origin("cohort"), None);
/// # Ok::<(), unlisted::ParseQuotaError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaPolicy {
    caller: Quota,
    origins: BTreeMap<String, Quota>,
    everyone: Option<Quota>,
}

impl Default for QuotaPolicy {
    fn default() -> Self {
        let network = Quota { burst: 200_000, interval_ns: HOUR_NS / 2_000 };
        Self {
            caller: Quota { burst: 50_000, interval_ns: HOUR_NS / 6 },
            origins: BTreeMap::from([(Origin::NETWORK.to_owned(), network)]),
            everyone: None,
        }
    }
}

impl QuotaPolicy {
    /// A quota for callers and no other.
    #[must_use]
    pub const fn of_caller(caller: Quota) -> Self {
        Self { caller, origins: BTreeMap::new(), everyone: None }
    }

    /// Replaces the quota of a caller.
    #[must_use]
    pub fn with_caller(mut self, quota: Quota) -> Self {
        self.caller = quota;
        self
    }

    /// Replaces the quota of one kind of origin. An origin of a kind without a quota is not limited.
    ///
    /// # Errors
    /// [`ParseQuotaError::BadScope`] if the kind is not a short word.
    pub fn with_origin(mut self, kind: &str, quota: Quota) -> Result<Self, ParseQuotaError> {
        check_kind(kind).map_err(ParseQuotaError::BadScope)?;
        self.origins.insert(kind.to_owned(), quota);
        Ok(self)
    }

    /// Sets the quota of all callers together.
    #[must_use]
    pub const fn with_everyone(mut self, quota: Quota) -> Self {
        self.everyone = Some(quota);
        self
    }

    /// Applies one `scope=burst/refill`, as the command line takes it.
    ///
    /// # Errors
    /// [`ParseQuotaError`].
    pub fn with_text(self, text: &str) -> Result<Self, ParseQuotaError> {
        let (scope, quota) = text.split_once('=').ok_or(ParseQuotaError::NoScope)?;
        let quota = quota.parse()?;
        match scope {
            "caller" => Ok(self.with_caller(quota)),
            "everyone" => Ok(self.with_everyone(quota)),
            kind => self.with_origin(kind, quota),
        }
    }

    /// The quota of a caller.
    #[must_use]
    pub const fn caller(&self) -> Quota {
        self.caller
    }

    /// The quota of a kind of origin, if it has one.
    #[must_use]
    pub fn origin(&self, kind: &str) -> Option<Quota> {
        self.origins.get(kind).copied()
    }

    /// The kinds of origin that have a quota, in the order of their names.
    pub fn origins(&self) -> impl Iterator<Item = (&str, Quota)> {
        self.origins.iter().map(|(kind, quota)| (kind.as_str(), *quota))
    }

    /// The quota of all callers together, if there is one.
    #[must_use]
    pub const fn everyone(&self) -> Option<Quota> {
        self.everyone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_checked() {
        assert!(matches!("50000".parse::<Quota>(), Err(ParseQuotaError::Malformed)));
        assert!(matches!("a/b".parse::<Quota>(), Err(ParseQuotaError::Malformed)));
        assert!(matches!("0/1".parse::<Quota>(), Err(ParseQuotaError::BurstOutOfRange { found: 0, .. })));
        assert!(matches!("1/0".parse::<Quota>(), Err(ParseQuotaError::RefillOutOfRange { found: 0, .. })));
        assert!(matches!("18446744073709551615/1".parse::<Quota>(), Err(ParseQuotaError::BurstOutOfRange { .. })));
    }

    #[test]
    fn the_refill_is_never_faster_than_stated() {
        for refill in [1, 6, 7, 1_000, 999_983] {
            let quota = Quota::per_hour(10, refill).unwrap();
            assert!(quota.interval_ns() * refill >= HOUR_NS);
        }
    }

    #[test]
    fn quotas_read_their_own_text() {
        let read = |refill| Quota::per_hour(10, refill).unwrap();
        let small = (1..5_000).chain((5_000..1_897_366).step_by(97)).chain([999_983, 1_897_365, 1_897_366]);
        for refill in small {
            assert_eq!(read(refill).to_string(), format!("10/{refill}"));
        }
        // Above, a refill may be rounded, once.
        let large = (0..42).flat_map(|bits| [1 << bits, (1 << bits) + 1, (1 << bits) / 3 * 2 + 1]);
        for refill in large.filter(|refill| *refill <= HOUR_NS).chain([1_897_367, 3_000_001, HOUR_NS]) {
            let quota = read(refill);
            assert_eq!(quota.to_string().parse(), Ok(quota), "{refill}");
        }
    }

    #[test]
    fn policies_read_the_command_line() {
        let policy = QuotaPolicy::default().with_text("caller=10/5").unwrap().with_text("device=3/2").unwrap();
        let policy = policy.with_text("everyone=100/50").unwrap();
        assert_eq!(policy.caller().burst(), 10);
        assert_eq!(policy.origin("device").unwrap().burst(), 3);
        assert_eq!(policy.everyone().unwrap().burst(), 100);
        assert_eq!(QuotaPolicy::default().with_text("10/5"), Err(ParseQuotaError::NoScope));
        assert!(matches!(QuotaPolicy::default().with_text("A b=10/5"), Err(ParseQuotaError::BadScope(_))));
    }
}
