//! An index that is one node of a fleet: it holds some ranges of the keys, asks the others with tickets and answers theirs.
//!
//! `issue` charges and makes tickets, `redeem` answers them, `moves` takes a range from one node to another by way of `export`
//! and `arrive`, `align` cuts segments where ranges end. The record of who owns what, and the bytes of tickets and answers,
//! are in `crate::shards`; who carries them between nodes is the host.

mod align;
mod arrive;
mod export;
mod issue;
mod moves;
mod redeem;

use std::sync::Arc;
use std::time::Duration;

use super::{Index, Inner, Options, Writer};
use crate::overlay::Change;
use crate::segment::keys::KeyRange;
use crate::shards::{Hold, KeySpan, Ownership, Pieces, Shard, Ticket, check_name};
use crate::store::{Changes, State, Store};
use crate::words::{Error, Result, ShardError};

pub use export::ExportReport;
pub use issue::Pending;
pub use moves::RangeReport;

/// What a node of a fleet is told when it opens.
#[derive(Debug, Clone)]
pub(crate) struct ShardOptions {
    node: Option<String>,
    lifetime: Duration,
    skew: Duration,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self { node: None, lifetime: Duration::from_secs(10), skew: Duration::from_secs(2) }
    }
}

impl ShardOptions {
    pub(super) fn check(&self) -> Result<()> {
        if let Some(node) = &self.node {
            check_name(node)?;
        }
        let most_ms = Ticket::MAX_LIFETIME_MS;
        let checks = [
            ("ticket_lifetime", "1 ms to 60 seconds", ms(self.lifetime), 1),
            ("ticket_skew", "up to 60 seconds", ms(self.skew), 0),
        ];
        for (name, expected, found, min) in checks {
            if found < min || found > most_ms {
                return Err(Error::BadOption { name, expected, found });
            }
        }
        Ok(())
    }

    pub(super) fn lifetime_ms(&self) -> u64 {
        ms(self.lifetime)
    }

    pub(super) fn skew_ms(&self) -> u64 {
        ms(self.skew)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Options {
    /// Makes the index a node of a fleet, by this name, once and for all. A new index then holds no range until it is given one
    /// ([`Index::begin_ownership`], [`Index::expect_range`]); one that has listings already holds every range. No node by
    /// default.
    #[must_use]
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.shard.node = Some(name.into());
        self
    }

    /// How long a ticket of this node can be redeemed: 10 seconds by default, at most 60. Whoever gets hold of one can repeat it
    /// that long.
    #[must_use]
    pub const fn ticket_lifetime(mut self, lifetime: Duration) -> Self {
        self.shard.lifetime = lifetime;
        self
    }

    /// By how much the clocks of nodes may differ: 2 seconds by default, at most 60. Tickets are redeemed so much longer.
    #[must_use]
    pub const fn ticket_skew(mut self, skew: Duration) -> Self {
        self.shard.skew = skew;
        self
    }
}

impl Index {
    /// Begins a new fleet at this node: it holds, empty, what the first record gives it. Before any update or import, at every
    /// node of that record; nodes that come later get their ranges by moves. A node whose directory was lost is no new node:
    /// restore it, or move its ranges to another that has them.
    ///
    /// # Errors
    /// [`ShardError::NotANode`]; [`ShardError::RangeHeld`] if the record is not the first, or the index is not new;
    /// [`Error::Database`], [`Error::Poisoned`].
    ///
    /// ```
    /// use unlisted::{AccountId, Caller, Index, LookupOptions, OptIns, Options, Ownership, PhoneHash, Purpose, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let record = Ownership::of_equals(["a", "b"])?;
    /// let open = |node: &str| -> Result<Index, Box<dyn std::error::Error>> {
    ///     let options = Options::new(Secret::from_hex(&"5e".repeat(32))?).node(node);
    ///     let index = Index::open(dir.path().join(node), options)?;
    ///     index.begin_ownership(&record)?;
    ///     Ok(index)
    /// };
    /// let nodes = [open("a")?, open("b")?];
    /// let ada = PhoneHash::of_e164("+14155550100")?;
    /// // Every node follows the whole feed and keeps its part.
    /// for node in &nodes {
    ///     node.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
    /// }
    /// // One charges, the owner answers, and the first makes a reply of the answers.
    /// let mut pending = nodes[0].issue(&Caller::new("user-7"), Purpose::Search, &[ada], LookupOptions::default())?;
    /// let tickets: Vec<_> = pending.tickets().map(|(node, ticket)| (node.to_owned(), ticket.to_vec())).collect();
    /// for (node, ticket) in tickets {
    ///     let owner = if node == "a" { &nodes[0] } else { &nodes[1] };
    ///     pending.accept(&owner.redeem(&ticket)?)?;
    /// }
    /// let reply = pending.finish()?;
    /// assert_eq!((reply.matches().count(), reply.charged()), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin_ownership(&self, record: &Ownership) -> Result<()> {
        let inner = &self.inner;
        let _structure = inner.structure.lock();
        let mut writer = inner.writer.lock();
        let shard = inner.node()?;
        let is_new = writer.state.snapshot_version == 0 && writer.state.watermark.is_none();
        let is_first = record.version() == 1 && shard.record.is_none();
        if !is_new || !is_first || !shard.holds.all(KeySpan::ALL, |hold| *hold == Hold::Nothing) {
            return Err(ShardError::RangeHeld.into());
        }
        let mut next = Shard { record: Some(record.clone()), ..Shard::clone(&shard) };
        for (span, _) in record.spans().filter(|(_, owner)| *owner == shard.node) {
            next = next.with(span, Hold::Complete);
        }
        inner.become_shard(&mut writer, next)
    }

