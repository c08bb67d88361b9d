//! Buckets in the file.

use std::path::Path;

use bincode::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::ScopeId;
use crate::database::{Db, decode, encode};
use crate::words::Result;

pub(super) const NAME: &str = "buckets";
/// Identity of a scope to its bucket.
pub(super) const BUCKETS: TableDefinition<'_, ScopeId, &[u8]> = TableDefinition::new(NAME);

/// A bucket on disk: everything before its moment counts as spent. The version says under which quotas it was
/// computed.
#[derive(Encode, Decode)]
enum BucketRow {
    V1 { tat_ns: u64, policy_version: u32 },
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<BucketRow>(bytes, NAME, std::path::Path::new(NAME))
}

/// What the file says of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BucketState {
    pub(super) id: ScopeId,
    /// Everything before this moment counts as spent.
    pub(super) tat_ns: u64,
    /// The version of the quotas that it was computed under.
    pub(super) version: u32,
}

impl BucketState {
    /// A scope that the file does not know spent nothing, ever.
    pub(super) const fn unknown(id: ScopeId) -> Self {
        Self { id, tat_ns: 0, version: 0 }
    }
}

/// Hands what the file says of each scope to `found`.
pub(super) fn read(
    db: &Db,
    txn: &ReadTransaction,
    scopes: impl Iterator<Item = (usize, ScopeId)>,
    mut found: impl FnMut(usize, BucketState),
) -> Result<()> {
    let table = match txn.open_table(BUCKETS) {
        Err(TableError::TableDoesNotExist(_)) => {
            scopes.for_each(|(scope, id)| found(scope, BucketState::unknown(id)));
            return Ok(());
        }
        other => other.map_err(db.error("open the buckets"))?,
    };
    for (scope, id) in scopes {
        found(scope, get(db, &table, id)?);
    }
    Ok(())
}

/// What the file says of one scope, to change it.
pub(super) fn read_one(db: &Db, txn: &WriteTransaction, id: ScopeId) -> Result<BucketState> {
    get(db, &txn.open_table(BUCKETS).map_err(db.error("open the buckets"))?, id)
}

fn get(db: &Db, table: &impl ReadableTable<ScopeId, &'static [u8]>, id: ScopeId) -> Result<BucketState> {
    let row = table.get(id).map_err(db.error("read a bucket"))?;
    let Some(row) = row else { return Ok(BucketState::unknown(id)) };
    of_row(id, row.value(), db.path())
}

/// The bucket in a row.
pub(super) fn of_row(id: ScopeId, row: &[u8], path: &Path) -> Result<BucketState> {
    let BucketRow::V1 { tat_ns, policy_version: version } = decode(row, NAME, path)?;
    Ok(BucketState { id, tat_ns, version })
}

/// What the file says of a scope, if it knows it.
pub(super) fn find(db: &Db, txn: &ReadTransaction, id: ScopeId) -> Result<Option<BucketState>> {
    match txn.open_table(BUCKETS) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        other => {
            let table = other.map_err(db.error("open the buckets"))?;
            let row = table.get(id).map_err(db.error("read a bucket"))?;
            row.map(|row| of_row(id, row.value(), db.path())).transpose()
        }
    }
}

/// Writes buckets.
pub(super) fn write(db: &Db, txn: &WriteTransaction, buckets: &[BucketState]) -> Result<()> {
    let mut table = txn.open_table(BUCKETS).map_err(db.error("open the buckets"))?;
    for BucketState { id, tat_ns, version } in buckets {
        let row = BucketRow::V1 { tat_ns: *tat_ns, policy_version: *version };
        let bytes = encode(&row, NAME, db.path())?;
        table.insert(id, bytes.as_slice()).map_err(db.error("write a bucket"))?;
    }
    Ok(())
}
