//! The calls of a node to the ledger of its fleet, each typed, each checked.

use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Cmd, RedisResult, Value};

use super::answers::{self, Context, Parts};
use super::cluster::Cluster;
use super::options::FleetOptions;
use super::slots::{self, SLOTS, slot_of_tag};
use crate::ledger::ScopeId;
use crate::words::{FleetError, Quota};

/// Bytes of novelty that one call brings at most.
const NOVELTY_AT_ONCE: usize = 256 << 10;

/// What is in force in the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// Version of the quotas.
    pub(super) version: u64,
    /// Server's time at which everybody's budget was taken; zero if it never was.
    pub(super) exhausted_us: u64,
}

/// What a lease came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leased {
    pub(super) numbers: u64,
    /// What could still be leased.
    pub(super) room: u64,
    pub(super) debt_us: u64,
    /// For each generation that was asked for: how long it is, and the part of it from where it was asked for.
    pub(super) novelty: Vec<(u64, Vec<u8>)>,
}

/// A caller's novelty of one generation, and how much of it the node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) generation: u64,
    pub(super) from: u64,
}

/// What a lease is for.
pub(super) struct Ask<'a> {
    pub(super) id: ScopeId,
    pub(super) quota: Quota,
    pub(super) wanted: u64,
    pub(super) ahead: u64,
    pub(super) tails: &'a [Tail],
}

/// Fingerprints of numbers that a caller paid for in one generation, to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Paid {
    pub(super) caller: ScopeId,
    pub(super) generation: u64,
    pub(super) bytes: Vec<u8>,
}

impl Paid {
    pub(super) fn slot(&self) -> u16 {
        slot_of_tag(hex::encode(self.caller).as_bytes())
    }
}

/// The ledger of a fleet, seen from one node.
pub(super) struct Calls {
    pub(super) cluster: Cluster,
    pub(super) options: FleetOptions,
    /// The fleet's name: a digest of the secret, in hexadecimal digits.
    pub(super) fleet: String,
    /// For each slot a hash tag in it.
    tags: Vec<u32>,
    /// For each slot how many changes of it were durable when this node heard of them.
    seen: Vec<AtomicU64>,
    version: AtomicU64,
    exhausted_us: AtomicU64,
}

impl Calls {
    pub(super) fn connect(options: &FleetOptions, fleet: &[u8; 16]) -> Result<Self, FleetError> {
        options.check()?;
        Ok(Self {
            cluster: Cluster::connect(options)?,
            options: options.clone(),
            fleet: hex::encode(fleet),
            tags: slots::tags(),
            seen: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            version: AtomicU64::new(0),
            exhausted_us: AtomicU64::new(0),
        })
    }

    pub(super) fn terms(&self) -> Terms {
        let exhausted_us = self.exhausted_us.load(Ordering::Acquire);
        Terms { version: self.version.load(Ordering::Acquire), exhausted_us }
    }

    pub(super) fn set_terms(&self, terms: Terms) {
        self.exhausted_us.store(terms.exhausted_us, Ordering::Release);
        self.version.store(terms.version, Ordering::Release);
    }

    /// Leases numbers of one scope, and brings what the fleet knows of a caller's novelty. The lease is durable when this
    /// returns.
    pub(super) fn lease(&self, ask: &Ask<'_>) -> Result<Leased, FleetError> {
        let terms = self.terms();
        let slot = slot_of_tag(hex::encode(ask.id).as_bytes());
        let mut call = self.function("lease", 2 + ask.tails.len());
        call.arg(self.bucket(ask.id)).arg(self.mark(slot));
        for tail in ask.tails {
            call.arg(self.novelty(ask.id, tail.generation));
        }
        call.arg(&self.fleet).arg(terms.version);
        self.quota_args(&mut call, ask.quota, terms);
        call.arg(ask.wanted).arg(ask.ahead).arg(NOVELTY_AT_ONCE);
        for tail in ask.tails {
            call.arg(tail.from);
        }
        let seen = self.seen(slot);
        let mut values = self.write(slot, call, ask.wanted + ask.ahead > 0)?;
        let mut parts = Parts::new("lease", values.next().unwrap_or_default())?;
        let (numbers, room, debt_us) = (parts.number()?, parts.number()?, parts.number()?);
        let (_now_us, changes) = (parts.number()?, parts.number()?);
        if changes < seen {
            // A primary that lost what was durable, or a copy of the ledger from before.
            return Err(FleetError::WentBack { slot, found: changes, expected: seen });
        }
        let mut novelty = Vec::with_capacity(ask.tails.len());
        for _ in ask.tails {
            novelty.push((parts.number()?, parts.bytes()?.unwrap_or_default()));
        }
        if numbers > 0 {
            self.check_durable(values.next())?;
            // Only now: changes that are on no replica's disk may be gone after a failover, and nothing is wrong then.
            self.note(slot, changes);
        }
        Ok(Leased { numbers, room, debt_us, novelty })
    }

