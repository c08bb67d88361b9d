//! Tripwires: listings of numbers nobody has, under an account that nobody can have.
//!
//! Such a listing is opted in for everything, so that filters, tables, folds, imports and versions treat it as any other. A
//! lookup takes what it found of them out before it records and answers, and is then a lookup of absent numbers; what it met is
//! counted with the activity of its caller and origins, and the policy looks at those counts at once.

use std::collections::HashSet;

use super::commit::Plan;
use super::events::Event;
use super::update::change;
use super::{Index, Inner};
use crate::ledger::{Scope, ScopeKind};
use crate::words::{
    AccountId, Caller, Error, Key, OptIns, Origin, PhoneHash, Purpose, Quota, QuotaOverride, Result, Stamp,
    TripwireAction, TripwireRule, Version,
};

/// Tripwires of one transaction.
const AT_ONCE: usize = 4_096;

/// What is listed under a key.
#[derive(Default)]
struct AtKey {
    /// The tripwire, set or removed.
    tripwire: Option<Stamp>,
    /// Has somebody the number, or had it until lately?
    is_listed: bool,
}

impl AtKey {
    fn add(&mut self, account: AccountId, stamp: Stamp) {
        if account == AccountId::RESERVED {
            self.tripwire = Some(stamp);
        } else {
            self.is_listed = true;
        }
    }

    fn is_set(&self) -> bool {
        self.tripwire.is_some_and(|stamp| !stamp.flags().is_removed())
    }
}

impl Index {
    /// Sets tripwires: numbers that nobody has, so that asking for them is evidence. To a caller they are absent, for every
    /// purpose. Returns how many are new. Durable and visible when it returns; 4,096 of them at a time.
    ///
    /// What happens to who asks for them, [`crate::Options::tripwires`] says. If a number is listed later, the real listing
    /// wins: the tripwire counts no more, and the next fold of its range drops it.
    ///
    /// It is for the host's own numbers: whoever can call it learns whether one of them is listed.
    ///
    /// # Errors
    /// [`Error::TripwireListed`] if one of the numbers is listed, hidden or not, or was removed within
    /// [`crate::Options::removal_retention`]: then none is set, and which it is is not told. [`Error::SizeLimit`],
    /// [`Error::Damaged`], [`Error::Database`], [`Error::Poisoned`]: some may be set then; it can be repeated.
    ///
    /// ```
    /// use unlisted::{Caller, Index, Options, PhoneHash, Purpose, Secret, TopBy, TopQuery};
    /// let dir = tempfile::tempdir()?;
    /// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
    /// let nobodys = PhoneHash::of_e164("+14155550199")?;
    /// assert_eq!(index.set_tripwires([nobodys])?, 1);
    /// let caller = Caller::new("user-7");
    /// assert_eq!(index.lookup(&caller, Purpose::Search, &[nobodys])?.matches().count(), 0);
    /// let top = index.inspector().top_callers(&TopQuery::new(TopBy::Missed).caller(&caller))?;
    /// assert_eq!((top.rows[0].missed, top.rows[0].tripwires), (1, 1));
    /// assert_eq!(index.remove_tripwires([nobodys])?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_tripwires(&self, hashes: impl IntoIterator<Item = PhoneHash>) -> Result<usize> {
        let inner = &self.inner;
        let keys = inner.distinct_keys(hashes);
        tracing::info!(numbers = keys.len(), "an operator sets tripwires");
        inner.check_size()?;
        for key in &keys {
            if inner.at_key(*key)?.is_listed {
                return Err(Error::TripwireListed);
            }
        }
        let mut set = 0;
        for some in keys.chunks(AT_ONCE) {
            inner.make_room()?;
            set += inner.write_tripwires(some, true)?;
        }
        Ok(set)
    }

    /// Removes tripwires; numbers that are none stay as they are. Returns how many were set. Durable and visible when it
    /// returns.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Database`], [`Error::Poisoned`]: some may be gone then; it can be repeated.
    pub fn remove_tripwires(&self, hashes: impl IntoIterator<Item = PhoneHash>) -> Result<usize> {
        let keys = self.inner.distinct_keys(hashes);
        tracing::info!(numbers = keys.len(), "an operator removes tripwires");
        keys.chunks(AT_ONCE).try_fold(0, |sum, some| Ok(sum + self.inner.write_tripwires(some, false)?))
    }
}

impl Inner {
    fn distinct_keys(&self, hashes: impl IntoIterator<Item = PhoneHash>) -> Vec<Key> {
        let hashes: Vec<PhoneHash> = hashes.into_iter().collect();
        let mut keys = Vec::with_capacity(hashes.len());
        self.ring.keys_of(hashes.iter(), &mut keys);
        let mut seen = HashSet::with_capacity(keys.len());
        keys.retain(|key| seen.insert((key.hi, key.lo)));
        keys
    }

    /// What is listed under a key, whatever it agreed to: the overlay first, as a lookup reads them.
    fn at_key(&self, key: Key) -> Result<AtKey> {
        let mut at = AtKey::default();
        for change in self.overlay.read().of_key(key) {
            at.add(change.entry.account, change.entry.stamp);
        }
        let changed = at.tripwire;
        if let Some(segment) = self.segments.load().of(key) {
            segment.locate(|s| s.probe(key, |account, stamp| at.add(account, stamp)))?;
        }
        at.tripwire = changed.or(at.tripwire);
        Ok(at)
    }

