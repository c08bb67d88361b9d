//! Buckets that changed, as a log, until they are written into their table some thousand at a time.
//!
//! Charges that share a commit are of callers from all over the table: a page of it for each of them would be written, and
//! with the log it is a page for all. The table is in parts by the identity, and a part's changes go into it when there are enough of
//! them to share pages. What the log has of a bucket comes before what the table has. Memory has it too, so that nobody
//! searches the log.

use std::collections::HashMap;

use bincode::{Decode, Encode};
use parking_lot::RwLock;
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::bucket_rows::{self, BucketState};
use super::{RedbLedger, ScopeId};
use crate::database::{Db, MAX_COUNTER, decode, encode};
use crate::words::{Error, Result};

pub(super) const NAME: &str = "bucket_log";
/// Number of the row within its part, and the part of the table, to buckets: what one transaction writes is side by side.
pub(super) const BUCKET_LOG: TableDefinition<'_, (u64, u8), &[u8]> = TableDefinition::new(NAME);

/// By the first three bits of the identity.
const PARTS: usize = 8;
/// Buckets in a row at most, of 30 bytes each at most.
const ROW_BUCKETS: usize = 1_000;
/// Entries of a part that wait at most, and at least, however few buckets are kept in memory.
const ENTRIES: std::ops::RangeInclusive<usize> = 4..=4_096;
/// Buckets kept in memory for each entry that a part may have.
const ACTIVE_BUCKETS_PER_ENTRY: usize = 256;

#[derive(Encode, Decode)]
enum LogRow {
    /// Identity, everything before this moment counts as spent, version of the quotas.
    V1(Vec<(ScopeId, u64, u32)>),
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<LogRow>(bytes, NAME, std::path::Path::new(NAME))
}

/// What is in the log of a part.
#[derive(Default)]
struct Part {
    latest: HashMap<ScopeId, BucketState>,
    /// With those that a later one replaces.
    entries: usize,
    /// The transaction under way, or the last one, put all of it into the table. From the next one on it is looked for there.
    is_moved: bool,
}

#[derive(Default)]
struct Parts {
    parts: [Part; PARTS],
    /// The number of the next row.
    next: u64,
}

/// The log in memory.
pub(super) struct BucketLog {
    parts: RwLock<Parts>,
    /// Entries of a part that wait at most.
    limit: usize,
}

fn part_of(id: &ScopeId) -> usize {
    let [first, ..] = id;
    usize::from(first >> 5)
}

impl Parts {
    /// The last transaction is durable.
    fn settle(&mut self) {
        self.parts.iter_mut().filter(|part| part.is_moved).for_each(|part| *part = Part::default());
    }

    fn add(&mut self, bucket: &BucketState) {
        if let Some(part) = self.parts.get_mut(part_of(&bucket.id)) {
            part.latest.insert(bucket.id, *bucket);
            part.entries += 1;
        }
    }

    /// Numbers for so many rows of one part.
    const fn take_numbers(&mut self, rows: usize) -> u64 {
        let first = self.next;
        self.next += rows as u64;
        first
    }

    /// What is to go into the table now: of the parts that have more entries than that.
    fn take_full(&mut self, limit: usize) -> Vec<(usize, Vec<BucketState>)> {
        let mut full = Vec::new();
        for (number, part) in self.parts.iter_mut().enumerate().filter(|(_, part)| part.entries > limit) {
            part.is_moved = true;
            let mut buckets: Vec<BucketState> = part.latest.values().copied().collect();
            buckets.sort_unstable();
            full.push((number, buckets));
        }
        full
    }
}

impl BucketLog {
    /// Reads what the last run left in the log.
    pub(super) fn open(db: &Db, txn: &ReadTransaction, active_buckets: usize) -> Result<Self> {
        let mut parts = Parts::default();
        for_each(db, txn, |number, bucket| {
            parts.next = number + 1;
            parts.add(&bucket);
        })?;
        let limit = (active_buckets / ACTIVE_BUCKETS_PER_ENTRY).clamp(*ENTRIES.start(), *ENTRIES.end());
        Ok(Self { parts: RwLock::new(parts), limit })
    }

    /// What the log says of a bucket. Whoever finds nothing looks into the table, in a snapshot that begins after this.
    pub(super) fn get(&self, id: ScopeId) -> Option<BucketState> {
        self.parts.read().parts.get(part_of(&id))?.latest.get(&id).copied()
    }

