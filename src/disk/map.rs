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

/// The smallest page of any system.
const PAGE_LEN: usize = 4 << 10;

/// Bytes of one call: what Linux reads ahead by default.
const ASKED_AT_ONCE: usize = 128 << 10;

/// Pages of a part of a file: how many are in memory, and how many there are.
struct Pages {
    there: usize,
    all: usize,
}

/// A whole file, read-only, in memory: a map of it, or a copy.
#[derive(Debug)]
pub(crate) struct MappedFile {
    map: Mmap,
    is_copy: bool,
}

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
            File::Real(file) => {
                // SAFETY: the map is read-only and every read of it goes through `&[u8]`. That slice must not change
                // while it is borrowed: no code of this crate writes to a published file, and the directory's lock
                // keeps other instances of this crate out. Values read are checked before use and never trusted to
                // uphold memory safety, so even a foreign writer gives a wrong value and not an out-of-bounds access.
                let map = unsafe { Mmap::map(&file) };
                Ok(Self { map: map.map_err(Error::io("map", path))?, is_copy: false })
            }
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
        let map = memory.make_read_only().map_err(Error::io("get memory for", path))?;
        Ok(Self { map, is_copy: true })
    }

    /// Asks the kernel to read a part, without waiting for it. It is a hint: what is not read now is read when touched.
    ///
    /// Linux reads no more for one call than it would read ahead, and forgets the rest (`force_page_cache_ra`), so a
    /// large part is asked for in pieces.
    pub(crate) fn ask(&self, part: Range<usize>) {
        let end = part.end.min(self.map.len());
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

    /// All of the file will be read, from begin to end: in huge pages where the kernel can.
    pub(crate) fn expect_all(&self) {
        let whole = 0..self.map.len();
        self.advise(memmap2::Advice::Normal, whole.clone(), "a segment is not read ahead");
        self.expect_huge(whole);
    }

    /// A part will be populated, and stays: in huge pages where the kernel can. Random lines of a large map miss the TLB once
    /// each with small pages.
    ///
    /// Nothing is read ahead: the kernel marks a page where it would go on, and a process that meets the mark of another one
    /// begins again with small pages, 34 MB of them (Linux 6.18, `page_cache_async_ra`).
    pub(crate) fn expect_to_stay(&self, part: Range<usize>) {
        self.advise(memmap2::Advice::Random, part.clone(), "a segment is read ahead");
        self.expect_huge(part);
    }

    fn expect_huge(&self, part: Range<usize>) {
        #[cfg(target_os = "linux")]
        if part.len() >= HUGE_PAGE_LEN {
            self.advise(memmap2::Advice::HugePage, part, "no huge pages for a segment");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = part;
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
        if let Some(bytes) = self.map.get(part) {
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

    /// Lets go of a part: the next touch reads it from the disk. Not of copies, whose bytes are nowhere else.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn drop_pages(&self, path: &Path, part: Range<usize>) -> Result<()> {
        let end = part.end.min(self.map.len()) / PAGE_LEN * PAGE_LEN;
        self.let_go(path, part.start.next_multiple_of(PAGE_LEN)..end)
    }

    /// Lets go of what is in memory of each huge page that is there in part only: page by page, as the first lookups read
    /// it. The kernel keeps such pages as they came, so that the rest could not come as a huge one.
    pub(crate) fn let_go_of_parts(&self, path: &Path) {
        for start in (0..self.map.len()).step_by(HUGE_PAGE_LEN) {
            let huge = start..start + HUGE_PAGE_LEN;
            if self.is_there_in_part(huge.clone())
                && let Err(error) = self.let_go(path, huge)
            {
                tracing::debug!(%error, "a huge page of a segment stays in parts");
            }
        }
    }

    /// Is some of a huge page in memory and some not? No for one that ends behind the file: it cannot be huge.
    fn is_there_in_part(&self, huge: Range<usize>) -> bool {
        self.map.len() >= huge.end
            && self.pages_of(huge).is_some_and(|Pages { there, all }| there > 0 && there < all)
    }

    /// Is the page of this byte in memory? `None` where the system does not tell, and behind the file.
    pub(crate) fn is_there(&self, at: usize) -> Option<bool> {
        let start = at / PAGE_LEN * PAGE_LEN;
        self.pages_of(start..start + PAGE_LEN).map(|pages| pages.there > 0)
    }

    /// Counts the pages of a part that begins at one, and is no longer than a huge page.
    #[cfg(target_os = "linux")]
    fn pages_of(&self, part: Range<usize>) -> Option<Pages> {
        let page_len = rustix::param::page_size();
        let part = part.start / page_len * page_len..part.end.min(self.map.len());
        let bytes = self.map.get(part)?;
        let all = bytes.len().div_ceil(page_len);
        let mut pages = [0; HUGE_PAGE_LEN / PAGE_LEN + 1];
        if all == 0 || all > pages.len() {
            return None;
        }
        // SAFETY: the address and length are those of borrowed memory of this map, and the address is that of a page, since a
        // map begins at one. The kernel writes a byte for each page of it: `all`, for which there is room.
        let asked = unsafe { libc::mincore(bytes.as_ptr().cast_mut().cast(), bytes.len(), pages.as_mut_ptr()) };
        let there = pages.iter().take(all).filter(|page| **page & 1 == 1).count();
        (asked == 0).then_some(Pages { there, all })
    }

    #[cfg(not(target_os = "linux"))]
    const fn pages_of(&self, _: Range<usize>) -> Option<Pages> {
        None
    }

    /// Nothing is done to a copy.
    fn let_go(&self, path: &Path, part: Range<usize>) -> Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(length) = std::num::NonZeroU64::new(part.len() as u64).filter(|_| !self.is_copy) {
            let failed = Error::io("let go of", path);
            // SAFETY: this is a read-only map of a file and no copy, so that its pages are those of the file: who touches
            // one again reads the same bytes.
            let dropped = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, part.start, part.len())
            };
            dropped.map_err(failed)?;
            let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
            rustix::fs::fadvise(&file, part.start as u64, Some(length), rustix::fs::Advice::DontNeed)
                .map_err(|error| Error::io("let go of", path)(error.into()))?;
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (path, part);
        Ok(())
    }

    fn advise(&self, advice: memmap2::Advice, part: Range<usize>, refused: &'static str) {
        let end = part.end.min(self.map.len());
        if part.start < end
            && let Err(error) = self.map.advise_range(advice, part.start, end - part.start)
        {
            tracing::debug!(%error, "{refused}");
        }
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// The next bytes of a file that grows, as memory that is shared with the file: what is put here is in the page cache at
/// once, as if it was written, and costs no system call.
#[derive(Debug)]
pub(crate) struct MappedEnd {
    map: MmapMut,
    start: u64,
}

/// File systems where a store to reserved blocks never needs another block. One that copies on write may find the disk
/// full at a store, which ends the process; a write says so with an error.
#[cfg(target_os = "linux")]
const STORES_IN_PLACE: [rustix::fs::FsWord; 2] = [0xef53, 0x0102_1994]; // ext4, tmpfs

impl MappedEnd {
    /// Reserves `len` bytes of the disk from `start` on, as zeros, and maps them; the file is as long then. `None` where the
    /// disk is full, or the system has no way to reserve: write instead.
    pub(crate) fn reserve(file: &super::File, start: u64, len: usize) -> Option<Self> {
        match file {
            super::File::Real(file) => Self::reserve_in(file, start, len),
            // A simulated disk sees writes only.
            #[cfg(feature = "internals")]
            super::File::Sim(_) => None,
        }
    }

    fn reserve_in(file: &std::fs::File, start: u64, len: usize) -> Option<Self> {
        #[cfg(target_os = "linux")]
        {
            let system = rustix::fs::fstatfs(file).ok()?;
            if !STORES_IN_PLACE.contains(&system.f_type) {
                return None;
            }
            let reserved = rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), start, len as u64);
            let refused = |error: std::io::Error| tracing::debug!(%error, "no room is reserved ahead of a file");
            reserved.map_err(|error| refused(error.into())).ok()?;
            // SAFETY: no reference to the map leaves this type, and nothing is read through it: whoever owns it may write
            // to the file too. The file is not cut while the map is there: whoever owns both drops the map
            // first. The directory's lock keeps other instances of this crate out; somebody else who writes there
            // changes bytes that this process never reads through the map, and somebody else who truncates the file
            // ends the process with SIGBUS, as with [`MappedFile`]. The blocks are reserved, so that a store finds room.
            let map = unsafe { memmap2::MmapOptions::new().offset(start).len(len).map_mut(file) };
            map.map_err(refused).ok().map(|map| Self { map, start })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (file, start, len);
            None
        }
    }

    /// Are `len` bytes at an offset of the file inside?
    pub(crate) fn has_room(&self, at: u64, len: usize) -> bool {
        let from = at.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        from.and_then(|from| from.checked_add(len)).is_some_and(|end| end <= self.map.len())
    }

    /// Puts bytes at an offset of the file; `false`, and nothing is put, if not all of them are inside.
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) -> bool {
        let from = at.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let to = from.and_then(|from| self.map.get_mut(from..from.checked_add(bytes.len())?));
        to.map(|to| to.copy_from_slice(bytes)).is_some()
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
            copy.let_go(&path, 0..4_096).unwrap();
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
            map.let_go_of_parts(&path);
            map.expect_random(part.clone());
            map.ask(part.clone());
            map.expect_to_stay(part.clone());
            map.expect_all();
            map.populate(part.clone());
            map.lock(part);
            assert!(map.as_ref() == bytes);
        }
        #[cfg(target_os = "linux")]
        assert!(map.lock(0..100), "a page can be locked by anybody");
        assert!(!map.lock(5_000..usize::MAX));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_huge_page_of_which_a_part_is_there_is_let_go_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![7; 3 * HUGE_PAGE_LEN + 5_000]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        let map = MappedFile::open_sparse(&Disk::Real, &path).unwrap();
        map.expect_random(0..usize::MAX);
        let huge = |number: usize| number * HUGE_PAGE_LEN..(number + 1) * HUGE_PAGE_LEN;
        map.let_go(&path, 0..3 * HUGE_PAGE_LEN).unwrap();
        map.populate(huge(1));
        let _ = std::hint::black_box(map.as_ref()[2 * HUGE_PAGE_LEN + 9_000]);
        // A file system in memory keeps all pages, whatever it is told.
        let all: Vec<_> = (0..4).map(|number| map.is_there_in_part(huge(number))).collect();
        assert!(all == [false, false, true, false] || all == [false; 4], "{all:?}");
        map.let_go_of_parts(&path);
        assert!((0..4).all(|number| !map.is_there_in_part(huge(number))));
        assert!(map.as_ref().iter().all(|byte| *byte == 7));
    }

    /// Bytes of a map that are in huge pages of the page cache.
    #[cfg(target_os = "linux")]
    fn huge_bytes(map: &MappedFile) -> usize {
        let start = format!("{:x}-", map.as_ref().as_ptr().addr());
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let of_map = maps.lines().skip_while(|line| !line.starts_with(&start));
        let field = of_map.filter_map(|line| line.strip_prefix("FilePmdMapped:")).next();
        field.map_or(0, |field| field.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_another_map_read_ahead_of_does_not_come_in_small_pages() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let whole = 0..16 * HUGE_PAGE_LEN;
        std::fs::write(&path, vec![7; whole.len()]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        let read = || {
            let map = MappedFile::open_sparse(&Disk::Real, &path).unwrap();
            map.expect_to_stay(whole.clone());
            map.populate(whole.clone());
            huge_bytes(&map)
        };
        let forget = || MappedFile::open_sparse(&Disk::Real, &path).unwrap().let_go(&path, whole.clone()).unwrap();
        forget();
        let alone = read();
        // As who reads a file from its begin, and stops early.
        forget();
        MappedFile::open(&Disk::Real, &path).unwrap().populate(0..HUGE_PAGE_LEN);
        let behind_another = read();
        // Where the kernel has no huge pages for files, both are none; where memory is scarce, some are missing.
        assert!(behind_another >= alone / 2, "{behind_another} of {alone}");
    }

    #[test]
    fn what_is_put_at_the_end_of_a_file_is_in_it_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [7; 100]).unwrap();
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let Some(mut end) = MappedEnd::reserve_in(&file, 100, 5_000) else {
            assert_eq!(std::fs::read(&path).unwrap(), [7; 100], "nothing changes where nothing can be reserved");
            return;
        };
        assert!(end.put(100, &[1; 4_000]) && end.put(4_100, &[2; 1_000]));
        assert!(!end.put(99, &[3]) && !end.put(5_099, &[3; 2]) && !end.put(u64::MAX, &[3]));
        let expected = [&[7; 100][..], &[1; 4_000], &[2; 1_000]].concat();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        // It stays when the map goes, and the next part begins inside a page.
        drop(end);
        let mut end = MappedEnd::reserve_in(&file, 5_100, 10).unwrap();
        assert!(end.put(5_105, &[4; 5]));
        assert_eq!(std::fs::read(&path).unwrap(), [&expected[..], &[0; 5], &[4; 5]].concat());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_cannot_be_reserved_is_not_mapped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, []).unwrap();
        let read_only = std::fs::File::open(&path).unwrap();
        assert!(MappedEnd::reserve_in(&read_only, 0, 10).is_none());
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        assert!(MappedEnd::reserve_in(&file, i64::MAX as u64 - 5_000, 4_000).is_none(), "no disk is as large");
        assert!(std::fs::read(&path).unwrap().is_empty());
    }
}
