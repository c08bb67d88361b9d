//! The contestants.

mod filters;
mod fjall;
mod lmdb;
mod memory;
mod redb;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
mod sqlite;
mod unlisted;

use crate::args::{Args, Phase};
use crate::child::{self, Figures};
use crate::store::{Result, Store};

/// The rows that all others are held against.
pub const RAW: &str = self::unlisted::Raw::NAME;
pub const PUBLIC: &str = self::unlisted::Public::NAME;
/// Built as a program of its own.
pub const ROCKSDB: &str = "rocksdb";

/// A contestant by name.
pub struct Contestant {
    pub name: &'static str,
    /// Has it a folder, which one process writes and another one reads?
    pub on_disk: bool,
    run: fn(&Args, Phase) -> Result<Figures>,
}

impl Contestant {
    const fn of<S: Store>() -> Self {
        Self { name: S::NAME, on_disk: S::ON_DISK, run: child::run::<S> }
    }

    /// Runs a phase in this process.
    pub fn run(&self, args: &Args, phase: Phase) -> Result<Figures> {
        (self.run)(args, phase)
    }
}

/// All of them, in no order that matters: a run shuffles them.
pub fn all() -> Vec<Contestant> {
    vec![
        Contestant::of::<self::unlisted::Raw>(),
        Contestant::of::<self::unlisted::Public>(),
        Contestant::of::<lmdb::Lmdb>(),
        Contestant::of::<redb::Redb>(),
        rocksdb_contestant(),
        Contestant::of::<fjall::Fjall>(),
        Contestant::of::<sqlite::Sqlite>(),
        Contestant::of::<memory::Hashbrown>(),
        Contestant::of::<filters::Filtered<filters::Bloomfilter>>(),
        Contestant::of::<filters::Filtered<filters::Fastbloom>>(),
        Contestant::of::<filters::Filtered<filters::BinaryFuse>>(),
    ]
}

#[cfg(feature = "rocksdb")]
const fn rocksdb_contestant() -> Contestant {
    Contestant::of::<rocksdb::RocksDb>()
}

#[cfg(not(feature = "rocksdb"))]
const fn rocksdb_contestant() -> Contestant {
    Contestant { name: ROCKSDB, on_disk: true, run: |_, _| Err("this program was built without RocksDB".into()) }
}
