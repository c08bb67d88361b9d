//! What an operator decided about one caller or one origin: a suspension, a quota of its own.

use std::collections::HashSet;
use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

use bincode::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableError, WriteTransaction};

use super::ScopeId;
use super::quotas::Override;
use crate::database::{Db, decode, encode};
use crate::words::{Error, ParseQuotaError, Quota, QuotaOverride, Result, Suspension};

pub(super) const NAME: &str = "standings";
pub(super) const STANDINGS: TableDefinition<'_, ScopeId, &[u8]> = TableDefinition::new(NAME);

/// How a scope stands. Most have no row, and are ordinary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// What it is: for whoever reads the list.
    pub(super) scope: String,
    pub(super) suspension: Option<Suspension>,
    pub(super) own: Option<Override>,
}

impl Standing {
    pub(super) const fn is_ordinary(&self) -> bool {
        self.suspension.is_none() && self.own.is_none()
    }
}

#[derive(Encode, Decode)]
enum Row {
    V1 { scope: String, suspended: Option<SuspendedV1>, own: Option<OverrideV1> },
}

#[derive(Encode, Decode)]
struct SuspendedV1 {
    since_ms: u64,
    reason: String,
}

#[derive(Encode, Decode)]
struct OverrideV1 {
    burst: u64,
    interval_ns: u64,
    start_burst: u64,
    grows_for_ns: u64,
    since_ns: i64,
}

fn to_row(standing: &Standing) -> Row {
    let suspended = standing.suspension.as_ref();
    let own = standing.own.as_ref();
    Row::V1 {
        scope: standing.scope.clone(),
        suspended: suspended.map(|of| SuspendedV1 { since_ms: of.since_ms, reason: of.reason.clone() }),
        own: own.map(|own| OverrideV1 {
            burst: own.quota.quota().burst(),
            interval_ns: own.quota.quota().interval_ns(),
            start_burst: own.quota.start_burst(),
            grows_for_ns: u64::try_from(own.quota.grows_for().as_nanos()).unwrap_or(u64::MAX),
            since_ns: own.since_ns,
        }),
    }
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    let path = Path::new(NAME);
    crate::database::encode(&to_row(&of_row(path, bytes)?), NAME, path)
}

fn of_row(path: &Path, bytes: &[u8]) -> Result<Standing> {
    let damaged = |_| Error::DamagedRow { path: path.to_owned(), table: NAME, reason: "a quota is impossible" };
    let Row::V1 { scope, suspended, own } = decode(bytes, NAME, path)?;
    let own = own.map(read_override);
    Ok(Standing {
        scope,
        suspension: suspended.map(|row| Suspension { since_ms: row.since_ms, reason: row.reason }),
        own: own.transpose().map_err(damaged)?,
    })
}

fn read_override(row: OverrideV1) -> Result<Override, ParseQuotaError> {
    let quota = Quota::from_parts(row.burst, row.interval_ns)?;
    let grows_for = Duration::from_nanos(row.grows_for_ns);
    let quota = QuotaOverride::growing(row.start_burst, quota, grows_for)?;
    Ok(Override { quota, since_ns: row.since_ns })
}

/// How many rows there are.
pub(super) fn count(db: &Db, txn: &ReadTransaction) -> Result<u64> {
    match txn.open_table(STANDINGS) {
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        other => {
            let table = other.map_err(db.error("open the standings"))?;
            table.len().map_err(db.error("count the standings"))
        }
    }
}

/// The identities of all rows.
pub(super) fn ids(db: &Db, txn: &ReadTransaction) -> Result<HashSet<ScopeId>> {
    let table = match txn.open_table(STANDINGS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(HashSet::new()),
        other => other.map_err(db.error("open the standings"))?,
    };
    let rows = table.range::<ScopeId>(..).map_err(db.error("read the standings"))?;
    rows.map(|row| row.map(|(id, _)| id.value()).map_err(db.error("read the standings"))).collect()
}

/// How a scope stands.
pub(super) fn read(db: &Db, txn: &ReadTransaction, id: ScopeId) -> Result<Standing> {
    match txn.open_table(STANDINGS) {
        Err(TableError::TableDoesNotExist(_)) => Ok(Standing::default()),
        other => get(db, &other.map_err(db.error("open the standings"))?, id),
    }
}

/// How a scope stands, to change it.
pub(super) fn read_one(db: &Db, txn: &WriteTransaction, id: ScopeId) -> Result<Standing> {
    get(db, &txn.open_table(STANDINGS).map_err(db.error("open the standings"))?, id)
}

fn get(db: &Db, table: &impl ReadableTable<ScopeId, &'static [u8]>, id: ScopeId) -> Result<Standing> {
    match table.get(id).map_err(db.error("read a standing"))? {
        Some(row) => of_row(db.path(), row.value()),
        None => Ok(Standing::default()),
    }
}

/// Writes how a scope stands, or that it is ordinary again; returns how many rows there are then.
pub(super) fn write(db: &Db, txn: &WriteTransaction, id: ScopeId, standing: &Standing) -> Result<u64> {
    let mut table = txn.open_table(STANDINGS).map_err(db.error("open the standings"))?;
    if standing.is_ordinary() {
        table.remove(id).map_err(db.error("remove a standing"))?;
    } else {
        let bytes = encode(&to_row(standing), NAME, db.path())?;
        table.insert(id, bytes.as_slice()).map_err(db.error("write a standing"))?;
    }
    table.len().map_err(db.error("count the standings"))
}

/// Some of the scopes that are not ordinary, in the order of their identities, those after `after`.
pub(super) fn page(
    db: &Db,
    txn: &ReadTransaction,
    after: Option<ScopeId>,
    limit: usize,
) -> Result<Vec<(ScopeId, Standing)>> {
    let table = match txn.open_table(STANDINGS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the standings"))?,
    };
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    let rows = table.range::<ScopeId>((start, Bound::Unbounded)).map_err(db.error("read the standings"))?;
    rows.take(limit)
        .map(|row| {
            let (id, bytes) = row.map_err(db.error("read the standings"))?;
            Ok((id.value(), of_row(db.path(), bytes.value())?))
        })
        .collect()
}
