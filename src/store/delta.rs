//! The delta: the newest state of every listing that changed since its segment was written.

use bincode::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::DeltaRef;
use crate::database::{Db, decode, encode};
use crate::overlay::Change;
use crate::segment::keys::{KeyRange, MIN_KEY_BITS};
use crate::words::{AccountId, Entry, Error, Key, Result, Stamp};

const NAME: &str = "delta";
/// Key and account to row.
const DELTA: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new(NAME);

#[derive(Encode, Decode)]
enum Row {
    V1 { stamp: u64, known_bits: u8, removed_at_s: u64 },
}

fn row_key(key: Key, account: AccountId) -> [u8; 32] {
    let mut bytes = [0; 32];
    let (head, tail) = bytes.split_at_mut(16);
    head.copy_from_slice(&key.to_bytes());
    tail.copy_from_slice(&account.to_bytes());
    bytes
}

fn change(db: &Db, key: [u8; 32], row: &[u8]) -> Result<Change> {
    let Row::V1 { stamp, known_bits, removed_at_s } = decode(row, NAME, db.path())?;
    let damaged = |reason| Error::DamagedRow { path: db.path().to_owned(), table: NAME, reason };
    let stamp = Stamp::from_word(stamp).ok_or_else(|| damaged("its flags have a bit that no writer sets"))?;
    if !(MIN_KEY_BITS..=128).contains(&known_bits) {
        return Err(damaged("its key is too short"));
    }
    let id = u128::from_be_bytes(key.first_chunk().copied().unwrap_or_default());
    let account = AccountId::from_bytes(key.last_chunk().copied().unwrap_or_default());
    Ok(Change { entry: Entry { key: Key::from_u128(id), account, stamp }, known_bits, removed_at_s })
}

pub(super) fn apply(db: &Db, txn: &WriteTransaction, put: &[Change], drop: &[DeltaRef]) -> Result<()> {
    let mut table = txn.open_table(DELTA).map_err(db.error("open the delta"))?;
    for (key, account, stamp) in drop {
        let id = row_key(*key, *account);
        let stored = table.get(id).map_err(db.error("read the delta"))?;
        let stored = stored.map(|row| change(db, id, row.value())).transpose()?;
        if stored.is_some_and(|row| row.entry.stamp == *stamp) {
            table.remove(id).map_err(db.error("write the delta"))?;
        }
    }
    for change in put {
        let row = Row::V1 {
            stamp: change.entry.stamp.word(),
            known_bits: change.known_bits,
            removed_at_s: change.removed_at_s,
        };
        let bytes = encode(&row, NAME, db.path())?;
        let id = row_key(change.entry.key, change.entry.account);
        table.insert(id, bytes.as_slice()).map_err(db.error("write the delta"))?;
    }
    Ok(())
}

pub(super) fn read(db: &Db, txn: &ReadTransaction, range: KeyRange) -> Result<Vec<Change>> {
    let table = match txn.open_table(DELTA) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the delta"))?,
    };
    let first = row_key(range.first_key(), AccountId::from_bytes([0; 16]));
    let last = row_key(range.last_key(), AccountId::from_bytes([0xff; 16]));
    let mut changes = Vec::new();
    for item in table.range(first..=last).map_err(db.error("read the delta"))? {
        let (key, row) = item.map_err(db.error("read the delta"))?;
        changes.push(change(db, key.value(), row.value())?);
    }
    Ok(changes)
}
