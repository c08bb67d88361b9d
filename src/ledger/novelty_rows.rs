//! What callers paid for, in the file: sections of fingerprints by the end of their generation, caller and number.
//!
//! The generation comes first, so that a whole one can go without a search.

use std::path::Path;

use bincode::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::ScopeId;
use crate::database::{Db, decode, encode};
use crate::novelty::{MAX_SECTION, Section, bits_for, exposure_of};
use crate::words::{Error, Result};

const NAME: &str = "novelty";
/// End of the generation in minutes of ledger time, caller, number of the section.
type RowKey = (u32, ScopeId, u16);
const NOVELTY: TableDefinition<'_, RowKey, &[u8]> = TableDefinition::new(NAME);
/// Rows that one transaction forgets at most.
const FORGET_ROWS: usize = 4_096;

#[derive(Encode, Decode)]
enum Row {
    V1 { bits: u8, count: u32, code: Vec<u8> },
}

/// Numbers that a caller paid for and that the file does not hold yet.
pub(super) struct Unwritten {
    /// End of the generation in which they were paid for.
    pub(super) generation: u32,
    pub(super) caller: ScopeId,
    pub(super) fingerprints: Vec<u32>,
    /// How many numbers of the caller are remembered.
    pub(super) known: usize,
    /// The exposure of the caller's sections that were cut; writing adds to it.
    pub(super) cut_exposure: u64,
}

fn damaged(path: &Path, reason: &'static str) -> Error {
    Error::DamagedRow { path: path.to_owned(), table: NAME, reason }
}

fn section(db: &Db, bytes: &[u8]) -> Result<Section> {
    let Row::V1 { bits, count, code } = decode(bytes, NAME, db.path())?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    Section::decode(u32::from(bits), count, &code).map_err(|reason| damaged(db.path(), reason))
}

fn all_of(generation: u32, caller: ScopeId) -> std::ops::RangeInclusive<RowKey> {
    (generation, caller, 0)..=(generation, caller, u16::MAX)
}

/// Every section of a caller in these generations, with the generation.
pub(super) fn load(
    db: &Db,
    txn: &ReadTransaction,
    caller: ScopeId,
    generations: &[u32],
) -> Result<Vec<(u32, Section)>> {
    let table = match txn.open_table(NOVELTY) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the novelty"))?,
    };
    let mut found = Vec::new();
    for generation in generations {
        for row in table.range(all_of(*generation, caller)).map_err(db.error("read the novelty"))? {
            let (_, value) = row.map_err(db.error("read the novelty"))?;
            found.push((*generation, section(db, value.value())?));
        }
    }
    Ok(found)
}

/// The generations that the file has rows of, oldest first.
pub(super) fn generations(db: &Db, txn: &ReadTransaction) -> Result<Vec<u32>> {
    let table = match txn.open_table(NOVELTY) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the novelty"))?,
    };
    let mut found: Vec<u32> = Vec::new();
    loop {
        let Some(next) = found.last().map_or(Some(0), |last| last.checked_add(1)) else { return Ok(found) };
        let mut rows = table.range((next, [0; 16], 0)..).map_err(db.error("read the novelty"))?;
        match rows.next().transpose().map_err(db.error("read the novelty"))? {
            Some((key, _)) => found.push(key.value().0),
            None => return Ok(found),
        }
    }
}

/// Writes numbers into the last section of their generation and caller, or into new ones.
pub(super) fn write(db: &Db, txn: &WriteTransaction, unwritten: &mut [Unwritten]) -> Result<()> {
    unwritten.sort_unstable_by_key(|one| (one.generation, one.caller));
    let mut table = txn.open_table(NOVELTY).map_err(db.error("open the novelty"))?;
    for one in unwritten {
        for part in std::mem::take(&mut one.fingerprints).chunks(MAX_SECTION) {
            write_part(db, &mut table, one, part)?;
        }
    }
    Ok(())
}

fn write_part(db: &Db, table: &mut Table<'_, RowKey, &[u8]>, of: &mut Unwritten, part: &[u32]) -> Result<()> {
    let last = {
        let mut rows = table.range(all_of(of.generation, of.caller)).map_err(db.error("read the novelty"))?;
        let last = rows.next_back().transpose().map_err(db.error("read the novelty"))?;
        last.map(|(key, value)| section(db, value.value()).map(|section| (key.value().2, section))).transpose()?
    };
    let (number, mut section) = match last {
        Some((number, section)) if section.takes(part.len(), of.cut_exposure) => (number, section),
        // The last number is taken again rather than wrapped: a caller never has so many sections.
        last => {
            let number = last.map_or(0, |(number, _)| number.saturating_add(1));
            (number, Section::empty(bits_for(of.known, of.cut_exposure, part.len())))
        }
    };
    section.add(part);
    if section.is_cut() {
        of.cut_exposure += exposure_of(section.bits(), part.len());
    }
    let row = Row::V1 { bits: section.bits() as u8, count: section.len() as u32, code: section.encode() };
    let bytes = encode(&row, NAME, db.path())?;
    table.insert((of.generation, of.caller, number), bytes.as_slice()).map_err(db.error("write the novelty"))?;
    Ok(())
}

/// Removes what is remembered of a caller.
pub(super) fn erase(db: &Db, txn: &WriteTransaction, caller: ScopeId, generations: &[u32]) -> Result<()> {
    let mut table = txn.open_table(NOVELTY).map_err(db.error("open the novelty"))?;
    for generation in generations {
        table.retain_in(all_of(*generation, caller), |_, _| false).map_err(db.error("erase the novelty"))?;
    }
    Ok(())
}

/// Removes some rows of generations before `oldest`; false if none is left.
pub(super) fn forget_before(db: &Db, txn: &WriteTransaction, oldest: u32) -> Result<bool> {
    let mut table = txn.open_table(NOVELTY).map_err(db.error("open the novelty"))?;
    let old = table.range(..(oldest, [0; 16], 0)).map_err(db.error("read the novelty"))?;
    let keys: Result<Vec<RowKey>> = old
        .take(FORGET_ROWS)
        .map(|row| row.map(|(key, _)| key.value()).map_err(db.error("read the novelty")))
        .collect();
    let keys = keys?;
    for key in &keys {
        table.remove(key).map_err(db.error("forget the novelty"))?;
    }
    Ok(keys.len() == FORGET_ROWS)
}
