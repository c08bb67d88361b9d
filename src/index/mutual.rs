//! Listings that answer their account's own contacts only.

use super::Inner;
use super::probe::Probed;
use crate::words::{AccountId, Caller, Key, Purpose, Result};

impl Inner {
    /// The opted-in listings of these keys that this caller may be shown, as (position in `keys`, account), in order.
    pub(super) fn find(&self, caller: &Caller, purpose: Purpose, keys: &[Key]) -> Result<Vec<(u32, AccountId)>> {
        self.find_for(purpose, keys, || {
            let mut own = Vec::with_capacity(caller.own_numbers().len());
            self.ring.keys_of(caller.own_numbers().iter(), &mut own);
            own
        })
    }

    /// As [`Inner::find`], for a caller whose own numbers have these keys.
    pub(super) fn find_for(
        &self,
        purpose: Purpose,
        keys: &[Key],
        own: impl FnOnce() -> Vec<Key>,
    ) -> Result<Vec<(u32, AccountId)>> {
        let Probed { mut found, mutual } = self.probe(purpose, keys)?;
        if !mutual.is_empty() {
            self.add_mutual(&own(), &mutual, &mut found)?;
        }
        Ok(found)
    }

    /// Adds the listings whose account asked for a number of the caller's.
    #[cold]
    fn add_mutual(
        &self,
        own: &[Key],
        mutual: &[(u32, AccountId)],
        found: &mut Vec<(u32, AccountId)>,
    ) -> Result<()> {
        for (number, account) in mutual {
            if self.has_asked_for(*account, own)? {
                found.push((*number, *account));
            }
        }
        found.sort();
        Ok(())
    }

    /// Did this account, as a caller, pay for one of these numbers within the novelty window?
    fn has_asked_for(&self, account: AccountId, own: &[Key]) -> Result<bool> {
        if own.is_empty() {
            return Ok(false);
        }
        let who = self.ring.caller(Caller::of_account(account).id());
        let mut fingerprints = Vec::with_capacity(own.len());
        self.ring.fingerprints_of(&who, own, &mut fingerprints);
        self.has_paid(who.id, &fingerprints)
    }
}
