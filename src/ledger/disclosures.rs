//! Who was shown to whom: one row for each (caller, account, purpose), with the time of the first disclosure.

use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::ScopeId;
use crate::database::Db;
use crate::words::{AccountId, Purpose, Result};

/// Caller, account and purpose to milliseconds since 1970.
const DISCLOSURES: TableDefinition<'_, [u8; 33], u64> = TableDefinition::new("disclosures");

type RowKey = [u8; 33];

fn row_key(caller: ScopeId, account: AccountId, purpose: u8) -> RowKey {
    let mut key = [purpose; 33];
    let parts = caller.into_iter().chain(account.to_bytes());
    key.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    key
}

/// Which of these disclosures are not recorded yet.
pub(super) fn missing(
    db: &Db,
    txn: &ReadTransaction,
    caller: ScopeId,
    purpose: Purpose,
    accounts: &[AccountId],
) -> Result<Vec<RowKey>> {
    let keys = accounts.iter().map(|account| row_key(caller, *account, purpose.bit() as u8));
    let table = match txn.open_table(DISCLOSURES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(keys.collect()),
        other => other.map_err(db.error("open the disclosures"))?,
    };
    let mut missing = Vec::new();
    for key in keys {
        if table.get(key).map_err(db.error("read the disclosures"))?.is_none() {
            missing.push(key);
        }
    }
    Ok(missing)
}

pub(super) fn record(db: &Db, txn: &WriteTransaction, rows: &[RowKey], wall_ms: u64) -> Result<()> {
    let mut table = txn.open_table(DISCLOSURES).map_err(db.error("open the disclosures"))?;
    for key in rows {
        table.insert(key, wall_ms).map_err(db.error("write the disclosures"))?;
    }
    Ok(())
}

/// Every account disclosed to a caller, with the purpose's bit and the time.
pub(super) fn of_caller(db: &Db, txn: &ReadTransaction, caller: ScopeId) -> Result<Vec<(AccountId, u8, u64)>> {
    let table = match txn.open_table(DISCLOSURES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the disclosures"))?,
    };
    let first = row_key(caller, AccountId::from_bytes([0; 16]), 0);
    let last = row_key(caller, AccountId::from_bytes([0xff; 16]), 0xff);
    let mut found = Vec::new();
    for item in table.range(first..=last).map_err(db.error("read the disclosures"))? {
        let (key, at_ms) = item.map_err(db.error("read the disclosures"))?;
        let [_caller @ .., purpose] = key.value();
        let account = key.value().get(16..32).and_then(|a| a.first_chunk()).copied().unwrap_or_default();
        found.push((AccountId::from_bytes(account), purpose, at_ms.value()));
    }
    Ok(found)
}

/// Forgets what is older than a moment; returns how many rows went.
pub(super) fn forget_before(db: &Db, txn: &WriteTransaction, before_ms: u64) -> Result<u64> {
    let mut table = txn.open_table(DISCLOSURES).map_err(db.error("open the disclosures"))?;
    let mut gone = 0;
    table
        .retain(|_, at_ms| {
            let keep = at_ms >= before_ms;
            gone += u64::from(!keep);
            keep
        })
        .map_err(db.error("forget disclosures"))?;
    Ok(gone)
}
