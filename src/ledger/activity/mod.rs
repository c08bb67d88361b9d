//! What callers and origins did, by hours of ledger time: who is charged, misses and is deferred most?
//!
//! A lookup adds to counters in memory. They are written some time later, in transactions of their own: by the
//! background thread, where there is none by the first lookup of the next hour, and by a close. What a crash loses of
//! them is lost: this is a statistic, and no budget depends on it.
//!
//! Memory holds every hour that is not over and written; the file speaks for those before. What memory has of an hour is
//! all of it, since an open reads the hour back that the last run ended in.

mod query;
mod recent;
pub(super) mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::redb::RedbLedger;
use super::time::{LedgerTime, Mark};
use super::{Scope, ScopeId, ScopeKind};
use crate::activity::{CALLERS, Counts, Dropped, Entry, Kept, Table, heaviest};
use crate::database::Db;
use crate::words::Result;

pub(crate) use query::{InWindows, TopOf, TopScope};
#[cfg(feature = "internals")]
pub(super) use rows::{reread, reread_slot};

use rows::{Absent, CALLER, Seen};

/// Length of a slot.
const HOUR_NS: u64 = 3_600_000_000_000;
const SHARDS: usize = 64;
/// Callers, and origins, that an hour keeps in the file by each counter.
const KEPT_BY_EACH: usize = 4_096;
/// Rows that one transaction writes at most.
const WRITTEN_AT_ONCE: usize = 4_096;
/// How often the hour that goes on is written.
const WRITE_EVERY_NS: u64 = 60_000_000_000;

/// How much is counted, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActivityOptions {
    /// Most scopes in memory.
    pub(crate) scopes: usize,
    pub(crate) retention: Duration,
}

/// Counters in memory, and where the file is.
pub(super) struct Activity {
    shards: Vec<Mutex<Table>>,
    /// Kinds of origins that were seen; an entry has their place plus one.
    kinds: Mutex<Vec<Box<str>>>,
    /// Wall clock less ledger time, so that lookups read one clock.
    wall_ahead_ms: AtomicU64,
    /// The slot of the last write.
    written_slot: AtomicU32,
    /// Held through a write and a query. Locked before the ledger's transaction and before a shard.
    writer: Mutex<Writer>,
    retention_slots: u32,
    /// Does a thread see to the writes?
    background: bool,
}

struct Writer {
    written_ns: u64,
    /// Slots from here on are in memory.
    owned_from: u32,
    /// Was the file searched for what is past its retention since the slot began?
    has_forgotten: bool,
}

fn slot_of(now_ns: u64) -> u32 {
    u32::try_from(now_ns / HOUR_NS).unwrap_or(u32::MAX)
}

fn shard_of(id: ScopeId) -> usize {
    let [first, ..] = id;
    usize::from(first) % SHARDS
}

/// What memory has of one slot.
#[derive(Default)]
struct Slot {
    entries: Vec<Entry>,
    /// Callers and origins without an entry.
    absent: Absent,
    is_changed: bool,
}

