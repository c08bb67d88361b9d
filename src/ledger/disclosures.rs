//! Disclosures as the ledger of version 1 kept them. They are read once, to move them to the disclosure log.

use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::ScopeId;
use crate::database::Db;
use crate::words::{AccountId, Result};

pub(super) const NAME: &str = "disclosures";
/// Caller, account and purpose to milliseconds since 1970.
pub(super) const DISCLOSURES: TableDefinition<'_, [u8; 33], u64> = TableDefinition::new(NAME);

/// Visits every row: caller, account, the purpose's bit, the time.
pub(super) fn for_each(
    db: &Db,
    txn: &ReadTransaction,
    mut visit: impl FnMut(ScopeId, AccountId, u8, u64) -> Result<()>,
) -> Result<()> {
    let table = match txn.open_table(DISCLOSURES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        other => other.map_err(db.error("open the disclosures"))?,
    };
    for item in table.range::<[u8; 33]>(..).map_err(db.error("read the disclosures"))? {
        let (key, at_ms) = item.map_err(db.error("read the disclosures"))?;
        let key = key.value();
        let ([caller, account], [purpose]) = key.as_chunks::<16>() else { continue };
        visit(*caller, AccountId::from_bytes(*account), *purpose, at_ms.value())?;
    }
    Ok(())
}

pub(super) fn are_there(db: &Db, txn: &ReadTransaction) -> Result<bool> {
    match txn.open_table(DISCLOSURES) {
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        other => other.map(|_| true).map_err(db.error("open the disclosures")),
    }
}

pub(super) fn drop_all(db: &Db, txn: &WriteTransaction) -> Result<()> {
    txn.delete_table(DISCLOSURES).map_err(db.error("drop the disclosures"))?;
    Ok(())
}
