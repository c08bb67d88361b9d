//! The path of a lookup: check, key, deduplicate, charge, probe, record, answer. Nothing is probed before the
//! charge is durable, and nothing is answered before the disclosure is written.

use super::events::Event;
use super::{Index, Inner, LookupOptions, Match, Reply, modes};
use crate::activity::Counts;
use crate::disclosures::{Group, Origins};
use crate::ledger::{Scope, ScopeId, ScopeKind, Verdict};
use crate::words::{AccountId, Caller, DisclosureMode, Error, Key, Origin, PhoneHash, Purpose, Result};

impl Index {
    /// Which of these numbers belong to accounts that agreed to be found for this purpose, and may this caller
    /// still ask?
    ///
    /// Every distinct number is charged to the caller, to each of its origins that has a quota, and to everyone,
    /// hit or miss; the charge is durable before anything is looked up. A number that this caller paid for within
    /// [`crate::Options::novelty_window`] is free, for whatever purpose. Where a budget runs short, the first
    /// numbers that all budgets can pay are answered, with all free ones, and the rest is deferred, uncharged.
    ///
    /// What is told of what was found is the purpose's mode ([`crate::Options::disclosure_mode`]): by default, which number
    /// belongs to which account.
    ///
    /// # Errors
    /// [`crate::ShardError::NotWhole`], [`Error::EmptyCaller`], [`Error::CallerIdTooLong`], [`Error::TooManyOrigins`], [`Error::TooManyOwnNumbers`],
    /// [`Error::BatchTooLarge`], [`Error::Lagging`] before anything is charged. [`Error::Lagging`] also if the index fell behind
    /// while the lookup was being charged; [`Error::Database`] or [`Error::Poisoned`] if the ledger cannot commit,
    /// [`Error::Io`] or [`Error::Poisoned`] if the disclosure cannot be recorded, and [`Error::Damaged`] if a
    /// segment is: nothing is revealed then, and what was charged stays charged.
    pub fn lookup(&self, caller: &Caller, purpose: Purpose, hashes: &[PhoneHash]) -> Result<Reply> {
        self.inner.lookup(caller, purpose, hashes, LookupOptions::default())
    }
}

impl Inner {
    pub(super) fn lookup(
        &self,
        caller: &Caller,
        purpose: Purpose,
        hashes: &[PhoneHash],
        options: LookupOptions,
    ) -> Result<Reply> {
        self.check_whole()?;
        let Paid { mode, batch, scopes, verdict } = self.pay(caller, purpose, hashes, options)?;
        let known = self.known_until();
        let mut found = match mode {
            DisclosureMode::Linked if verdict.deferred.is_empty() => self.find(caller, purpose, &batch.keys)?,
            DisclosureMode::Linked => self.find_some(caller, purpose, &batch, batch.all_but(&verdict.deferred))?,
            _ => self.find_some(caller, purpose, &batch, verdict.charged.iter().copied())?,
        };
        // A charge waits for a disk, or for a network, and a process may be stopped anywhere. What was read is as old as what was
        // known before: a report that came in between is of an index that this lookup did not see.
        self.check_lag(known.as_deref())?;
        let tripwires = self.take_tripwires(&batch.keys, &verdict.charged, &mut found)?;
        if mode != DisclosureMode::CountOnly {
            self.disclose(&scopes, purpose, &found)?;
        }
        self.ledger.note_activity(&scopes, &Counts { tripwires, ..tally(&batch, &verdict, &found) })?;
        if tripwires > 0 {
            self.act_on_tripwires(caller, &scopes)?;
        }
        Ok(Reply {
            shown: modes::shape(mode, &found, || batch.spread(&found)),
            is_deferred: batch.positions_of(&verdict.deferred),
            is_withheld: batch.withheld(&verdict.withheld),
            is_unavailable: Vec::new(),
            charged: verdict.grant.granted,
            remaining: verdict.grant.remaining,
            retry_after: verdict.grant.retry_after,
        })
    }

