//! What callers paid for, in the file: sections of fingerprints by the end of their generation, caller and number.
//!
//! The generation comes first, so that a whole one can go without a search. A section is stored in pieces: rows that do
//! not fit into a page several times over leave pages half empty, their own and those of their neighbours.

use std::path::Path;

use bincode::{Decode, Encode};
use redb::{
    AccessGuard, Range, ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction,
};

use super::ScopeId;
use crate::database::{Db, decode, encode};
use crate::novelty::{MAX_SECTION, Section, bits_for, exposure_of};
use crate::words::{Error, Result};

pub(super) const NAME: &str = "novelty";
/// End of the generation in minutes of ledger time, caller, number of the section times 2^8 plus number of the piece.
pub(super) type RowKey = (u32, ScopeId, u16);
pub(super) const NOVELTY: TableDefinition<'_, RowKey, &[u8]> = TableDefinition::new(NAME);
/// Bytes of a piece of a section's code. The longest code has 40 of them.
const PIECE_LEN: usize = 1_024;
const PIECE_BITS: u32 = 8;
/// Rows that one transaction forgets at most.
const FORGET_ROWS: usize = 4_096;

/// A piece. Bits and count are those of the whole section.
#[derive(Encode, Decode)]
enum Row {
    V1 { bits: u8, count: u32, code: Vec<u8> },
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<Row>(bytes, NAME, std::path::Path::new(NAME))
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

/// Sections put together from their pieces, in order.
struct Sections<'a> {
    db: &'a Db,
    found: Vec<(u16, Section)>,
    /// Section, bits, count and code so far of the section whose pieces are being read.
    open: Option<(u16, u8, u32, Vec<u8>)>,
    next_piece: u16,
}

impl<'a> Sections<'a> {
    /// Every section in the range.
    fn read(db: &'a Db, rows: Range<'_, RowKey, &[u8]>) -> Result<Vec<(u16, Section)>> {
        let mut sections = Self { db, found: Vec::new(), open: None, next_piece: 0 };
        for row in rows {
            let (key, value) = row.map_err(db.error("read the novelty"))?;
            sections.add(&key, &value)?;
        }
        sections.finish()?;
        Ok(sections.found)
    }

    fn add(&mut self, key: &AccessGuard<'_, RowKey>, value: &AccessGuard<'_, &'static [u8]>) -> Result<()> {
        let (_, _, number) = key.value();
        let (section, piece) = (number >> PIECE_BITS, number & ((1 << PIECE_BITS) - 1));
        let Row::V1 { bits, count, code } = decode(value.value(), NAME, self.db.path())?;
        if self.open.as_ref().is_some_and(|(of, ..)| *of != section) {
            self.finish()?;
        }
        let open = self.open.get_or_insert_with(|| (section, bits, count, Vec::new()));
        if piece != self.next_piece || (open.1, open.2) != (bits, count) {
            return Err(damaged(self.db.path(), "a piece of a section is missing or belongs to another"));
        }
        open.3.extend(code);
        self.next_piece += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.next_piece = 0;
        let Some((number, bits, count, code)) = self.open.take() else { return Ok(()) };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let section = Section::decode(u32::from(bits), count, &code);
        self.found.push((number, section.map_err(|reason| damaged(self.db.path(), reason))?));
        Ok(())
    }
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
        let rows = table.range(all_of(*generation, caller)).map_err(db.error("read the novelty"))?;
        found.extend(Sections::read(db, rows)?.into_iter().map(|(_, section)| (*generation, section)));
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
    let (number, mut section) = match last_section(db, table, of)? {
        Some((number, section)) if section.takes(part.len(), of.cut_exposure) => (number, section),
        last => {
            let number = last.map_or(0, |(number, _)| number + 1);
            (number, Section::empty(bits_for(of.known, of.cut_exposure, part.len())))
        }
    };
    if number >> (u16::BITS - PIECE_BITS) != 0 {
        // As many sections as a generation holds; more are not remembered, which costs the caller.
        return Ok(());
    }
    section.add(part);
    if section.is_cut() {
        of.cut_exposure += exposure_of(section.bits(), part.len());
    }
    let (bits, count) = (section.bits() as u8, section.len() as u32);
    for (piece, code) in (number << PIECE_BITS..).zip(section.encode().chunks(PIECE_LEN)) {
        let bytes = encode(&Row::V1 { bits, count, code: code.to_vec() }, NAME, db.path())?;
        let key = (of.generation, of.caller, piece);
        table.insert(key, bytes.as_slice()).map_err(db.error("write the novelty"))?;
    }
    Ok(())
}

/// The newest section of a generation of a caller, with its number.
fn last_section(db: &Db, table: &Table<'_, RowKey, &[u8]>, of: &Unwritten) -> Result<Option<(u16, Section)>> {
    let mut rows = table.range(all_of(of.generation, of.caller)).map_err(db.error("read the novelty"))?;
    let last = rows.next_back().transpose().map_err(db.error("read the novelty"))?;
    let Some((_, _, number)) = last.map(|(key, _)| key.value()) else { return Ok(None) };
    let first = number >> PIECE_BITS << PIECE_BITS;
    let pieces = (of.generation, of.caller, first)..=(of.generation, of.caller, number);
    let rows = table.range(pieces).map_err(db.error("read the novelty"))?;
    Ok(Sections::read(db, rows)?.pop())
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
