//! The leases of this node: how many numbers of each scope it may still answer without asking the fleet.
//!
//! What is here was charged durably before it came here, so spending it needs no call. A process that dies forfeits it.

use std::array;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::{Mutex, MutexGuard};

use super::calls::{Leased, Tail};
use crate::ledger::{MAX_SCOPES, Scope, ScopeId};
use crate::quota;
use crate::words::Quota;

const SHARDS: usize = 64;
/// A lease is at most this share of a burst, as in the embedded ledger: what a crash of one node may cost a bucket.
const LEASE_SHARE: u64 = 16;

/// What this node holds of one scope.
#[derive(Debug, Default, Clone)]
pub(super) struct Credit {
    /// Numbers that may be answered.
    pub(super) left: u64,
    /// Numbers that could be leased, when it was asked for last.
    pub(super) room: u64,
    /// What to lease ahead next time.
    chunk: u64,
    /// The quota, as it was looked up last; none if nothing bounds the scope.
    pub(super) quota: Option<Quota>,
    /// Of which decisions and quotas that was.
    stamp: u64,
    is_short: bool,
    /// Until then it is not asked again: the fleet had nothing.
    pub(super) short_until_ns: u64,
    /// What is owed, when it was asked for last.
    debt_us: u64,
    asked_ns: u64,
    pub(super) used_ns: u64,
    /// When the fleet was asked last what the caller paid for elsewhere; never, if zero.
    pub(super) heard_ns: u64,
    pub(super) tails: Vec<Tail>,
}

impl Credit {
    /// Was the fleet ever asked about the scope, or a quota looked up?
    const fn is_known(&self) -> bool {
        self.stamp != 0 || self.heard_ns != 0 || self.asked_ns != 0
    }

    /// How much to lease ahead of what is wanted.
    pub(super) fn ahead(&self, quota: Quota, max_lease: u64) -> u64 {
        self.chunk.min(max_lease).min(quota.burst() / LEASE_SHARE)
    }

    /// Takes a lease in. Twice as much ahead each time: who asks once leaves nothing behind, who asks a lot seldom waits.
    pub(super) fn add(&mut self, wanted: u64, leased: &Leased, now_ns: u64) {
        self.left = self.left.saturating_add(leased.numbers);
        self.room = leased.room;
        if wanted > 0 {
            self.chunk = self.chunk.saturating_mul(2).max(wanted);
        }
        self.debt_us = leased.debt_us;
        self.asked_ns = now_ns;
    }

    /// How long until `count` more than there is can be paid, or a full burst.
    fn wait_ns(&self, count: u64, now_ns: u64) -> u64 {
        let Some(quota) = self.quota else { return 0 };
        let owed_until_ns = self.asked_ns.saturating_add(self.debt_us.saturating_mul(1_000));
        quota::wait_ns(owed_until_ns, now_ns, count, quota)
    }
}

/// What an attempt to spend came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// All of it.
    All { remaining: u64 },
    /// Nothing: these scopes, by their position, are not known, or were before something was decided.
    Unknown(Vec<usize>),
    /// Nothing: these scopes have too little, and lack so much.
    Short(Vec<(usize, u64)>),
}

/// A prefix that was spent, as the ledger's grant has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) granted: u64,
    pub(super) remaining: u64,
    pub(super) wait_ns: u64,
    pub(super) newly_short: u16,
}

type Shard = HashMap<ScopeId, Credit>;

/// The leases of this node, sharded.
pub(super) struct Credits {
    shards: [Mutex<Shard>; SHARDS],
    /// Scopes of a shard at most, about.
    capacity: usize,
}

fn shard_of(id: ScopeId) -> usize {
    let [first, ..] = id;
    usize::from(first) % SHARDS
}

/// The locked shards of one charge.
struct Locked<'a>([Option<(usize, MutexGuard<'a, Shard>)>; MAX_SCOPES]);

impl Locked<'_> {
    fn credit(&mut self, id: ScopeId) -> Option<&mut Credit> {
        let shard = shard_of(id);
        let (_, guard) = self.0.iter_mut().flatten().find(|(of, _)| *of == shard)?;
        guard.get_mut(&id)
    }
}

impl Credits {
    pub(super) fn new(scopes: usize) -> Self {
        Self { shards: array::from_fn(|_| Mutex::default()), capacity: scopes.div_ceil(SHARDS).max(16) }
    }

