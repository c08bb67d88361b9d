//! The ledger written anew, without buckets that owe nothing any more, and what it holds of one caller.

use std::collections::HashSet;

use super::backup;
use super::bucket_rows;
use super::quotas::Quotas;
use super::redb::RedbLedger;
use super::standing;
use super::{ScopeId, ScopeKind};
use crate::database::{Kept, Snapshot};
use crate::words::Result;

/// What a ledger holds of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HeldOf {
    /// How long the file counts something as spent, leases too; `None` if it has no bucket of it.
    pub(crate) bucket_for_ms: Option<u64>,
    /// Numbers that it paid for and that are remembered.
    pub(crate) numbers: u64,
    /// How long they are remembered at most.
    pub(crate) numbers_for_ms: u64,
    /// How long what was counted of it is kept.
    pub(crate) activity_for_ms: u64,
}

impl RedbLedger {
    /// Writes the file anew, so that no page keeps bytes of rows that are gone. A bucket that owes nothing and has no
    /// standing goes: whoever the file does not know owes nothing either. Returns how many went. Charges that need a commit
    /// wait meanwhile; an error before the new file takes its place leaves everything as it was.
    pub(crate) fn vacuum(&self) -> Result<u64> {
        // No policy is on its way that the rows know and memory does not.
        let _changing = self.changing.lock();
        // The moment that buckets are compared with is in the file before any of them goes: ledger time never falls behind it.
        self.commit_table(|_| Ok(()))?;
        self.with_committer(|state| {
            self.bucket_log.settle();
            let quotas = self.quotas.load_full();
            // After a restore everybody owes something for a while, known or not.
            let may_go = quotas.owed_by_unknown() <= state.mark.ledger_ns;
            let mut paid_up = 0;
            let file = self.db.rewritten(|from, to| {
                let standing = standing_ids(from, self)?;
                backup::copy_all_but_buckets(from, to)?;
                from.copy_some(bucket_rows::BUCKETS, to, |id: &ScopeId, bytes| {
                    let bucket = bucket_rows::of_row(*id, bytes, self.path())?;
                    if !may_go || standing.contains(id) || !quotas.is_paid_up(&bucket, state.mark.ledger_ns) {
                        return Ok(Kept::Same);
                    }
                    paid_up += 1;
                    Ok(Kept::Gone)
                })
            })?;
            self.or_poison(file.replace())?;
            Ok(paid_up)
        })
    }

    /// What is held of a caller, in memory or in the file.
    pub(crate) fn held_of(&self, caller: ScopeId) -> Result<HeldOf> {
        let now_ns = self.time.ledger_ns();
        let remembered = self.memory.recall(&self.db, caller, now_ns)?;
        let numbers = remembered.map_or(0, |remembered| remembered.lock().len());
        let bucket = match self.bucket_log.get(caller) {
            Some(bucket) => Some(bucket),
            None => self.db.read(|txn| bucket_rows::find(&self.db, txn, caller))?,
        };
        Ok(HeldOf {
            bucket_for_ms: bucket.map(|bucket| bucket.tat_ns.saturating_sub(now_ns).div_ceil(1_000_000)),
            numbers: numbers as u64,
            numbers_for_ms: self.memory.longest_ms(now_ns),
            activity_for_ms: self.activity.longest_ms(),
        })
    }
}

/// The scopes that are suspended or have a quota of their own.
fn standing_ids(from: &Snapshot, ledger: &RedbLedger) -> Result<HashSet<ScopeId>> {
    from.read(|txn| standing::ids(&ledger.db, txn))
}

impl Quotas {
    /// Owes a bucket nothing, neither now nor when the quotas that it was computed under changed? What kind of scope it is of
    /// is not known, so no debt can be carried through a change.
    fn is_paid_up(&self, bucket: &bucket_rows::BucketState, now_ns: u64) -> bool {
        let changed_ns = self.eras().iter().find(|era| era.version > bucket.version).map(|era| era.since_ns);
        bucket.tat_ns <= now_ns.min(changed_ns.unwrap_or(now_ns))
    }

    /// Until when anybody whom the file does not know owes something: after a restore, everybody does.
    fn owed_by_unknown(&self) -> u64 {
        if !self.eras().iter().any(|era| era.full_debt) {
            return 0;
        }
        let kinds =
            self.eras().iter().flat_map(|era| era.policy.origins().map(|(kind, _)| ScopeKind::Origin(kind)));
        let kinds = kinds.chain([ScopeKind::Caller, ScopeKind::Everyone]);
        kinds.map(|kind| self.carry(&super::Scope { id: ScopeId::default(), kind }, None, 0, 0)).max().unwrap_or(0)
    }
}