    /// Follows a record of who owns which keys, as it was read from where the fleet keeps it. Durable when it returns; the same
    /// record again changes nothing.
    ///
    /// A node answers for what it owns by the record that it follows, and has. What another owns from now on it answers for no
    /// more, and keeps until [`Index::drop_range`].
    ///
    /// # Errors
    /// [`ShardError::NotANode`]; [`ShardError::RecordForeign`], [`ShardError::RecordOlder`], [`ShardError::RecordForked`];
    /// [`Error::Database`], [`Error::Poisoned`].
    pub fn follow_ownership(&self, record: &Ownership) -> Result<()> {
        let inner = &self.inner;
        let mut writer = inner.writer.lock();
        let shard = inner.node()?;
        if let Some(known) = &shard.record {
            let (found, version) = (record.version(), known.version());
            if record.fleet() != known.fleet() {
                return Err(ShardError::RecordForeign.into());
            }
            if found < version {
                return Err(ShardError::RecordOlder { found, known: version }.into());
            }
            if found == version {
                return if record == known { Ok(()) } else { Err(ShardError::RecordForked { version }.into()) };
            }
        }
        inner.become_shard(&mut writer, Shard { record: Some(record.clone()), ..Shard::clone(&shard) })
    }

    /// The record that this node follows, if it was told one.
    #[must_use]
    pub fn ownership(&self) -> Option<Ownership> {
        self.inner.shard().and_then(|shard| shard.record.clone())
    }

    /// The spans whose listings this index has, in order. One that is no node of a fleet has all.
    #[must_use]
    pub fn held_ranges(&self) -> Vec<KeySpan> {
        self.spans_that(|hold| hold == Hold::Complete)
    }

    /// The spans whose listings are on their way from another node, in order.
    #[must_use]
    pub fn expected_ranges(&self) -> Vec<KeySpan> {
        self.spans_that(Hold::is_coming)
    }

    fn spans_that(&self, is_such: impl Fn(Hold) -> bool) -> Vec<KeySpan> {
        let whole = Pieces::whole(Hold::Complete);
        let shard = self.inner.shard();
        let holds = shard.as_ref().map_or(&whole, |shard| &shard.holds);
        holds.iter().filter(|(_, hold)| is_such(**hold)).map(|(span, _)| span).collect()
    }
}

impl Inner {
    /// What node of a fleet this is, if it is one.
    pub(super) fn shard(&self) -> Option<Arc<Shard>> {
        self.shard.load_full()
    }

    fn node(&self) -> Result<Arc<Shard>, ShardError> {
        self.shard().ok_or(ShardError::NotANode)
    }

    /// Refuses where an answer of this index alone would be short.
    pub(super) fn check_whole(&self) -> Result<()> {
        match self.shard.load().as_ref() {
            Some(shard) if !shard.is_whole() => Err(ShardError::NotWhole.into()),
            _ => Ok(()),
        }
    }

    /// Makes what this node is durable, and then true.
    fn become_shard(&self, writer: &mut Writer, next: Shard) -> Result<()> {
        let mut state = writer.state.clone();
        state.ledger_commits = self.ledger.commits();
        let changes = Changes { shard: Some(&next), ..Changes::default() };
        writer.commit(state, |state| self.store.commit(&changes, state))?;
        self.shard.store(Some(Arc::new(next)));
        Ok(())
    }

    /// Changes of a range whose listings are on their way. The writer is locked, so that they stay what they are.
    pub(super) fn coming_in(&self, range: KeyRange) -> Vec<Change> {
        let Some(shard) = self.shard().filter(|shard| shard.expects()) else { return Vec::new() };
        let overlay = self.overlay.read();
        overlay.in_range(range).filter(|change| shard.is_coming(change.entry.key)).copied().collect()
    }

    /// Before accounts are erased: what is on its way may have them, and then it must not come in.
    pub(super) fn spoil_expected(&self, writer: &mut Writer) -> Result<()> {
        let Some(shard) = self.shard().filter(|shard| shard.expects()) else { return Ok(()) };
        let mut next = Shard::clone(&shard);
        for (span, _) in shard.holds.iter().filter(|(_, hold)| **hold == Hold::Expected) {
            next = next.with(span, Hold::Spoiled);
        }
        if next == *shard { Ok(()) } else { self.become_shard(writer, next) }
    }
}

/// What node an index is, when it opens. One that is made a node says so in its files at once: only then is a new one told from
/// one that has listings.
pub(super) fn open(store: &Store, state: &State, options: &Options) -> Result<Option<Shard>> {
    let shard = match (store.shard()?, &options.shard.node) {
        (None, None) => return Ok(None),
        (Some(known), Some(found)) if known.node != *found => {
            return Err(ShardError::OtherNode { known: known.node, found: found.clone() }.into());
        }
        (Some(known), _) => known,
        (None, Some(node)) => {
            let is_new = state.snapshot_version == 0 && state.watermark.is_none();
            let hold = if is_new { Hold::Nothing } else { Hold::Complete };
            let shard = Shard { node: node.clone(), record: None, holds: Pieces::whole(hold) };
            store.commit(&Changes { shard: Some(&shard), ..Changes::default() }, state)?;
            shard
        }
    };
    Ok(Some(shard))
}
