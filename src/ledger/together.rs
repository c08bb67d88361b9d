//! Charges of numbers that are answered together or not at all, and what somebody else paid for.

use super::buckets::Want;
use super::memory::Shared;
use super::redb::at_positions;
use super::{Grant, RedbLedger, Scope, ScopeId, Verdict};
use crate::words::Result;

impl RedbLedger {
    /// As [`super::Ledger::charge`], for answers that no number may be told apart in: of the novel numbers at least `least`
    /// are charged or none, and only what is charged may be answered. What the caller paid for earlier is withheld, so
    /// within the window each number is in one answer to it; so is what could not be remembered.
    ///
    /// Of two charges of one caller at the same moment both may pay for a number, and the one that remembers it first may
    /// answer it. If fewer than `least` are left by that, nothing is answered.
    ///
    /// # Errors
    /// As [`super::Ledger::charge`].
    pub(crate) fn charge_together(
        &self,
        scopes: &[Scope<'_>],
        fingerprints: &[u32],
        least: usize,
    ) -> Result<Verdict> {
        self.charge_together_by(scopes, fingerprints, least, |now_ns, want| self.pay(scopes, now_ns, want))
    }

    /// The same, paid by `pay`, which is told the moment and how many numbers are wanted.
    pub(super) fn charge_together_by(
        &self,
        scopes: &[Scope<'_>],
        fingerprints: &[u32],
        least: usize,
        pay: impl FnOnce(u64, Want) -> Result<Grant>,
    ) -> Result<Verdict> {
        self.check_poison()?;
        let now_ns = self.time.ledger_ns();
        let caller = scopes.first().map(|scope| scope.id).unwrap_or_default();
        let remembered = self.memory.recall(&self.db, caller, now_ns)?;
        let mut novel = match &remembered {
            Some(remembered) => {
                let remembered = remembered.lock();
                let mut novel = remembered.novel(fingerprints);
                novel.truncate(remembered.room());
                novel
            }
            None => (0..fingerprints.len() as u32).collect(),
        };
        if novel.len() < least {
            novel.clear();
        }
        let want = Want { least: least as u64, most: novel.len() as u64 };
        let grant = pay(now_ns, want)?;
        let granted = usize::try_from(grant.granted).unwrap_or(usize::MAX).min(novel.len());
        let deferred = novel.split_off(granted);
        if let Some(remembered) = remembered.filter(|_| granted > 0) {
            self.keep_new(caller, &remembered, now_ns, fingerprints, &mut novel)?;
        }
        if novel.len() < least {
            novel.clear();
        }
        let withheld = all_but(fingerprints.len(), &novel, &deferred);
        Ok(Verdict { grant, charged: novel, deferred, withheld })
    }

    /// Remembers what was paid, and keeps of it what this charge was the first to remember.
    fn keep_new(
        &self,
        caller: ScopeId,
        remembered: &Shared,
        now_ns: u64,
        fingerprints: &[u32],
        paid: &mut Vec<u32>,
    ) -> Result<()> {
        let of_paid = at_positions(fingerprints, paid);
        self.memory.remember(caller, remembered, now_ns, &of_paid, |new| {
            let (mut of_paid, mut new) = (of_paid.iter(), new.iter().peekable());
            paid.retain(|_| of_paid.next().is_some_and(|fingerprint| new.next_if_eq(&fingerprint).is_some()));
        });
        if self.memory.must_write(now_ns) {
            self.write_some_novelty()?;
        }
        Ok(())
    }

    /// Did this caller pay for one of these numbers within the window? Nothing is charged.
    pub(crate) fn has_paid(&self, caller: ScopeId, fingerprints: &[u32]) -> Result<bool> {
        let remembered = self.memory.recall(&self.db, caller, self.time.ledger_ns())?;
        Ok(remembered.is_some_and(|remembered| {
            let remembered = remembered.lock();
            fingerprints.iter().any(|fingerprint| remembered.knows(*fingerprint))
        }))
    }
}

/// The positions below `len` that are in neither of these, which are in order.
fn all_but(len: usize, charged: &[u32], deferred: &[u32]) -> Vec<u32> {
    let mut charged = charged.iter().peekable();
    let mut deferred = deferred.iter().peekable();
    let is_left = |at: &u32| charged.next_if_eq(&at).is_none() && deferred.next_if_eq(&at).is_none();
    (0..len as u32).filter(is_left).collect()
}
