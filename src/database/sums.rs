//! The checksums of a database's pages, in memory, and where they and the pages are in its file.
//!
//! Pages come in groups of 512, and before each group is a page with their checksums, so that one sync makes both durable.
//! What a crash leaves of such a page is right for every page that was durable: a page in use is never written over, and a
//! sector of it that is old or new says the same of what did not change.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::disk::File;

/// Bytes of a page of redb's, and of one with checksums.
pub(super) const PAGE_LEN: u64 = 4_096;
/// Pages whose checksums are in one page.
pub(super) const GROUP_PAGES: u64 = PAGE_LEN / 8;
/// The place of the first page's checksum; that page has its own (`paged.rs`). No redb file begins like it.
pub(super) const MAGIC: [u8; 8] = *b"unl\x1a\x0apg1";

/// The checksum of a page that is there. Zero means that it was never written.
pub(super) fn page_sum(page: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, page).max(1)
}

/// Where a page begins in the file.
pub(super) fn place(page: u64) -> u64 {
    (page + page / GROUP_PAGES + 1).saturating_mul(PAGE_LEN)
}

/// Where the checksums of a group begin in the file.
fn place_of_sums(group: u64) -> u64 {
    group.saturating_mul((GROUP_PAGES + 1) * PAGE_LEN)
}

/// Bytes of a file with so many pages.
pub(super) fn file_len(pages: u64) -> u64 {
    (pages + pages.div_ceil(GROUP_PAGES)) * PAGE_LEN
}

/// Pages in a file of so many bytes, less what is not whole.
pub(super) fn pages_in(file_len: u64) -> u64 {
    let whole = file_len / PAGE_LEN;
    whole - whole.div_ceil(GROUP_PAGES + 1)
}

/// The checksums of a group, and which of its pages this process has written or found right.
#[derive(Debug)]
struct Group {
    sums: Box<[u64; GROUP_PAGES as usize]>,
    seen: Box<[bool; GROUP_PAGES as usize]>,
}

impl Group {
    fn read(file: &File, number: u64) -> io::Result<Self> {
        let mut bytes = vec![0; PAGE_LEN as usize];
        file.read_exact_at(place_of_sums(number), &mut bytes)?;
        let mut sums = Box::new([0; GROUP_PAGES as usize]);
        for (sum, bytes) in sums.iter_mut().zip(bytes.as_chunks().0) {
            *sum = u64::from_le_bytes(*bytes);
        }
        Ok(Self { sums, seen: Box::new([false; GROUP_PAGES as usize]) })
    }
}

/// The checksums that were read so far: 4 KiB for 2 MiB of pages.
#[derive(Debug, Default)]
pub(super) struct Sums {
    groups: Vec<Option<Group>>,
    /// Groups that are not in the file as they are here.
    changed: BTreeSet<u64>,
}

/// The number of a page's group, and its own within it.
fn split(page: u64) -> (u64, usize) {
    let within = page % GROUP_PAGES;
    (page / GROUP_PAGES, usize::try_from(within).unwrap_or_default())
}

impl Sums {
    fn group(&self, number: u64) -> Option<&Group> {
        self.groups.get(usize::try_from(number).ok()?)?.as_ref()
    }

    fn group_mut(&mut self, number: u64) -> Option<&mut Group> {
        self.groups.get_mut(usize::try_from(number).ok()?)?.as_mut()
    }

    /// The checksum of a page, `None` if its group was not read yet.
    pub(super) fn get(&self, page: u64) -> Option<u64> {
        let (group, within) = split(page);
        self.group(group)?.sums.get(within).copied()
    }

    /// Was it written or found right by this process?
    pub(super) fn is_seen(&self, page: u64) -> bool {
        let (group, within) = split(page);
        self.group(group).and_then(|group| group.seen.get(within)).is_some_and(|seen| *seen)
    }

