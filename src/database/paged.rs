//! The file of a database: redb's pages, each with a checksum that is looked at whenever the page is read.
//!
//! redb keeps a checksum of every page in the page above it and does not look at it when it reads the page, only in a walk over
//! the whole file. With these, an open needs no walk, and a page that changes while the file is open is found too.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use redb::StorageBackend;
use xxhash_rust::xxh3::xxh3_64;

use super::sums::{GROUP_PAGES, MAGIC, PAGE_LEN, Sums, file_len, page_sum, pages_in, place};
use crate::disk::File;
use crate::words::Damage;

/// What redb keeps in its first page and writes over. Its checksum follows it in the same sector, so that a write has
/// either both or neither.
const HEADER_LEN: usize = 320;

/// A damaged page, on its way through redb.
#[derive(Debug)]
struct DamagedPage {
    offset: u64,
    what: Damage,
}

impl fmt::Display for DamagedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damage at byte {}: {}", self.offset, self.what)
    }
}

impl std::error::Error for DamagedPage {}

/// The pages of a database: a handle that redb has, and one for who asks about them. The lock of the directory keeps others
/// out, so it has none for ranges.
#[derive(Debug, Clone)]
pub(super) struct Paged(Arc<Pages>);

#[derive(Debug)]
struct Pages {
    file: File,
    sums: RwLock<Sums>,
    /// Where the first damage was found, and what it is: redb tells it once, and then only that there was an error.
    damage: OnceLock<(u64, Damage)>,
}

/// The number of the first of some pages. What redb writes or reads besides its first page is whole pages.
fn number(offset: u64, len: usize) -> io::Result<u64> {
    let is_whole = offset.is_multiple_of(PAGE_LEN) && (len as u64).is_multiple_of(PAGE_LEN);
    if is_whole { Ok(offset / PAGE_LEN) } else { Err(io::Error::other("a page that is not whole")) }
}

/// As many of `len` bytes of pages, of which `page` is the first, as are beside each other in the file.
fn run_len(page: u64, len: usize) -> usize {
    let group = (GROUP_PAGES - page % GROUP_PAGES) * PAGE_LEN;
    usize::try_from(group).unwrap_or(usize::MAX).min(len)
}

impl Paged {
    /// What is in the file, or the beginning of an empty one.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let mut sums = Sums::default();
        if file.len()? == 0 {
            file.set_len(PAGE_LEN)?;
            sums.put(&file, 0, u64::from_le_bytes(MAGIC))?;
        }
        Ok(Self(Arc::new(Pages { file, sums: RwLock::new(sums), damage: OnceLock::new() })))
    }

    /// Where the first damage was found that a read met, and what it is.
    pub(super) fn damage(&self) -> Option<(u64, Damage)> {
        self.0.damage.get().cloned()
    }

    /// Reads every page that this process wrote or read so far, and returns how many were right. What nobody read since the
    /// open may be what a crash left of a page that no tree has.
    pub(super) fn verify(&self) -> io::Result<u64> {
        self.0.read_header(&mut [0; HEADER_LEN])?;
        let mut bytes = vec![0; PAGE_LEN as usize];
        let mut right = 1;
        for page in 1..pages_in(self.0.file.len()?) {
            // Nobody writes a page while this is held.
            let sums = self.0.sums.read();
            if sums.is_seen(page) {
                self.0.file.read_exact_at(place(page), &mut bytes)?;
                if sums.get(page) != Some(page_sum(page, &bytes)) {
                    return Err(self.0.damaged_page(page));
                }
                right += 1;
            }
        }
        Ok(right)
    }
}

impl Pages {
    /// The error of a damaged place, which is remembered.
    fn damaged(&self, offset: u64, what: Damage) -> io::Error {
        let _ = self.damage.set((offset, what.clone()));
        io::Error::new(io::ErrorKind::InvalidData, DamagedPage { offset, what })
    }

    fn damaged_page(&self, page: u64) -> io::Error {
        self.damaged(place(page), Damage::Checksum { of: "a page of the database" })
    }

    /// What redb keeps in its first page, or the beginning of it.
    fn read_header(&self, to: &mut [u8]) -> io::Result<()> {
        let mut bytes = [0; HEADER_LEN + 8];
        self.file.read_exact_at(place(0), &mut bytes)?;
        let (header, sum) = bytes.split_at(HEADER_LEN);
        if xxh3_64(header).to_le_bytes() != sum {
            return Err(self.damaged(place(0), Damage::Checksum { of: "the header of the database" }));
        }
        let asked = header.get(..to.len()).ok_or(io::ErrorKind::InvalidInput)?;
        to.copy_from_slice(asked);
        Ok(())
    }

    fn write_header(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() != HEADER_LEN {
            return Err(io::Error::other("a header of another length"));
        }
        let summed = [bytes, &xxh3_64(bytes).to_le_bytes()].concat();
        self.file.write_all_at(place(0), &summed)
    }

    /// The checksum of a page, read from the file the first time.
    fn sum(&self, page: u64) -> io::Result<u64> {
        if let Some(sum) = self.sums.read().get(page) {
            return Ok(sum);
        }
        self.sums.write().read(&self.file, page)
    }

    /// Looks at the checksum of a page that was read.
    fn check(&self, page: u64, bytes: &[u8]) -> io::Result<()> {
        if self.sum(page)? != page_sum(page, bytes) {
            return Err(self.damaged_page(page));
        }
        if !self.sums.read().is_seen(page) {
            self.sums.write().see(page);
        }
        Ok(())
    }

    /// Whole pages, each of which is checked.
    fn read_pages(&self, mut page: u64, to: &mut [u8]) -> io::Result<()> {
        let mut rest = to;
        while !rest.is_empty() {
            let (run, after) = rest.split_at_mut(run_len(page, rest.len()));
            self.file.read_exact_at(place(page), run)?;
            for bytes in run.chunks(PAGE_LEN as usize) {
                self.check(page, bytes)?;
                page += 1;
            }
            rest = after;
        }
        Ok(())
    }

    /// Whole pages. Their checksums are in the file after the next sync.
    fn write_pages(&self, mut page: u64, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (run, after) = rest.split_at(run_len(page, rest.len()));
            let first = page;
            let mut sums = self.sums.write();
            for bytes in run.chunks(PAGE_LEN as usize) {
                sums.put(&self.file, page, page_sum(page, bytes))?;
                page += 1;
            }
            if let Err(error) = self.file.write_all_at(place(first), run) {
                sums.unwritten(first, run.len() / PAGE_LEN as usize);
                return Err(error);
            }
            drop(sums);
            rest = after;
        }
        Ok(())
    }
}

impl StorageBackend for Paged {
    fn len(&self) -> io::Result<u64> {
        let len = self.0.file.len()?;
        let pages = pages_in(len);
        // The beginning of an empty one is a page of checksums alone.
        if len != file_len(pages) && len != PAGE_LEN {
            return Err(self.0.damaged(len, Damage::Length { expected: file_len(pages), found: len }));
        }
        Ok(pages * PAGE_LEN)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset == 0 { self.0.read_header(out) } else { self.0.read_pages(number(offset, out.len())?, out) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let pages = len.div_ceil(PAGE_LEN);
        let mut sums = self.0.sums.write();
        self.0.file.set_len(file_len(pages))?;
        sums.cut(pages);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sums.write().write(&self.0.file)?;
        self.0.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset == 0 { self.0.write_header(data) } else { self.0.write_pages(number(offset, data.len())?, data) }
    }

    fn close(&self) -> io::Result<()> {
        self.0.sums.write().write(&self.0.file)
    }
}

#[cfg(test)]
mod tests;
