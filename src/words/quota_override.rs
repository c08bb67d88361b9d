//! A quota of one caller or one origin, in place of what the policy says.

use std::time::Duration;

use super::{ParseQuotaError, Quota};

/// The quota of one caller or one origin: a trusted partner gets more, an account of two hours less until it is older.
///
/// ```
/// use std::time::Duration;
/// use unlisted::{Quota, QuotaOverride};
/// const DAY: Duration = Duration::from_secs(86_400);
/// let partner = QuotaOverride::fixed(Quota::per_hour(1_000_000, 10_000)?);
/// assert_eq!(partner.burst_after(Duration::ZERO), 1_000_000);
/// // 500 numbers at first, 50,000 after a month.
/// let newcomer = QuotaOverride::growing(500, Quota::per_hour(50_000, 6)?, 30 * DAY)?;
/// assert_eq!(newcomer.burst_after(Duration::ZERO), 500);
/// assert_eq!(newcomer.burst_after(15 * DAY), 25_250);
/// assert_eq!(newcomer.burst_after(60 * DAY), 50_000);
/// # Ok::<(), unlisted::ParseQuotaError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaOverride {
    quota: Quota,
    start_burst: u64,
    grows_for_ns: u64,
}

impl QuotaOverride {
    /// The same quota from the first moment on.
    #[must_use]
    pub const fn fixed(quota: Quota) -> Self {
        Self { quota, start_burst: quota.burst(), grows_for_ns: 0 }
    }

    /// A burst that begins with `start_burst` and grows evenly to that of `quota`, from the moment it is set.
    ///
    /// # Errors
    /// [`ParseQuotaError::BurstOutOfRange`] if the start is zero or above the burst of the quota.
    pub fn growing(start_burst: u64, quota: Quota, grows_for: Duration) -> Result<Self, ParseQuotaError> {
        if start_burst == 0 || start_burst > quota.burst() {
            return Err(ParseQuotaError::BurstOutOfRange { found: start_burst, max: quota.burst() });
        }
        let grows_for_ns = u64::try_from(grows_for.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self { quota, start_burst, grows_for_ns })
    }

    /// The quota it grows to.
    #[must_use]
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// The burst it begins with.
    #[must_use]
    pub const fn start_burst(&self) -> u64 {
        self.start_burst
    }

    /// How long it grows.
    #[must_use]
    pub const fn grows_for(&self) -> Duration {
        Duration::from_nanos(self.grows_for_ns)
    }

    /// The burst some time after it was set.
    #[must_use]
    pub fn burst_after(&self, age: Duration) -> u64 {
        self.after_ns(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)).burst()
    }

    /// The quota at an age in nanoseconds.
    pub(crate) fn after_ns(&self, age_ns: u64) -> Quota {
        if age_ns >= self.grows_for_ns {
            return self.quota;
        }
        let growth = u128::from(self.quota.burst().saturating_sub(self.start_burst));
        let grown = growth * u128::from(age_ns) / u128::from(self.grows_for_ns.max(1));
        let burst = self.start_burst.saturating_add(u64::try_from(grown).unwrap_or(u64::MAX));
        self.quota.with_burst(burst.min(self.quota.burst()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_grows_and_stops() {
        let quota = Quota::per_hour(1_000, 60).unwrap();
        let growing = QuotaOverride::growing(10, quota, Duration::from_nanos(990)).unwrap();
        let mut last = 0;
        for age_ns in 0..2_000 {
            let now = growing.after_ns(age_ns);
            assert_eq!(now.interval_ns(), quota.interval_ns());
            assert_eq!(now.burst(), (10 + age_ns).min(1_000));
            assert!(now.burst() >= last);
            last = now.burst();
        }
        assert_eq!(QuotaOverride::fixed(quota).after_ns(0), quota);
        assert!(QuotaOverride::growing(0, quota, Duration::ZERO).is_err());
        assert!(QuotaOverride::growing(1_001, quota, Duration::ZERO).is_err());
        let long = QuotaOverride::growing(1, quota, Duration::MAX).unwrap();
        assert_eq!(long.after_ns(u64::MAX - 1).burst(), 999);
    }
}
