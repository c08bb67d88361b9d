//! The front of a lookup in a fleet: charge, tickets for the owners of the keys, and a reply made of their answers.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::super::lookup::{Paid, tally};
use super::super::reply::Shown;
use super::super::{Discovery, Index, Inner, LookupOptions, Reply, modes};
use crate::activity::Counts;
use crate::ledger::{ScopeKind, Verdict};
use crate::shards::{Answer, Found, Ownership, Ticket};
use crate::words::{AccountId, Caller, DisclosureMode, Error, Key, PhoneHash, Purpose, Result, ShardError, Tag};

/// A lookup that was charged and waits for the nodes that have its numbers. See [`Index::issue`].
///
/// It keeps the index open until it is finished or dropped. Dropped, what was charged stays charged, and the numbers are free
/// the next time.
#[must_use = "what was charged is answered by `finish`"]
pub struct Pending {
    inner: Arc<Inner>,
    caller: Caller,
    purpose: Purpose,
    mode: DisclosureMode,
    batch: super::super::lookup::Distinct,
    verdict: Verdict,
    /// What all tickets of the lookup have in common.
    head: Ticket,
    parts: Vec<Part>,
}

/// What one node is asked.
struct Part {
    node: String,
    /// Numbers in the batch of the ticket's keys.
    numbers: Vec<u32>,
    ticket: Vec<u8>,
    tag: Tag,
    answer: Option<Answer>,
}

impl Index {
    /// A lookup of an index in parts: charges as [`Index::lookup_with`] does, with every check of it, and makes a ticket for each
    /// node that owns some of the numbers. The host brings each ticket to its node ([`Index::redeem`]) and the answer back
    /// ([`Pending::accept`]); [`Pending::finish`] makes the reply.
    ///
    /// A ticket holds keyed identities and keys, no number, and is vouched for with a key of the secret: nobody makes one but
    /// a node that charged for it. It expires ([`crate::Options::ticket_lifetime`]); until then whoever has it gets, again,
    /// what this caller paid for, and each time is recorded.
    ///
    /// # Errors
    /// [`ShardError::NotANode`], [`ShardError::NoRecord`], and what [`Index::lookup_with`] refuses before it probes.
    pub fn issue(
        &self,
        caller: &Caller,
        purpose: Purpose,
        hashes: &[PhoneHash],
        options: LookupOptions,
    ) -> Result<Pending> {
        let inner = &self.inner;
        let record = inner.node()?.followed()?.clone();
        let mut lookup = [0; 16];
        getrandom::fill(&mut lookup).map_err(|error| Error::Random { reason: error.to_string() })?;
        let Paid { mode, batch, scopes, verdict } = inner.pay(caller, purpose, hashes, options)?;

        let origins = scopes.iter().filter(|scope| matches!(scope.kind, ScopeKind::Origin(_)));
        let mut own = Vec::with_capacity(caller.own_numbers().len());
        inner.ring.keys_of(caller.own_numbers().iter(), &mut own);
        // After the charge: a lease that was waited for takes nothing from the life of the ticket.
        let issued_ms = inner.clock.wall_ms();
        let head = Ticket {
            purpose,
            mode,
            fleet: record.fleet(),
            record: record.version(),
            issued_ms,
            expires_ms: issued_ms.saturating_add(inner.options.shard.lifetime_ms()),
            lookup,
            caller: scopes.first().map(|scope| scope.id).unwrap_or_default(),
            origins: origins.map(|scope| scope.id).collect(),
            own,
            keys: Vec::new(),
        };
        let wanted: Vec<u32> = match mode {
            DisclosureMode::Linked => batch.all_but(&verdict.deferred).collect(),
            _ => verdict.charged.clone(),
        };
        let (inner, caller) = (inner.clone(), caller.clone());
        let mut pending = Pending { inner, caller, purpose, mode, batch, verdict, head, parts: Vec::new() };
        pending.ask(&record, wanted);
        Ok(pending)
    }
}

