//! Bulk writes and reads that pass the page cache by.
//!
//! A cache that holds what was written once pushes out what lookups read, and copying into it costs more than building
//! a segment. Where a file system cannot do it, the same bytes go the usual way.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use memmap2::MmapMut;

use super::{Disk, File};
use crate::words::{Error, Result};

/// Direct transfers begin and end at multiples of this, in the file as in memory.
const ALIGNMENT: usize = 4096;
/// Bytes of one transfer: long enough for a disk, short enough to share it with lookups.
const TRANSFER_LEN: usize = 4 << 20;

/// Memory that direct transfers can use, in huge pages where the kernel gives them.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: MmapMut,
    len: usize,
}

impl Buffer {
    /// Memory for `len` bytes, all zeros.
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

    /// Becomes `len` zeros. Memory that is there is used again: a page that is new costs more than its zeros.
    pub(crate) fn reset(&mut self, len: usize) -> Result<()> {
        let padded_len = len.next_multiple_of(ALIGNMENT);
        match self.memory.get_mut(..padded_len) {
            Some(bytes) => bytes.fill(0),
            // The next one is likely to be about as long, and not exactly.
            None => *self = Self::zeroed(len + len / 16)?,
        }
        self.len = len;
        Ok(())
    }

    /// Becomes what a file holds, past the page cache. Memory that is there is used again, and nothing of what was in it
    /// can pass for the file: of each page, the first byte is another one before the disk is asked.
    pub(super) fn read_back(&mut self, disk: &Disk, path: &Path) -> Result<()> {
        let mut file = disk.open_direct(path)?;
        let len = file.len().map_err(Error::io("ask the size of", path))?;
        // More than there is memory for is refused with it.
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(usize::MAX / 2);
        if len > self.memory.len() {
            *self = Self::zeroed(len)?;
        }
        self.len = len;
        let padded = self.memory.get_mut(..len.next_multiple_of(ALIGNMENT)).unwrap_or_default();
        padded.iter_mut().step_by(ALIGNMENT).for_each(|byte| *byte = !*byte);
        let mut rest = len;
        for part in padded.chunks_mut(TRANSFER_LEN) {
            fill_padded(&mut file, part, rest).map_err(Error::io("read", path))?;
            rest = rest.saturating_sub(part.len());
        }
        Ok(())
    }

