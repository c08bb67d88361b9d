//! The quotas in force, those before them, and how a debt moves from one to the next.
//!
//! A bucket's moment means as many numbers as its refill interval says. Where a policy changes an interval, the debt in
//! numbers stays: the part of the moment that lay ahead of the change is stretched by the ratio of the intervals. Each
//! bucket notes the version that its moment was computed under, so that this happens when it is next touched, with
//! the same result whenever that is.
//!
//! A restore is such a change too: from its moment on, whatever was not charged since counts as fully spent.

use std::sync::Arc;

use super::{Scope, ScopeKind};
use crate::quota;
use crate::words::{Quota, QuotaOverride, QuotaPolicy};

/// A policy, and since when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Era {
    pub(super) version: u32,
    /// Ledger time.
    pub(super) since_ns: u64,
    pub(super) policy: QuotaPolicy,
    /// Does every bucket begin it with nothing left?
    pub(super) full_debt: bool,
}

impl Era {
    /// The first one of a ledger.
    pub(super) const fn first(version: u32, policy: QuotaPolicy) -> Self {
        Self { version, since_ns: 0, policy, full_debt: false }
    }
}

/// An override, and since when it grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Override {
    pub(super) quota: QuotaOverride,
    /// Ledger time at which the age of the scope was zero; before that of the ledger if it was older.
    pub(super) since_ns: i64,
}

impl Override {
    fn at(&self, now_ns: u64) -> Quota {
        let now_ns = i64::try_from(now_ns).unwrap_or(i64::MAX);
        let age_ns = now_ns.saturating_sub(self.since_ns).max(0);
        self.quota.after_ns(age_ns.unsigned_abs())
    }
}

/// The policies of a ledger. Replaced as a whole by whoever changes the policy.
#[derive(Debug, Clone)]
pub(super) struct Quotas {
    /// That of the policy in force.
    pub(super) version: u32,
    /// Never empty; the last one holds.
    eras: Arc<[Era]>,
    policy: Arc<QuotaPolicy>,
}

impl Quotas {
    /// What the file says: eras in the order of their versions.
    pub(super) fn new(version: u32, current: QuotaPolicy, mut eras: Vec<Era>) -> Self {
        if eras.is_empty() {
            eras.push(Era::first(version, current.clone()));
        }
        Self { version, eras: eras.into(), policy: Arc::new(current) }
    }

    /// The policy in force.
    pub(super) const fn policy(&self) -> &Arc<QuotaPolicy> {
        &self.policy
    }

    pub(super) fn eras(&self) -> &[Era] {
        &self.eras
    }

    /// After a change of the policy.
    pub(super) fn with_era(&self, era: Era) -> Self {
        let policy = Arc::new(era.policy.clone());
        let version = era.version;
        Self { version, eras: self.eras.iter().cloned().chain([era]).collect(), policy }
    }

    /// The quota of a scope, if it has one.
    #[inline]
    pub(super) fn of(&self, kind: ScopeKind<'_>, own: Option<&Override>, now_ns: u64) -> Option<Quota> {
        match own {
            Some(own) => Some(own.at(now_ns)),
            None => of(&self.policy, kind),
        }
    }

    /// What a moment that was computed under an earlier version is under this one. An override has to be what it was
    /// since that version: whoever changes it carries the bucket first.
    pub(super) fn carry(&self, scope: &Scope<'_>, own: Option<&Override>, tat_ns: u64, version: u32) -> u64 {
        let first = self.eras.partition_point(|era| era.version <= version);
        let (before, later) = self.eras.split_at(first);
        if later.is_empty() {
            return tat_ns;
        }
        // A kind that lost its quota keeps the interval that it had last.
        let mut interval_ns =
            before.iter().rev().find_map(|era| of(&era.policy, scope.kind)).map(Quota::interval_ns);
        let mut tat_ns = tat_ns;
        for era in later {
            let quota = own.map(|own| own.at(era.since_ns)).or_else(|| of(&era.policy, scope.kind));
            let Some(quota) = quota else { continue };
            if own.is_none()
                && let Some(before_ns) = interval_ns
            {
                tat_ns = quota::stretch(tat_ns, era.since_ns, before_ns, quota.interval_ns());
            }
            interval_ns = Some(quota.interval_ns());
            if era.full_debt {
                tat_ns = tat_ns.max(quota::spend(era.since_ns, era.since_ns, quota.burst(), quota));
            }
        }
        tat_ns
    }
}