impl Activity {
    pub(super) fn open(db: &Db, options: ActivityOptions, time: &LedgerTime, background: bool) -> Result<Self> {
        let now = time.now();
        let slot = slot_of(now.ledger_ns);
        let each = options.scopes.div_ceil(SHARDS);
        let retention = u64::try_from(options.retention.as_nanos()).unwrap_or(u64::MAX);
        let activity = Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Table::new(each, slot))).collect(),
            kinds: Mutex::default(),
            wall_ahead_ms: AtomicU64::new(0),
            written_slot: AtomicU32::new(slot),
            writer: Mutex::new(Writer { written_ns: now.ledger_ns, owned_from: slot, has_forgotten: false }),
            retention_slots: u32::try_from(retention.div_ceil(HOUR_NS)).unwrap_or(u32::MAX),
            background,
        };
        activity.set_wall(now);
        activity.restore(db, slot)?;
        Ok(activity)
    }

    /// Reads back what an earlier run wrote of the slot that goes on.
    fn restore(&self, db: &Db, slot: u32) -> Result<()> {
        db.read(|txn| {
            for (_, absent) in rows::slots(db, txn, slot, slot.saturating_add(1))? {
                let (callers, origins) = (absent.callers, absent.origins);
                self.shards.iter().for_each(|shard| shard.lock().restore_dropped(slot, callers, origins));
            }
            rows::of_slot(db, txn, slot, |kind, seen| {
                let kind = self.kind(kind);
                let Seen { id, counts, first_ms, last_ms, short } = seen;
                let entry = Entry { slot, kind, id, counts, first_ms, last_ms, short, is_changed: false };
                if let Some(shard) = self.shards.get(shard_of(id)) {
                    shard.lock().restore(entry);
                }
            })
        })
    }

    fn set_wall(&self, now: Mark) {
        self.wall_ahead_ms.store(now.wall_ms.wrapping_sub(now.ledger_ns / 1_000_000), Ordering::Relaxed);
    }

    /// The number of a kind.
    fn kind(&self, name: &str) -> u32 {
        if name == CALLER {
            return CALLERS;
        }
        let mut kinds = self.kinds.lock();
        let at = kinds.iter().position(|known| **known == *name).unwrap_or_else(|| {
            kinds.push(name.into());
            kinds.len() - 1
        });
        u32::try_from(at).map_or(u32::MAX, |at| at.saturating_add(1))
    }

    /// The number of a kind, if any scope of it was seen.
    fn known_kind(&self, name: &str) -> Option<u32> {
        if name == CALLER || self.kinds.lock().iter().any(|known| **known == *name) {
            return Some(self.kind(name));
        }
        None
    }

    /// Counts a lookup for one scope.
    #[inline]
    fn note(&self, slot: u32, id: ScopeId, kind: &str, at_ms: u64, counts: &Counts) {
        if let Some(shard) = self.shards.get(shard_of(id)) {
            shard.lock().note(slot, id, at_ms, counts, || self.kind(kind));
        }
    }

    /// Counts a lookup for its caller and its origins. True if a slot has ended since the last write.
    pub(super) fn note_lookup(&self, now_ns: u64, scopes: &[Scope<'_>], counts: &Counts) -> bool {
        let slot = slot_of(now_ns);
        let at_ms = (now_ns / 1_000_000).wrapping_add(self.wall_ahead_ms.load(Ordering::Relaxed));
        for scope in scopes.iter().filter(|scope| scope.kind != ScopeKind::Everyone) {
            self.note(slot, scope.id, scope.kind.name(), at_ms, counts);
        }
        slot > self.written_slot.load(Ordering::Relaxed)
    }

    /// What memory holds, by slot, read from each shard by `read`.
    fn slots(&self, read: impl Fn(&mut Table) -> (Vec<Entry>, Vec<Dropped>)) -> BTreeMap<u32, Slot> {
        let mut slots: BTreeMap<u32, Slot> = BTreeMap::new();
        for shard in &self.shards {
            let (entries, dropped) = read(&mut shard.lock());
            for entry in entries {
                let slot = slots.entry(entry.slot).or_default();
                slot.is_changed |= entry.is_changed;
                slot.entries.push(entry);
            }
            for one in dropped {
                let slot = slots.entry(one.slot).or_default();
                slot.is_changed |= one.is_changed;
                slot.absent.callers = slot.absent.callers.max(one.callers);
                slot.absent.origins = slot.absent.origins.max(one.origins);
            }
        }
        slots
    }

    /// How long what was counted by now is kept: the retention, and the hour that goes on.
    pub(super) fn longest_ms(&self) -> u64 {
        (u64::from(self.retention_slots) + 1).saturating_mul(HOUR_NS / 1_000_000)
    }

    /// The oldest slot within the retention.
    fn oldest(&self, now_slot: u32) -> u32 {
        now_slot.saturating_sub(self.retention_slots)
    }
}

