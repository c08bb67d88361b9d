//! Files as memory: mapped or copied, and what is asked of the kernel about them. The only place that maps one.

#![expect(
    unsafe_code,
    reason = "mapping a file and locking memory are unsafe by nature; the arguments are at the calls"
)]

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use memmap2::{Mmap, MmapMut};

use super::{Disk, File};
use crate::words::{Error, Result};

/// Memory from which on huge pages are asked for: one of them.
const HUGE_PAGE_LEN: usize = 2 << 20;

/// Bytes of one call: what Linux reads ahead by default.
const ASKED_AT_ONCE: usize = 128 << 10;

/// A whole file, read-only, in memory: a map of it, or a copy.
#[derive(Debug)]
pub(crate) struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file that will be read as a whole.
    ///
    /// The directory is locked by this process, and nothing in it writes to a published segment: it is only
    /// replaced by another file and unlinked, which leaves the mapping whole. Somebody else who writes into
    /// the file changes what is read, and page checksums only cover a page when it is first touched; somebody
    /// else who truncates it ends the process with SIGBUS. `docs/THREAT-MODEL.md` says so.
    pub(crate) fn open(disk: &Disk, path: &Path) -> Result<Self> {
        let map = Self::open_sparse(disk, path)?;
        map.expect_all();
        Ok(map)
    }

    /// [`MappedFile::open`] for a file of which little may be read: nothing is asked of the kernel yet. In a map that
    /// wants huge pages, every page that is not in memory costs a read of two megabytes.
    pub(crate) fn open_sparse(disk: &Disk, path: &Path) -> Result<Self> {
        match disk.open(path)? {
            // SAFETY: the map is read-only and every read of it goes through `&[u8]`. That slice must not change
            // while it is borrowed: no code of this crate writes to a published file, and the directory's lock
            // keeps other instances of this crate out. Values read are checked before use and never trusted to
            // uphold memory safety, so even a foreign writer gives a wrong value and not an out-of-bounds access.
            File::Real(file) => unsafe { Mmap::map(&file) }.map(Self).map_err(Error::io("map", path)),
            #[cfg(feature = "internals")]
            file @ File::Sim(_) => Self::copy_of(file, path),
        }
    }

    /// Copies a file into memory of its own, in huge pages where the kernel gives them. Nothing that happens to the
    /// file afterwards reaches the copy.
    pub(crate) fn copy(disk: &Disk, path: &Path) -> Result<Self> {
        Self::copy_of(disk.open(path)?, path)
    }

    fn copy_of(mut file: File, path: &Path) -> Result<Self> {
        let len = file.len().map_err(Error::io("ask the size of", path))?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let mut memory = MmapMut::map_anon(len).map_err(Error::io("get memory for", path))?;
        #[cfg(target_os = "linux")]
        if len >= HUGE_PAGE_LEN
            && let Err(error) = memory.advise(memmap2::Advice::HugePage)
        {
            tracing::debug!(%error, "no huge pages for the copy of a segment");
        }
        file.read_exact(&mut memory).map_err(Error::io("read", path))?;
        memory.make_read_only().map(Self).map_err(Error::io("get memory for", path))
    }

    /// Asks the kernel to read a part, without waiting for it. It is a hint: what is not read now is read when touched.
    ///
    /// Linux reads no more for one call than it would read ahead, and forgets the rest (`force_page_cache_ra`), so a
    /// large part is asked for in pieces.
    pub(crate) fn ask(&self, part: Range<usize>) {
        let end = part.end.min(self.0.len());
        for start in (part.start..end).step_by(ASKED_AT_ONCE) {
            let piece = start..end.min(start + ASKED_AT_ONCE);
            self.advise(memmap2::Advice::WillNeed, piece, "a part of a segment is not read ahead");
        }
    }

    /// Reads of this part will come one here, one there: a page that is missing is read alone.
    pub(crate) fn expect_random(&self, part: Range<usize>) {
        #[cfg(target_os = "linux")]
        if part.len() >= HUGE_PAGE_LEN {
            self.advise(memmap2::Advice::NoHugePage, part.clone(), "huge pages stay on for a segment");
        }
        self.advise(memmap2::Advice::Random, part, "a segment is read ahead");
    }

    /// All of the file will be read, and stays: in huge pages where the kernel can. Random lines of a large map miss
    /// the TLB once each with small pages.
    pub(crate) fn expect_all(&self) {
        self.expect_part(0..self.0.len());
    }

    /// [`MappedFile::expect_all`] of a part.
    pub(crate) fn expect_part(&self, part: Range<usize>) {
        self.advise(memmap2::Advice::Normal, part.clone(), "a segment is not read ahead");
        #[cfg(target_os = "linux")]
        if part.len() >= HUGE_PAGE_LEN {
            self.advise(memmap2::Advice::HugePage, part, "no huge pages for a segment");
        }
    }

    /// Reads a part and puts it into the page table, so that touching it costs nothing.
    pub(crate) fn populate(&self, part: Range<usize>) {
        #[cfg(target_os = "linux")]
        self.advise(memmap2::Advice::PopulateRead, part, "a part of a segment is not populated");
        #[cfg(not(target_os = "linux"))]
        self.advise(memmap2::Advice::WillNeed, part, "a part of a segment is not read ahead");
    }

    /// Keeps a part in memory as long as it is mapped. `false` where the system does not let this process.
    pub(crate) fn lock(&self, part: Range<usize>) -> bool {
        #[cfg(target_os = "linux")]
        if let Some(bytes) = self.0.get(part) {
            // SAFETY: the range is borrowed memory of this map, and locking changes neither its contents nor its
            // protection; the kernel undoes it when the map goes.
            return match unsafe { rustix::mm::mlock(bytes.as_ptr().cast_mut().cast(), bytes.len()) } {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(%error, "a part of a segment is in memory but not locked");
                    false
                }
            };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = part;
        false
    }

    fn advise(&self, advice: memmap2::Advice, part: Range<usize>, refused: &'static str) {
        let end = part.end.min(self.0.len());
        if part.start < end
            && let Err(error) = self.0.advise_range(advice, part.start, end - part.start)
        {
            tracing::debug!(%error, "{refused}");
        }
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_outlives_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [7; 10_000]).unwrap();
        let map = MappedFile::open(&Disk::Real, &path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(map.as_ref(), [7; 10_000]);
        assert!(matches!(MappedFile::open(&Disk::Real, &path), Err(Error::Io { .. })));
        assert!(matches!(MappedFile::copy(&Disk::Real, &path), Err(Error::Io { .. })));
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, []).unwrap();
        assert!(MappedFile::open(&Disk::Real, &path).is_ok_and(|map| map.as_ref().is_empty()));
        assert!(MappedFile::copy(&Disk::Real, &path).is_ok_and(|map| map.as_ref().is_empty()));
    }

    #[test]
    fn a_copy_does_not_change_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for len in [5_000, HUGE_PAGE_LEN + 5] {
            std::fs::write(&path, vec![7; len]).unwrap();
            let copy = MappedFile::copy(&Disk::Real, &path).unwrap();
            std::fs::write(&path, [8; 3]).unwrap();
            assert!(copy.as_ref().len() == len && copy.as_ref().iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn nothing_that_is_asked_of_the_kernel_changes_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..2 * HUGE_PAGE_LEN + 777).map(|i| ((i * 7) >> 3) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let map = MappedFile::open_sparse(&Disk::Real, &path).unwrap();
        let parts = [0..bytes.len(), 0..0, 4_000..5_000, 4_096..HUGE_PAGE_LEN + 9, 5_000..usize::MAX];
        for part in parts {
            map.expect_random(part.clone());
            map.ask(part.clone());
            map.expect_part(part.clone());
            map.populate(part.clone());
            map.lock(part);
            assert!(map.as_ref() == bytes);
        }
        #[cfg(target_os = "linux")]
        assert!(map.lock(0..100), "a page can be locked by anybody");
        assert!(!map.lock(5_000..usize::MAX));
    }
}
