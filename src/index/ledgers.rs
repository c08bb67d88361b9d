//! Which ledger an index charges and what an operator's levers move: its own, or that of the fleet it is a node of.

use std::time::Duration;

use super::Inner;
use crate::ledger::{Ledger, Scope, ScopeBudget, ScopeId, Verdict};
use crate::words::{DisclosureMode, QuotaOverride, QuotaPolicy, Result, Suspension};

/// The same call to the fleet's ledger, which keeps the node's own up to date, if there is one.
macro_rules! of_either {
    ($inner:expr, $call:ident($($argument:expr),*)) => {{
        #[cfg(feature = "valkey")]
        if let Some(fleet) = &$inner.fleet {
            return fleet.$call(&$inner.ledger, $($argument),*);
        }
        $inner.ledger.$call($($argument),*)
    }};
}

impl Inner {
    /// Charges the numbers of a lookup; in a mode that does not tell numbers apart, enough of them or none.
    pub(super) fn charge_for(
        &self,
        mode: DisclosureMode,
        scopes: &[Scope<'_>],
        fingerprints: &[u32],
    ) -> Result<Verdict> {
        let least = (mode != DisclosureMode::Linked).then_some(self.options.unlinked_min_novel);
        #[cfg(feature = "valkey")]
        if let Some(fleet) = &self.fleet {
            return fleet.charge(&self.ledger, scopes, fingerprints, least);
        }
        match least {
            None => self.ledger.charge(scopes, fingerprints),
            Some(least) => self.ledger.charge_together(scopes, fingerprints, least),
        }
    }

    pub(super) fn has_paid(&self, caller: ScopeId, fingerprints: &[u32]) -> Result<bool> {
        of_either!(self, has_paid(caller, fingerprints))
    }

    pub(super) fn erase_novelty(&self, callers: &[ScopeId]) -> Result<()> {
        of_either!(self, erase_novelty(callers))
    }

    pub(super) fn suspend_scope(&self, scope: Scope<'_>, suspension: Suspension) -> Result<()> {
        of_either!(self, suspend(scope, suspension))
    }

    pub(super) fn reinstate_scope(&self, scope: Scope<'_>) -> Result<bool> {
        of_either!(self, reinstate(scope))
    }

    pub(super) fn forgive(&self, scope: Scope<'_>, numbers: u64) -> Result<()> {
        of_either!(self, forgive(scope, numbers))
    }

    pub(super) fn set_override(&self, scope: Scope<'_>, own: Option<(QuotaOverride, Duration)>) -> Result<()> {
        of_either!(self, set_override(scope, own))
    }

    pub(super) fn set_policy(&self, policy: QuotaPolicy) -> Result<u32> {
        of_either!(self, set_policy(policy))
    }

    pub(super) fn exhaust(&self) -> Result<()> {
        of_either!(self, exhaust())
    }

    pub(super) fn budgets(&self, scopes: &[Scope<'_>]) -> Result<Vec<ScopeBudget>> {
        of_either!(self, budget(scopes))
    }
}