    /// Locks the shards of these scopes, lowest first.
    fn lock(&self, scopes: &[Scope<'_>]) -> Locked<'_> {
        let mut wanted = [SHARDS; MAX_SCOPES];
        wanted.iter_mut().zip(scopes).for_each(|(to, scope)| *to = shard_of(scope.id));
        wanted.sort_unstable();
        let mut last = SHARDS;
        Locked(wanted.map(|number| {
            let is_new = std::mem::replace(&mut last, number) != number;
            self.shards.get(number).filter(|_| is_new).map(|shard| (number, shard.lock()))
        }))
    }

    /// Spends so many numbers from all scopes alike, if all of them have so many.
    pub(super) fn spend(&self, scopes: &[Scope<'_>], want: u64, now_ns: u64, stamp: u64) -> Spent {
        let mut locked = self.lock(scopes);
        let (mut unknown, mut short, mut remaining) = (Vec::new(), Vec::new(), u64::MAX);
        for (at, scope) in scopes.iter().enumerate() {
            match locked.credit(scope.id) {
                Some(credit) if credit.stamp == stamp => {
                    if credit.quota.is_none() {
                        continue;
                    }
                    if credit.left < want {
                        short.push((at, want - credit.left));
                    }
                    remaining = remaining.min(credit.left.saturating_sub(want).saturating_add(credit.room));
                }
                _ => unknown.push(at),
            }
        }
        if !unknown.is_empty() {
            return Spent::Unknown(unknown);
        }
        if !short.is_empty() {
            return Spent::Short(short);
        }
        for scope in scopes {
            if let Some(credit) = locked.credit(scope.id).filter(|credit| credit.quota.is_some()) {
                credit.left = credit.left.saturating_sub(want);
                credit.used_ns = now_ns;
                credit.is_short &= want == 0;
            }
        }
        Spent::All { remaining }
    }

    /// Spends the largest prefix that all scopes can pay, if it is at least `least`.
    pub(super) fn spend_prefix(&self, scopes: &[Scope<'_>], (least, want): (u64, u64), now_ns: u64) -> Prefix {
        let mut locked = self.lock(scopes);
        let mut affordable = want;
        for scope in scopes {
            if let Some(credit) = locked.credit(scope.id).filter(|credit| credit.quota.is_some()) {
                affordable = affordable.min(credit.left);
            }
        }
        let granted = if affordable < least { 0 } else { affordable };
        let mut prefix = Prefix { granted, remaining: u64::MAX, wait_ns: 0, newly_short: 0 };
        for (at, scope) in scopes.iter().enumerate() {
            let Some(credit) = locked.credit(scope.id).filter(|credit| credit.quota.is_some()) else { continue };
            let is_short = credit.left < want;
            credit.left -= granted.min(credit.left);
            credit.used_ns = now_ns;
            prefix.newly_short |= u16::from(is_short && !credit.is_short) << at;
            credit.is_short = is_short;
            prefix.remaining = prefix.remaining.min(credit.left.saturating_add(credit.room));
            if is_short {
                prefix.wait_ns = prefix.wait_ns.max(credit.wait_ns(want - granted, now_ns));
            }
        }
        prefix
    }

    /// Changes what is held of a scope; what is not there yet is made, with nothing in it.
    pub(super) fn change<T>(&self, id: ScopeId, change: impl FnOnce(&mut Credit) -> T) -> Option<T> {
        let mut shard = self.shards.get(shard_of(id))?.lock();
        Some(change(shard.entry(id).or_default()))
    }

    /// Notes the quota of a scope. Says whether the shard holds too much.
    pub(super) fn set_quota(&self, id: ScopeId, quota: Option<Quota>, stamp: u64, now_ns: u64) -> bool {
        let Some(shard) = self.shards.get(shard_of(id)) else { return false };
        let mut shard = shard.lock();
        let credit = match shard.entry(id) {
            Entry::Occupied(found) if found.get().is_known() => found.into_mut(),
            // Nothing was asked yet: a whole burst may be there.
            entry => {
                let credit = entry.or_default();
                credit.room = quota.map_or(u64::MAX, Quota::burst);
                credit
            }
        };
        (credit.quota, credit.stamp, credit.used_ns) = (quota, stamp, now_ns);
        credit.short_until_ns = 0;
        shard.len() > self.capacity
    }

    /// What is held of a scope.
    pub(super) fn get(&self, id: ScopeId) -> Option<Credit> {
        self.shards.get(shard_of(id))?.lock().get(&id).cloned()
    }

    /// Takes out what was not used since a moment: scope, quota, numbers. Where a shard holds too much, what was used
    /// longest ago goes too.
    pub(super) fn take_idle(&self, unused_since_ns: u64) -> Vec<(ScopeId, Quota, u64)> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let mut since_ns = unused_since_ns;
            if shard.len() > self.capacity {
                let mut used: Vec<u64> = shard.values().map(|credit| credit.used_ns).collect();
                let (_, middle, _) = used.select_nth_unstable(self.capacity / 4);
                since_ns = since_ns.max(*middle);
            }
            let gone = shard.extract_if(|_, credit| credit.used_ns <= since_ns);
            taken.extend(gone.filter_map(|(id, credit)| Some((id, credit.quota?, credit.left))));
        }
        taken.retain(|(_, _, left)| *left > 0);
        taken
    }

    /// Numbers held in all, and scopes.
    pub(super) fn held(&self) -> (u64, usize) {
        self.shards.iter().fold((0, 0), |(numbers, scopes), shard| {
            let shard = shard.lock();
            let here: u64 = shard.values().map(|credit| credit.left).sum();
            (numbers + here, scopes + shard.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::ScopeKind;

    const STAMP: u64 = 3;

    fn scope(byte: u8) -> Scope<'static> {
        Scope { id: [byte; 16], kind: ScopeKind::Caller }
    }

    fn held(credits: &Credits, scopes: &[(Scope<'_>, u64)]) {
        let quota = Some(Quota::per_hour(1_000, 60).unwrap());
        for (scope, left) in scopes {
            credits.set_quota(scope.id, quota, STAMP, 1);
            credits.change(scope.id, |credit| (credit.left, credit.room) = (*left, 0)).unwrap();
        }
    }

    #[test]
    fn all_scopes_pay_or_none() {
        let credits = Credits::new(1_000);
        // The first and the last are in one shard.
        let scopes = [scope(1), scope(2), scope(65)];
        assert_eq!(credits.spend(&scopes, 1, 1, STAMP), Spent::Unknown(vec![0, 1, 2]));
        held(&credits, &[(scopes[0], 10), (scopes[1], 7), (scopes[2], 9)]);
        assert_eq!(credits.spend(&scopes, 5, 2, STAMP), Spent::All { remaining: 2 });
        assert_eq!(credits.spend(&scopes, 5, 2, STAMP), Spent::Short(vec![(1, 3), (2, 1)]));
        assert_eq!(credits.get([1; 16]).unwrap().left, 5);
        let prefix = credits.spend_prefix(&scopes, (0, 5), 3);
        assert_eq!((prefix.granted, prefix.remaining, prefix.newly_short), (2, 0, 0b110));
        assert_eq!(credits.held(), (5, 3));
        // Told once.
        assert_eq!(credits.spend_prefix(&scopes, (0, 5), 3).newly_short, 0b001);
        assert_eq!(credits.spend_prefix(&scopes, (3, 5), 3).granted, 0);
        assert_eq!(credits.spend(&scopes, 0, 4, STAMP + 1), Spent::Unknown(vec![0, 1, 2]));
    }

    #[test]
    fn what_has_no_quota_pays_nothing() {
        let credits = Credits::new(1_000);
        credits.set_quota([1; 16], None, STAMP, 1);
        assert_eq!(credits.spend(&[scope(1)], 1 << 40, 1, STAMP), Spent::All { remaining: u64::MAX });
    }

    #[test]
    fn leases_grow_and_stay_a_share_of_the_burst() {
        let quota = Quota::per_hour(1_600, 60).unwrap();
        let mut credit = Credit { quota: Some(quota), ..Credit::default() };
        let leased = |numbers| Leased { numbers, room: 9, debt_us: 0, novelty: Vec::new() };
        assert_eq!(credit.ahead(quota, 1 << 20), 0);
        let mut ahead = Vec::new();
        for _ in 0..5 {
            credit.add(10, &leased(10), 5);
            ahead.push(credit.ahead(quota, 1 << 20));
        }
        assert_eq!(ahead, [10, 20, 40, 80, 100]);
        assert_eq!(credit.ahead(quota, 30), 30);
        assert_eq!((credit.left, credit.room), (50, 9));
    }

    #[test]
    fn what_is_idle_is_taken_out_and_shards_are_bounded() {
        let credits = Credits::new(0);
        for byte in 0..32 {
            let id = [0, byte, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let too_much = credits.set_quota(id, Some(Quota::per_hour(10, 1).unwrap()), STAMP, u64::from(byte));
            credits.change(id, |credit| credit.left = 2).unwrap();
            assert_eq!(too_much, byte >= 16);
        }
        assert_eq!(credits.take_idle(0).len(), 5);
        assert_eq!(credits.held(), (54, 27));
        assert_eq!(credits.take_idle(u64::MAX).len(), 27);
        assert_eq!(credits.held(), (0, 0));
    }
}
