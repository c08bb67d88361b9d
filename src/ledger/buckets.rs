//! The buckets in memory: a bounded, sharded, flat table, and the charge that needs no disk.
//!
//! A bucket keeps three moments. `tat_ns` is what was spent. `durable_ns`, at or behind which everything may be
//! spent without a write, is what the file says, or less. `wanted_ns` is what a commit has to make durable. Spending moves
//! `tat_ns` at once, under the lock, so two charges never spend the same unit, whether or not either is durable yet.
//!
//! Several shards are locked in the order of their numbers and none is held during a commit or a read of the file, except
//! the one of a scope that an operator changes. A bucket that waits for a commit stays in memory; any other may be
//! evicted, which forgets what was left of its lease: the file counts that as spent.

use std::array;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::bucket_rows::BucketState;
use super::quotas::Quotas;
use super::standing::Standing;
use super::table::{Bucket, Table};
use super::{Grant, Scope, ScopeId};
use crate::quota;
use crate::words::{Caller, Quota};

/// Most scopes of a charge: a caller, its origins, everyone.
pub(crate) const MAX_SCOPES: usize = Caller::MAX_ORIGINS + 2;
const SHARDS: usize = 64;

/// Which shard a scope is in. Identities are uniform, and tables take other bits of them.
fn shard_of(id: ScopeId) -> usize {
    let [first, ..] = id;
    usize::from(first) % SHARDS
}

/// The buckets of the scopes that were charged lately.
pub(super) struct Buckets {
    shards: [Mutex<Table>; SHARDS],
    /// Most numbers of a lease.
    max_lease: u64,
}

/// How many numbers a charge is for: none, or from `least` to `most`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) least: u64,
    pub(super) most: u64,
}

impl From<u64> for Want {
    fn from(most: u64) -> Self {
        Self { least: 0, most }
    }
}

/// What became of an attempt to charge.
pub(super) enum Attempt {
    /// Some buckets are not in memory. Read these, and hand what the file says to the next attempt.
    Missing(Loaded),
    /// The quotas are being changed: a bucket is under newer ones than its table.
    Stale,
    /// A scope is suspended: the one at this position. Nothing was spent.
    Suspended(usize),
    /// Decided, and spent. Nothing may be revealed before the file holds what these scopes want, if there are any.
    Decided(Grant, Advances),
}

/// Scopes whose state the file has to hold before what they paid for is revealed.
pub(super) type Advances = Vec<ScopeId>;

/// For each scope of a charge: how often its table had forgotten buckets like it, and what the file says since. Empty
/// at the first attempt, which as a rule is the last.
#[derive(Default)]
pub(super) struct Loaded(Vec<Option<Load>>);

struct Load {
    evictions: u32,
    found: Option<(BucketState, Standing)>,
}

impl Loaded {
    /// Which scopes to read.
    pub(super) fn missing(&self) -> impl Iterator<Item = usize> {
        let missing = |load: &Option<Load>| load.as_ref().is_some_and(|load| load.found.is_none());
        self.0.iter().enumerate().filter_map(move |(i, load)| missing(load).then_some(i))
    }

    /// What the file says of a scope.
    pub(super) fn fill(&mut self, scope: usize, state: BucketState, standing: Standing) {
        if let Some(Some(load)) = self.0.get_mut(scope) {
            load.found = Some((state, standing));
        }
    }
}

/// The locked shards of one charge, of at most `N` scopes.
struct Locked<'a, const N: usize> {
    guards: [Option<(usize, MutexGuard<'a, Table>)>; N],
}

impl<const N: usize> Locked<'_, N> {
    #[inline]
    fn table(&mut self, id: ScopeId) -> Option<&mut Table> {
        let shard = shard_of(id);
        self.guards.iter_mut().flatten().find_map(|(of, guard)| (*of == shard).then_some(&mut **guard))
    }
}

/// One scope of a charge: its bucket and where that is, what it may spend.
#[derive(Clone, Copy, Default)]
pub(super) struct Payer {
    place: usize,
    bucket: Bucket,
    /// A scope without a quota pays nothing.
    pub(super) quota: Option<Quota>,
    is_suspended: bool,
}

