//! What benchmarks ask of the ledger, under the feature `internals` only.

use redb::{ReadableTableMetadata, TableError, TableHandle, UntypedTableHandle};

use super::buckets::{Attempt, Loaded};
use super::{RedbLedger, Scope};
use crate::words::Result;

/// Rows and bytes of the ledger's tables.
#[derive(Debug, Clone, Copy, Default)]
pub struct LedgerSizes {
    /// Rows of buckets in their table.
    pub buckets: u64,
    /// Bytes of their keys and values, and of those in the log of buckets.
    pub bucket_bytes: u64,
    /// Bytes of the pages they are in.
    pub bucket_page_bytes: u64,
    /// Bytes of keys and values of what callers paid for.
    pub novelty_bytes: u64,
    /// Bytes of the pages they are in.
    pub novelty_page_bytes: u64,
}

impl RedbLedger {
    /// Charges every scope apart, all in one commit.
    pub(crate) fn pay_apart(&self, scopes: &[Scope<'_>], count: u64) -> Result<()> {
        let now_ns = self.time.ledger_ns();
        let mut all = Vec::new();
        for scope in scopes {
            let mut loaded = Loaded::default();
            loop {
                let scope = std::slice::from_ref(scope);
                match self.buckets.charge(scope, now_ns, count, std::mem::take(&mut loaded)) {
                    Attempt::Missing(missing) => loaded = self.load(scope, missing)?,
                    Attempt::Stale => {}
                    Attempt::Suspended(_) => break,
                    Attempt::Decided(_, advances) => {
                        all.extend(advances);
                        break;
                    }
                }
            }
        }
        self.advance(all)
    }

    /// Charges without novelty.
    pub(crate) fn pay_now(&self, scopes: &[Scope<'_>], count: u64) -> Result<u64> {
        self.ask_for(scopes);
        Ok(self.pay(scopes, self.time.ledger_ns(), count)?.granted)
    }

    pub(crate) fn sizes(&self) -> Result<LedgerSizes> {
        self.db.read(|txn| {
            let mut sizes = LedgerSizes::default();
            for table in txn.list_tables().map_err(self.db.error("list the tables"))? {
                let name = table.name().to_owned();
                let stats = match open(txn, table) {
                    Err(TableError::TableDoesNotExist(_)) => continue,
                    other => other.map_err(self.db.error("open a table"))?,
                };
                let (rows, bytes, pages) = stats.map_err(self.db.error("measure a table"))?;
                match name.as_str() {
                    "buckets" => {
                        sizes.buckets = rows;
                        sizes.bucket_bytes += bytes;
                        sizes.bucket_page_bytes += pages;
                    }
                    "bucket_log" => {
                        sizes.bucket_bytes += bytes;
                        sizes.bucket_page_bytes += pages;
                    }
                    "novelty" => (sizes.novelty_bytes, sizes.novelty_page_bytes) = (bytes, pages),
                    _ => {}
                }
            }
            Ok(sizes)
        })
    }
}

/// Rows, bytes of keys and values, bytes of pages.
type Measured = Result<(u64, u64, u64), redb::StorageError>;

fn open(txn: &redb::ReadTransaction, table: UntypedTableHandle) -> Result<Measured, TableError> {
    let table = txn.open_untyped_table(table)?;
    let measure = || {
        let stats = table.stats()?;
        // What a page holds besides rows is metadata, and what it does not hold is fragmented.
        let pages = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
        Ok((table.len()?, stats.stored_bytes(), pages))
    };
    Ok(measure())
}
