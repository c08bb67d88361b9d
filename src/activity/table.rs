//! One shard of what is counted: bounded, and lossy where the bound is met.
//!
//! A scope that is dropped may come back and be dropped again, each time with no more than the heaviest of its round. So
//! what it lost is at most the sum over the rounds, and a scope that comes back is marked with the sum until then. That
//! is the lossy counting of Manku and Motwani, with a round whenever the table is full instead of each 1/ε items.

use hashbrown::HashTable;

use super::{Counts, Short};

/// The keyed identity of a scope.
pub(crate) type Id = [u8; 16];

/// The kind of callers; any other is a kind of origin.
pub(crate) const CALLERS: u32 = 0;

/// A scope in a slot of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) slot: u32,
    pub(crate) kind: u32,
    pub(crate) id: Id,
    pub(crate) counts: Counts,
    /// When it was first and last seen in the slot.
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    /// What may have been counted of it and dropped before it came back.
    pub(crate) short: Short,
    /// Did it change since the last [`Table::take_changes`]?
    pub(crate) is_changed: bool,
}

/// What scopes without an entry may have had in a slot: callers, and origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) slot: u32,
    pub(crate) callers: Short,
    pub(crate) origins: Short,
    pub(crate) is_changed: bool,
}

impl Dropped {
    const fn none(slot: u32) -> Self {
        let none = Short { charged: 0, missed: 0, deferred: 0 };
        Self { slot, callers: none, origins: none, is_changed: false }
    }

    pub(crate) const fn of(&self, kind: u32) -> Short {
        if kind == CALLERS { self.callers } else { self.origins }
    }

    pub(crate) const fn of_mut(&mut self, kind: u32) -> &mut Short {
        if kind == CALLERS { &mut self.callers } else { &mut self.origins }
    }
}

/// Scopes by slot and identity.
#[derive(Debug)]
pub(crate) struct Table {
    entries: HashTable<Entry>,
    capacity: usize,
    dropped: Vec<Dropped>,
    /// Slots before this one are closed: what is late for them counts in it.
    open_slot: u32,
}

/// Identities are uniform; the shard takes other bits of them.
fn hash(slot: u32, id: Id) -> u64 {
    u64::from_le_bytes(id.last_chunk().copied().unwrap_or_default()) ^ u64::from(slot).rotate_right(9)
}

impl Table {
    /// Room for so many entries, two at least, from a slot on.
    pub(crate) fn new(capacity: usize, open_slot: u32) -> Self {
        Self { entries: HashTable::new(), capacity: capacity.max(2), dropped: Vec::new(), open_slot }
    }

    /// Counts what a lookup did. `kind` is asked for a scope that is new in the slot.
    #[inline]
    pub(crate) fn note(&mut self, slot: u32, id: Id, at_ms: u64, counts: &Counts, kind: impl FnOnce() -> u32) {
        let slot = slot.max(self.open_slot);
        if let Some(entry) = self.entries.find_mut(hash(slot, id), |entry| entry.id == id && entry.slot == slot) {
            entry.counts.add(counts);
            entry.last_ms = entry.last_ms.max(at_ms);
            entry.is_changed = true;
            return;
        }
        let (first_ms, last_ms, kind) = (at_ms, at_ms, kind());
        let mut entry = Entry {
            slot,
            kind,
            id,
            counts: *counts,
            first_ms,
            last_ms,
            short: Short::default(),
            is_changed: true,
        };
        self.make_room();
        entry.short = self.dropped_in(slot).of(kind);
        self.put(entry);
    }

    /// Puts back what was written of a slot that goes on: first what was dropped of it, then each entry.
    pub(crate) fn restore(&mut self, entry: Entry) {
        self.make_room();
        self.put(Entry { is_changed: false, ..entry });
    }

    /// See [`Table::restore`].
    pub(crate) fn restore_dropped(&mut self, slot: u32, callers: Short, origins: Short) {
        self.dropped.push(Dropped { slot, callers, origins, is_changed: false });
    }

    fn put(&mut self, entry: Entry) {
        self.entries.insert_unique(hash(entry.slot, entry.id), entry, |entry| hash(entry.slot, entry.id));
    }

    fn make_room(&mut self) {
        if self.entries.len() >= self.capacity {
            self.drop_lightest();
        }
    }

