//! The charge of a lookup: from leases where there are any, with a lease first where there are none.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::calls::Ask;
use super::credits::Spent;
use super::options::Degraded;
use super::{FleetLedger, LEASING};
use crate::ledger::{Grant, RedbLedger, Scope, ScopeId, Verdict};
use crate::words::{FleetError, Quota, Result};

/// How often a charge that lost its lease to another one leases again.
const ROUNDS: usize = 4;
/// A scope with nothing left is not asked for again sooner, so that a flood of it costs the fleet a call a second and an
/// operator's grant is seen within that time.
const SHORT_NS: u64 = 1_000_000_000;

/// Whether the node hears the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Heard,
    /// It does not, and spends what it has.
    Cut,
}

impl FleetLedger {
    /// As the embedded ledger's charge, or with `least` as its charge of numbers that are answered together or not at all. What
    /// is granted was durable in the fleet before it is spent.
    pub(crate) fn charge(
        &self,
        local: &RedbLedger,
        scopes: &[Scope<'_>],
        fingerprints: &[u32],
        least: Option<usize>,
    ) -> Result<Verdict> {
        let charged = self.charge_if_heard(local, scopes, fingerprints, least);
        charged.inspect_err(|error| {
            if matches!(error, crate::words::Error::Fleet(_)) {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    fn charge_if_heard(
        &self,
        local: &RedbLedger,
        scopes: &[Scope<'_>],
        fingerprints: &[u32],
        least: Option<usize>,
    ) -> Result<Verdict> {
        let now_ns = self.clock.monotonic_ns();
        let reach = self.reach(now_ns)?;
        local.check_suspensions(scopes)?;
        let caller = scopes.first().map(|scope| scope.id).unwrap_or_default();
        if reach == Reach::Heard {
            self.hear_if_novel(local, caller, fingerprints, now_ns)?;
        }
        let pay = |_, least, most| self.pay(local, scopes, (least, most), now_ns, reach);
        let verdict = local.charge_elsewhere(scopes, fingerprints, least, pay)?;
        self.queue_novelty(caller, &verdict.charged, fingerprints);
        Ok(verdict)
    }

    /// May the node answer at all?
    fn reach(&self, now_ns: u64) -> Result<Reach, FleetError> {
        let limit = self.calls.options.max_silence;
        let silent = Duration::from_nanos(now_ns.saturating_sub(self.heard_ns.load(Ordering::Acquire)));
        if silent <= limit {
            return Ok(Reach::Heard);
        }
        match self.calls.options.degraded {
            Degraded::SpendLeased => Ok(Reach::Cut),
            Degraded::Refuse => match &*self.trouble.lock() {
                // Not mere silence: the operator has to do something.
                Some(error) if !matches!(error, FleetError::Unavailable { .. }) => Err(error.clone()),
                _ => Err(FleetError::Silent { silent, limit }),
            },
        }
    }

    /// Spends as many numbers as are wanted from all scopes alike, or fewer, all of them leased.
    fn pay(
        &self,
        local: &RedbLedger,
        scopes: &[Scope<'_>],
        (least, want): (u64, u64),
        now_ns: u64,
        reach: Reach,
    ) -> Result<Grant> {
        let mut trouble = None;
        for _ in 0..ROUNDS {
            let short = match self.credits.spend(scopes, want, now_ns, self.stamp()) {
                Spent::All { remaining } => {
                    return Ok(Grant { granted: want, remaining, retry_after: None, newly_short: 0 });
                }
                Spent::Unknown(unknown) => {
                    self.look_up(local, scopes, &unknown, now_ns)?;
                    continue;
                }
                Spent::Short(short) => short,
            };
            if reach == Reach::Cut {
                trouble = Some(FleetError::LeasesSpent);
                break;
            }
            match self.lease_some(local, scopes, &short, want, now_ns) {
                Ok(true) => {}
                Ok(false) => break,
                Err(crate::words::Error::Fleet(error)) => {
                    trouble = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = trouble {
            return self.pay_in_trouble(scopes, (least, want), now_ns, error);
        }
        Ok(self.pay_prefix(scopes, (least, want), now_ns))
    }

    /// What a node does that could not lease: refuse, or spend what it has.
    fn pay_in_trouble(
        &self,
        scopes: &[Scope<'_>],
        bounds: (u64, u64),
        now_ns: u64,
        error: FleetError,
    ) -> Result<Grant> {
        if self.calls.options.degraded == Degraded::Refuse {
            return Err(error.into());
        }
        let grant = self.pay_prefix(scopes, bounds, now_ns);
        if grant.granted == 0 { Err(error.into()) } else { Ok(grant) }
    }

    fn pay_prefix(&self, scopes: &[Scope<'_>], (least, want): (u64, u64), now_ns: u64) -> Grant {
        let prefix = self.credits.spend_prefix(scopes, (least, want), now_ns);
        let is_all = prefix.granted == want;
        // A scope whose lease went to another charge is not short by what is owed.
        let wait = Duration::from_nanos(prefix.wait_ns).max(Duration::from_millis(1));
        Grant {
            granted: prefix.granted,
            remaining: prefix.remaining,
            retry_after: if is_all { None } else { Some(wait) },
            newly_short: if is_all { 0 } else { prefix.newly_short },
        }
    }

    /// Looks up the quotas of some scopes.
    fn look_up(&self, local: &RedbLedger, scopes: &[Scope<'_>], unknown: &[usize], now_ns: u64) -> Result<()> {
        let stamp = self.stamp();
        for scope in unknown.iter().filter_map(|at| scopes.get(*at)) {
            let quota = quota_of(local, *scope)?;
            if self.credits.set_quota(scope.id, quota, stamp, now_ns) {
                self.give_back_unused(0, u64::MAX);
            }
        }
        Ok(())
    }

    /// Leases for each scope that has too little, the caller first, no more than the ones before it can pay. Says whether
    /// another attempt may find more.
    fn lease_some(
        &self,
        local: &RedbLedger,
        scopes: &[Scope<'_>],
        short: &[(usize, u64)],
        want: u64,
        now_ns: u64,
    ) -> Result<bool> {
        let (mut payable, mut is_worth_it) = (want, false);
        for scope in short.iter().filter_map(|(at, _)| scopes.get(*at)) {
            let [.., last] = scope.id;
            let stripe = self.leasing.get(usize::from(last) % LEASING);
            let _leasing = stripe.map(|stripe| stripe.lock());
            let Some(credit) = self.credits.get(scope.id) else {
                is_worth_it = true;
                continue;
            };
            if credit.left >= payable {
                is_worth_it = true; // somebody else leased meanwhile
                continue;
            }
            let lacking = payable - credit.left;
            if now_ns < credit.short_until_ns {
                payable = credit.left;
            } else if let Some(quota) = quota_of(local, *scope)? {
                let ahead = credit.ahead(quota, self.max_lease);
                let ask = Ask { id: scope.id, quota, wanted: lacking, ahead, tails: &[] };
                let leased = self.calls.lease(&ask)?;
                let left = self.credits.change(scope.id, |credit| {
                    credit.quota = Some(quota);
                    credit.add(lacking, &leased, now_ns);
                    credit.used_ns = now_ns;
                    if leased.numbers < lacking {
                        credit.short_until_ns = now_ns.saturating_add(SHORT_NS.min(quota.interval_ns()));
                    }
                    credit.left
                });
                is_worth_it |= leased.numbers > 0;
                payable = payable.min(left.unwrap_or_default());
            }
            if payable == 0 {
                return Ok(false);
            }
        }
        Ok(is_worth_it && payable == want)
    }

    /// Has the fleet been asked lately what this caller paid for elsewhere, if the answer matters?
    fn hear_if_novel(&self, local: &RedbLedger, caller: ScopeId, fingerprints: &[u32], now_ns: u64) -> Result<()> {
        if self.is_heard(caller, now_ns) || !local.is_any_novel(caller, fingerprints)? {
            return Ok(());
        }
        match self.hear_novelty(local, caller, now_ns) {
            // Not to know costs the caller; to spend leases all the same was the operator's choice.
            Err(crate::words::Error::Fleet(error)) if self.calls.options.degraded == Degraded::SpendLeased => {
                tracing::debug!(error = error.to_string(), "a caller's numbers were not heard of");
                Ok(())
            }
            done => done,
        }
    }
}

/// The quota of a scope now, if it has one.
pub(super) fn quota_of(local: &RedbLedger, scope: Scope<'_>) -> Result<Option<Quota>> {
    Ok(local.budget(&[scope])?.into_iter().find_map(|budget| budget.quota))
}