    /// Everything before the probe: checks, keys, duplicates, and the charge, which is durable when this returns. There is no
    /// other way to a batch that may be probed, here or at another node.
    pub(super) fn pay<'a>(
        &self,
        caller: &'a Caller,
        purpose: Purpose,
        hashes: &[PhoneHash],
        options: LookupOptions,
    ) -> Result<Paid<'a>> {
        check(caller, hashes.len(), self.options.max_batch)?;
        let mode = self.options.mode_of(purpose, options)?;
        self.disclosures.check()?;
        self.check_lag(self.known_until().as_deref())?;
        let mut keys = Vec::with_capacity(hashes.len());
        self.ring.keys_of(hashes.iter(), &mut keys);
        let batch = Distinct::of(keys);
        self.ask_before(purpose, &batch.keys);

        let who = self.ring.caller(caller.id());
        let scopes = self.scopes(caller, who.id);
        self.ledger.ask_for(&scopes);
        let mut fingerprints = Vec::with_capacity(batch.keys.len());
        self.ring.fingerprints_of(&who, &batch.keys, &mut fingerprints);
        let verdict = self.charge(caller, mode, &scopes, &fingerprints)?;
        if self.ledger.is_work_due() {
            self.wake.wake();
        }
        Ok(Paid { mode, batch, scopes, verdict })
    }

    /// Charges, and tells the host if something ran short by it.
    fn charge(
        &self,
        caller: &Caller,
        mode: DisclosureMode,
        scopes: &[Scope<'_>],
        fingerprints: &[u32],
    ) -> Result<Verdict> {
        let verdict = self.charge_for(mode, scopes, fingerprints).inspect_err(|error| {
            if matches!(error, Error::Suspended { .. }) {
                self.options.events.tell(&Event::Refused { caller });
            }
        })?;
        if verdict.grant.newly_short != 0 {
            let retry_after = verdict.grant.retry_after.unwrap_or_default();
            self.options.events.tell_exhausted(caller, scopes, verdict.grant.newly_short, retry_after);
        }
        Ok(verdict)
    }

    /// Probes some keys of a batch, given in order.
    fn find_some(
        &self,
        caller: &Caller,
        purpose: Purpose,
        batch: &Distinct,
        some: impl Iterator<Item = u32>,
    ) -> Result<Vec<(u32, AccountId)>> {
        let keyed = some.filter_map(|number| Some((number, *batch.keys.get(number as usize)?)));
        let (numbers, keys): (Vec<u32>, Vec<Key>) = keyed.unzip();
        let mut found = self.find(caller, purpose, &keys)?;
        for (number, _) in &mut found {
            *number = numbers.get(*number as usize).copied().unwrap_or_default();
        }
        Ok(found)
    }

    /// Records who is about to be shown. A lookup that shows nobody writes nothing.
    fn disclose(&self, scopes: &[Scope<'_>], purpose: Purpose, found: &[(u32, AccountId)]) -> Result<()> {
        let Some((caller, others)) = scopes.split_first().filter(|_| !found.is_empty()) else { return Ok(()) };
        let origins = others.iter().filter(|scope| matches!(scope.kind, ScopeKind::Origin(_)));
        let origins = Origins::new(origins.map(|scope| scope.id));
        let group = Group { caller: caller.id, origins, purpose: purpose.bit() as u8 };
        self.disclosures.record(&group, self.clock.wall_ms(), found.iter().map(|(_, account)| *account))
    }

    pub(super) fn origin_identity(&self, origin: &Origin) -> ScopeId {
        self.ring.origin(origin.kind(), origin.value())
    }

    /// Everything that pays for a lookup of this caller, the caller first, and what may be suspended.
    pub(super) fn scopes<'a>(&self, caller: &'a Caller, identity: ScopeId) -> Vec<Scope<'a>> {
        let mut scopes = Vec::with_capacity(caller.origins().len() + 2);
        scopes.push(Scope { id: identity, kind: ScopeKind::Caller });
        for origin in caller.origins() {
            scopes.push(Scope { id: self.origin_identity(origin), kind: ScopeKind::Origin(origin.kind()) });
        }
        if self.ledger.limits_everyone() {
            scopes.push(Scope { id: self.ring.everyone(), kind: ScopeKind::Everyone });
        }
        scopes
    }
}