    /// Drops the lightest half, and notes the most that each counter lost by it.
    #[cold]
    fn drop_lightest(&mut self) {
        let mut weights: Vec<u64> = self.entries.iter().map(|entry| entry.counts.weight()).collect();
        let half = weights.len() / 2;
        let Some(last) = half.checked_sub(1) else { return };
        let limit = *weights.select_nth_unstable(last).1;
        let mut equal = half - weights.iter().filter(|weight| **weight < limit).count();
        let mut round: Vec<Dropped> = Vec::new();
        let gone = self.entries.extract_if(|entry| {
            let weight = entry.counts.weight();
            let takes_equal = weight == limit && equal > 0;
            equal -= usize::from(takes_equal);
            weight < limit || takes_equal
        });
        for entry in gone {
            in_slot(&mut round, entry.slot, |round| {
                let most = round.of_mut(entry.kind);
                *most = most.max(Short::of(&entry.counts));
            });
        }
        for most in round {
            in_slot(&mut self.dropped, most.slot, |sum| {
                sum.callers = sum.callers.plus(most.callers);
                sum.origins = sum.origins.plus(most.origins);
                sum.is_changed = true;
            });
        }
    }

    fn dropped_in(&self, slot: u32) -> Dropped {
        self.dropped.iter().find(|dropped| dropped.slot == slot).copied().unwrap_or(Dropped::none(slot))
    }

