//! The owner of a range: a ticket is checked before anything is probed, what is shown is recorded, and then answered.

use super::super::{Discovery, Index, Inner, modes};
use crate::disclosures::{Group, Origins};
use crate::shards::{Answer, Found, Shard, Ticket};
use crate::words::{AccountId, DisclosureMode, Result, ShardError};

impl Index {
    /// Answers a ticket that another node of the fleet issued, or this one. Nothing is charged: the ticket was.
    ///
    /// Before anything is looked up: its tag, in constant time, its time, that this node knows the record that it was issued under, and
    /// owns and has every key of it. Opt-ins, removals, tripwires and mutual audiences are this node's to apply. What is shown is
    /// in this node's disclosure log when this returns; a ticket that is redeemed again is recorded again. Counted only, nothing
    /// is recorded, and accounts leave the node under names that mean nothing outside the lookup.
    ///
    /// Whether an account with a mutual audience asked for the caller is looked up in *this* node's ledger: with one ledger for the
    /// fleet that is the whole truth, with ledgers of their own only what the account asked at this node counts, and it is not
    /// shown otherwise.
    ///
    /// # Errors
    /// [`ShardError::TicketMalformed`], [`ShardError::NewerFormat`], [`ShardError::TicketForged`], [`ShardError::TicketForeign`],
    /// [`ShardError::TicketExpired`], [`ShardError::TicketEarly`], [`ShardError::TicketNewer`], [`ShardError::TicketOlder`],
    /// [`ShardError::WrongOwner`], [`ShardError::RangeMissing`]; [`crate::Error::Lagging`]; [`crate::Error::Damaged`], [`crate::Error::Io`] and
    /// [`crate::Error::Poisoned`] as of a lookup. Nothing is revealed then.
    pub fn redeem(&self, ticket: &[u8]) -> Result<Vec<u8>> {
        self.inner.redeem(ticket)
    }
}

impl Discovery {
    /// As [`Index::redeem`].
    ///
    /// # Errors
    /// As [`Index::redeem`].
    pub fn redeem(&self, ticket: &[u8]) -> Result<Vec<u8>> {
        self.index().redeem(ticket)
    }
}

impl Inner {
    fn redeem(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let shard = self.node()?;
        let (ticket, tag) = Ticket::open(bytes, self.options.max_batch, self.ring.shards())?;
        admit(&shard, &ticket)?;
        ticket.check_time(self.clock.wall_ms(), self.options.shard.skew_ms())?;
        self.disclosures.check()?;
        let known = self.known_until();
        self.check_lag(known.as_deref())?;

        let mut found = self.find_for(ticket.purpose, &ticket.keys, || ticket.own.clone())?;
        let mut tripwires = self.take_met(&ticket.keys, |_| true, &mut found)?;
        // A range that was given away meanwhile may have gone from under the probe.
        admit(&*self.node()?, &ticket)?;
        self.check_lag(known.as_deref())?;
        found.dedup();
        tripwires.dedup();
        if ticket.mode != DisclosureMode::CountOnly && !found.is_empty() {
            let origins = Origins::new(ticket.origins.iter().copied());
            let group = Group { caller: ticket.caller, origins, purpose: ticket.purpose.bit() as u8 };
            self.disclosures.record(&group, self.clock.wall_ms(), found.iter().map(|(_, account)| *account))?;
        }
        let answer = Answer { found: self.shaped(&ticket, found), tripwires };
        Ok(answer.seal(&tag, self.ring.shards()))
    }

    /// What the front needs to know and no more.
    fn shaped(&self, ticket: &Ticket, found: Vec<(u32, AccountId)>) -> Found {
        let numbers = found.chunk_by(|(one, _), (other, _)| one == other).count() as u32;
        let accounts = |found: &[(u32, AccountId)]| modes::distinct(found.iter().map(|(_, account)| *account));
        match ticket.mode {
            DisclosureMode::Linked => Found::Linked(found),
            DisclosureMode::Unlinked => Found::Unlinked { numbers, accounts: accounts(&found) },
            DisclosureMode::CountOnly => {
                let keys = self.ring.shards();
                let accounts = accounts(&found).into_iter();
                let mut pseudonyms: Vec<_> =
                    accounts.map(|account| keys.pseudonym(&ticket.lookup, account)).collect();
                pseudonyms.sort_unstable();
                Found::Counted { numbers, pseudonyms }
            }
        }
    }
}

/// Is this node to answer the ticket?
fn admit(shard: &Shard, ticket: &Ticket) -> Result<(), ShardError> {
    let record = shard.followed()?;
    let (found, known) = (ticket.record, record.version());
    if ticket.fleet != record.fleet() {
        return Err(ShardError::TicketForeign);
    }
    if found > known {
        return Err(ShardError::TicketNewer { found, known });
    }
    if !ticket.keys.iter().all(|key| record.owner_of(*key) == shard.node) {
        let older = ShardError::TicketOlder { found, known };
        return Err(if found < known { older } else { ShardError::WrongOwner });
    }
    if ticket.keys.iter().all(|key| shard.holds(*key)) { Ok(()) } else { Err(ShardError::RangeMissing) }
}
