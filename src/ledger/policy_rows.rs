//! The policies of the past, in the file. A ledger whose policy was never changed has none: its state says enough.

use bincode::{Decode, Encode};
use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::quotas::Era;
use super::state::{QuotaRows, quota_rows, read_policy};
use crate::database::{Db, decode, encode};
use crate::words::{Error, Result};

pub(super) const NAME: &str = "policies";
/// Version of the quotas to the policy that came with it.
pub(super) const POLICIES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new(NAME);

#[derive(Encode, Decode)]
enum Row {
    V1 { since_ns: u64, full_debt: bool, quotas: QuotaRows },
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<Row>(bytes, NAME, std::path::Path::new(NAME))
}

/// Every policy, oldest first.
pub(super) fn read(db: &Db, txn: &ReadTransaction) -> Result<Vec<Era>> {
    let table = match txn.open_table(POLICIES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the policies"))?,
    };
    let mut eras: Vec<Era> = Vec::new();
    for row in table.range::<u32>(..).map_err(db.error("read the policies"))? {
        let (version, bytes) = row.map_err(db.error("read the policies"))?;
        let Row::V1 { since_ns, full_debt, quotas } = decode(bytes.value(), NAME, db.path())?;
        if eras.last().is_some_and(|before| before.since_ns > since_ns) {
            let reason = "a policy begins before the one that it follows";
            return Err(Error::DamagedRow { path: db.path().to_owned(), table: NAME, reason });
        }
        let policy = read_policy(&quotas, NAME, db)?;
        eras.push(Era { version: version.value(), since_ns, policy, full_debt });
    }
    Ok(eras)
}

/// Writes policies, those that are there already too.
pub(super) fn write<'a>(db: &Db, txn: &WriteTransaction, eras: impl Iterator<Item = &'a Era>) -> Result<()> {
    let mut table = txn.open_table(POLICIES).map_err(db.error("open the policies"))?;
    for era in eras {
        let quotas = quota_rows(&era.policy);
        let row = Row::V1 { since_ns: era.since_ns, full_debt: era.full_debt, quotas };
        let bytes = encode(&row, NAME, db.path())?;
        table.insert(era.version, bytes.as_slice()).map_err(db.error("write a policy"))?;
    }
    Ok(())
}
