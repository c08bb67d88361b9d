//! The one row that says what index this is and where it stands.

use bincode::{Decode, Encode};
use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use crate::database::{Db, check_counters, decode, encode};
use crate::words::{Error, Result};

pub(super) const NAME: &str = "state";
pub(super) const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(NAME);
const ROW: &str = "index";
const TRIPWIRES_ROW: &str = "tripwires";
const FORGOTTEN_ROW: &str = "forgotten";

/// Where an index stands. Rewritten by every transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Random, made once.
    pub(crate) index_id: [u8; 16],
    /// Tells whether a secret is the one the index was made under.
    pub(crate) check_value: [u8; 16],
    /// The ledger that belongs to the index.
    pub(crate) ledger_id: [u8; 16],
    /// How often the index was opened; the ledger keeps the same count.
    pub(crate) epoch: u64,
    /// Transactions of the ledger when last heard: finds out an older copy of it.
    pub(crate) ledger_commits: u64,
    /// The next segment's generation.
    pub(crate) next_generation: u64,
    /// How many transactions changed listings.
    pub(crate) snapshot_version: u64,
    /// Where the host's change feed stands, in the host's own form.
    pub(crate) watermark: Option<Vec<u8>>,
    /// Tripwires that are set.
    pub(crate) tripwires: u64,
    /// Removals that were forgotten since the file was last written anew: its free pages may still have them.
    pub(crate) forgotten: u64,
}

/// In a row of its own, which is there as long as it is not zero.
#[derive(Encode, Decode)]
enum CountRow {
    V1 { count: u64 },
}

#[derive(Encode, Decode)]
enum Row {
    V1(RowV1),
}

#[derive(Encode, Decode)]
struct RowV1 {
    index_id: [u8; 16],
    check_value: [u8; 16],
    ledger_id: [u8; 16],
    epoch: u64,
    ledger_commits: u64,
    next_generation: u64,
    snapshot_version: u64,
    watermark: Option<Vec<u8>>,
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<Row>(bytes, NAME, std::path::Path::new(NAME))
}

/// As [`reread`], of the tripwires.
#[cfg(feature = "internals")]
pub(super) fn reread_tripwires(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<CountRow>(bytes, NAME, std::path::Path::new(NAME))
}

pub(super) fn write(db: &Db, txn: &WriteTransaction, state: &State) -> Result<()> {
    let state = state.clone();
    let row = Row::V1(RowV1 {
        index_id: state.index_id,
        check_value: state.check_value,
        ledger_id: state.ledger_id,
        epoch: state.epoch,
        ledger_commits: state.ledger_commits,
        next_generation: state.next_generation,
        snapshot_version: state.snapshot_version,
        watermark: state.watermark,
    });
    let bytes = encode(&row, NAME, db.path())?;
    let mut table = txn.open_table(STATE).map_err(db.error("open the state"))?;
    table.insert(ROW, bytes.as_slice()).map_err(db.error("write the state"))?;
    for (name, count) in [(TRIPWIRES_ROW, state.tripwires), (FORGOTTEN_ROW, state.forgotten)] {
        if count == 0 {
            table.remove(name).map_err(db.error("write the state"))?;
        } else {
            let bytes = encode(&CountRow::V1 { count }, NAME, db.path())?;
            table.insert(name, bytes.as_slice()).map_err(db.error("write the state"))?;
        }
    }
    Ok(())
}

pub(super) fn read(db: &Db, txn: &ReadTransaction) -> Result<State> {
    let foreign = || Error::ForeignFormat { path: db.path().to_owned(), expected: "an unlisted index" };
    let table = match txn.open_table(STATE) {
        Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => return Err(foreign()),
        other => other.map_err(db.error("open the state"))?,
    };
    let row = table.get(ROW).map_err(db.error("read the state"))?.ok_or_else(foreign)?;
    let Row::V1(row) = decode(row.value(), NAME, db.path())?;
    check_counters(&[row.epoch, row.ledger_commits, row.next_generation, row.snapshot_version], NAME, db)?;
    let count = |name| -> Result<u64> {
        match table.get(name).map_err(db.error("read the state"))? {
            Some(row) => {
                let CountRow::V1 { count } = decode(row.value(), NAME, db.path())?;
                Ok(count)
            }
            None => Ok(0),
        }
    };
    let (tripwires, forgotten) = (count(TRIPWIRES_ROW)?, count(FORGOTTEN_ROW)?);
    Ok(State {
        index_id: row.index_id,
        check_value: row.check_value,
        ledger_id: row.ledger_id,
        epoch: row.epoch,
        ledger_commits: row.ledger_commits,
        next_generation: row.next_generation,
        snapshot_version: row.snapshot_version,
        watermark: row.watermark,
        tripwires,
        forgotten,
    })
}
