//! Memory-mapped files: the only place that maps one.

#![expect(unsafe_code, reason = "mapping a file is unsafe by nature; the argument is at the call")]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::words::{Error, Result};

/// A whole file, read-only, in memory.
#[derive(Debug)]
pub(crate) struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file.
    ///
    /// The directory is locked by this process, and nothing in it writes to a published segment: it is only
    /// replaced by another file and unlinked, which leaves the mapping whole. Somebody else who writes into
    /// the file changes what is read, and page checksums only cover a page when it is first touched; somebody
    /// else who truncates it ends the process with SIGBUS. `docs/THREAT-MODEL.md` says so.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        // SAFETY: the map is read-only and every read of it goes through `&[u8]`. That slice must not change
        // while it is borrowed: no code of this crate writes to a published file, and the directory's lock
        // keeps other instances of this crate out. Values read are checked before use and never trusted to
        // uphold memory safety, so even a foreign writer gives a wrong value and not an out-of-bounds access.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
        ask_for_huge_pages(&map);
        Ok(Self(map))
    }
}

/// Random lines of a large map miss the TLB once each with small pages. Where the kernel cannot give huge ones it
/// refuses, and the map works as it is.
fn ask_for_huge_pages(map: &Mmap) {
    #[cfg(target_os = "linux")]
    if map.len() >= 2 << 20
        && let Err(error) = map.advise(memmap2::Advice::HugePage)
    {
        tracing::debug!(%error, "no huge pages for a segment");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = map;
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
        let map = MappedFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(map.as_ref(), [7; 10_000]);
        assert!(matches!(MappedFile::open(&path), Err(Error::Io { .. })));
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, []).unwrap();
        assert!(MappedFile::open(&path).is_ok_and(|map| map.as_ref().is_empty()));
    }
}
