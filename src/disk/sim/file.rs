//! An open file of the simulated disk.

use std::io::{self, ErrorKind, SeekFrom};

use parking_lot::Mutex;

use super::content::{PAGE_LEN, pages_of};
use super::{Fault, Random, SimDisk, failure, mix};

/// An open file. It stays readable when its name is gone.
#[derive(Debug)]
pub(crate) struct SimFile {
    disk: SimDisk,
    inode: u64,
    at: Mutex<u64>,
}

impl SimFile {
    pub(super) fn new(disk: SimDisk, inode: u64) -> Self {
        Self { disk, inode, at: Mutex::new(0) }
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.0.lock();
        state.check()?;
        state.content(self.inode).map(|content| content.len())
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change_whole(|state| state.content(self.inode).map(|content| content.set_len(len)))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.change(|state, fault| {
            let random = Random(mix(state.seed, state.changes, self.inode));
            let content = state.content(self.inode)?;
            match fault {
                Some(Fault::Error | Fault::Gone) => {
                    content.sync_in_part(random);
                    state.has_lost = true;
                    Err(failure())
                }
                Some(Fault::Short) | None => {
                    content.sync();
                    Ok(())
                }
            }
        })
    }

    /// Reads at most what there is.
    pub(super) fn read_at(&self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.0.lock();
        state.check()?;
        state.reads += 1;
        if state.read_fault == Some(state.reads) {
            return Err(failure());
        }
        if let Some(noted) = &mut state.noted_reads {
            noted.extend(pages_of(offset, to.len()).map(|page| (self.inode, page)));
        }
        state.content(self.inode).map(|content| content.read(offset, to))
    }

    pub(crate) fn read_exact_at(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        if self.read_at(offset, to)? == to.len() { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// Writes some of the bytes, all if nothing is wrong.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.disk.change(|state, fault| {
            let free = state.limit.map(|limit| limit.saturating_sub(state.used_pages()));
            let content = state.content(self.inode)?;
            let mut len = match fault {
                Some(Fault::Error | Fault::Gone) => return Err(failure()),
                Some(Fault::Short) => bytes.len().div_ceil(2),
                None => bytes.len(),
            };
            while free.is_some_and(|free| content.missing_pages(offset, len) > free) {
                len = len.saturating_sub(PAGE_LEN);
            }
            if len == 0 && !bytes.is_empty() {
                return Err(ErrorKind::StorageFull.into());
            }
            content.write(offset, bytes.get(..len).unwrap_or_default());
            Ok(len)
        })
    }

    pub(crate) fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            done += self.write_at(offset + done as u64, rest)?;
        }
        Ok(())
    }

    pub(crate) fn read(&self, to: &mut [u8]) -> io::Result<usize> {
        let mut at = self.at.lock();
        let read = self.read_at(*at, to)?;
        *at += read as u64;
        Ok(read)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut at = self.at.lock();
        let written = self.write_at(*at, bytes)?;
        *at += written as u64;
        Ok(written)
    }

    pub(crate) fn seek(&self, to: SeekFrom) -> io::Result<u64> {
        let mut at = self.at.lock();
        let next = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(by) => self.len()?.checked_add_signed(by),
            SeekFrom::Current(by) => at.checked_add_signed(by),
        };
        *at = next.ok_or(ErrorKind::InvalidInput)?;
        Ok(*at)
    }
}
