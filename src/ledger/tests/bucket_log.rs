//! The log of buckets: what is in it counts as much as what is in the table, before and after it is moved there, and after a
//! crash at any moment.

use super::*;
use crate::database::{Db, Snapshot};
use crate::ledger::bucket_log::BUCKET_LOG;
use crate::ledger::bucket_rows::BUCKETS;

const CALLERS: u8 = 120;

/// Callers of all parts of the table, one after the other.
fn caller(number: u8) -> Scope<'static> {
    scope(number.wrapping_mul(37), 100)
}

/// Few entries of each part, and few buckets in memory, so that what is asked for comes from the file.
fn small(clock: &Arc<ManualClock>) -> LedgerOptions {
    LedgerOptions { active_buckets: 64, max_lease: 1, ..options(clock) }
}

fn rows(ledger: &RedbLedger) -> (u64, u64) {
    use ::redb::ReadableTableMetadata;
    let txn = |snapshot: &Snapshot| {
        snapshot.read(|txn| {
            let table = txn.open_table(BUCKETS).map_or(0, |table| table.len().unwrap());
            Ok((txn.open_table(BUCKET_LOG).map_or(0, |table| table.len().unwrap()), table))
        })
    };
    txn(&ledger.snapshot().unwrap().0).unwrap()
}

fn remaining(ledger: &RedbLedger, number: u8) -> u64 {
    ledger.budget(&[caller(number)]).unwrap()[0].remaining
}

#[test]
fn buckets_count_wherever_they_are() {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000_000_000));
    let options = small(&clock);
    let dir = create(&options);
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    let mut most = 0;
    for spent in 1..=7_u32 {
        for number in 0..CALLERS {
            let verdict = ledger.charge(&[caller(number)], &[spent * 1_000 + u32::from(number)]).unwrap();
            assert_eq!(verdict.charged.len(), 1);
            most = most.max(rows(&ledger).0);
        }
        for number in 0..CALLERS {
            // An eviction forfeits a lease of one number.
            let (left, spent) = (remaining(&ledger, number), u64::from(spent));
            assert!((100 - 2 * spent..=100 - spent).contains(&left), "caller {number}: {left} after {spent}");
        }
    }
    let (logged, in_table) = rows(&ledger);
    assert!(most <= 8 * 5 && in_table > 0, "{most} rows in the log, {logged} now, {in_table} in the table");
    // As a kill leaves it, with some in the log.
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join(FILE_NAME), copy.path().join(FILE_NAME)).unwrap();
    let killed = RedbLedger::open(copy.path(), &options).unwrap();
    assert_eq!(rows(&killed), (logged, in_table));
    assert!(logged > 0);
    (0..CALLERS).for_each(|number| assert!(remaining(&killed, number) <= 93, "caller {number}"));
    // What is closed well has nothing in the log, and says the same.
    let left: Vec<_> = (0..CALLERS).map(|number| remaining(&ledger, number)).collect();
    ledger.settle().unwrap();
    assert_eq!(rows(&ledger), (0, u64::from(CALLERS)));
    drop(ledger);
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    assert_eq!((0..CALLERS).map(|number| remaining(&ledger, number)).collect::<Vec<_>>(), left);
}

#[cfg(feature = "internals")]
#[test]
fn a_flood_of_callers_in_one_commit_goes_into_the_table_at_once() {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000_000_000));
    let options = LedgerOptions { active_buckets: 1 << 12, ..options(&clock) };
    let dir = create(&options);
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    let scopes: Vec<_> = (0..=255).map(|number| scope(number, 100)).collect();
    ledger.pay_apart(&scopes, 3).unwrap();
    assert_eq!(rows(&ledger), (0, 256));
    scopes.iter().for_each(|scope| assert_eq!(ledger.budget(&[*scope]).unwrap()[0].remaining, 97));
}

#[test]
fn a_row_of_another_part_or_with_a_counter_that_nobody_writes_is_damage() {
    let clock = Arc::new(ManualClock::at_wall_ms(1_000_000_000));
    let options = small(&clock);
    let dir = create(&options);
    let ledger = RedbLedger::open(dir.path(), &options).unwrap();
    ledger.charge(&[caller(1)], &[1]).unwrap();
    drop(ledger);
    let path = dir.path().join(FILE_NAME);
    let part = caller(1).id[0] >> 5;
    for key in [(0, part + 1), (u64::MAX, part)] {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(&path, copy.path().join(FILE_NAME)).unwrap();
        let db = Db::open(&copy.path().join(FILE_NAME), &options.database, "a ledger").unwrap();
        let moved = db.write(|txn| {
            let mut table = txn.open_table(BUCKET_LOG).map_err(db.error("open"))?;
            let (_, row) = table
                .pop_first()
                .map_err(db.error("pop"))?
                .map(|(key, row)| (key.value(), row.value().to_vec()))
                .unwrap();
            table.insert(key, row.as_slice()).map(drop).map_err(db.error("insert"))
        });
        moved.unwrap();
        drop(db);
        let error = RedbLedger::open(copy.path(), &options).unwrap_err();
        assert!(matches!(error, Error::DamagedRow { table: "bucket_log", .. }), "{error}");
    }
}
