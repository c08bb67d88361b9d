//! The database alone: as many rows of the same size in transactions of the same size, opened and committed as the
//! index does it. What the index costs on top is the difference.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use redb::backends::FileBackend;
use redb::{Database, StorageBackend, TableDefinition};

use crate::commands::generate::SplitMix;
use crate::error::CliError;

const TABLE: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("delta");
/// Bytes of a delta row with a stamp of eight bytes.
const ROW: [u8; 12] = [0x5a; 12];
/// The cache that an index has by default.
const CACHE_BYTES: usize = 64 << 20;

/// What the database alone does.
pub struct Bare {
    pub rows_per_s: f64,
    pub syncs_per_commit: f64,
}

/// Counts the syncs of a file.
#[derive(Debug)]
struct Counting {
    file: FileBackend,
    syncs: Arc<AtomicU64>,
}

impl StorageBackend for Counting {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.file.write(offset, data)
    }
}

/// Writes `rows` rows, `per_commit` in each transaction, one transaction after the other.
pub fn run(dir: &Path, rows: u64, per_commit: u64) -> Result<Bare, CliError> {
    let path = dir.join("bare.redb");
    let result = write(&path, rows, per_commit.max(1)).map_err(|source| CliError::File {
        action: "write",
        name: path.display().to_string(),
        source: std::io::Error::other(source),
    });
    // Nobody needs it any more; the folder goes with the bench or says where it is.
    let _ = std::fs::remove_file(&path);
    result
}

fn write(path: &Path, rows: u64, per_commit: u64) -> Result<Bare, redb::Error> {
    let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let syncs = Arc::new(AtomicU64::new(0));
    let backend = Counting { file: FileBackend::new(file)?, syncs: syncs.clone() };
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?;
    let mut random = SplitMix(7);
    let (mut left, mut commits, before) = (rows, 0_u64, syncs.load(Ordering::Relaxed));
    let start = Instant::now();
    while left > 0 {
        let mut keys: Vec<[u8; 32]> = (0..left.min(per_commit)).map(|_| key(&mut random)).collect();
        left -= keys.len() as u64;
        keys.sort_unstable();
        let mut txn = database.begin_write()?;
        txn.set_quick_repair(true);
        {
            let mut table = txn.open_table(TABLE)?;
            for key in keys {
                table.insert(key, &ROW[..])?;
            }
        }
        txn.commit()?;
        commits += 1;
    }
    Ok(Bare {
        rows_per_s: rows as f64 / start.elapsed().as_secs_f64(),
        syncs_per_commit: (syncs.load(Ordering::Relaxed) - before) as f64 / commits.max(1) as f64,
    })
}

fn key(random: &mut SplitMix) -> [u8; 32] {
    let mut key = [0; 32];
    for word in key.as_chunks_mut::<8>().0 {
        *word = random.next().to_le_bytes();
    }
    key
}