impl Discovery {
    /// As [`Index::issue`].
    ///
    /// # Errors
    /// As [`Index::issue`].
    pub fn issue(
        &self,
        caller: &Caller,
        purpose: Purpose,
        hashes: &[PhoneHash],
        options: LookupOptions,
    ) -> Result<Pending> {
        self.index().issue(caller, purpose, hashes, options)
    }
}

impl Pending {
    /// The node to ask and the ticket for it, of every node that did not answer yet.
    pub fn tickets(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let waiting = self.parts.iter().filter(|part| part.answer.is_none());
        waiting.map(|part| (part.node.as_str(), part.ticket.as_slice()))
    }

    /// Takes what a node answered to its ticket.
    ///
    /// # Errors
    /// [`ShardError::AnswerMalformed`], [`ShardError::NewerFormat`], [`ShardError::AnswerForged`],
    /// [`ShardError::AnswerUnexpected`]: nothing of it is believed then, and the node still counts as not heard of.
    pub fn accept(&mut self, answer: &[u8]) -> Result<(), ShardError> {
        let (answer, tag) = Answer::open(answer, self.inner.ring.shards())?;
        let waiting = self.parts.iter_mut().find(|part| part.tag == tag && part.answer.is_none());
        let part = waiting.ok_or(ShardError::AnswerUnexpected)?;
        answer.check_fits(self.mode, part.numbers.len())?;
        part.answer = Some(answer);
        Ok(())
    }

    /// Makes new tickets, by the record that this node follows now, for all numbers without an answer: for a lookup that a move
    /// overtook ([`ShardError::TicketOlder`], [`ShardError::TicketNewer`]). Nothing is charged, and they expire when the first
    /// ones did.
    ///
    /// # Errors
    /// [`ShardError::TicketExpired`] if they have.
    pub fn reissue(&mut self) -> Result<(), ShardError> {
        let now_ms = self.inner.clock.wall_ms();
        self.head.check_time(now_ms, 0)?;
        let node = self.inner.node()?;
        let record = node.followed()?;
        self.head.record = record.version();
        let (answered, waiting): (Vec<Part>, Vec<Part>) =
            std::mem::take(&mut self.parts).into_iter().partition(|part| part.answer.is_some());
        self.parts = answered;
        let mut numbers: Vec<u32> = waiting.into_iter().flat_map(|part| part.numbers).collect();
        numbers.sort_unstable();
        self.ask(record, numbers);
        Ok(())
    }

    /// Makes a ticket for each owner of some of these numbers.
    fn ask(&mut self, record: &Ownership, wanted: Vec<u32>) {
        let mut of_owner: HashMap<&str, (Vec<u32>, Vec<Key>)> = HashMap::new();
        for number in wanted {
            let Some(key) = self.batch.keys.get(number as usize) else { continue };
            let (numbers, keys) = of_owner.entry(record.owner_of(*key)).or_default();
            numbers.push(number);
            keys.push(*key);
        }
        for (node, (numbers, keys)) in of_owner {
            let (ticket, tag) = Ticket { keys, ..self.head.clone() }.seal(self.inner.ring.shards());
            self.parts.push(Part { node: node.to_owned(), numbers, ticket, tag, answer: None });
        }
        self.parts.sort_by(|one, other| one.node.cmp(&other.node));
    }

