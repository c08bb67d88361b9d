//! The path of a lookup: check, key, deduplicate, charge, probe, record, answer. Nothing is probed before the
//! charge is durable, and nothing is answered before the disclosure is written.

use hashbrown::HashTable;

use super::{Index, Inner, Match, Reply};
use crate::disclosures::{Group, Origins};
use crate::ledger::{Ledger, Scope, ScopeId};
use crate::words::{AccountId, Caller, Error, Key, Origin, PhoneHash, Purpose, Result};

impl Index {
    /// Which of these numbers belong to accounts that agreed to be found for this purpose, and may this caller
    /// still ask?
    ///
    /// Every distinct number is charged to the caller, to each of its origins that has a quota, and to everyone,
    /// hit or miss; the charge is durable before anything is looked up. Where a budget runs short, the first
    /// distinct numbers that all budgets can pay are answered and the rest is deferred, uncharged.
    ///
    /// # Errors
    /// [`Error::EmptyCaller`], [`Error::CallerIdTooLong`], [`Error::TooManyOrigins`], [`Error::BatchTooLarge`]
    /// before anything is charged. [`Error::Database`] or [`Error::Poisoned`] if the ledger cannot commit,
    /// [`Error::Io`] or [`Error::Poisoned`] if the disclosure cannot be recorded, and [`Error::Damaged`] if a
    /// segment is: nothing is revealed then, and what was charged stays charged.
    pub fn lookup(&self, caller: &Caller, purpose: Purpose, hashes: &[PhoneHash]) -> Result<Reply> {
        self.inner.lookup(caller, purpose, hashes)
    }
}

impl Inner {
    fn lookup(&self, caller: &Caller, purpose: Purpose, hashes: &[PhoneHash]) -> Result<Reply> {
        check(caller, hashes.len(), self.options.max_batch)?;
        self.disclosures.check()?;
        let mut keys = Vec::with_capacity(hashes.len());
        self.ring.keys_of(hashes.iter(), &mut keys);
        let batch = Distinct::of(&keys);

        let identity = self.ring.identity_of("caller", caller.id());
        let scopes = self.scopes(caller, identity);
        let grant = self.ledger.charge(&scopes, batch.keys.len() as u64)?;
        let granted = usize::try_from(grant.granted).unwrap_or(usize::MAX).min(batch.keys.len());

        let found = self.probe(purpose, batch.keys.get(..granted).unwrap_or_default())?;
        self.disclose(caller, identity, purpose, &found)?;
        Ok(Reply {
            matches: batch.spread(&found),
            is_deferred: batch.number_of.iter().map(|number| *number as usize >= granted).collect(),
            charged: grant.granted,
            remaining: grant.remaining,
            retry_after: grant.retry_after,
        })
    }

    /// Records who is about to be shown. A lookup that shows nobody writes nothing.
    fn disclose(
        &self,
        caller: &Caller,
        identity: ScopeId,
        purpose: Purpose,
        found: &[(u32, AccountId)],
    ) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let origins = caller.origins().iter().map(|origin| self.origin_identity(origin));
        let group = Group { caller: identity, origins: Origins::new(origins), purpose: purpose.bit() as u8 };
        self.disclosures.record(&group, self.clock.wall_ms(), found.iter().map(|(_, account)| *account))
    }

    pub(super) fn origin_identity(&self, origin: &Origin) -> ScopeId {
        self.ring.identity_of(&format!("origin:{}", origin.kind()), origin.value())
    }

    /// Everything that pays for a lookup of this caller.
    fn scopes(&self, caller: &Caller, identity: ScopeId) -> Vec<Scope> {
        let policy = self.ledger.policy();
        let mut scopes = vec![Scope { id: identity, quota: policy.caller() }];
        for origin in caller.origins() {
            if let Some(quota) = policy.origin(origin.kind()) {
                scopes.push(Scope { id: self.origin_identity(origin), quota });
            }
        }
        if let Some(quota) = policy.everyone() {
            scopes.push(Scope { id: self.ring.identity_of("everyone", &[]), quota });
        }
        scopes
    }
}

fn check(caller: &Caller, len: usize, limit: usize) -> Result<()> {
    match caller.id().len() {
        0 => return Err(Error::EmptyCaller),
        len if len > Caller::MAX_ID_LEN => return Err(Error::CallerIdTooLong { len }),
        _ => {}
    }
    if caller.origins().len() > Caller::MAX_ORIGINS {
        return Err(Error::TooManyOrigins { found: caller.origins().len() });
    }
    if len > limit {
        return Err(Error::BatchTooLarge { len, limit });
    }
    Ok(())
}

/// A batch without its duplicates.
struct Distinct {
    /// Distinct keys in the order of their first position.
    keys: Vec<Key>,
    /// For each position, which distinct key it asks for.
    number_of: Vec<u32>,
}

impl Distinct {
    fn of(batch: &[Key]) -> Self {
        let mut table: HashTable<u32> = HashTable::with_capacity(batch.len());
        let mut keys: Vec<Key> = Vec::with_capacity(batch.len());
        let mut number_of = Vec::with_capacity(batch.len());
        for key in batch {
            let same = |number: &u32| keys.get(*number as usize) == Some(key);
            let number = match table.find(key.lo, same) {
                Some(number) => *number,
                None => {
                    let number = keys.len() as u32;
                    keys.push(*key);
                    table.insert_unique(key.lo, number, |number| keys.get(*number as usize).map_or(0, |k| k.lo));
                    number
                }
            };
            number_of.push(number);
        }
        Self { keys, number_of }
    }

    /// Matches of distinct keys, sorted, to matches of positions, sorted.
    fn spread(&self, found: &[(u32, AccountId)]) -> Vec<Match> {
        let mut matches = Vec::with_capacity(found.len());
        for (position, number) in self.number_of.iter().enumerate() {
            let start = found.partition_point(|(of, _)| of < number);
            let of_number = found.iter().skip(start).take_while(|(of, _)| of == number);
            matches.extend(of_number.map(|(_, account)| Match { position, account: *account }));
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
        let batch = Distinct::of(&[key(5), key(7), key(5), key(9), key(7)]);
        assert_eq!(batch.keys, [key(5), key(7), key(9)]);
        assert_eq!(batch.number_of, [0, 1, 0, 2, 1]);
        let found = [(0, AccountId::from(1)), (0, AccountId::from(2)), (2, AccountId::from(3))];
        let spread = batch.spread(&found);
        let expected: Vec<_> = [(0, 1), (0, 2), (2, 1), (2, 2), (3, 3)]
            .map(|(position, account): (usize, u64)| Match { position, account: account.into() })
            .into();
        assert_eq!(spread, expected);
    }
}
