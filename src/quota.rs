//! The budget arithmetic: GCRA, one number of state per bucket. Pure: time comes in as a number.
//!
//! A bucket's state is the *theoretical arrival time* (TAT) at which everything spent so far will be paid
//! back. Spending a number moves it one refill interval into the future, and it may be at most a burst's worth
//! of intervals ahead of now. The generic cell rate algorithm of ITU-T I.371, as rate limiters use it.
//!
//! A [`Quota`](crate::Quota) bounds burst × interval to 2^62 ns, so the sums below do not overflow for the next
//! 146 years; they saturate all the same, towards refusing.

use crate::words::Quota;

/// How many numbers the bucket can pay now.
pub(crate) const fn available(tat_ns: u64, now_ns: u64, quota: Quota) -> u64 {
    let limit = quota.burst() * quota.interval_ns();
    limit.saturating_sub(tat_ns.saturating_sub(now_ns)) / quota.interval_ns()
}

/// The state after spending `count`, whether or not the bucket could pay.
pub(crate) const fn spend(tat_ns: u64, now_ns: u64, count: u64, quota: Quota) -> u64 {
    let start = if tat_ns > now_ns { tat_ns } else { now_ns };
    start.saturating_add(count.saturating_mul(quota.interval_ns()))
}

/// Nanoseconds until the bucket can pay `count`, or a full burst if that is less.
pub(crate) const fn wait_ns(tat_ns: u64, now_ns: u64, count: u64, quota: Quota) -> u64 {
    let count = if count < quota.burst() { count } else { quota.burst() };
    let spent = spend(tat_ns, now_ns, count, quota);
    spent.saturating_sub(now_ns.saturating_add(quota.burst() * quota.interval_ns()))
}

/// The state under another refill interval from `since_ns` on, at which the debt in numbers stays. Rounded up.
pub(crate) const fn stretch(tat_ns: u64, since_ns: u64, before_ns: u64, after_ns: u64) -> u64 {
    let ahead_ns = tat_ns.saturating_sub(since_ns);
    if ahead_ns == 0 || before_ns == after_ns || before_ns == 0 {
        return tat_ns;
    }
    let stretched = (ahead_ns as u128 * after_ns as u128).div_ceil(before_ns as u128);
    let stretched = if stretched > u64::MAX as u128 { u64::MAX } else { stretched as u64 };
    since_ns.saturating_add(stretched)
}

/// A lease is at most this share of a burst: what a crash may cost a bucket.
const LEASE_SHARE: u64 = 16;
/// What comes back within this time may always be leased: a crash costs no more than that much waiting.
const LEASE_FLOOR_NS: u64 = 1_000_000_000;

/// The state to make durable for a bucket that was spent up to `tat_ns`: ahead of it by `chunk` numbers, within a
/// share of the burst and within what the bucket could pay now.
///
/// Everything below it may be spent without another write. It counts as spent after a crash.
pub(crate) const fn leased(tat_ns: u64, now_ns: u64, chunk: u64, quota: Quota) -> u64 {
    let burst_ns = quota.burst() * quota.interval_ns();
    let share_ns = burst_ns / LEASE_SHARE;
    let chunk_ns = chunk.saturating_mul(quota.interval_ns());
    let ahead_ns = if chunk_ns > LEASE_FLOOR_NS { chunk_ns } else { LEASE_FLOOR_NS };
    let ahead_ns = if ahead_ns < share_ns { ahead_ns } else { share_ns };
    let wanted = tat_ns.saturating_add(ahead_ns);
    let limit = now_ns.saturating_add(burst_ns);
    let wanted = if wanted < limit { wanted } else { limit };
    if wanted > tat_ns { wanted } else { tat_ns }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In any window the bucket pays at most burst + refill × window, whatever is asked when.
        #[test]
        fn never_more_than_burst_and_refill(
            burst in 1_u64..50, refill in 1_u64..5_000,
            steps in prop::collection::vec((0_u64..4_000_000_000_000, 0_u64..60), 1..60),
        ) {
            let quota = Quota::per_hour(burst, refill).unwrap();
            let (mut tat, mut now, mut paid) = (0, 0, Vec::new());
            for (pause, want) in steps {
                now += pause;
                let grant = want.min(available(tat, now, quota));
                tat = spend(tat, now, grant, quota);
                paid.push((now, grant));
            }
            for (i, (start, _)) in paid.iter().enumerate() {
                let mut sum = 0;
                for (at, grant) in &paid[i..] {
                    sum += grant;
                    prop_assert!(sum <= burst + (at - start) / quota.interval_ns() + 1);
                }
            }
        }

        /// Waiting as long as told is enough, and waiting less is not.
        #[test]
        fn waiting_as_told_is_enough(
            burst in 1_u64..50, refill in 1_u64..5_000, spent in 0_u64..50, want in 1_u64..80, now in 0_u64..1 << 40,
        ) {
            let quota = Quota::per_hour(burst, refill).unwrap();
            let tat = spend(0, now, spent.min(burst), quota);
            let want = want.min(burst);
            let wait = wait_ns(tat, now, want, quota);
            prop_assert!(available(tat, now + wait, quota) >= want);
            if wait > 0 {
                prop_assert!(available(tat, now + wait - 1, quota) < want);
            }
        }
    }

    #[test]
    fn a_lease_is_a_share_of_the_burst_and_within_what_can_be_paid() {
        let quota = Quota::per_hour(1_600, 60).unwrap();
        let minute = quota.interval_ns();
        let spent = |count| spend(0, 0, count, quota);
        assert_eq!(leased(spent(10), 0, 20, quota), spent(30));
        assert_eq!(leased(spent(10), 0, 1_000, quota), spent(110));
        assert_eq!(leased(spent(1_590), 0, 1_000, quota), spent(1_600));
        assert_eq!(leased(spent(1_600), minute, 1_000, quota), spent(1_601));
        assert_eq!(leased(spent(1_600), 0, 1_000, quota), spent(1_600));
        // A second's refill is always leased, if the burst allows.
        assert_eq!(leased(spent(10), 0, 0, quota), spent(10) + 1_000_000_000);
        assert_eq!(leased(7, 0, 0, Quota::per_hour(15, 3_600_000).unwrap()), 7 + 15 * 1_000_000 / 16);
    }

    #[test]
    fn a_fresh_bucket_has_a_burst() {
        let quota = Quota::per_hour(50_000, 6).unwrap();
        assert_eq!(available(0, 0, quota), 50_000);
        let tat = spend(0, 0, 50_000, quota);
        assert_eq!(available(tat, 0, quota), 0);
        assert_eq!(wait_ns(tat, 0, 1, quota), 600_000_000_000);
        assert_eq!(available(tat, 600_000_000_000, quota), 1);
    }
}