    /// Makes the reply: what a lookup of the whole index would have told, in the mode of the lookup over all answers together.
    /// Numbers whose node did not answer are [`crate::NumberState::Unavailable`].
    ///
    /// In the modes unlinked and count, if fewer than [`crate::Options::unlinked_min_novel`] numbers were answered because nodes did
    /// not, nothing is shown and all are unavailable: the fewer would be linked by who stayed silent.
    ///
    /// # Errors
    /// [`Error::Database`] or [`Error::Poisoned`] if the ledger cannot count what was found, and what the tripwires' policy
    /// does fails: nothing is shown then.
    pub fn finish(mut self) -> Result<Reply> {
        let answered: usize = self.answered().map(|(numbers, _)| numbers.len()).sum();
        let is_silent = self.parts.iter().any(|part| part.answer.is_none());
        if self.mode != DisclosureMode::Linked && is_silent && answered < self.inner.options.unlinked_min_novel {
            self.parts.iter_mut().for_each(|part| part.answer = None);
        }
        let silent = self.parts.iter().filter(|part| part.answer.is_none());
        let mut unavailable: Vec<u32> = silent.flat_map(|part| part.numbers.iter().copied()).collect();
        unavailable.sort_unstable();

        let mut found = self.linked();
        found.sort_unstable();
        let tripwires = self.tripwires();
        let counts = Counts { tripwires, ..self.counts(&found, &unavailable) };
        let who = self.inner.ring.caller(self.caller.id());
        let scopes = self.inner.scopes(&self.caller, who.id);
        self.inner.ledger.note_activity(&scopes, &counts)?;
        if tripwires > 0 {
            self.inner.act_on_tripwires(&self.caller, &scopes)?;
        }
        let is_unavailable = self.batch.withheld(&unavailable);
        Ok(Reply {
            shown: self.shown(&found),
            is_deferred: self.batch.positions_of(&self.verdict.deferred),
            is_withheld: self.batch.withheld(&self.verdict.withheld),
            is_unavailable,
            charged: self.verdict.grant.granted,
            remaining: self.verdict.grant.remaining,
            retry_after: self.verdict.grant.retry_after,
        })
    }

    fn answered(&self) -> impl Iterator<Item = (&[u32], &Answer)> {
        self.parts.iter().filter_map(|part| Some((part.numbers.as_slice(), part.answer.as_ref()?)))
    }

    /// Numbers of the batch and the accounts that they were found to be.
    fn linked(&self) -> Vec<(u32, AccountId)> {
        let mut linked = Vec::new();
        for (numbers, answer) in self.answered() {
            if let Found::Linked(found) = &answer.found {
                let in_batch = found.iter().map(|(at, account)| Some((*numbers.get(*at as usize)?, *account)));
                linked.extend(in_batch.flatten());
            }
        }
        linked
    }

    /// Tripwires that were paid for just now. In the stricter modes nothing else is asked.
    fn tripwires(&self) -> u32 {
        let met = self.answered().flat_map(|(numbers, answer)| {
            answer.tripwires.iter().filter_map(|at| numbers.get(*at as usize).copied())
        });
        met.filter(|number| self.verdict.charged.binary_search(number).is_ok()).count() as u32
    }

    /// What counts as asked, found and missed. What nobody answered was neither.
    fn counts(&self, found: &[(u32, AccountId)], unavailable: &[u32]) -> Counts {
        let mut counts = tally(&self.batch, &self.verdict, found);
        if self.mode != DisclosureMode::Linked {
            let numbers: u64 = self.answered().map(|(_, answer)| u64::from(answer.found.numbers())).sum();
            counts.found = numbers;
            counts.missed = counts.missed.saturating_sub(numbers);
        }
        let unheard =
            unavailable.iter().filter(|number| self.verdict.charged.binary_search(number).is_ok()).count();
        counts.missed = counts.missed.saturating_sub(unheard as u64);
        counts
    }

    fn shown(&self, found: &[(u32, AccountId)]) -> Shown {
        match self.mode {
            DisclosureMode::Linked => modes::shape(self.mode, found, || self.batch.spread(found)),
            DisclosureMode::Unlinked => {
                let accounts = self.answered().filter_map(|(_, answer)| match &answer.found {
                    Found::Unlinked { accounts, .. } => Some(accounts),
                    _ => None,
                });
                Shown::Unlinked(modes::distinct(accounts.flatten().copied()))
            }
            DisclosureMode::CountOnly => {
                let pseudonyms = self.answered().filter_map(|(_, answer)| match &answer.found {
                    Found::Counted { pseudonyms, .. } => Some(pseudonyms),
                    _ => None,
                });
                let mut pseudonyms: Vec<&[u8; 16]> = pseudonyms.flatten().collect();
                pseudonyms.sort_unstable();
                pseudonyms.dedup();
                Shown::Count(pseudonyms.len() as u64)
            }
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.parts.iter().filter(|part| part.answer.is_none()).count();
        f.debug_struct("Pending")
            .field("purpose", &self.purpose)
            .field("mode", &self.mode)
            .field("nodes", &self.parts.len())
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}
