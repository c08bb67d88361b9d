//! What this ledger does for charges that are paid elsewhere, by the ledger of a fleet: who is suspended, which quota a scope
//! has and what a caller paid for is known here; what was spent is not.

use std::time::Duration;

use super::buckets::Want;
use super::{Grant, RedbLedger, Scope, ScopeId, Verdict};
use crate::words::Result;

impl RedbLedger {
    /// As [`super::Ledger::charge`], or with `least` as [`RedbLedger::charge_together`], paid by `pay`, which is told the
    /// moment and the least and the most numbers wanted.
    pub(crate) fn charge_elsewhere(
        &self,
        scopes: &[Scope<'_>],
        fingerprints: &[u32],
        least: Option<usize>,
        pay: impl FnOnce(u64, u64, u64) -> Result<Grant>,
    ) -> Result<Verdict> {
        match least {
            None => self.charge_by(scopes, fingerprints, |now_ns, most| pay(now_ns, 0, most)),
            Some(least) => {
                let pay = |now_ns, want: Want| pay(now_ns, want.least, want.most);
                self.charge_together_by(scopes, fingerprints, least, pay)
            }
        }
    }

    /// Refuses if one of these scopes is suspended.
    pub(crate) fn check_suspensions(&self, scopes: &[Scope<'_>]) -> Result<()> {
        self.check_poison()?;
        self.pay(scopes, self.time.ledger_ns(), 0).map(drop)
    }

    /// Is one of these numbers not free for this caller, as far as is known here?
    pub(crate) fn is_any_novel(&self, caller: ScopeId, fingerprints: &[u32]) -> Result<bool> {
        let remembered = self.memory.recall(&self.db, caller, self.time.ledger_ns())?;
        Ok(remembered.is_none_or(|remembered| {
            let remembered = remembered.lock();
            fingerprints.iter().any(|fingerprint| !remembered.knows(*fingerprint))
        }))
    }

    /// Remembers what a caller paid for elsewhere, so long ago.
    pub(crate) fn learn_paid(&self, caller: ScopeId, ago: Duration, fingerprints: &[u32]) -> Result<()> {
        let now_ns = self.time.ledger_ns();
        let paid_ns = now_ns.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX));
        let Some(remembered) = self.memory.recall(&self.db, caller, now_ns)? else { return Ok(()) };
        self.memory.remember_paid(caller, &remembered, (paid_ns, now_ns), fingerprints, |_| ());
        if self.memory.must_write(now_ns) {
            self.write_some_novelty()?;
        }
        Ok(())
    }
}
