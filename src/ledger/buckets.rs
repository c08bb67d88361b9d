//! The buckets in memory: a bounded, sharded, flat table, and the charge that needs no disk.
//!
//! A bucket keeps three moments. `tat_ns` is what was spent. `durable_ns`, at or behind which everything may be
//! spent without a write, is what the file says, or less. `wanted_ns` is what was handed to a commit. Spending moves
//! `tat_ns` at once, under the lock, so two charges never spend the same unit, whether or not either is durable yet.
//!
//! Several shards are locked in the order of their numbers and none is held during a commit or a read of the file.
//! A bucket that waits for a commit stays in memory; any other may be evicted, which forgets what was left of its
//! lease: the file counts that as spent.

use std::array;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::table::{Bucket, Table};
use super::{Grant, Scope, ScopeId};
use crate::quota;
use crate::words::Caller;

/// Most scopes of a charge: a caller, its origins, everyone.
pub(super) const MAX_SCOPES: usize = Caller::MAX_ORIGINS + 2;
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

/// What became of an attempt to charge.
pub(super) enum Attempt {
    /// Some buckets are not in memory. Read these, and hand what the file says to the next attempt.
    Missing(Loaded),
    /// Decided, and spent. Nothing may be revealed before the advances, if there are any, are durable.
    Decided(Grant, Advances),
}

/// States for the file to hold before what they pay for is revealed.
pub(super) type Advances = Vec<(ScopeId, u64)>;

/// For each scope of a charge: how often its table had forgotten buckets like it, and what the file says since. Empty
/// at the first attempt, which as a rule is the last.
#[derive(Clone, Default)]
pub(super) struct Loaded(Vec<Option<Load>>);

#[derive(Clone, Copy)]
struct Load {
    evictions: u32,
    durable_ns: Option<u64>,
}

impl Loaded {
    /// Which scopes to read.
    pub(super) fn missing(&self) -> impl Iterator<Item = usize> {
        let missing = |load: &Option<Load>| load.is_some_and(|load| load.durable_ns.is_none());
        self.0.iter().enumerate().filter_map(move |(i, load)| missing(load).then_some(i))
    }

    /// What the file says of a scope.
    pub(super) fn fill(&mut self, scope: usize, durable_ns: u64) {
        if let Some(Some(load)) = self.0.get_mut(scope) {
            load.durable_ns = Some(durable_ns);
        }
    }
}

/// The locked shards of one charge.
struct Locked<'a> {
    guards: [Option<(usize, MutexGuard<'a, Table>)>; MAX_SCOPES],
}

impl Locked<'_> {
    fn table(&mut self, id: ScopeId) -> Option<&mut Table> {
        let shard = shard_of(id);
        self.guards.iter_mut().flatten().find_map(|(of, guard)| (*of == shard).then_some(&mut **guard))
    }
}

impl Buckets {
    /// Room for about so many buckets.
    pub(super) fn new(capacity: usize, max_lease: u64) -> Self {
        // Shards are not filled alike; so many more make room for all but one in millions.
        let each = capacity.div_ceil(SHARDS);
        let each = each + each / 16;
        Self { shards: array::from_fn(|_| Mutex::new(Table::new(each))), max_lease }
    }

