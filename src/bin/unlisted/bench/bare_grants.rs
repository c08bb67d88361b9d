//! What redb itself gives: threads that share commits of a row each, and nothing else. The ledger is held against it.

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use redb::{Database, TableDefinition};

use super::lookup::timed;
use crate::commands::generate::SplitMix;
use crate::error::CliError;

const ROWS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("rows");
/// As long as a bucket's row.
const VALUE: [u8; 11] = [0xa5; 11];

/// Rows that wait for a commit, and how far commits are.
#[derive(Default)]
struct Queue {
    waiting: Vec<[u8; 16]>,
    open: u64,
    ended: u64,
    is_led: bool,
}

/// Rows made durable in a second by so many threads that share commits. With `two_phase`, committed as the ledger does.
pub fn grants_per_s(dir: &Path, threads: u64, rows: usize, two_phase: bool) -> Result<f64, CliError> {
    let path = dir.join("bare.redb.tmp");
    let failed = |error: redb::Error| CliError::File {
        action: "write",
        name: path.display().to_string(),
        source: std::io::Error::other(error),
    };
    let database = Database::create(&path).map_err(|error| failed(error.into()))?;
    let (queue, ended) = (Mutex::new(Queue::default()), Condvar::new());
    let ns = timed(threads, rows, |i| {
        let mut random = SplitMix(i as u64);
        let row = (u128::from(random.next()) << 64 | u128::from(random.next())).to_be_bytes();
        let mut locked = queue.lock().unwrap_or_else(PoisonError::into_inner);
        locked.waiting.push(row);
        let batch = locked.open;
        while locked.ended <= batch {
            if locked.is_led {
                locked = ended.wait(locked).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            locked.is_led = true;
            locked.open += 1;
            let taken = std::mem::take(&mut locked.waiting);
            drop(locked);
            commit(&database, &taken, two_phase).map_err(failed)?;
            locked = queue.lock().unwrap_or_else(PoisonError::into_inner);
            locked.is_led = false;
            locked.ended = batch + 1;
            ended.notify_all();
        }
        Ok(())
    })?;
    drop(database);
    std::fs::remove_file(&path).map_err(|error| failed(error.into()))?;
    Ok(rows as f64 / (ns / 1e9))
}

fn commit(database: &Database, rows: &[[u8; 16]], two_phase: bool) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(two_phase);
    {
        let mut table = txn.open_table(ROWS)?;
        for row in rows {
            table.insert(row, VALUE.as_slice())?;
        }
    }
    Ok(txn.commit()?)
}