    /// Sets tripwires, or removes them, in one transaction. Returns how many that changed.
    fn write_tripwires(&self, keys: &[Key], is_set: bool) -> Result<usize> {
        // No fold meanwhile drops one that is counted here.
        let _structure = self.structure.lock();
        let mut writer = self.writer.lock();
        writer.check()?;
        let opt_ins = is_set.then(|| Purpose::ALL.map(OptIns::from).into_iter().collect::<OptIns>());
        let removed_at_s = self.clock.wall_ms() / 1_000;
        let mut plan = Plan::default();
        let shard = self.shard();
        for key in keys {
            // Of a fleet, the node that has the key sets it.
            if shard.as_ref().is_some_and(|shard| !shard.keeps(*key)) {
                continue;
            }
            let at = self.at_key(*key)?;
            // A number that was listed since it was looked at is its owner's.
            if at.is_set() == is_set || (is_set && at.is_listed) {
                continue;
            }
            let version = Version::new(at.tripwire.map_or(0, |stamp| stamp.version().get()) + 1)?;
            plan.new.set(change(*key, AccountId::RESERVED, opt_ins, version, removed_at_s));
        }
        let changed = plan.new.len();
        if changed > 0 {
            let mut next = writer.state.clone();
            let before = next.tripwires;
            next.tripwires = if is_set { before + changed as u64 } else { before.saturating_sub(changed as u64) };
            self.write(&mut writer, next, &plan)?;
        }
        Ok(changed)
    }

    /// Takes tripwires out of what a lookup found. Returns how many of them were paid for just now. One whose number
    /// somebody has by now, whether shown or hidden, counts for nothing.
    pub(super) fn take_tripwires(
        &self,
        keys: &[Key],
        charged: &[u32],
        found: &mut Vec<(u32, AccountId)>,
    ) -> Result<u32> {
        // What was asked earlier is free, and counted already.
        let met = self.take_met(keys, |number| charged.binary_search(&number).is_ok(), found)?;
        Ok(met.len() as u32)
    }

    /// Takes tripwires out of what was found. Returns the numbers of those that may count and whose number nobody has.
    pub(super) fn take_met(
        &self,
        keys: &[Key],
        may_count: impl Fn(u32) -> bool,
        found: &mut Vec<(u32, AccountId)>,
    ) -> Result<Vec<u32>> {
        if found.iter().all(|(_, account)| *account != AccountId::RESERVED) {
            return Ok(Vec::new());
        }
        self.take_some(keys, may_count, found)
    }

    #[cold]
    fn take_some(
        &self,
        keys: &[Key],
        may_count: impl Fn(u32) -> bool,
        found: &mut Vec<(u32, AccountId)>,
    ) -> Result<Vec<u32>> {
        let mut met = Vec::new();
        found.retain(|(number, account)| {
            let is_tripwire = *account == AccountId::RESERVED;
            if is_tripwire {
                met.push(*number);
            }
            !is_tripwire
        });
        let mut counted = Vec::new();
        for number in met.into_iter().filter(|number| may_count(*number)) {
            let Some(key) = keys.get(number as usize) else { continue };
            if !self.at_key(*key)?.is_listed {
                counted.push(number);
            }
        }
        Ok(counted)
    }

    /// Does what the policy says about the caller and the origins of a lookup that met tripwires, after it was counted.
    #[cold]
    pub(super) fn act_on_tripwires(&self, caller: &Caller, scopes: &[Scope<'_>]) -> Result<()> {
        let mut origins = caller.origins().iter();
        for scope in scopes {
            // Origins are in the order they were given.
            let origin = match scope.kind {
                ScopeKind::Origin(_) => origins.next(),
                _ => None,
            };
            let mut met = Vec::new();
            for rule in self.options.tripwires.of(scope.kind.name()) {
                let count = self.ledger.tripwires_of(scope, rule.window)?;
                if count >= u64::from(rule.tripwires) {
                    met.push((rule, count));
                }
            }
            self.act_on(caller, origin, *scope, &met)?;
        }
        Ok(())
    }

    fn act_on(
        &self,
        caller: &Caller,
        origin: Option<&Origin>,
        scope: Scope<'_>,
        met: &[(&TripwireRule, u64)],
    ) -> Result<()> {
        if let Some(count) = met.iter().map(|(_, count)| *count).max() {
            self.options.events.tell(&Event::TripwireHit { caller, origin, count });
        }
        for (rule, count) in met {
            match rule.action {
                TripwireAction::Event => {}
                TripwireAction::TightenQuota(quota) => self.tighten(scope, quota)?,
                TripwireAction::Suspend => {
                    let reason = format!("{count} tripwires in {} s", rule.window.as_secs());
                    self.suspend(scope, &reason)?;
                }
            }
        }
        Ok(())
    }

    /// Gives a scope a quota of its own, unless it has less.
    fn tighten(&self, scope: Scope<'_>, quota: Quota) -> Result<()> {
        let found = self.ledger.budget(&[scope])?.into_iter().find_map(|budget| budget.quota);
        let quota = match found {
            Some(now) => {
                let burst = now.burst().min(quota.burst());
                let tight = Quota::from_parts(burst, now.interval_ns().max(quota.interval_ns()))?;
                if tight == now {
                    return Ok(());
                }
                tight
            }
            None => quota,
        };
        let own = QuotaOverride::fixed(quota);
        self.set_override(scope, Some((own, std::time::Duration::ZERO)))
    }
}
