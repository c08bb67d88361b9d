//! Blocks on their way to temporary files, which threads of their own write: who adds rows does not wait for the disk
//! before it is a good deal behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::arena::{Arena, Slot};
use crate::disk::{Buffer, Disk, Spill, SpillReader, transfer_len};
use crate::words::{Damage, Error, Result};

/// Files that are written at the same time, so that the disk always has a transfer to do.
const FILES: usize = 2;
/// Bytes of one transfer.
const TRANSFER_LEN: usize = 4 << 20;

/// A block on its way.
#[derive(Debug)]
struct Job {
    ticket: usize,
    slot: Slot,
    len: usize,
}

/// Where a block is. The disk may change it: the checksum stays in memory.
#[derive(Debug, Clone, Copy)]
struct Written {
    file: usize,
    offset: u64,
    len: usize,
    sum: u64,
}

/// The temporary files of an import while they are written.
#[derive(Debug)]
pub(super) struct Spiller {
    disk: Disk,
    folder: PathBuf,
    arena: Arc<Arena>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sent: usize,
    sender: Option<Sender<Job>>,
    writers: Vec<JoinHandle<Vec<(usize, Written)>>>,
    written: Arc<Vec<Option<Written>>>,
}

impl Spiller {
    pub(super) fn new(disk: &Disk, folder: &Path, arena: Arc<Arena>) -> Self {
        Self { disk: disk.clone(), folder: folder.to_owned(), arena, state: Mutex::default() }
    }

    /// Sends the block of `len` bytes in a slot to a file. Returns the ticket by which it is read later.
    pub(super) fn send(&self, slot: Slot, len: usize) -> Result<usize> {
        let mut state = self.state.lock();
        if state.sender.is_none() {
            self.start(&mut state)?;
        }
        let ticket = state.sent;
        state.sent += 1;
        let sent = state.sender.as_ref().is_some_and(|sender| sender.send(Job { ticket, slot, len }).is_ok());
        drop(state);
        if sent { Ok(ticket) } else { self.arena.check().and(Err(stopped())) }
    }

    fn start(&self, state: &mut State) -> Result<()> {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..FILES {
            let (arena, receiver) = (Arc::clone(&self.arena), Arc::clone(&receiver));
            let (disk, path) = (self.disk.clone(), path_of(&self.folder, number));
            let work = move || Writer::run(number, (&disk, &path), &arena, &receiver);
            let writer = thread::Builder::new().name("unlisted-spill".to_owned()).spawn(work);
            state.writers.push(writer.map_err(Error::io("start a writer for", &self.folder))?);
        }
        state.sender = Some(sender);
        Ok(())
    }

    /// Waits until every block is in its file.
    pub(super) fn finish(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.sender = None;
        let mut all = vec![None; state.sent];
        for writer in state.writers.drain(..) {
            for (ticket, written) in writer.join().map_err(|_| stopped())? {
                if let Some(to) = all.get_mut(ticket) {
                    *to = Some(written);
                }
            }
        }
        self.arena.check()?;
        state.written = Arc::new(all);
        Ok(())
    }

    /// Reads of what [`Spiller::finish`] left in the files, for one thread.
    pub(super) fn reader(&self) -> Result<BlockReader> {
        let written = Arc::clone(&self.state.lock().written);
        let files = if written.is_empty() { 0 } else { FILES };
        let files: Result<Vec<_>> =
            (0..files).map(|number| SpillReader::open(&self.disk, &path_of(&self.folder, number))).collect();
        Ok(BlockReader { files: files?, written, buffer: Buffer::zeroed(self.arena.slot_len())? })
    }
}

impl Drop for Spiller {
    /// After an error nobody needs the rest. The files go with their folder, whose owner waits for this.
    fn drop(&mut self) {
        self.arena.fail(stopped());
        let state = self.state.get_mut();
        state.sender = None;
        for writer in state.writers.drain(..) {
            // One that panicked has nothing left to stop.
            let _ = writer.join();
        }
    }
}