/// A batch that was paid for.
pub(super) struct Paid<'a> {
    pub(super) mode: DisclosureMode,
    pub(super) batch: Distinct,
    pub(super) scopes: Vec<Scope<'a>>,
    pub(super) verdict: Verdict,
}

/// What a lookup adds to the counters of its caller and origins. What was charged and what was found are in order.
pub(super) fn tally(batch: &Distinct, verdict: &Verdict, found: &[(u32, AccountId)]) -> Counts {
    let mut charged = verdict.charged.iter().peekable();
    let (mut numbers, mut paid, mut last) = (0, 0, None);
    for (number, _) in found {
        // A number may show several accounts.
        if last.replace(number) == Some(number) {
            continue;
        }
        numbers += 1;
        while charged.next_if(|at| *at < number).is_some() {}
        paid += u64::from(charged.next_if_eq(&number).is_some());
    }
    Counts {
        lookups: 1,
        asked: batch.keys.len() as u64,
        charged: verdict.charged.len() as u64,
        found: numbers,
        missed: (verdict.charged.len() as u64).saturating_sub(paid),
        deferred: verdict.deferred.len() as u64,
        tripwires: 0,
    }
}

fn check(caller: &Caller, len: usize, limit: usize) -> Result<()> {
    check_caller(caller)?;
    if len > limit {
        return Err(Error::BatchTooLarge { len, limit });
    }
    Ok(())
}

pub(super) fn check_caller(caller: &Caller) -> Result<()> {
    match caller.id().len() {
        0 => return Err(Error::EmptyCaller),
        len if len > Caller::MAX_ID_LEN => return Err(Error::CallerIdTooLong { len }),
        _ => {}
    }
    if caller.origins().len() > Caller::MAX_ORIGINS {
        return Err(Error::TooManyOrigins { found: caller.origins().len() });
    }
    if caller.own_numbers().len() > Caller::MAX_OWN_NUMBERS {
        return Err(Error::TooManyOwnNumbers { found: caller.own_numbers().len() });
    }
    Ok(())
}

/// A batch without its duplicates.
pub(super) struct Distinct {
    /// Distinct keys in the order of their first position.
    pub(super) keys: Vec<Key>,
    /// For each position, which distinct key it asks for.
    number_of: Vec<u32>,
}

impl Distinct {
    fn of(mut keys: Vec<Key>) -> Self {
        if keys.len() == 1 {
            return Self { keys, number_of: vec![0] };
        }
        // Open addressing over the numbers of keys, one added to each: zero is free. Keys are uniform, so their own
        // bits are the hash. Four places a key: most find theirs free, and nothing to guess for a processor.
        let mask = (keys.len() * 4).next_power_of_two() - 1;
        let mut table = vec![0_u32; mask + 1];
        let mut number_of = Vec::with_capacity(keys.len());
        let mut count = 0;
        for position in 0..keys.len() {
            let Some(key) = keys.get(position).copied() else { break };
            let mut at = key.lo as usize & mask;
            while let Some(place) = table.get_mut(at) {
                if *place == 0 {
                    // Distinct keys move to the front; all before this one were looked at.
                    if let Some(to) = keys.get_mut(count as usize) {
                        *to = key;
                    }
                    number_of.push(count);
                    count += 1;
                    *place = count;
                    break;
                }
                let number = *place - 1;
                if keys.get(number as usize) == Some(&key) {
                    number_of.push(number);
                    break;
                }
                at = (at + 1) & mask;
            }
        }
        keys.truncate(count as usize);
        Self { keys, number_of }
    }

    /// The numbers that are not among these, which are in order.
    pub(super) fn all_but(&self, numbers: &[u32]) -> impl Iterator<Item = u32> {
        let mut numbers = numbers.iter().peekable();
        (0..self.keys.len() as u32).filter(move |number| numbers.next_if_eq(&number).is_none())
    }

    /// As [`Distinct::positions_of`], and nothing if there are none.
    pub(super) fn withheld(&self, numbers: &[u32]) -> Vec<bool> {
        if numbers.is_empty() { Vec::new() } else { self.positions_of(numbers) }
    }