    /// Locks the shards of these scopes, lowest first.
    fn lock(&self, scopes: &[Scope]) -> Locked<'_> {
        let mut guards: [_; MAX_SCOPES] = array::from_fn(|_| None);
        let shard = |number: usize| self.shards.get(number).map(|shard| (number, shard.lock()));
        if let ([scope], [guard, ..]) = (scopes, &mut guards) {
            *guard = shard(shard_of(scope.id));
            return Locked { guards };
        }
        let mut wanted = [SHARDS; MAX_SCOPES];
        wanted.iter_mut().zip(scopes).for_each(|(to, scope)| *to = shard_of(scope.id));
        wanted.sort_unstable();
        let mut last = SHARDS;
        for (guard, number) in guards.iter_mut().zip(wanted) {
            if number != last {
                *guard = shard(number);
            }
            last = number;
        }
        Locked { guards }
    }

    /// Charges up to `want` numbers to all scopes alike, if their buckets are in memory.
    pub(super) fn charge(&self, scopes: &[Scope], now_ns: u64, want: u64, loaded: &Loaded) -> Attempt {
        let mut locked = self.lock(scopes);
        for (scope, load) in scopes.iter().zip(&loaded.0) {
            let (Some(Load { evictions, durable_ns: Some(durable_ns) }), Some(table)) =
                (load, locked.table(scope.id))
            else {
                continue;
            };
            // If the bucket was there in between and went again, the file may say more by now.
            if table.evictions(scope.id) == *evictions && table.find(scope.id).is_none() {
                table.insert(scope.id, *durable_ns);
            }
        }
        let mut tats = [0; MAX_SCOPES];
        let mut places = [0; MAX_SCOPES];
        for ((scope, tat), place) in scopes.iter().zip(&mut tats).zip(&mut places) {
            match locked.table(scope.id).and_then(|table| table.find(scope.id)) {
                Some((at, bucket)) => (*place, *tat) = (at, bucket.tat_ns),
                None => return Attempt::Missing(missing(&mut locked, scopes)),
            }
        }
        let grant = decide(scopes, &tats, now_ns, want);
        let mut advances = Advances::new();
        if grant.granted > 0 {
            for (scope, at) in scopes.iter().zip(places) {
                if let Some(table) = locked.table(scope.id)
                    && let Some(mut bucket) = table.at(at)
                {
                    advances.extend(self.spend(&mut bucket, scope, now_ns, grant.granted));
                    table.store(at, &bucket);
                }
            }
        }
        Attempt::Decided(grant, advances)
    }

    /// Spends from one bucket; returns what the file must say first, if it does not say enough.
    fn spend(&self, bucket: &mut Bucket, scope: &Scope, now_ns: u64, count: u64) -> Option<(ScopeId, u64)> {
        bucket.tat_ns = quota::spend(bucket.tat_ns, now_ns, count, scope.quota);
        if bucket.tat_ns <= bucket.durable_ns {
            return None;
        }
        if bucket.tat_ns > bucket.wanted_ns {
            bucket.wanted_ns = quota::leased(bucket.tat_ns, now_ns, u64::from(bucket.chunk), scope.quota);
            // Twice as much each time: who asks once leaves nothing behind, who asks a lot seldom waits.
            let chunk = (u64::from(bucket.chunk) * 2).max(count).min(self.max_lease);
            bucket.chunk = u32::try_from(chunk).unwrap_or(u32::MAX);
        }
        // If another charge handed the same state to a commit, that one may have ended by now: it is written again.
        Some((scope.id, bucket.wanted_ns))
    }

    /// These states are durable now.
    pub(super) fn advanced(&self, advances: &[(ScopeId, u64)]) {
        for (id, durable_ns) in advances {
            let Some(shard) = self.shards.get(shard_of(*id)) else { continue };
            let mut table = shard.lock();
            if let Some((at, mut bucket)) = table.find(*id) {
                bucket.durable_ns = bucket.durable_ns.max(*durable_ns);
                table.store(at, &bucket);
            }
        }
    }

    /// What was spent of every bucket that has a lease worth anything, for a clean close, when no charge is under way.
    pub(super) fn unspent(&self, now_ns: u64) -> Advances {
        let mut spent = Advances::new();
        for shard in &self.shards {
            let with_lease = |bucket: &Bucket| bucket.tat_ns < bucket.durable_ns && now_ns < bucket.durable_ns;
            spent.extend(shard.lock().iter().filter(with_lease).map(|bucket| (bucket.id, bucket.tat_ns)));
        }
        spent
    }
}

/// Which buckets are not in memory, and what to compare when they were read.
#[cold]
fn missing(locked: &mut Locked<'_>, scopes: &[Scope]) -> Loaded {
    let load = |scope: &Scope| {
        let table = locked.table(scope.id).filter(|table| table.find(scope.id).is_none())?;
        Some(Load { evictions: table.evictions(scope.id), durable_ns: None })
    };
    Loaded(scopes.iter().map(load).collect())
}

/// The largest prefix that every scope can pay, what is left after it, and how long the rest takes.
fn decide(scopes: &[Scope], tats: &[u64], now: u64, want: u64) -> Grant {
    let buckets = || scopes.iter().zip(tats);
    let available = |(scope, tat): (&Scope, &u64)| quota::available(*tat, now, scope.quota);
    let least = buckets().map(available).min().unwrap_or(0);
    let granted = least.min(want);
    // What a bucket can pay after paying `granted` is exactly that much less.
    let remaining = least - granted;
    let rest = want - granted;
    if rest == 0 {
        return Grant { granted, remaining, retry_after: None };
    }
    let wait = |(scope, tat): (&Scope, &u64)| {
        quota::wait_ns(quota::spend(*tat, now, granted, scope.quota), now, rest, scope.quota)
    };
    Grant { granted, remaining, retry_after: buckets().map(wait).max().map(Duration::from_nanos) }
}
