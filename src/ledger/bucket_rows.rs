//! Buckets in the file.

use bincode::{Decode, Encode};
use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::ScopeId;
use crate::database::{Db, decode, encode};
use crate::words::Result;

const NAME: &str = "buckets";
/// Identity of a scope to its bucket.
pub(super) const BUCKETS: TableDefinition<'_, ScopeId, &[u8]> = TableDefinition::new(NAME);

/// A bucket on disk: everything before its moment counts as spent. The policy version says under which refill it was
/// computed.
#[derive(Encode, Decode)]
enum BucketRow {
    V1 { tat_ns: u64, policy_version: u32 },
}

/// Hands what the file says of each scope to `found`; of one that it does not know, that nothing was spent.
pub(super) fn read(
    db: &Db,
    txn: &ReadTransaction,
    scopes: impl Iterator<Item = (usize, ScopeId)>,
    mut found: impl FnMut(usize, u64),
) -> Result<()> {
    let table = match txn.open_table(BUCKETS) {
        Err(TableError::TableDoesNotExist(_)) => {
            scopes.for_each(|(scope, _)| found(scope, 0));
            return Ok(());
        }
        other => other.map_err(db.error("open the buckets"))?,
    };
    for (scope, id) in scopes {
        let row = table.get(id).map_err(db.error("read a bucket"))?;
        let row = row.map(|row| decode(row.value(), NAME, db.path())).transpose()?;
        found(scope, row.map_or(0, |BucketRow::V1 { tat_ns, .. }| tat_ns));
    }
    Ok(())
}

/// Writes buckets. Of several states of one scope the last is kept, so they come sorted.
pub(super) fn write(
    db: &Db,
    txn: &WriteTransaction,
    policy_version: u32,
    buckets: &[(ScopeId, u64)],
) -> Result<()> {
    let mut table = txn.open_table(BUCKETS).map_err(db.error("open the buckets"))?;
    for (i, (id, tat_ns)) in buckets.iter().enumerate() {
        if buckets.get(i + 1).is_some_and(|(next, _)| next == id) {
            continue;
        }
        let bytes = encode(&BucketRow::V1 { tat_ns: *tat_ns, policy_version }, NAME, db.path())?;
        table.insert(id, bytes.as_slice()).map_err(db.error("write a bucket"))?;
    }
    Ok(())
}
