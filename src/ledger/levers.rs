//! What an operator does about a caller, an origin, or the quotas. Each is durable when it returns, and the next charge
//! sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bucket_rows::{self, BucketState};
use super::buckets::{Attempt, Loaded};
use super::quotas::{Era, Override, Quotas};
use super::standing::{self, Standing};
use super::table::Table;
use super::{RedbLedger, Scope, ScopeId, policy_rows};
use crate::quota;
use crate::words::{Quota, QuotaOverride, QuotaPolicy, Result, Suspension};

/// How a scope stands, and what it could pay now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScopeBudget {
    /// `None` if nothing bounds it.
    pub(crate) quota: Option<Quota>,
    pub(crate) remaining: u64,
    /// Until one more than that can be paid; zero if nothing was spent.
    pub(crate) next_in: Duration,
    /// Until nothing is spent any more.
    pub(crate) full_in: Duration,
    /// Has it a quota of its own?
    pub(crate) is_override: bool,
    pub(crate) suspension: Option<Suspension>,
}

/// One scope that is not ordinary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StandingOf {
    pub(crate) id: ScopeId,
    /// `caller`, or the kind of the origin.
    pub(crate) scope: String,
    pub(crate) suspension: Option<Suspension>,
    pub(crate) own: Option<QuotaOverride>,
}

/// A scope while it is changed: brought under the quotas of now.
struct Altered<'a> {
    scope: Scope<'a>,
    quotas: Arc<Quotas>,
    now_ns: u64,
    standing: Standing,
    /// What was spent, what the file says, what it has to say.
    moments: [u64; 3],
}

impl Altered<'_> {
    fn quota(&self) -> Option<Quota> {
        self.quotas.of(self.scope.kind, self.standing.own.as_ref(), self.now_ns)
    }

    /// Gives the scope another quota, or that of the policy. The debt in numbers stays.
    fn set_own(&mut self, own: Option<Override>) {
        let before = self.quota();
        self.standing.own = own;
        if let (Some(before), Some(after)) = (before, self.quota()) {
            let (before_ns, after_ns) = (before.interval_ns(), after.interval_ns());
            self.moments = self.moments.map(|moment| quota::stretch(moment, self.now_ns, before_ns, after_ns));
        }
    }

    fn state(&self) -> BucketState {
        let [_, durable_ns, wanted_ns] = self.moments;
        BucketState { id: self.scope.id, tat_ns: wanted_ns.max(durable_ns), version: self.quotas.version }
    }
}