    /// Gives numbers of a lease back, or forgives a debt. With `durable`, it is when this returns.
    pub(super) fn give_back(
        &self,
        id: ScopeId,
        quota: Quota,
        numbers: u64,
        durable: bool,
    ) -> Result<(), FleetError> {
        let terms = self.terms();
        let slot = slot_of_tag(hex::encode(id).as_bytes());
        let mut call = self.function("give_back", 2);
        call.arg(self.bucket(id)).arg(self.mark(slot)).arg(&self.fleet).arg(terms.version);
        self.quota_args(&mut call, quota, terms);
        call.arg(numbers);
        let mut values = self.write(slot, call, durable)?;
        let _changes = answers::number("give back", values.next().unwrap_or_default())?;
        if durable { self.check_durable(values.next()) } else { Ok(()) }
    }

    /// Tells the fleet what callers of one server paid for, in one go; how long each list is then.
    pub(super) fn remember(
        &self,
        paid: &[Paid],
        expire_s: u64,
    ) -> Result<Vec<Result<u64, FleetError>>, FleetError> {
        let Some(first) = paid.first() else { return Ok(Vec::new()) };
        let version = self.terms().version;
        let mut commands = redis::pipe();
        for paid in paid {
            let mut call = self.function("remember", 2);
            call.arg(self.novelty(paid.caller, paid.generation)).arg(self.mark(paid.slot()));
            call.arg(&self.fleet).arg(version).arg(expire_s).arg(&paid.bytes);
            commands.add_command(call);
        }
        let (answers, address) = self.cluster.send(first.slot(), &mut commands, false)?;
        let context = Context { version, ..self.context("a mark") };
        let len = |answer: RedisResult<Value>| match answer {
            Ok(value) => answers::number("novelty", value),
            Err(error) => Err(answers::meaning(&error, &address, &context)),
        };
        Ok(answers.into_iter().map(len).collect())
    }

    /// Removes what the fleet knows of a caller's novelty.
    pub(super) fn forget(&self, id: ScopeId, generations: impl Iterator<Item = u64>) -> Result<(), FleetError> {
        let slot = slot_of_tag(hex::encode(id).as_bytes());
        let keys: Vec<String> = generations.map(|generation| self.novelty(id, generation)).collect();
        let mut call = self.function("forget", 1 + keys.len());
        call.arg(self.mark(slot)).arg(keys).arg(&self.fleet).arg(self.terms().version);
        self.write(slot, call, true)
            .and_then(|mut values| answers::number("forgotten", values.next().unwrap_or_default()).map(drop))
    }

    /// One call of a function, and with `durable` the wait until it is on disk.
    pub(super) fn write(
        &self,
        slot: u16,
        call: Cmd,
        durable: bool,
    ) -> Result<std::vec::IntoIter<Value>, FleetError> {
        // As it is before the call: the node may learn of newer quotas while it waits.
        let version = self.terms().version;
        let mut commands = redis::pipe();
        commands.add_command(call);
        let (answers, address) = self.cluster.send(slot, &mut commands, durable)?;
        let what = format!("the mark of slot {slot}");
        answers::first(answers, &address, &Context { version, ..self.context(&what) })
    }

    /// Is what was written on as many disks as it has to be?
    pub(super) fn check_durable(&self, answer: Option<Value>) -> Result<(), FleetError> {
        let mut parts = Parts::new("WAITAOF", answer.unwrap_or_default())?;
        let (local, replicas) = (parts.number()?, parts.number()?);
        let wanted = u64::from(self.options.replicas);
        if local < 1 || replicas < wanted {
            return Err(FleetError::NotDurable { local, replicas, wanted });
        }
        Ok(())
    }

    /// Changes of a slot that were durable before a call was sent.
    pub(super) fn seen(&self, slot: u16) -> u64 {
        self.seen.get(usize::from(slot)).map_or(0, |seen| seen.load(Ordering::Acquire))
    }

    /// A slot has so many changes, durably.
    pub(super) fn note(&self, slot: u16, changes: u64) {
        if let Some(seen) = self.seen.get(usize::from(slot)) {
            seen.fetch_max(changes, Ordering::AcqRel);
        }
    }

    /// An operator says that what is there is what counts.
    pub(super) fn forget_seen(&self) {
        self.seen.iter().for_each(|seen| seen.store(0, Ordering::Release));
    }

    pub(super) fn context<'a>(&'a self, what: &'a str) -> Context<'a> {
        let version = self.terms().version;
        Context { prefix: &self.options.prefix, fleet: &self.fleet, version, what }
    }

    /// A call of one of the functions.
    pub(super) fn function(&self, name: &str, keys: usize) -> Cmd {
        let mut call = redis::cmd("FCALL");
        call.arg(self.cluster.function(name)).arg(keys);
        call
    }

    fn quota_args(&self, call: &mut Cmd, quota: Quota, terms: Terms) {
        let (whole_us, rest_ns) = (quota.interval_ns() / 1_000, quota.interval_ns() % 1_000);
        call.arg(quota.burst()).arg(format!("{whole_us}.{rest_ns:03}")).arg(terms.exhausted_us);
    }

    fn bucket(&self, id: ScopeId) -> String {
        format!("{}:{{{}}}:b", self.options.prefix, hex::encode(id))
    }

    fn novelty(&self, id: ScopeId, generation: u64) -> String {
        format!("{}:{{{}}}:n:{generation}", self.options.prefix, hex::encode(id))
    }

    /// The key that says that a slot was not emptied.
    pub(super) fn mark(&self, slot: u16) -> String {
        let tag = self.tags.get(usize::from(slot)).copied().unwrap_or_default();
        format!("{}:{{{tag}}}:m", self.options.prefix)
    }
}
