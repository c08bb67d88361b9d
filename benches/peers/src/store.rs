//! What a contestant is.

use std::error::Error;
use std::path::PathBuf;

use unlisted::PhoneHash;

use crate::population::Row;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Where a contestant works, and on how much.
#[derive(Debug, Clone)]
pub struct Place {
    pub dir: PathBuf,
    pub listings: u64,
}

impl Place {
    /// Memory for the cache of a store that keeps one: room for everything, with what B-trees and blocks add, because a
    /// lookup that waits for the disk would say nothing about the store.
    pub fn cache_bytes(&self) -> u64 {
        (self.listings * 80).clamp(256 << 20, 14 << 30)
    }
}

/// What a contestant loads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Rows in memory, sorted by key; sorting them is not timed.
    Sorted,
    /// Rows in memory in no order.
    Unsorted,
    /// It makes its rows itself, unsorted, and what that takes is timed.
    Itself,
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// The entry or nothing.
    Exact,
    /// Maybe, or no.
    Maybe,
}

/// A store under measurement.
pub trait Store: Sized + Sync {
    /// How the contestant is called.
    const NAME: &'static str;
    const SOURCE: Source;
    /// Is it a folder on the disk, or memory that goes with the process?
    const ON_DISK: bool;
    const ANSWERS: Answers = Answers::Exact;
    /// Threads that load.
    const LOAD_THREADS: u64 = 1;
    /// Single questions of which the median is taken.
    const SINGLES: u64 = 20_000;

    /// What one question is, made ready outside the clock.
    type Batch: Sync;
    type Reader<'a>: Reader<Batch = Self::Batch> + Send
    where
        Self: 'a;

    /// The version of the library.
    fn version() -> String;
    /// Makes the store. What is on disk is complete when this returns; the caller syncs it.
    fn load(place: &Place, rows: &[Row]) -> Result<Self>;
    /// Opens what a process before this one loaded.
    fn open(place: &Place) -> Result<Self>;
    fn prepare(&self, hashes: &[PhoneHash]) -> Self::Batch;
    /// What a thread reads with.
    fn reader(&self) -> Result<Self::Reader<'_>>;
    /// Bytes it takes in memory, for a store that is not on disk.
    fn memory_bytes(&self) -> u64 {
        0
    }
}

/// One thread's way into a store.
pub trait Reader {
    type Batch;

    /// Touches everything once.
    fn warm(&mut self) -> Result<()>;
    /// How many of the keys are found and may be.
    fn probe(&mut self, batch: &Self::Batch) -> Result<u64>;
}