fn of(policy: &QuotaPolicy, kind: ScopeKind<'_>) -> Option<Quota> {
    match kind {
        ScopeKind::Caller => Some(policy.caller()),
        ScopeKind::Origin(kind) => policy.origin(kind),
        ScopeKind::Everyone => policy.everyone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_NS: u64 = 3_600_000_000_000;

    fn quota(burst: u64, refill: u64) -> Quota {
        Quota::per_hour(burst, refill).unwrap()
    }

    fn caller() -> Scope<'static> {
        Scope { id: [1; 16], kind: ScopeKind::Caller }
    }

    fn quotas(eras: &[(u64, Quota, bool)]) -> Quotas {
        let era = |(i, (since_ns, quota, full_debt)): (usize, &(u64, Quota, bool))| Era {
            version: i as u32 + 1,
            since_ns: *since_ns,
            policy: QuotaPolicy::of_caller(*quota),
            full_debt: *full_debt,
        };
        let eras: Vec<Era> = eras.iter().enumerate().map(era).collect();
        let last = eras.last().unwrap().clone();
        Quotas::new(last.version, last.policy, eras)
    }

    proptest! {
        /// Carried at once through all changes, or at each change, or in between: the same moment.
        #[test]
        fn when_a_bucket_is_touched_does_not_matter(
            refills in prop::collection::vec((1_u64..10_000, any::<bool>()), 2..6), spent in 0_u64..100,
        ) {
            let eras: Vec<_> = refills.iter().enumerate()
                .map(|(i, (refill, full))| (i as u64 * HOUR_NS, quota(100, *refill), *full && i > 0)).collect();
            let tat = quota::spend(0, 0, spent, eras[0].1);
            let all = quotas(&eras).carry(&caller(), None, tat, 1);
            let stepwise = (2..=eras.len()).fold(tat, |tat, upto| {
                quotas(&eras[..upto]).carry(&caller(), None, tat, upto as u32 - 1)
            });
            prop_assert_eq!(all, stepwise);
            let unchanged = quotas(&eras).carry(&caller(), None, tat, eras.len() as u32);
            prop_assert_eq!(unchanged, tat);
        }

        /// A change gives no number back and takes none.
        #[test]
        fn the_debt_in_numbers_stays(
            spent in 0_u64..1_000, before in 1_u64..100_000, after in 1_u64..100_000, since_ns in 0_u64..10 * HOUR_NS,
        ) {
            let (old, new) = (quota(1_000, before), quota(1_000, after));
            let tat = quota::spend(since_ns, since_ns, spent, old);
            let carried = quotas(&[(0, old, false), (since_ns, new, false)]).carry(&caller(), None, tat, 1);
            prop_assert_eq!(quota::available(carried, since_ns, new), 1_000 - spent);
        }
    }

    #[test]
    fn after_a_restore_nothing_is_left_but_the_refill() {
        let restored = quotas(&[(0, quota(10, 1), false), (5 * HOUR_NS, quota(10, 1), true)]);
        for (tat, version) in [(0, 0), (0, 1), (7 * HOUR_NS, 1)] {
            let carried = restored.carry(&caller(), None, tat, version);
            assert_eq!(quota::available(carried, 5 * HOUR_NS, quota(10, 1)), 0);
            assert_eq!(quota::available(carried, 8 * HOUR_NS, quota(10, 1)), 3);
        }
        // What was charged since counts as it is.
        assert_eq!(restored.carry(&caller(), None, 6 * HOUR_NS, 2), 6 * HOUR_NS);
    }

    #[test]
    fn a_kind_without_a_quota_keeps_its_debt() {
        let origin = Scope { id: [1; 16], kind: ScopeKind::Origin("device") };
        let with = |refill| QuotaPolicy::of_caller(quota(1, 1)).with_origin("device", quota(100, refill)).unwrap();
        let era = |version, since_ns, policy| Era { version, since_ns, policy, full_debt: false };
        let none = QuotaPolicy::of_caller(quota(1, 1));
        let eras = vec![era(1, 0, with(10)), era(2, HOUR_NS, none), era(3, 2 * HOUR_NS, with(20))];
        let quotas = Quotas::new(3, with(20), eras);
        let spent = quota::spend(0, 0, 50, quota(100, 10));
        let carried = quotas.carry(&origin, None, spent, 1);
        // Ten an hour came back for two hours.
        assert_eq!(quota::available(carried, 2 * HOUR_NS, quota(100, 20)), 70);
    }
}
