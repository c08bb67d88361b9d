//! Folders and options for indexes that live as long as one input.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use unlisted::internals::SimDisk;
use unlisted::{Index, ManualClock, Options, QuotaPolicy, Secret};

/// A wall-clock time to begin with: November 2026.
const START_MS: u64 = 1_795_000_000_000;

/// Where an index is on its disk.
const DIR: &str = "/index";

/// A temporary folder, in memory where there is such a place.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder")
}

/// A disk for one input. An index syncs often, and this one takes no time for it.
pub fn disk() -> SimDisk {
    SimDisk::new(0)
}

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at_wall_ms(START_MS))
}

pub fn secret() -> Secret {
    Secret::from_bytes([0x5e; 32])
}

/// Options without a background thread, so that an input always does the same.
pub fn options(clock: &Arc<ManualClock>, quotas: QuotaPolicy) -> Options {
    Options::new(secret())
        .clock(clock.clone())
        .background(false)
        .index_cache_bytes(1 << 20)
        .ledger_cache_bytes(1 << 20)
        .import_memory_bytes(1 << 20)
        .quotas(quotas)
}

pub fn open(disk: &SimDisk, options: Options) -> Index {
    Index::open(DIR, options.disk(disk)).expect("the index opens")
}
