//! Memory for packed blocks: slots of one length in huge pages, taken and given back, never grown.

use parking_lot::{Condvar, Mutex, RwLock};

use crate::disk::Buffer;
use crate::words::{Error, Result};

/// Bytes of a chunk of slots: a huge page.
const CHUNK_LEN: usize = 2 << 20;
/// Chunks that are filled side by side, so that threads that pack at once seldom want the same one.
const SIDE_BY_SIDE: usize = 8;

/// A place in the arena. Whoever has it is alone in using it.
#[derive(Debug)]
pub(super) struct Slot(usize);

/// A slot that was taken, and whether it may be kept: otherwise its block has to go to a file soon.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) slot: Slot,
    pub(super) keep: bool,
}

/// So many slots, of which some are kept back for blocks on their way to a file.
#[derive(Debug)]
pub(super) struct Arena {
    slot_len: usize,
    slots: usize,
    /// How many slots blocks may stay in.
    keep: usize,
    /// Made when their first slot is written.
    chunks: Vec<RwLock<Option<Buffer>>>,
    free: Mutex<Free>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct Free {
    slots: Vec<Slot>,
    /// Slots that were never used begin here.
    unused: usize,
    kept: usize,
    failure: Option<Failure>,
}

/// Why no slots come back any more.
#[derive(Debug)]
enum Failure {
    New(Error),
    Told(String),
}

impl Arena {
    /// Slots of `slot_len` bytes, at most a chunk, `slots` of them, of which blocks may stay in `keep`.
    pub(super) fn new(slot_len: usize, slots: usize, keep: usize) -> Self {
        let slot_len = slot_len.min(CHUNK_LEN);
        let groups = slots.div_ceil(CHUNK_LEN / slot_len * SIDE_BY_SIDE);
        let chunks = (0..groups * SIDE_BY_SIDE).map(|_| RwLock::new(None)).collect();
        Self { slot_len, slots, keep, chunks, free: Mutex::default(), given_back: Condvar::new() }
    }

    pub(super) const fn slot_len(&self) -> usize {
        self.slot_len
    }

    /// A free slot; waits until one is given back if there is none.
    ///
    /// # Errors
    /// What [`Arena::fail`] was told.
    pub(super) fn take(&self) -> Result<Taken> {
        let mut free = self.free.lock();
        loop {
            free.check()?;
            let keep = free.kept < self.keep;
            let slot = match free.slots.pop() {
                None if free.unused < self.slots => {
                    free.unused += 1;
                    Some(Slot(free.unused - 1))
                }
                slot => slot,
            };
            if let Some(slot) = slot {
                free.kept += usize::from(keep);
                return Ok(Taken { slot, keep });
            }
            self.given_back.wait(&mut free);
        }
    }

    /// Gives back the slot of a block that is in a file now.
    pub(super) fn give_back(&self, slot: Slot) {
        self.free.lock().slots.push(slot);
        self.given_back.notify_one();
    }

    /// Ends every wait for a slot, now and later.
    pub(super) fn fail(&self, error: Error) {
        self.free.lock().failure.get_or_insert(Failure::New(error));
        self.given_back.notify_all();
    }

    /// # Errors
    /// What [`Arena::fail`] was told, the first time as it was.
    pub(super) fn check(&self) -> Result<()> {
        self.free.lock().check()
    }

    /// For those who have nobody to tell of it.
    pub(super) fn has_failed(&self) -> bool {
        self.free.lock().failure.is_some()
    }

    pub(super) fn write<T>(&self, slot: &Slot, work: impl FnOnce(&mut [u8]) -> T) -> Result<T> {
        let (chunk, at) = self.place(slot);
        let Some(chunk) = self.chunks.get(chunk) else { return Err(missing()) };
        let mut chunk = chunk.write();
        let buffer = match &mut *chunk {
            Some(buffer) => buffer,
            none => none.insert(Buffer::zeroed(CHUNK_LEN)?),
        };
        buffer.as_mut().get_mut(at..at + self.slot_len).map(work).ok_or_else(missing)
    }

    pub(super) fn read<T>(&self, slot: &Slot, work: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let (chunk, at) = self.place(slot);
        let chunk = self.chunks.get(chunk).ok_or_else(missing)?.read();
        let bytes = chunk.as_ref().and_then(|buffer| buffer.as_ref().get(at..at + self.slot_len));
        bytes.map(work).ok_or_else(missing)
    }

    /// The chunk of a slot, and where in it the slot is.
    const fn place(&self, slot: &Slot) -> (usize, usize) {
        let of_chunk = CHUNK_LEN / self.slot_len;
        let (group, in_group) = (slot.0 / (of_chunk * SIDE_BY_SIDE), slot.0 % (of_chunk * SIDE_BY_SIDE));
        (group * SIDE_BY_SIDE + in_group % SIDE_BY_SIDE, in_group / SIDE_BY_SIDE * self.slot_len)
    }
}

impl Free {
    fn check(&mut self) -> Result<()> {
        let error = match self.failure.take() {
            None => return Ok(()),
            Some(Failure::New(error)) => {
                self.failure = Some(Failure::Told(error.with_causes()));
                error
            }
            Some(Failure::Told(cause)) => {
                self.failure = Some(Failure::Told(cause.clone()));
                Error::Poisoned { what: "import", cause }
            }
        };
        Err(error)
    }
}

/// Slots are made by the arena alone, so none is outside of it.
fn missing() -> Error {
    Error::Panicked { during: "find a block of rows" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_some_are_kept_back() {
        let arena = Arena::new(300 << 10, 200, 150);
        let taken: Vec<Taken> = (0..200).map(|_| arena.take().unwrap()).collect();
        assert_eq!(taken.iter().filter(|taken| taken.keep).count(), 150);
        for (i, taken) in (0_u8..).zip(&taken) {
            arena.write(&taken.slot, |bytes| bytes.fill(i)).unwrap();
        }
        for (i, taken) in (0_u8..).zip(&taken) {
            let whole = arena
                .read(&taken.slot, |bytes| bytes.len() == arena.slot_len() && bytes.iter().all(|byte| *byte == i));
            assert!(whole.unwrap());
        }
    }

    #[test]
    fn who_waits_gets_what_is_given_back_or_the_failure() {
        let arena = Arena::new(4096, 1, 0);
        let first = arena.take().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| arena.take());
            arena.give_back(first.slot);
            assert!(!waits.join().unwrap().unwrap().keep);
            let waits = scope.spawn(|| arena.take());
            arena.fail(Error::Panicked { during: "a test" });
            assert!(matches!(waits.join().unwrap(), Err(Error::Panicked { .. })));
        });
        assert!(matches!(arena.check(), Err(Error::Poisoned { what: "import", .. })));
    }
}