impl RedbLedger {
    /// Changes one scope, in the file and in memory at the same moment: its shard is locked through the commit.
    fn alter<T>(&self, scope: Scope<'_>, change: impl FnOnce(&mut Altered<'_>) -> T) -> Result<T> {
        let done = self.commit(|txn, state| {
            let table = self.buckets.hold(scope.id);
            // A policy that was committed and is not seen yet is no matter: the row says which one it was computed under.
            let quotas = table.quotas.clone();
            let in_memory = table.find(scope.id).map(|(_, bucket)| bucket);
            let standing = match in_memory {
                Some(_) => table.standing(scope.id).cloned().unwrap_or_default(),
                None => standing::read_one(&self.db, txn, scope.id)?,
            };
            let (moments, version) = match in_memory {
                Some(of) => ([of.tat_ns, of.durable_ns, of.wanted_ns], of.version),
                None => {
                    let state = match self.bucket_log.get(scope.id) {
                        Some(state) => state,
                        None => bucket_rows::read_one(&self.db, txn, scope.id)?,
                    };
                    ([state.tat_ns; 3], state.version)
                }
            };
            let moments = moments.map(|moment| quotas.carry(&scope, standing.own.as_ref(), moment, version));
            let mut altered = Altered { scope, quotas, now_ns: state.mark.ledger_ns, standing, moments };
            let result = change(&mut altered);
            scope.kind.name().clone_into(&mut altered.standing.scope);
            // A standing has a bucket beside it, so that one filter is enough for both.
            self.known.add(std::iter::once(scope.id));
            self.bucket_log.write(&self.db, txn, &[altered.state()])?;
            let standings = standing::write(&self.db, txn, scope.id, &altered.standing)?;
            Ok((table, altered, standings, result))
        });
        let (mut table, altered, standings, result) = done?;
        self.standings.store(standings, Ordering::Release);
        remember(&mut table, &altered);
        Ok(result)
    }

    /// Refuses every lookup that this scope pays for.
    pub(crate) fn suspend(&self, scope: Scope<'_>, suspension: Suspension) -> Result<()> {
        self.alter(scope, |altered| altered.standing.suspension = Some(suspension))
    }

    /// Ends a suspension; false if there was none.
    pub(crate) fn reinstate(&self, scope: Scope<'_>) -> Result<bool> {
        self.alter(scope, |altered| altered.standing.suspension.take().is_some())
    }

    /// Forgives a debt of up to `count` numbers.
    pub(crate) fn forgive(&self, scope: Scope<'_>, count: u64) -> Result<()> {
        self.alter(scope, |altered| {
            let back_ns = altered.quota().map_or(0, |quota| count.saturating_mul(quota.interval_ns()));
            // All alike, so that a lease stays as long as it is.
            altered.moments = altered.moments.map(|moment| moment.saturating_sub(back_ns));
        })
    }

    /// Gives a scope of a certain age a quota of its own, or none.
    pub(crate) fn set_override(&self, scope: Scope<'_>, own: Option<(QuotaOverride, Duration)>) -> Result<()> {
        self.alter(scope, |altered| {
            let own = own.map(|(quota, age)| {
                let age_ns = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
                let now_ns = i64::try_from(altered.now_ns).unwrap_or(i64::MAX);
                Override { quota, since_ns: now_ns.saturating_sub(age_ns) }
            });
            altered.set_own(own);
        })
    }

    /// Replaces the policy; every bucket keeps its debt in numbers. Returns its version.
    pub(crate) fn set_policy(&self, policy: QuotaPolicy) -> Result<u32> {
        self.begin_era(Some(policy), false)
    }

    /// After a restore, or whenever it is not known what was spent: every bucket counts as fully spent.
    pub(crate) fn exhaust(&self) -> Result<()> {
        self.begin_era(None, true).map(drop)
    }

    fn begin_era(&self, policy: Option<QuotaPolicy>, full_debt: bool) -> Result<u32> {
        // From before the commit until everybody sees it: the next change begins where this one ended.
        let _changing = self.changing.lock();
        let next = self.commit(|txn, state| {
            let quotas = self.quotas.load_full();
            state.policy_version = state.policy_version.saturating_add(1);
            state.policy = policy.unwrap_or_else(|| state.policy.clone());
            let (version, since_ns) = (state.policy_version, state.mark.ledger_ns);
            let next = quotas.with_era(Era { version, since_ns, policy: state.policy.clone(), full_debt });
            // The first change writes the first policy too.
            policy_rows::write(&self.db, txn, next.eras().iter().rev().take(2))?;
            Ok(next)
        })?;
        let (version, next) = (next.version, Arc::new(next));
        self.buckets.set_quotas(&next);
        self.quotas.store(next);
        Ok(version)
    }

    /// What each scope could pay now. Nothing is charged and nothing is written.
    pub(crate) fn budget(&self, scopes: &[Scope<'_>]) -> Result<Vec<ScopeBudget>> {
        let now_ns = self.time.ledger_ns();
        let mut loaded = Loaded::default();
        loop {
            match self.buckets.look(scopes, now_ns, std::mem::take(&mut loaded)) {
                Ok(found) => {
                    let budget = |(payer, standing): (super::buckets::Payer, Standing)| {
                        scope_budget(payer.quota, payer.tat_ns(), now_ns, standing)
                    };
                    return Ok(found.into_iter().map(budget).collect());
                }
                Err(Attempt::Missing(missing)) => loaded = self.load(scopes, missing)?,
                Err(_) => {}
            }
        }
    }

    /// Some of the scopes that are suspended or have a quota of their own, in the order of their identities.
    pub(crate) fn standings(&self, after: Option<ScopeId>, limit: usize) -> Result<Vec<StandingOf>> {
        let found = self.db.read(|txn| standing::page(&self.db, txn, after, limit))?;
        let of = |(id, standing): (ScopeId, Standing)| StandingOf {
            id,
            scope: standing.scope,
            suspension: standing.suspension,
            own: standing.own.map(|own| own.quota),
        };
        Ok(found.into_iter().map(of).collect())
    }
}

/// Puts a changed scope into memory, so that whoever read the file before does not put it there.
fn remember(table: &mut Table, altered: &Altered<'_>) {
    let id = altered.scope.id;
    let state = altered.state();
    if table.find(id).is_none() {
        table.insert(state, &[]);
    }
    if let Some((at, mut bucket)) = table.find(id) {
        [bucket.tat_ns, ..] = altered.moments;
        (bucket.durable_ns, bucket.wanted_ns, bucket.version) = (state.tat_ns, state.tat_ns, state.version);
        table.store(at, &bucket);
    }
    table.set_standing(id, altered.standing.clone());
}

fn scope_budget(quota: Option<Quota>, tat_ns: u64, now_ns: u64, standing: Standing) -> ScopeBudget {
    let available = quota.map_or(u64::MAX, |quota| quota::available(tat_ns, now_ns, quota));
    let next_ns = match quota {
        Some(quota) if available < quota.burst() => quota::wait_ns(tat_ns, now_ns, available + 1, quota),
        _ => 0,
    };
    ScopeBudget {
        quota,
        remaining: available,
        next_in: Duration::from_nanos(next_ns),
        full_in: Duration::from_nanos(if quota.is_some() { tat_ns.saturating_sub(now_ns) } else { 0 }),
        is_override: standing.own.is_some(),
        suspension: standing.suspension,
    }
}
