//! How many tripwires one scope met lately. Asked in the path of a lookup that met one, so it reads that scope alone: a row of
//! each hour.

use std::time::Duration;

use super::rows;
use super::{shard_of, slot_of};
use crate::ledger::Scope;
use crate::ledger::redb::RedbLedger;
use crate::words::Result;

impl RedbLedger {
    /// Tripwires that a scope paid for in a window of whole hours.
    pub(crate) fn tripwires_of(&self, scope: &Scope<'_>, window: Duration) -> Result<u64> {
        let slots = self.slots_of(u64::try_from(window.as_nanos()).unwrap_or(u64::MAX));
        // No hour goes from memory to the file meanwhile.
        let writer = self.activity.writer.lock();
        let in_memory = slots.start.max(writer.owned_from)..slots.end;
        let in_file = slots.start..slots.end.min(writer.owned_from);
        let mut sum = 0_u64;
        if let Some(shard) = self.activity.shards.get(shard_of(scope.id)) {
            let table = shard.lock();
            let found = in_memory.filter_map(|slot| table.find(slot, scope.id));
            sum += found.map(|entry| u64::from(entry.counts.tripwires)).sum::<u64>();
        }
        if !in_file.is_empty() {
            let (kind, id) = (scope.kind.name(), scope.id);
            let rows = self.db.read(|txn| rows::of_scope(&self.db, txn, in_file, kind, id))?;
            sum += rows.iter().map(|counts| u64::from(counts.tripwires)).sum::<u64>();
        }
        Ok(sum)
    }

    /// The hour of ledger time that activity is counted in.
    pub(crate) fn activity_hour(&self) -> u32 {
        slot_of(self.time.ledger_ns())
    }

    /// Kinds of origins that were seen since the ledger was opened.
    pub(crate) fn origin_kinds(&self) -> Vec<Box<str>> {
        self.activity.kinds.lock().clone()
    }
}