    /// The first `len` bytes, and what is behind them up to the next multiple of the alignment: zeros, unless
    /// somebody wrote there.
    fn padded(&self, len: usize) -> &[u8] {
        self.memory.get(..len.next_multiple_of(ALIGNMENT)).unwrap_or(&self.memory)
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

/// Reads until `to` is full or has the `rest` of the file. Whole units are asked for, and none behind the end, where a
/// direct read would not begin at a whole unit.
fn fill_padded(file: &mut File, to: &mut [u8], rest: usize) -> io::Result<()> {
    let wanted = to.len().min(rest);
    let mut filled = 0;
    while filled < wanted {
        match file.read(to.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes a new file and makes its bytes durable; its name is not.
pub(super) fn write_synced(disk: &Disk, path: &Path, bytes: &Buffer) -> Result<()> {
    let mut file = disk.create_direct(path)?;
    for part in bytes.padded(bytes.len).chunks(TRANSFER_LEN) {
        file.write_all(part).map_err(Error::io("write", path))?;
    }
    file.set_len(bytes.len as u64).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// A file to which bytes are appended, for this process alone: nothing is synced.
#[derive(Debug)]
pub(crate) struct Spill {
    path: PathBuf,
    file: File,
}

/// Reads of a [`Spill`], whose place in the file is its own.
#[derive(Debug)]
pub(crate) struct SpillReader(Spill);

impl Spill {
    pub(crate) fn create(disk: &Disk, path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), file: disk.create_direct(path)? })
    }

    /// Appends the first `len` bytes of a buffer, and what follows them up to the next whole unit of a transfer.
    pub(crate) fn append(&mut self, bytes: &Buffer, len: usize) -> Result<()> {
        self.file.write_all(bytes.padded(len)).map_err(Error::io("write", &self.path))
    }
}

impl SpillReader {
    pub(crate) fn open(disk: &Disk, path: &Path) -> Result<Self> {
        Ok(Self(Spill { path: path.to_owned(), file: disk.open_direct(path)? }))
    }

    /// Reads `len` bytes from `offset` on, which is where a transfer began, into a buffer that has room for them.
    pub(crate) fn read<'a>(&mut self, offset: u64, len: usize, to: &'a mut Buffer) -> Result<&'a [u8]> {
        let Spill { path, file } = &mut self.0;
        file.seek(SeekFrom::Start(offset)).map_err(Error::io("read", path))?;
        let padded_len = len.next_multiple_of(ALIGNMENT).min(to.memory.len());
        let bytes = to.memory.get_mut(..padded_len).unwrap_or_default();
        file.read_exact(bytes).map_err(Error::io("read", path))?;
        Ok(bytes.get(..len).unwrap_or_default())
    }

    /// Gives the disk back what `len` bytes from `offset` on took. Where a file system cannot, they stay until the
    /// file goes.
    pub(crate) fn release(&self, offset: u64, len: usize) {
        #[cfg(target_os = "linux")]
        match &self.0.file {
            File::Real(file) => {
                use rustix::fs::{FallocateFlags, fallocate};
                let len = len.next_multiple_of(ALIGNMENT) as u64;
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                if let Err(error) = fallocate(file, hole, offset, len) {
                    tracing::debug!(%error, "bytes of a temporary file stay on the disk");
                }
            }
            #[cfg(feature = "internals")]
            File::Sim(_) => {}
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }
}

/// Bytes that a transfer of `len` takes in a file.
pub(crate) const fn transfer_len(len: usize) -> usize {
    len.next_multiple_of(ALIGNMENT)
}

/// Opens past the cache, or, where that is refused, as usual.
pub(super) fn open(options: &OpenOptions, path: &Path) -> io::Result<fs::File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        match options.clone().custom_flags(direct).open(path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            opened => return opened,
        }
    }
    options.open(path)
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
            write_synced(&Disk::Real, &path, &buffer(len, 7)).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), buffer(len, 7).as_ref());
        }
    }

    #[test]
    fn what_is_read_back_is_what_the_disk_has_and_nothing_that_was_in_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for len in [0, 1, 4095, 4096, 4097, TRANSFER_LEN, TRANSFER_LEN + 10] {
            let mut written = buffer(len, 7);
            write_synced(&Disk::Real, &path, &written).unwrap();
            written.read_back(&Disk::Real, &path).unwrap();
            assert_eq!(written.as_ref(), buffer(len, 7).as_ref(), "{len}");
            // Another file than the one that was written: shorter, then longer than the memory.
            std::fs::write(&path, buffer(len / 2, 8).as_ref()).unwrap();
            written.read_back(&Disk::Real, &path).unwrap();
            assert_eq!(written.as_ref(), buffer(len / 2, 8).as_ref(), "half of {len}");
            std::fs::write(&path, buffer(2 * len + ALIGNMENT, 9).as_ref()).unwrap();
            written.read_back(&Disk::Real, &path).unwrap();
            assert_eq!(written.as_ref(), buffer(2 * len + ALIGNMENT, 9).as_ref(), "twice {len}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(buffer(10, 1).read_back(&Disk::Real, &path), Err(Error::Io { .. })));
    }

    #[test]
    fn a_buffer_is_used_again_for_what_fits_and_is_zeros_then() {
        let mut used = buffer(3 * ALIGNMENT, 9);
        let before = used.as_ref().as_ptr();
        for len in [10, 2 * ALIGNMENT + 1, 3 * ALIGNMENT] {
            used.reset(len).unwrap();
            assert_eq!(used.as_ref(), vec![0; len]);
            assert_eq!(used.as_ref().as_ptr(), before);
            used.memory.fill(1);
        }
        used.reset(5 * ALIGNMENT).unwrap();
        assert_eq!(used.as_ref(), [0; 5 * ALIGNMENT]);
    }

    #[test]
    fn what_is_spilled_is_read_from_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spill");
        let mut spill = Spill::create(&Disk::Real, &path).unwrap();
        let len = 2 * ALIGNMENT + 9;
        (0..5).for_each(|i| spill.append(&buffer(len, i), len).unwrap());
        let mut reader = SpillReader::open(&Disk::Real, &path).unwrap();
        let mut read = Buffer::zeroed(len).unwrap();
        let offset = |i: u8| u64::from(i) * transfer_len(len) as u64;
        for i in [3, 0, 4, 1] {
            assert_eq!(reader.read(offset(i), len, &mut read).unwrap(), buffer(len, i).as_ref());
        }
        assert!(matches!(reader.read(offset(5), len, &mut read), Err(Error::Io { .. })));
        reader.release(offset(3), len);
        assert_eq!(reader.read(offset(2), len, &mut read).unwrap(), buffer(len, 2).as_ref());
        assert_eq!(reader.read(offset(4), len, &mut read).unwrap(), buffer(len, 4).as_ref());
    }
}
