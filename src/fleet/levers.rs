//! What an operator does about a caller, an origin or the quotas, for the whole fleet. Durable in the fleet when it returns;
//! this node obeys at once, the others within their longest silence.

use std::time::Duration;

use super::FleetLedger;
use super::calls::{Ask, Terms};
use super::charge::quota_of;
use super::rows::{Decision, Kind, RowId};
use crate::ledger::{Ledger, RedbLedger, Scope, ScopeBudget};
use crate::words::{FleetError, QuotaOverride, QuotaPolicy, Result, Suspension};

impl FleetLedger {
    pub(crate) fn suspend(&self, local: &RedbLedger, scope: Scope<'_>, suspension: Suspension) -> Result<()> {
        let row = RowId { id: scope.id, kind: Kind::Suspension };
        self.calls.decide(row, scope.kind.name(), Some(&Decision::Suspended(suspension.clone())))?;
        local.suspend(scope, suspension)
    }

    pub(crate) fn reinstate(&self, local: &RedbLedger, scope: Scope<'_>) -> Result<bool> {
        let row = RowId { id: scope.id, kind: Kind::Suspension };
        let was_suspended = self.calls.decide(row, scope.kind.name(), None)?;
        local.reinstate(scope)?;
        Ok(was_suspended)
    }

    pub(crate) fn set_override(
        &self,
        local: &RedbLedger,
        scope: Scope<'_>,
        own: Option<(QuotaOverride, Duration)>,
    ) -> Result<()> {
        let decision = own.map(|(quota, age)| Decision::Own(quota, age));
        self.calls.decide(RowId { id: scope.id, kind: Kind::Own }, scope.kind.name(), decision.as_ref())?;
        local.set_override(scope, own)?;
        self.decided();
        Ok(())
    }

    /// Forgives a debt of up to `count` numbers.
    pub(crate) fn forgive(&self, local: &RedbLedger, scope: Scope<'_>, count: u64) -> Result<()> {
        let Some(quota) = quota_of(local, scope)? else { return Ok(()) };
        self.calls.give_back(scope.id, quota, count.min(quota.burst()), true)?;
        self.credits.change(scope.id, |credit| credit.short_until_ns = 0);
        Ok(())
    }

    /// Replaces the quotas; returns their version.
    pub(crate) fn set_policy(&self, local: &RedbLedger, policy: QuotaPolicy) -> Result<u32> {
        let version = self.calls.set_quotas(&policy, false)?;
        self.follow(local)?;
        Ok(u32::try_from(version).unwrap_or(u32::MAX))
    }

    /// Takes everything that could be asked at once, from everybody. Marks that are gone are made again: what was in their
    /// slots counts as spent.
    pub(crate) fn exhaust(&self, local: &RedbLedger) -> Result<()> {
        match self.follow(local) {
            Ok(()) => {}
            Err(crate::words::Error::Fleet(FleetError::Emptied { .. })) => {
                // The record is gone as well: this node makes it again, with what it followed last. Marks of a later version
                // are of no use to nodes that have not read that everything is taken.
                let version = self.calls.terms().version + 1;
                let terms = Terms { version, exhausted_us: self.calls.now_us()? };
                self.calls.create(&local.policy(), terms)?;
                self.calls.set_terms(terms);
            }
            Err(error) => return Err(error),
        }
        // First, so that no bucket is ever seen without its debt.
        let version = self.calls.set_quotas(&local.policy(), true)?;
        self.calls.make_marks(version)?;
        self.calls.forget_seen();
        self.follow(local)
    }

    /// What each scope could still ask for: what this node has leased and what could be leased. Nothing is charged.
    pub(crate) fn budget(&self, local: &RedbLedger, scopes: &[Scope<'_>]) -> Result<Vec<ScopeBudget>> {
        let mut budgets = local.budget(scopes)?;
        for (scope, budget) in scopes.iter().zip(&mut budgets) {
            let Some(quota) = budget.quota else { continue };
            let leased = self.calls.lease(&Ask { id: scope.id, quota, wanted: 0, ahead: 0, tails: &[] })?;
            let held = self.credits.get(scope.id).map_or(0, |credit| credit.left);
            budget.remaining = leased.room.saturating_add(held).min(quota.burst());
            let owed_ns = leased.debt_us.saturating_mul(1_000);
            budget.full_in = Duration::from_nanos(owed_ns);
            let until_next_ns = match owed_ns % quota.interval_ns() {
                0 if owed_ns > 0 => quota.interval_ns(),
                rest => rest,
            };
            budget.next_in = Duration::from_nanos(until_next_ns);
        }
        Ok(budgets)
    }

    /// A small record of the fleet, and its version.
    pub(crate) fn record(&self, name: &str) -> Result<(u64, Vec<u8>)> {
        Ok(self.calls.record(name)?)
    }

    /// Replaces a small record if it has the expected version; returns the next one.
    pub(crate) fn replace_record(&self, name: &str, expected: u64, bytes: &[u8]) -> Result<u64> {
        Ok(self.calls.replace_record(name, expected, bytes)?)
    }
}
