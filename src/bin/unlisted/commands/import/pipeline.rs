//! One thread reads and cuts the file, one for each core parses and hashes, and blocks are added in file order.
//!
//! The order matters where two rows of one listing have one version: the first must win, whichever thread was
//! faster. It also makes rejects come out by line. Parsing and hashing a row takes several times as long as adding
//! it, so taking turns costs little.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use unlisted::{Importer, Listing};

use super::rejects::{Reject, Rejects, Summary};
use crate::csv_blocks::{Block, Blocks, RowReader};
use crate::csv_rows::Columns;
use crate::error::CliError;
use crate::input::Input;

/// Blocks that wait to be parsed. Together with those at work this bounds memory.
const WAITING: usize = 4;

pub struct Pipeline<'a> {
    columns: &'a Columns,
    importer: &'a Importer,
    turn: Mutex<Turn>,
    /// Somebody else's turn has come, or the import has failed.
    changed: Condvar,
}

struct Turn {
    /// Number of the block that is added next.
    next: u64,
    rejects: Rejects,
    failed: Option<CliError>,
    /// A thread left without passing its turn on.
    broken: bool,
}

impl<'a> Pipeline<'a> {
    pub fn new(columns: &'a Columns, importer: &'a Importer, rejects: Rejects) -> Self {
        let turn = Turn { next: 0, rejects, failed: None, broken: false };
        Self { columns, importer, turn: Mutex::new(turn), changed: Condvar::new() }
    }

    /// Adds every row to the import. Returns what was rejected.
    pub fn run(self, blocks: &mut Blocks<Input>) -> Result<Summary, CliError> {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let (sender, receiver) = sync_channel(WAITING);
        let receiver = Mutex::new(receiver);
        let (read, panicked) = thread::scope(|scope| {
            let receiver = &receiver;
            let pipeline = &self;
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(|| pipeline.work(receiver))).collect();
            let read = self.read(blocks, sender);
            // All are joined, so that no panic goes on by itself.
            let ended: Vec<bool> = handles.into_iter().map(|handle| handle.join().is_err()).collect();
            (read, ended.contains(&true))
        });
        let turn = self.turn.into_inner().unwrap_or_else(PoisonError::into_inner);
        if panicked || turn.broken {
            return Err(CliError::Panicked);
        }
        // A bad row comes before a fault further on in the file.
        if let Some(error) = turn.failed {
            return Err(error);
        }
        read?;
        turn.rejects.finish()
    }

    /// Reads until the file ends or the import fails.
    fn read(&self, blocks: &mut Blocks<Input>, sender: SyncSender<Block>) -> Result<(), CliError> {
        while let Some(block) = blocks.next_block()? {
            if self.lock().is_over() || sender.send(block).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Parses blocks until there are no more.
    fn work(&self, receiver: &Mutex<Receiver<Block>>) {
        let _guard = Leaving(self);
        let mut reader = RowReader::new();
        loop {
            let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            // Blocks are still taken after a failure, so that the reader is not stuck with a full channel.
            let Ok(block) = next else { return };
            if !self.lock().is_over() {
                let (rows, rejects) = self.parse(&mut reader, &block);
                self.add(block.number, &rows, rejects);
            }
        }
    }

    fn parse(&self, reader: &mut RowReader, block: &Block) -> (Vec<Listing>, Vec<Reject>) {
        let (mut rows, mut rejects) = (Vec::new(), Vec::new());
        let parsed: Result<(), std::convert::Infallible> = reader.rows(block, |row, place| {
            match self.columns.listing(row) {
                Ok(listing) => rows.push(listing),
                Err(flaw) => rejects.push(Reject { line: place.line(), flaw, row: row.clone() }),
            }
            Ok(())
        });
        let Ok(()) = parsed;
        (rows, rejects)
    }

    /// Adds a block when its turn has come.
    fn add(&self, number: u64, rows: &[Listing], rejects: Vec<Reject>) {
        let mut turn = self.lock();
        while turn.next != number && !turn.is_over() {
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        if turn.is_over() {
            return;
        }
        // Nobody else passes while it is this block's turn, and the reader may look whether it is over.
        drop(turn);
        let added = self.importer.add(rows).map_err(CliError::from);
        let mut turn = self.lock();
        let added = added.and_then(|()| rejects.into_iter().try_for_each(|reject| turn.rejects.add(reject)));
        turn.failed = added.err();
        turn.next += 1;
        drop(turn);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    fn is_over(&self) -> bool {
        self.failed.is_some() || self.broken
    }
}

/// Wakes the others if a thread leaves by a panic: its turn would never pass.
struct Leaving<'a, 'b>(&'a Pipeline<'b>);

impl Drop for Leaving<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().broken = true;
            self.0.changed.notify_all();
        }
    }
}
