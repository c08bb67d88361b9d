//! Bulk writes and reads that pass the page cache by.
//!
//! A cache that holds what was written once pushes out what lookups read, and copying into it costs more than building
//! a segment. Where a file system cannot do it, the same bytes go the usual way.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use memmap2::MmapMut;

use crate::words::{Error, Result};

/// Direct transfers begin and end at multiples of this, in the file as in memory.
const ALIGNMENT: usize = 4096;
/// Bytes of one transfer: long enough for a disk, short enough to share it with lookups.
const TRANSFER_LEN: usize = 4 << 20;

/// Zeroed memory that direct transfers can use.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: MmapMut,
    len: usize,
}

impl Buffer {
    /// Memory for `len` bytes.
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        let failed = Error::io("get memory for", Path::new("a buffer"));
        let memory = MmapMut::map_anon(len.next_multiple_of(ALIGNMENT).max(ALIGNMENT)).map_err(failed)?;
        #[cfg(target_os = "linux")]
        if len >= 2 << 20
            && let Err(error) = memory.advise(memmap2::Advice::HugePage)
        {
            tracing::debug!(%error, "no huge pages for a buffer");
        }
        Ok(Self { memory, len })
    }

    /// The bytes, and zeros up to the next multiple of the alignment.
    fn padded(&self) -> &[u8] {
        &self.memory
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.len).unwrap_or_default()
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(..self.len).unwrap_or_default()
    }
}

/// Writes a new file and makes its bytes durable; its name is not.
pub(crate) fn write_synced(path: &Path, bytes: &Buffer) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = open(&mut options, path, "create")?;
    for part in bytes.padded().chunks(TRANSFER_LEN) {
        file.write_all(part).map_err(Error::io("write", path))?;
    }
    file.set_len(bytes.len as u64).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// A file to which whole buffers are appended, for its writer alone: nothing is synced.
#[derive(Debug)]
pub(crate) struct Spill {
    file: File,
}

impl Spill {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Self { file: open(&mut options, path, "create")? })
    }

    /// Appends a buffer, whose length is a multiple of the alignment.
    pub(crate) fn append(&mut self, path: &Path, bytes: &Buffer) -> Result<()> {
        self.file.write_all(bytes.padded()).map_err(Error::io("write", path))
    }

    /// Begins to read at the first byte.
    pub(crate) fn rewind(&mut self, path: &Path) -> Result<()> {
        std::io::Seek::rewind(&mut self.file).map_err(Error::io("read", path))
    }

    /// Reads the next bytes, as many as the buffer has.
    pub(crate) fn read(&mut self, path: &Path, to: &mut Buffer) -> Result<()> {
        self.file.read_exact(&mut to.memory).map_err(Error::io("read", path))
    }
}

/// Opens past the cache, or, where that is refused, as usual.
fn open(options: &mut OpenOptions, path: &Path, action: &'static str) -> Result<File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        match options.clone().custom_flags(direct).open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {}
            opened => return opened.map_err(Error::io(action, path)),
        }
    }
    options.open(path).map_err(Error::io(action, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(len: usize, seed: u8) -> Buffer {
        let mut buffer = Buffer::zeroed(len).unwrap();
        buffer.as_mut().iter_mut().zip(0_usize..).for_each(|(byte, i)| *byte = (i as u8).wrapping_mul(31) ^ seed);
        buffer
    }

    #[test]
    fn a_file_has_the_length_and_the_bytes_of_its_buffer() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, 4095, 4096, 4097, TRANSFER_LEN + 10] {
            let path = dir.path().join("file");
            write_synced(&path, &buffer(len, 7)).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), buffer(len, 7).as_ref());
        }
    }

    #[test]
    fn what_is_spilled_comes_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spill");
        let mut spill = Spill::create(&path).unwrap();
        (0..5).for_each(|i| spill.append(&path, &buffer(3 * ALIGNMENT, i)).unwrap());
        spill.rewind(&path).unwrap();
        let mut read = Buffer::zeroed(3 * ALIGNMENT).unwrap();
        for i in 0..5 {
            spill.read(&path, &mut read).unwrap();
            assert_eq!(read.as_ref(), buffer(3 * ALIGNMENT, i).as_ref());
        }
        assert!(matches!(spill.read(&path, &mut read), Err(Error::Io { .. })));
    }
}