impl Slot {
    /// Keeps what the file is to hold.
    fn cut(self) -> (Vec<Entry>, Absent, bool) {
        let (callers, origins) = self.entries.into_iter().partition(|entry| entry.kind == CALLERS);
        let [callers, origins] = [callers, origins].map(|entries: Vec<Entry>| heaviest(entries, KEPT_BY_EACH));
        let absent = Absent {
            callers: self.absent.callers.max(callers.cut),
            origins: self.absent.origins.max(origins.cut),
        };
        let Kept { mut entries, is_cut, .. } = callers;
        entries.extend(origins.entries);
        (entries, absent, is_cut || origins.is_cut || self.absent != Absent::default())
    }
}

impl RedbLedger {
    /// Counts a lookup for its caller and for its origins.
    pub(crate) fn note_activity(&self, scopes: &[Scope<'_>], counts: &Counts) -> Result<()> {
        let has_ended = self.activity.note_lookup(self.time.ledger_ns(), scopes, counts);
        if has_ended && !self.activity.background {
            // Whoever comes while another lookup writes goes on.
            if let Some(mut writer) = self.activity.writer.try_lock() {
                self.write_slots(&mut writer)?;
            }
        }
        Ok(())
    }

    /// Writes down what was counted since the last time, if that is a while ago or an hour has ended.
    pub(crate) fn write_activity_if_due(&self) -> Result<()> {
        let mut writer = self.activity.writer.lock();
        let now_ns = self.time.ledger_ns();
        let has_ended = slot_of(now_ns) > self.activity.written_slot.load(Ordering::Relaxed);
        if has_ended || now_ns.saturating_sub(writer.written_ns) >= WRITE_EVERY_NS {
            self.write_slots(&mut writer)?;
        }
        Ok(())
    }

    /// Writes down what was counted since the last time, and forgets what is past its retention.
    pub(crate) fn write_activity(&self) -> Result<()> {
        self.write_slots(&mut self.activity.writer.lock())
    }

    fn write_slots(&self, writer: &mut Writer) -> Result<()> {
        let activity = &self.activity;
        let now = self.time.now();
        let now_slot = slot_of(now.ledger_ns);
        activity.set_wall(now);
        writer.written_ns = now.ledger_ns;
        if activity.written_slot.swap(now_slot, Ordering::Relaxed) < now_slot {
            writer.has_forgotten = false;
        }
        for (number, slot) in activity.slots(|table| table.take_changes(now_slot)) {
            if slot.is_changed {
                self.write_slot(number, slot)?;
            }
        }
        activity.shards.iter().for_each(|shard| shard.lock().forget_before(now_slot));
        writer.owned_from = now_slot;
        if !std::mem::replace(&mut writer.has_forgotten, true) {
            self.forget_activity(activity.oldest(now_slot))?;
        }
        Ok(())
    }

    fn write_slot(&self, number: u32, slot: Slot) -> Result<()> {
        let (mut entries, absent, has_less) = slot.cut();
        let ids: HashSet<ScopeId> = entries.iter().map(|entry| entry.id).collect();
        entries.retain(|entry| entry.is_changed);
        let kinds = self.activity.kinds.lock().clone();
        let name = |kind: u32| match (kind as usize).checked_sub(1) {
            Some(at) => kinds.get(at).map(|name| &**name),
            None => Some(CALLER),
        };
        // What the others may have had goes first: it is never too little.
        let mut parts = entries.chunks(WRITTEN_AT_ONCE);
        let mut part = parts.next().unwrap_or_default();
        loop {
            let next = parts.next();
            let rows = part.iter().filter_map(|entry| {
                let Entry { id, counts, first_ms, last_ms, short, .. } = *entry;
                Some((name(entry.kind)?, Seen { id, counts, first_ms, last_ms, short }))
            });
            self.commit(|txn, _| {
                rows::write(&self.db, txn, number, &absent, rows)?;
                let is_last = next.is_none();
                if is_last && has_less { rows::keep_only(&self.db, txn, number, &ids) } else { Ok(()) }
            })?;
            match next {
                Some(next) => part = next,
                None => return Ok(()),
            }
        }
    }

    fn forget_activity(&self, oldest: u32) -> Result<()> {
        while self.db.read(|txn| rows::has_before(&self.db, txn, oldest))? {
            self.commit(|txn, _| rows::forget_before(&self.db, txn, oldest))?;
        }
        Ok(())
    }
}
