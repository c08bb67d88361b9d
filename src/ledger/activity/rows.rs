//! What scopes did, in the file: a row for each hour, kind and scope, and one for each hour.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use bincode::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::super::ScopeId;
use crate::activity::{Counts, Short};
use crate::database::{Db, decode, encode};
use crate::words::{Error, Result, check_kind};

pub(in crate::ledger) const NAME: &str = "activity";
/// Hour of ledger time, kind of the scope, its identity.
pub(in crate::ledger) type RowKey = (u32, &'static [u8], ScopeId);
pub(in crate::ledger) const ACTIVITY: TableDefinition<'_, RowKey, &[u8]> = TableDefinition::new(NAME);
pub(in crate::ledger) const SLOTS_NAME: &str = "activity_slots";
/// Hour of ledger time. Every hour that has rows of scopes has one.
pub(in crate::ledger) const SLOTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new(SLOTS_NAME);
/// Rows that one transaction forgets at most.
const FORGET_ROWS: usize = 4_096;

/// The kind of callers in a key. No kind of origin has this name.
pub(super) const CALLER: &str = "caller";
/// Before every kind.
const START: &[u8] = b"";

/// Charged, missed, deferred.
type ShortRow = (u64, u64, u64);

#[derive(Encode, Decode)]
enum Row {
    V1(RowV1),
}

#[derive(Encode, Decode)]
struct RowV1 {
    lookups: u64,
    asked: u64,
    charged: u64,
    found: u64,
    missed: u64,
    deferred: u64,
    tripwires: u32,
    /// Milliseconds since 1970.
    first_ms: u64,
    last_after_ms: u64,
    short: ShortRow,
}

/// What scopes without a row may have had.
#[derive(Encode, Decode)]
enum SlotRow {
    V1 { callers: ShortRow, origins: ShortRow },
}

/// What was counted of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: ScopeId,
    pub(super) counts: Counts,
    pub(super) first_ms: u64,
    pub(super) last_ms: u64,
    pub(super) short: Short,
}

/// What scopes without a row may have had in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Absent {
    pub(super) callers: Short,
    pub(super) origins: Short,
}

impl Absent {
    pub(super) fn of(&self, kind: &str) -> Short {
        if kind == CALLER { self.callers } else { self.origins }
    }
}

const fn short_row(short: Short) -> ShortRow {
    (short.charged, short.missed, short.deferred)
}

const fn short((charged, missed, deferred): ShortRow) -> Short {
    Short { charged, missed, deferred }
}

fn damaged(path: &Path, reason: &'static str) -> Error {
    Error::DamagedRow { path: path.to_owned(), table: NAME, reason }
}

fn row_bytes(path: &Path, seen: &Seen) -> Result<Vec<u8>> {
    let Seen { counts, first_ms, last_ms, .. } = *seen;
    let row = Row::V1(RowV1 {
        lookups: counts.lookups,
        asked: counts.asked,
        charged: counts.charged,
        found: counts.found,
        missed: counts.missed,
        deferred: counts.deferred,
        tripwires: counts.tripwires,
        first_ms,
        last_after_ms: last_ms.saturating_sub(first_ms),
        short: short_row(seen.short),
    });
    encode(&row, NAME, path)
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(in crate::ledger) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    let path = Path::new(NAME);
    row_bytes(path, &seen(path, ScopeId::default(), bytes)?)
}

/// As [`reread`], of an hour.
#[cfg(feature = "internals")]
pub(in crate::ledger) fn reread_slot(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<SlotRow>(bytes, SLOTS_NAME, Path::new(SLOTS_NAME))
}

fn seen(path: &Path, id: ScopeId, bytes: &[u8]) -> Result<Seen> {
    let Row::V1(row) = decode(bytes, NAME, path)?;
    let counts = Counts {
        lookups: row.lookups,
        asked: row.asked,
        charged: row.charged,
        found: row.found,
        missed: row.missed,
        deferred: row.deferred,
        tripwires: row.tripwires,
    };
    if !counts.is_possible() {
        return Err(damaged(path, "its counters cannot be"));
    }
    let last_ms =
        row.first_ms.checked_add(row.last_after_ms).ok_or_else(|| damaged(path, "a time is too large"))?;
    Ok(Seen { id, counts, first_ms: row.first_ms, last_ms, short: short(row.short) })
}

/// Writes rows of an hour, and what those without one may have had.
pub(super) fn write<'a>(
    db: &Db,
    txn: &WriteTransaction,
    slot: u32,
    absent: &Absent,
    rows: impl Iterator<Item = (&'a str, Seen)>,
) -> Result<()> {
    let mut slots = txn.open_table(SLOTS).map_err(db.error("open the hours of activity"))?;
    let row = SlotRow::V1 { callers: short_row(absent.callers), origins: short_row(absent.origins) };
    let bytes = encode(&row, SLOTS_NAME, db.path())?;
    slots.insert(slot, bytes.as_slice()).map_err(db.error("write an hour of activity"))?;
    let mut table = txn.open_table(ACTIVITY).map_err(db.error("open the activity"))?;
    for (kind, seen) in rows {
        let bytes = row_bytes(db.path(), &seen)?;
        table
            .insert((slot, kind.as_bytes(), seen.id), bytes.as_slice())
            .map_err(db.error("write the activity"))?;
    }
    Ok(())
}