    /// The scopes that it has something of.
    pub(super) fn ids(&self) -> Vec<ScopeId> {
        self.parts.read().parts.iter().flat_map(|part| part.latest.keys().copied()).collect()
    }

    /// Writes buckets. In memory they are before the transaction is durable: if it fails, the ledger is poisoned.
    pub(super) fn write(&self, db: &Db, txn: &WriteTransaction, buckets: &[BucketState]) -> Result<()> {
        let mut by_part: [Vec<BucketState>; PARTS] = Default::default();
        let mut parts = self.parts.write();
        parts.settle();
        for bucket in buckets {
            parts.add(bucket);
            if let Some(of_part) = by_part.get_mut(part_of(&bucket.id)) {
                of_part.push(*bucket);
            }
        }
        let full = parts.take_full(self.limit);
        // These go into the table at once.
        for (part, _) in &full {
            by_part.get_mut(*part).into_iter().for_each(Vec::clear);
        }
        let longest = by_part.iter().map(Vec::len).max().unwrap_or_default();
        let first = parts.take_numbers(longest.div_ceil(ROW_BUCKETS));
        // Who looks something up need not wait for the file.
        drop(parts);
        let mut table = txn.open_table(BUCKET_LOG).map_err(db.error("open the log of buckets"))?;
        for (part, buckets) in (0..).zip(&by_part) {
            for (number, some) in (first..).zip(buckets.chunks(ROW_BUCKETS)) {
                let row = LogRow::V1(some.iter().map(|of| (of.id, of.tat_ns, of.version)).collect());
                let bytes = encode(&row, NAME, db.path())?;
                table.insert((number, part), bytes.as_slice()).map_err(db.error("write to the log of buckets"))?;
            }
        }
        drop(table);
        move_into_table(db, txn, &full)
    }

    /// Forgets what the last transaction put into the table. Called while none is under way.
    pub(super) fn settle(&self) {
        self.parts.write().settle();
    }

    /// Puts everything into the table.
    pub(super) fn empty(&self, db: &Db, txn: &WriteTransaction) -> Result<()> {
        let mut parts = self.parts.write();
        parts.settle();
        let all = parts.take_full(0);
        drop(parts);
        move_into_table(db, txn, &all)
    }
}

impl RedbLedger {
    /// Puts everything that waits in the log of buckets into their table, in one transaction with `work`.
    pub(super) fn commit_table(&self, work: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
        self.commit(|txn, _| {
            self.bucket_log.empty(&self.db, txn)?;
            work(txn)
        })
    }
}

fn move_into_table(db: &Db, txn: &WriteTransaction, full: &[(usize, Vec<BucketState>)]) -> Result<()> {
    if full.is_empty() {
        return Ok(());
    }
    for (_, buckets) in full {
        bucket_rows::write(db, txn, buckets)?;
    }
    let is_moved = |part: u8| full.iter().any(|(moved, _)| usize::from(part) == *moved);
    let mut log = txn.open_table(BUCKET_LOG).map_err(db.error("open the log of buckets"))?;
    log.retain(|(_, part), _| !is_moved(part)).map_err(db.error("empty the log of buckets"))
}

/// Every bucket in the log, with the number of its row, in the order of writing.
fn for_each(db: &Db, txn: &ReadTransaction, mut visit: impl FnMut(u64, BucketState)) -> Result<()> {
    let table = match txn.open_table(BUCKET_LOG) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        other => other.map_err(db.error("open the log of buckets"))?,
    };
    let damaged = |reason| Error::DamagedRow { path: db.path().to_owned(), table: NAME, reason };
    for row in table.iter().map_err(db.error("read the log of buckets"))? {
        let (key, bytes) = row.map_err(db.error("read the log of buckets"))?;
        let (number, part) = key.value();
        if number >= MAX_COUNTER {
            return Err(damaged("it counts further than any writer"));
        }
        let LogRow::V1(buckets) = decode(bytes.value(), NAME, db.path())?;
        for (id, tat_ns, version) in buckets {
            if part_of(&id) != usize::from(part) {
                return Err(damaged("a bucket is in a part that is not its own"));
            }
            visit(number, BucketState { id, tat_ns, version });
        }
    }
    Ok(())
}