/// One thread and its file.
struct Writer<'a> {
    file: Spill,
    arena: &'a Arena,
    buffer: Buffer,
    /// Where in the file the next transfer begins.
    offset: u64,
    written: Vec<(usize, Written)>,
}

impl Writer<'_> {
    /// Writes blocks until no more can come. A failure is told to the arena, so that nobody waits for slots.
    fn run(
        number: usize,
        (disk, path): (&Disk, &Path),
        arena: &Arena,
        jobs: &Mutex<Receiver<Job>>,
    ) -> Vec<(usize, Written)> {
        // A panic must not leave others waiting either.
        let _guard = Leaving(arena);
        let write = || -> Result<Vec<(usize, Written)>> {
            let (file, buffer) = (Spill::create(disk, path)?, Buffer::zeroed(TRANSFER_LEN)?);
            let mut writer = Writer { file, arena, buffer, offset: 0, written: Vec::new() };
            let most = TRANSFER_LEN / transfer_len(arena.slot_len());
            loop {
                let next = next_jobs(jobs, most);
                if next.is_empty() || arena.has_failed() {
                    return Ok(writer.written);
                }
                writer.transfer(number, next)?;
            }
        };
        write().unwrap_or_else(|error| {
            arena.fail(error);
            Vec::new()
        })
    }

    /// Writes some blocks at once. Their slots are free as soon as they are copied.
    fn transfer(&mut self, file: usize, jobs: Vec<Job>) -> Result<()> {
        let mut end = 0;
        for Job { ticket, slot, len } in jobs {
            let to = self.buffer.as_mut().get_mut(end..end + len).unwrap_or_default();
            let sum = self.arena.read(&slot, |bytes| {
                to.copy_from_slice(bytes.get(..len).unwrap_or_default());
                xxh3_64(to)
            })?;
            self.arena.give_back(slot);
            self.written.push((ticket, Written { file, offset: self.offset + end as u64, len, sum }));
            end += transfer_len(len);
        }
        self.file.append(&self.buffer, end)?;
        self.offset += end as u64;
        Ok(())
    }
}

/// Tells the arena if a writer leaves by a panic.
struct Leaving<'a>(&'a Arena);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(stopped());
        }
    }
}

/// As many jobs as there are, up to `most`; waits for the first. None at the end.
fn next_jobs(jobs: &Mutex<Receiver<Job>>, most: usize) -> Vec<Job> {
    let jobs = jobs.lock();
    let first = jobs.recv().ok();
    first.into_iter().chain(jobs.try_iter()).take(most).collect()
}

/// Reads blocks back.
#[derive(Debug)]
pub(super) struct BlockReader {
    files: Vec<SpillReader>,
    written: Arc<Vec<Option<Written>>>,
    buffer: Buffer,
}

impl BlockReader {
    /// The bytes of a block, as they were sent, handed to `work`. With `last` its room on the disk is given back.
    ///
    /// # Errors
    /// [`Error::Damaged`] if they are not as they were, or `work` finds that they are no block.
    pub(super) fn read(
        &mut self,
        ticket: usize,
        last: bool,
        work: impl FnOnce(&[u8]) -> Option<()>,
    ) -> Result<()> {
        let written = self.written.get(ticket).copied().flatten().ok_or_else(stopped)?;
        let Written { file, offset, len, sum } = written;
        let file = self.files.get_mut(file).ok_or_else(stopped)?;
        let bytes = file.read(offset, len, &mut self.buffer)?;
        if xxh3_64(bytes) != sum || work(bytes).is_none() {
            return Err(damaged(file.path(), offset));
        }
        if last {
            file.release(offset, len);
        }
        Ok(())
    }
}

fn path_of(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number}.part"))
}

pub(super) fn damaged(path: &Path, offset: u64) -> Error {
    let what = Damage::Checksum { of: "a temporary file of the import" };
    Error::Damaged { path: path.to_owned(), offset, what }
}

fn stopped() -> Error {
    Error::Panicked { during: "write temporary files" }
}