    /// For each position, whether its number is among these, which are in order.
    pub(super) fn positions_of(&self, numbers: &[u32]) -> Vec<bool> {
        if numbers.is_empty() {
            return vec![false; self.number_of.len()];
        }
        let mut among = vec![false; self.keys.len()];
        for number in numbers {
            if let Some(flag) = among.get_mut(*number as usize) {
                *flag = true;
            }
        }
        self.number_of.iter().map(|number| among.get(*number as usize).copied().unwrap_or_default()).collect()
    }

    /// Matches of distinct keys, sorted, to matches of positions, sorted.
    pub(super) fn spread(&self, found: &[(u32, AccountId)]) -> Vec<Match> {
        let as_match = |position: usize, account: &AccountId| Match { position, account: *account };
        if self.number_of.len() == self.keys.len() {
            // Without duplicates the number of a key is its position.
            return found.iter().map(|(number, account)| as_match(*number as usize, account)).collect();
        }
        // Where the matches of each number end; those of a number begin where those of the one before end.
        let mut ends = vec![0_usize; self.keys.len()];
        for (end, (number, _)) in (1..).zip(found) {
            if let Some(to) = ends.get_mut(*number as usize) {
                *to = end;
            }
        }
        let mut last = 0;
        for end in &mut ends {
            last = last.max(*end);
            *end = last;
        }
        let end_of = |number: usize| ends.get(number).copied().unwrap_or_default();
        let mut matches = Vec::with_capacity(found.len());
        for (position, number) in self.number_of.iter().enumerate() {
            let number = *number as usize;
            let range = number.checked_sub(1).map_or(0, end_of)..end_of(number);
            let of_number = found.get(range).unwrap_or_default();
            matches.extend(of_number.iter().map(|(_, account)| as_match(position, account)));
        }
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_share_a_number_and_matches_spread_back() {
        let key = |i: u128| Key::from_u128(i << 64 | i);
        let batch = Distinct::of(vec![key(5), key(7), key(5), key(9), key(7)]);
        assert_eq!(batch.keys, [key(5), key(7), key(9)]);
        assert_eq!(batch.number_of, [0, 1, 0, 2, 1]);
        let found = [(0, AccountId::from(1)), (0, AccountId::from(2)), (2, AccountId::from(3))];
        let spread = batch.spread(&found);
        let expected: Vec<_> = [(0, 1), (0, 2), (2, 1), (2, 2), (3, 3)]
            .map(|(position, account): (usize, u64)| Match { position, account: account.into() })
            .into();
        assert_eq!(spread, expected);
        assert_eq!(batch.positions_of(&[1]), [false, true, false, false, true]);
        assert_eq!(Distinct::of(Vec::new()).positions_of(&[]), [false; 0]);
    }

    #[test]
    fn a_tally_counts_each_number_once_and_misses_only_what_was_paid() {
        let key = |i: u128| Key::from_u128(i << 64 | i);
        let batch = Distinct::of(vec![key(1), key(2), key(2), key(3), key(4), key(5)]);
        let grant = crate::ledger::Grant { granted: 2, remaining: 0, retry_after: None, newly_short: 0 };
        // Number 0 was paid for earlier, 1 and 3 are paid now, 2 was paid for earlier, 4 waits.
        let verdict = Verdict { grant, charged: vec![1, 3], deferred: vec![4], withheld: Vec::new() };
        let found = [(0, 1), (0, 2), (3, 3), (3, 4)].map(|(number, account)| (number, AccountId::from(account)));
        let counts = tally(&batch, &verdict, &found);
        let seen = [counts.lookups, counts.asked, counts.charged, counts.found, counts.missed, counts.deferred];
        assert_eq!(seen, [1, 5, 2, 2, 1, 1]);
        assert_eq!(tally(&batch, &verdict, &[]).missed, 2);
    }

    #[test]
    fn many_keys_with_the_same_place_are_told_apart() {
        let keys: Vec<Key> = (0..300_u128).map(|i| Key::from_u128((i % 100) << 64 | 77)).collect();
        let batch = Distinct::of(keys.clone());
        assert_eq!(batch.keys, keys[..100]);
        assert_eq!(batch.number_of, (0..300).map(|i| i % 100).collect::<Vec<u32>>());
    }
}