impl Payer {
    /// What it spent.
    pub(super) const fn tat_ns(&self) -> u64 {
        self.bucket.tat_ns
    }
}

impl Buckets {
    /// Room for about so many buckets.
    pub(super) fn new(capacity: usize, max_lease: u64, quotas: &Arc<Quotas>) -> Self {
        // Shards are not filled alike; so many more make room for all but one in millions.
        let each = capacity.div_ceil(SHARDS);
        let each = each + each / 16;
        Self { shards: array::from_fn(|_| Mutex::new(Table::new(each, quotas.clone()))), max_lease }
    }

    /// Locks the shards of these scopes, lowest first.
    #[inline(always)]
    fn lock<const N: usize>(&self, scopes: &[Scope<'_>]) -> Locked<'_, N> {
        let shard = |number: usize| self.shards.get(number).map(|shard| (number, shard.lock()));
        if let [scope] = scopes {
            let mut only = shard(shard_of(scope.id));
            return Locked { guards: array::from_fn(|_| only.take()) };
        }
        let mut wanted = [SHARDS; N];
        wanted.iter_mut().zip(scopes).for_each(|(to, scope)| *to = shard_of(scope.id));
        wanted.sort_unstable();
        let mut last = SHARDS;
        let first_of = |number| if number == std::mem::replace(&mut last, number) { None } else { shard(number) };
        Locked { guards: wanted.map(first_of) }
    }

    /// Asks the memory for the buckets of these scopes, all at once, while the caller does something else. One whose
    /// shard is in use is left out: waiting would cost more than it saves.
    #[inline]
    pub(super) fn ask_for(&self, scopes: &[Scope<'_>]) {
        for scope in scopes {
            if let Some(table) = self.shards.get(shard_of(scope.id)).and_then(Mutex::try_lock) {
                table.ask_for(scope.id);
            }
        }
    }

    /// Charges as many numbers as are wanted, or fewer, to all scopes alike, if their buckets are in memory.
    pub(super) fn charge(
        &self,
        scopes: &[Scope<'_>],
        now_ns: u64,
        want: impl Into<Want>,
        loaded: Loaded,
    ) -> Attempt {
        let want = want.into();
        // What a charge has of each scope lies in an array. One of the right length, known when this is compiled, becomes
        // registers for one scope, and is never half a kilobyte of nothing for few.
        if let Ok(one) = <&[Scope<'_>; 1]>::try_from(scopes) {
            return self.charge_up_to::<1>(one, now_ns, want, loaded);
        }
        if scopes.len() <= 4 {
            return self.charge_up_to::<4>(scopes, now_ns, want, loaded);
        }
        self.charge_up_to::<MAX_SCOPES>(scopes, now_ns, want, loaded)
    }

    #[inline(always)]
    fn charge_up_to<const N: usize>(
        &self,
        scopes: &[Scope<'_>],
        now_ns: u64,
        want: Want,
        loaded: Loaded,
    ) -> Attempt {
        let mut locked = self.lock::<N>(scopes);
        let mut payers = [Payer::default(); N];
        let payers = match fill(&mut payers, &mut locked, scopes, now_ns, loaded) {
            Ok(payers) => payers,
            Err(attempt) => return attempt,
        };
        if let Some(at) = payers.iter().position(|payer| payer.is_suspended) {
            return Attempt::Suspended(at);
        }
        let mut grant = decide(payers, now_ns, want);
        let mut advances = Advances::new();
        let is_short = grant.granted < want.most;
        for (i, (scope, payer)) in scopes.iter().zip(payers).enumerate() {
            let (Some(quota), mut bucket) = (payer.quota, payer.bucket) else { continue };
            // Only a scope that could not pay for all of it is short, whichever of them decided.
            bucket.is_short = match want.most {
                0 => bucket.is_short,
                most => is_short && quota::available(bucket.tat_ns, now_ns, quota) < most,
            };
            grant.newly_short |= u16::from(bucket.is_short && !payer.bucket.is_short) << i;
            if grant.granted == 0 && bucket.is_short == payer.bucket.is_short {
                continue;
            }
            if grant.granted > 0 && self.spend(&mut bucket, quota, now_ns, grant.granted) {
                advances.push(scope.id);
            }
            if let Some(table) = locked.table(scope.id) {
                table.store(payer.place, &bucket);
            }
        }
        Attempt::Decided(grant, advances)
    }

    /// What each scope spent and may spend, with nothing changed.
    pub(super) fn look(
        &self,
        scopes: &[Scope<'_>],
        now_ns: u64,
        loaded: Loaded,
    ) -> Result<Vec<(Payer, Standing)>, Attempt> {
        let mut locked = self.lock::<MAX_SCOPES>(scopes);
        let mut payers = [Payer::default(); MAX_SCOPES];
        let payers = fill(&mut payers, &mut locked, scopes, now_ns, loaded)?;
        let standing = |id| locked.table(id).and_then(|table| table.standing(id).cloned()).unwrap_or_default();
        Ok(payers.iter().copied().zip(scopes.iter().map(|scope| scope.id).map(standing)).collect())
    }

    /// Spends from one bucket; true if the file does not say enough for that yet.
    fn spend(&self, bucket: &mut Bucket, quota: Quota, now_ns: u64, count: u64) -> bool {
        bucket.tat_ns = quota::spend(bucket.tat_ns, now_ns, count, quota);
        if bucket.tat_ns <= bucket.durable_ns {
            return false;
        }
        if bucket.tat_ns > bucket.wanted_ns {
            bucket.wanted_ns = quota::leased(bucket.tat_ns, now_ns, u64::from(bucket.chunk), quota);
            // Twice as much each time: who asks once leaves nothing behind, who asks a lot seldom waits.
            let chunk = (u64::from(bucket.chunk) * 2).max(count).min(self.max_lease);
            bucket.chunk = u32::try_from(chunk).unwrap_or(u32::MAX);
        }
        // If another charge handed the same state to a commit, that one may have ended by now: it is written again.
        true
    }

    /// What the file must hold for these scopes. To be asked by whoever commits, one at a time, so that what a later
    /// transaction writes is never older than what an earlier one did, whatever order the charges come in.
    pub(super) fn wanted(&self, ids: &[ScopeId]) -> Vec<BucketState> {
        // A bucket that was evicted meanwhile was written by another commit: none that waits is evicted.
        let wanted = |id: &ScopeId| Some(self.shards.get(shard_of(*id))?.lock().find(*id)?.1.state());
        ids.iter().filter_map(wanted).collect()
    }

    /// These states are durable now.
    pub(super) fn advanced(&self, states: &[BucketState]) {
        for state in states {
            let Some(shard) = self.shards.get(shard_of(state.id)) else { continue };
            let mut table = shard.lock();
            // After a change of quotas the moment means something else; the next charge writes it again.
            if let Some((at, mut bucket)) = table.find(state.id).filter(|(_, of)| of.version == state.version) {
                bucket.durable_ns = bucket.durable_ns.max(state.tat_ns);
                table.store(at, &bucket);
            }
        }
    }

    /// What was spent of every bucket that has a lease worth anything, for a clean close, when no charge is under way.
    pub(super) fn unspent(&self, now_ns: u64) -> Vec<BucketState> {
        let mut spent = Vec::new();
        for shard in &self.shards {
            let with_lease = |bucket: &Bucket| bucket.tat_ns < bucket.durable_ns && now_ns < bucket.durable_ns;
            let state = |bucket: Bucket| BucketState { tat_ns: bucket.tat_ns, ..bucket.state() };
            spent.extend(shard.lock().iter().filter(with_lease).map(state));
        }
        spent
    }

    /// From when this returns every charge is under these quotas. One that is under way may have some of its scopes under
    /// those of before; each of its buckets says which.
    pub(super) fn set_quotas(&self, quotas: &Arc<Quotas>) {
        for shard in &self.shards {
            shard.lock().quotas = quotas.clone();
        }
    }

    /// Locks the shard of a scope, to change its bucket together with the file. Not to be held for long.
    pub(super) fn hold(&self, id: ScopeId) -> MutexGuard<'_, Table> {
        let [first, ..] = &self.shards;
        self.shards.get(shard_of(id)).unwrap_or(first).lock()
    }
}

/// The buckets of a charge, under the quotas in force, one for each scope. In place: they are not moved about.
#[inline(always)]
fn fill<'p, const N: usize>(
    payers: &'p mut [Payer; N],
    locked: &mut Locked<'_, N>,
    scopes: &[Scope<'_>],
    now_ns: u64,
    loaded: Loaded,
) -> Result<&'p [Payer], Attempt> {
    if !loaded.0.is_empty() {
        insert(loaded, locked, scopes);
    }
    for (scope, payer) in scopes.iter().zip(&mut *payers) {
        let Some((table, (place, mut bucket))) =
            locked.table(scope.id).and_then(|table| table.find(scope.id).map(|found| (table, found)))
        else {
            return Err(Attempt::Missing(missing(locked, scopes)));
        };
        if bucket.version != table.quotas.version {
            if bucket.version > table.quotas.version {
                return Err(Attempt::Stale);
            }
            carry(table, (place, &mut bucket), scope);
        }
        let standing = if bucket.has_standing { table.standing(scope.id) } else { None };
        let own = standing.and_then(|standing| standing.own.as_ref());
        let is_suspended = standing.is_some_and(|standing| standing.suspension.is_some());
        *payer = Payer { place, bucket, quota: table.quotas.of(scope.kind, own, now_ns), is_suspended };
    }
    Ok(payers.get(..scopes.len()).unwrap_or(payers))
}

/// Puts what was read from the file into memory.
#[cold]
fn insert<const N: usize>(loaded: Loaded, locked: &mut Locked<'_, N>, scopes: &[Scope<'_>]) {
    for (scope, load) in scopes.iter().zip(loaded.0) {
        let (Some(Load { evictions, found: Some((state, standing)) }), Some(table)) =
            (load, locked.table(scope.id))
        else {
            continue;
        };
        // If the bucket was there in between and went again, the file may say more by now.
        if table.evictions(scope.id) == evictions && table.find(scope.id).is_none() {
            table.insert(state, scopes);
            if !standing.is_ordinary() {
                table.set_standing(scope.id, standing);
            }
        }
    }
}

/// Brings a bucket under the quotas in force. What it spent stays spent.
#[cold]
fn carry(table: &mut Table, (place, bucket): (usize, &mut Bucket), scope: &Scope<'_>) {
    let quotas = table.quotas.clone();
    let own = table.standing(scope.id).and_then(|standing| standing.own);
    let carry = |moment_ns: u64| quotas.carry(scope, own.as_ref(), moment_ns, bucket.version);
    (bucket.tat_ns, bucket.durable_ns, bucket.wanted_ns) =
        (carry(bucket.tat_ns), carry(bucket.durable_ns), carry(bucket.wanted_ns));
    bucket.version = quotas.version;
    table.store(place, bucket);
}

/// Which buckets are not in memory, and what to compare when they were read.
#[cold]
fn missing<const N: usize>(locked: &mut Locked<'_, N>, scopes: &[Scope<'_>]) -> Loaded {
    let load = |scope: &Scope<'_>| {
        let table = locked.table(scope.id).filter(|table| table.find(scope.id).is_none())?;
        Some(Load { evictions: table.evictions(scope.id), found: None })
    };
    Loaded(scopes.iter().map(load).collect())
}

/// The largest prefix that every scope can pay, what is left after it, and how long the rest takes.
#[inline(always)]
fn decide(payers: &[Payer], now: u64, want: Want) -> Grant {
    let buckets = || payers.iter().filter_map(|payer| Some((payer.tat_ns(), payer.quota?)));
    let available = |(tat, quota): (u64, Quota)| quota::available(tat, now, quota);
    let affordable = buckets().map(available).min().unwrap_or(0);
    let granted = if affordable < want.least { 0 } else { affordable.min(want.most) };
    // What a bucket can pay after paying `granted` is exactly that much less.
    let remaining = affordable - granted;
    let rest = want.most - granted;
    if rest == 0 {
        return Grant { granted, remaining, retry_after: None, newly_short: 0 };
    }
    let wait =
        |(tat, quota): (u64, Quota)| quota::wait_ns(quota::spend(tat, now, granted, quota), now, rest, quota);
    let retry_after = buckets().map(wait).max().map(Duration::from_nanos);
    Grant { granted, remaining, retry_after, newly_short: 0 }
}