    /// What was counted of a scope in a slot, if memory has it.
    pub(crate) fn find(&self, slot: u32, id: Id) -> Option<&Entry> {
        self.entries.find(hash(slot, id), |entry| entry.id == id && entry.slot == slot)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(crate) fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// Closes the slots before `open_slot` and takes everything as it is now; what changes later is marked anew.
    pub(crate) fn take_changes(&mut self, open_slot: u32) -> (Vec<Entry>, Vec<Dropped>) {
        self.open_slot = self.open_slot.max(open_slot);
        let taken = (self.entries.iter().copied().collect(), self.dropped.clone());
        self.entries.iter_mut().for_each(|entry| entry.is_changed = false);
        self.dropped.iter_mut().for_each(|dropped| dropped.is_changed = false);
        taken
    }

    /// Forgets closed slots before this one.
    pub(crate) fn forget_before(&mut self, slot: u32) {
        self.entries.retain(|entry| entry.slot >= slot);
        self.dropped.retain(|dropped| dropped.slot >= slot);
    }
}

/// Changes the row of a slot, which is made if it is not there. There are as many as hours since the last write.
fn in_slot(rows: &mut Vec<Dropped>, slot: u32, change: impl FnOnce(&mut Dropped)) {
    match rows.iter_mut().find(|row| row.slot == slot) {
        Some(row) => change(row),
        None => {
            let mut row = Dropped::none(slot);
            change(&mut row);
            rows.push(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::activity::TopBy;

    fn id(i: u16) -> Id {
        *blake3::hash(&i.to_le_bytes()).as_bytes().first_chunk().unwrap()
    }

    fn counts(charged: u64, missed: u64, deferred: u64) -> Counts {
        Counts {
            lookups: 1,
            asked: charged + deferred,
            charged,
            found: charged - missed,
            missed,
            deferred,
            tripwires: 0,
        }
    }

    /// Slot, scope, charged, missed, deferred.
    type Note = (u32, u16, u64, u64, u64);

    fn kind_of(scope: u16) -> u32 {
        u32::from(scope % 3)
    }

    fn count(notes: &[Note], capacity: usize) -> (Table, BTreeMap<(u32, u16), Counts>) {
        let mut table = Table::new(capacity, 0);
        let mut model: BTreeMap<(u32, u16), Counts> = BTreeMap::new();
        for (at, (slot, scope, charged, missed, deferred)) in (0..).zip(notes) {
            let more = counts(*charged, *charged.min(missed), *deferred);
            table.note(*slot, id(*scope), at, &more, || kind_of(*scope));
            model.entry((*slot, *scope)).or_default().add(&more);
        }
        (table, model)
    }

    fn find(table: &Table, slot: u32, scope: u16) -> Option<Entry> {
        table.entries().find(|entry| entry.slot == slot && entry.id == id(scope)).copied()
    }

    fn notes() -> impl Strategy<Value = Vec<Note>> {
        // Few are heavy, many are light, and they come in waves.
        let note = (0..3_u32, prop_oneof![0..8_u16, 0..200_u16], 0..20_u64, 0..20_u64, 0..5_u64);
        prop::collection::vec(note, 0..600)
    }

    proptest! {
        #[test]
        fn with_room_every_count_is_exact(notes in notes()) {
            let (table, model) = count(&notes, 1_000);
            prop_assert_eq!(table.entries().count(), model.len());
            prop_assert!(table.dropped().is_empty());
            for ((slot, scope), counts) in model {
                let entry = find(&table, slot, scope).unwrap();
                prop_assert_eq!((entry.counts, entry.kind, entry.short), (counts, kind_of(scope), Short::default()));
            }
        }

        #[test]
        fn without_room_nobody_is_shorter_than_stated(notes in notes(), capacity in 2..64_usize) {
            let (table, model) = count(&notes, capacity);
            prop_assert!(table.entries().count() <= capacity);
            for ((slot, scope), true_counts) in model {
                let found = find(&table, slot, scope);
                let (counted, short) = match found {
                    Some(entry) => (entry.counts, entry.short),
                    None => (Counts::default(), table.dropped_in(slot).of(kind_of(scope))),
                };
                prop_assert!(counted.is_possible());
                for by in TopBy::ALL {
                    prop_assert!(counted.by(by) <= true_counts.by(by));
                    prop_assert!(true_counts.by(by) <= counted.by(by) + short.by(by));
                }
            }
        }
    }

    #[test]
    fn a_flood_of_light_scopes_does_not_drop_a_heavy_one() {
        let mut table = Table::new(64, 0);
        for i in 0..10_000_u16 {
            table.note(1, id(0), u64::from(i), &counts(2, 1, 0), || CALLERS);
            table.note(1, id(i + 1), u64::from(i), &counts(1, 1, 0), || CALLERS);
        }
        let heavy = find(&table, 1, 0).unwrap();
        assert_eq!((heavy.counts.charged, heavy.short), (20_000, Short::default()));
        assert_eq!((heavy.first_ms, heavy.last_ms), (0, 9_999));
        // Each round made room for 32, and whoever went had one.
        let dropped = table.dropped_in(1);
        assert_eq!((dropped.callers.charged, dropped.origins), (311, Short::default()));
    }

    #[test]
    fn closed_slots_stay_as_they_were_taken_and_changes_are_marked_anew() {
        let mut table = Table::new(8, 5);
        table.note(5, id(1), 10, &counts(3, 0, 0), || CALLERS);
        let (taken, _) = table.take_changes(6);
        assert_eq!(taken.iter().map(|entry| entry.is_changed).collect::<Vec<_>>(), [true]);
        // Late for slot 5.
        table.note(5, id(1), 11, &counts(1, 0, 0), || CALLERS);
        let (mut taken, _) = table.take_changes(6);
        taken.sort_by_key(|entry| entry.slot);
        let seen: Vec<_> = taken.iter().map(|e| (e.slot, e.counts.charged, e.is_changed)).collect();
        assert_eq!(seen, [(5, 3, false), (6, 1, true)]);
        table.forget_before(6);
        assert_eq!(table.entries().count(), 1);
    }

    #[test]
    fn what_is_restored_goes_on_and_what_was_dropped_stays_known() {
        let mut table = Table::new(8, 5);
        let most = Short { charged: 7, missed: 6, deferred: 5 };
        table.restore_dropped(5, most, Short::default());
        let short = Short::default();
        let (counts_so_far, is_changed) = (counts(3, 1, 0), true);
        let (first_ms, last_ms) = (1, 2);
        table.restore(Entry {
            slot: 5,
            kind: 0,
            id: id(1),
            counts: counts_so_far,
            first_ms,
            last_ms,
            short,
            is_changed,
        });
        table.note(5, id(1), 9, &counts(1, 1, 0), || CALLERS);
        table.note(5, id(2), 9, &counts(1, 1, 0), || CALLERS);
        let old = find(&table, 5, 1).unwrap();
        assert_eq!((old.counts.charged, old.first_ms, old.last_ms, old.short), (4, 1, 9, short));
        assert_eq!(find(&table, 5, 2).unwrap().short, most);
    }
}