    /// The group of a page, read from the file the first time. Nothing is kept for one that the file does not have.
    fn load(&mut self, file: &File, number: u64) -> io::Result<&mut Group> {
        if self.group(number).is_none() {
            let group = Group::read(file, number)?;
            let index = usize::try_from(number).map_err(|_| io::ErrorKind::OutOfMemory)?;
            if self.groups.len() <= index {
                self.groups.resize_with(index + 1, || None);
            }
            if let Some(slot) = self.groups.get_mut(index) {
                *slot = Some(group);
            }
        }
        self.group_mut(number).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// As [`Sums::get`], reading what is missing.
    pub(super) fn read(&mut self, file: &File, page: u64) -> io::Result<u64> {
        let (group, within) = split(page);
        Ok(self.load(file, group)?.sums.get(within).copied().unwrap_or_default())
    }

    /// Notes that a page was found right.
    pub(super) fn see(&mut self, page: u64) {
        let (group, within) = split(page);
        if let Some(seen) = self.group_mut(group).and_then(|group| group.seen.get_mut(within)) {
            *seen = true;
        }
    }

    /// Notes the checksum of a page that is about to be written.
    pub(super) fn put(&mut self, file: &File, page: u64, sum: u64) -> io::Result<()> {
        let (number, within) = split(page);
        let group = self.load(file, number)?;
        if let (Some(kept), Some(seen)) = (group.sums.get_mut(within), group.seen.get_mut(within)) {
            (*kept, *seen) = (sum, true);
        }
        self.changed.insert(number);
        Ok(())
    }

    /// Writes what changed. What could not be written stays to be.
    pub(super) fn write(&mut self, file: &File) -> io::Result<()> {
        while let Some(number) = self.changed.first().copied() {
            if let Some(group) = self.group(number) {
                let bytes: Vec<u8> = group.sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
                file.write_all_at(place_of_sums(number), &bytes)?;
            }
            self.changed.remove(&number);
        }
        Ok(())
    }

    /// Forgets pages of a group: they are as if they were never written.
    fn forget(&mut self, number: u64, within: Range<usize>) {
        let Some(group) = self.group_mut(number) else { return };
        if let (Some(sums), Some(seen)) = (group.sums.get_mut(within.clone()), group.seen.get_mut(within)) {
            sums.fill(0);
            seen.fill(false);
            self.changed.insert(number);
        }
    }

    /// Forgets pages of one group, which could not be written.
    pub(super) fn unwritten(&mut self, first: u64, count: usize) {
        let (number, within) = split(first);
        self.forget(number, within..within + count);
    }

    /// Forgets the pages that a file of so many does not have. If it grows again, what is there is zeros.
    pub(super) fn cut(&mut self, pages: u64) {
        let (last, within) = split(pages);
        if within > 0 {
            self.forget(last, within..GROUP_PAGES as usize);
        }
        let groups = pages.div_ceil(GROUP_PAGES);
        self.groups.truncate(usize::try_from(groups).unwrap_or(usize::MAX));
        self.changed.retain(|number| *number < groups);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_far_behind_the_end_is_an_error_and_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let file = crate::disk::Disk::Real.open_or_create(&dir.path().join("db")).unwrap();
        file.set_len(file_len(10)).unwrap();
        let mut sums = Sums::default();
        assert_eq!(sums.read(&file, 3).unwrap(), 0);
        for page in [GROUP_PAGES, 1 << 40, 1 << 50] {
            assert!(sums.read(&file, page).is_err() && sums.put(&file, page, 1).is_err());
        }
        assert_eq!(sums.groups.len(), 1);
    }

    #[test]
    fn lengths_and_places_agree() {
        for pages in (0..2_000).chain([1 << 20, (1 << 40) + 3]) {
            assert_eq!(pages_in(file_len(pages)), pages);
            assert!(pages == 0 || pages_in(file_len(pages) - 1) == pages - 1, "a cut takes a page");
            assert!(place(pages) >= file_len(pages), "the next page is behind");
            assert!(pages == 0 || place(pages - 1) + PAGE_LEN == file_len(pages), "the last page is the end");
        }
        assert_eq!((place(0), place(511), place(512)), (4_096, 512 * 4_096, 514 * 4_096));
        assert_eq!((place_of_sums(0), place_of_sums(1)), (0, 513 * 4_096));
        assert!((0..10_000).all(|bytes| file_len(pages_in(bytes)) <= bytes));
    }
}