/// Removes rows of an hour whose scopes are not among these.
pub(super) fn keep_only(db: &Db, txn: &WriteTransaction, slot: u32, ids: &HashSet<ScopeId>) -> Result<()> {
    let mut table = txn.open_table(ACTIVITY).map_err(db.error("open the activity"))?;
    let of_slot = (slot, START, [0; 16])..(slot.saturating_add(1), START, [0; 16]);
    table.retain_in(of_slot, |(_, _, id), _| ids.contains(&id)).map_err(db.error("drop light activity"))?;
    Ok(())
}

/// The hours from `oldest` up to before `end`, with what scopes without a row may have had.
pub(super) fn slots(db: &Db, txn: &ReadTransaction, oldest: u32, end: u32) -> Result<Vec<(u32, Absent)>> {
    let table = match txn.open_table(SLOTS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the hours of activity"))?,
    };
    let mut found = Vec::new();
    for row in table.range(oldest..end.max(oldest)).map_err(db.error("read the hours of activity"))? {
        let (slot, row) = row.map_err(db.error("read the hours of activity"))?;
        let SlotRow::V1 { callers, origins } = decode(row.value(), SLOTS_NAME, db.path())?;
        found.push((slot.value(), Absent { callers: short(callers), origins: short(origins) }));
    }
    Ok(found)
}

/// Visits the scopes of one kind in these hours.
pub(super) fn of_kind(
    db: &Db,
    txn: &ReadTransaction,
    slots: &[(u32, Absent)],
    kind: &str,
    mut visit: impl FnMut(&Absent, Seen),
) -> Result<()> {
    if slots.is_empty() {
        return Ok(());
    }
    let table = txn.open_table(ACTIVITY).map_err(db.error("open the activity"))?;
    for (slot, absent) in slots {
        let kind = kind.as_bytes();
        let range = (*slot, kind, [0; 16])..=(*slot, kind, [u8::MAX; 16]);
        for row in table.range(range).map_err(db.error("read the activity"))? {
            let (key, value) = row.map_err(db.error("read the activity"))?;
            visit(absent, seen(db.path(), key.value().2, value.value())?);
        }
    }
    Ok(())
}

/// The counters of one scope in each of these hours that it has a row of.
pub(super) fn of_scope(
    db: &Db,
    txn: &ReadTransaction,
    slots: Range<u32>,
    kind: &str,
    id: ScopeId,
) -> Result<Vec<Counts>> {
    let table = match txn.open_table(ACTIVITY) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the activity"))?,
    };
    let mut found = Vec::new();
    for slot in slots {
        let row = table.get((slot, kind.as_bytes(), id)).map_err(db.error("read the activity"))?;
        if let Some(row) = row {
            found.push(seen(db.path(), id, row.value())?.counts);
        }
    }
    Ok(found)
}

/// Visits every scope of an hour, with its kind.
pub(super) fn of_slot(db: &Db, txn: &ReadTransaction, slot: u32, mut visit: impl FnMut(&str, Seen)) -> Result<()> {
    let table = match txn.open_table(ACTIVITY) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        other => other.map_err(db.error("open the activity"))?,
    };
    let range = (slot, START, [0; 16])..(slot.saturating_add(1), START, [0; 16]);
    for row in table.range(range).map_err(db.error("read the activity"))? {
        let (key, value) = row.map_err(db.error("read the activity"))?;
        let (_, kind, id) = key.value();
        let kind = str::from_utf8(kind).ok().filter(|kind| *kind == CALLER || check_kind(kind).is_ok());
        visit(kind.ok_or_else(|| damaged(db.path(), "its kind is no kind"))?, seen(db.path(), id, value.value())?);
    }
    Ok(())
}

/// Is there an hour before this one?
pub(super) fn has_before(db: &Db, txn: &ReadTransaction, oldest: u32) -> Result<bool> {
    let table = match txn.open_table(SLOTS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(false),
        other => other.map_err(db.error("open the hours of activity"))?,
    };
    let first = table.first().map_err(db.error("read the hours of activity"))?;
    Ok(first.is_some_and(|(slot, _)| slot.value() < oldest))
}

/// Removes some rows of hours before `oldest`, the hours last; false if none is left.
pub(super) fn forget_before(db: &Db, txn: &WriteTransaction, oldest: u32) -> Result<bool> {
    let mut table = txn.open_table(ACTIVITY).map_err(db.error("open the activity"))?;
    let old = table.range(..(oldest, START, [0; 16])).map_err(db.error("read the activity"))?;
    let key = |(slot, kind, id): (u32, &[u8], ScopeId)| (slot, kind.to_vec(), id);
    let keys: Result<Vec<(u32, Vec<u8>, ScopeId)>> = old
        .take(FORGET_ROWS)
        .map(|row| row.map(|(row, _)| key(row.value())).map_err(db.error("read the activity")))
        .collect();
    let keys = keys?;
    for (slot, kind, id) in &keys {
        table.remove((*slot, kind.as_slice(), *id)).map_err(db.error("forget the activity"))?;
    }
    if keys.len() == FORGET_ROWS {
        return Ok(true);
    }
    let mut slots = txn.open_table(SLOTS).map_err(db.error("open the hours of activity"))?;
    slots.retain_in(..oldest, |_, _| false).map_err(db.error("forget the hours of activity"))?;
    Ok(false)
}
