//! The one row that says what ledger this is and where it stands.

use bincode::{Decode, Encode};
use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::time::Mark;
use crate::database::{Db, check_counters, decode, encode};
use crate::words::{Error, Quota, QuotaPolicy, Result};

pub(super) const NAME: &str = "state";
pub(super) const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(NAME);
const ROW: &str = "ledger";

/// Where a ledger stands. Rewritten by every transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LedgerState {
    pub(crate) ledger_id: [u8; 16],
    /// The index that the ledger belongs to.
    pub(crate) index_id: [u8; 16],
    /// How often the index was opened; the index keeps the same count.
    pub(crate) epoch: u64,
    /// Transactions so far. The index notes it, so that an older copy of the ledger is found out.
    pub(crate) commits: u64,
    /// The snapshot version of the index, as last heard: finds out an older copy of the index.
    pub(crate) index_version: u64,
    /// The quotas in force.
    pub(crate) policy: QuotaPolicy,
    /// How often the quotas were changed.
    pub(crate) policy_version: u32,
    pub(super) mark: Mark,
}

impl LedgerState {
    /// A ledger that nothing was charged to.
    pub(crate) const fn new(ledger_id: [u8; 16], index_id: [u8; 16], policy: QuotaPolicy, wall_ms: u64) -> Self {
        let mark = Mark { ledger_ns: 0, wall_ms };
        Self { ledger_id, index_id, epoch: 0, commits: 0, index_version: 0, policy, policy_version: 1, mark }
    }

    /// Was the ledger never opened after it was made? Only then may it be made again.
    pub(crate) const fn is_pristine(&self) -> bool {
        self.epoch == 0
    }
}

#[derive(Encode, Decode)]
enum Row {
    V1(RowV1),
}

#[derive(Encode, Decode)]
struct RowV1 {
    ledger_id: [u8; 16],
    index_id: [u8; 16],
    epoch: u64,
    commits: u64,
    index_version: u64,
    quotas: QuotaRows,
    policy_version: u32,
    ledger_ns: u64,
    wall_ms: u64,
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<Row>(bytes, NAME, std::path::Path::new(NAME))
}

/// Scope, burst, nanoseconds per number.
pub(super) type QuotaRows = Vec<(String, u64, u64)>;

const CALLER: &str = "caller";
const EVERYONE: &str = "everyone";

pub(super) fn quota_rows(policy: &QuotaPolicy) -> QuotaRows {
    let row = |scope: &str, quota: Quota| (scope.to_owned(), quota.burst(), quota.interval_ns());
    let origins = policy.origins().map(|(kind, quota)| row(kind, quota));
    let everyone = policy.everyone().map(|quota| row(EVERYONE, quota));
    std::iter::once(row(CALLER, policy.caller())).chain(origins).chain(everyone).collect()
}

pub(super) fn read_policy(rows: &QuotaRows, table: &'static str, db: &Db) -> Result<QuotaPolicy> {
    let damaged = || Error::DamagedRow { path: db.path().to_owned(), table, reason: "a quota is impossible" };
    let quota = |burst, interval| Quota::from_parts(burst, interval).map_err(|_| damaged());
    let (_, burst, interval) = rows.iter().find(|(scope, ..)| scope == CALLER).ok_or_else(damaged)?;
    let mut policy = QuotaPolicy::of_caller(quota(*burst, *interval)?);
    for (scope, burst, interval) in rows {
        let quota = quota(*burst, *interval)?;
        policy = match scope.as_str() {
            CALLER => policy,
            EVERYONE => policy.with_everyone(quota),
            kind => policy.with_origin(kind, quota).map_err(|_| damaged())?,
        };
    }
    Ok(policy)
}

pub(super) fn write(db: &Db, txn: &WriteTransaction, state: &LedgerState) -> Result<()> {
    let row = Row::V1(RowV1 {
        ledger_id: state.ledger_id,
        index_id: state.index_id,
        epoch: state.epoch,
        commits: state.commits,
        index_version: state.index_version,
        quotas: quota_rows(&state.policy),
        policy_version: state.policy_version,
        ledger_ns: state.mark.ledger_ns,
        wall_ms: state.mark.wall_ms,
    });
    let bytes = encode(&row, NAME, db.path())?;
    let mut table = txn.open_table(STATE).map_err(db.error("open the state"))?;
    table.insert(ROW, bytes.as_slice()).map_err(db.error("write the state"))?;
    Ok(())
}

pub(super) fn read(db: &Db, txn: &ReadTransaction) -> Result<LedgerState> {
    let foreign = || Error::ForeignFormat { path: db.path().to_owned(), expected: "an unlisted ledger" };
    let table = match txn.open_table(STATE) {
        Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => return Err(foreign()),
        other => other.map_err(db.error("open the state"))?,
    };
    let row = table.get(ROW).map_err(db.error("read the state"))?.ok_or_else(foreign)?;
    let Row::V1(row) = decode(row.value(), NAME, db.path())?;
    check_counters(&[row.epoch, row.commits, row.index_version], NAME, db)?;
    Ok(LedgerState {
        ledger_id: row.ledger_id,
        index_id: row.index_id,
        epoch: row.epoch,
        commits: row.commits,
        index_version: row.index_version,
        policy: read_policy(&row.quotas, NAME, db)?,
        policy_version: row.policy_version,
        mark: Mark { ledger_ns: row.ledger_ns, wall_ms: row.wall_ms },
    })
}
