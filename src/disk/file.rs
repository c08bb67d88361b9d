//! An open file of a disk.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

#[cfg(feature = "internals")]
use super::sim::SimFile;
use super::{Disk, direct};
use crate::words::{Error, Result};

/// A file, with a place where the next read or write begins.
#[derive(Debug)]
pub(crate) enum File {
    Real(fs::File),
    #[cfg(feature = "internals")]
    Sim(SimFile),
}

impl Disk {
    /// Opens a file to read it.
    pub(crate) fn open(&self, path: &Path) -> Result<File> {
        let opened = match self {
            Self::Real => fs::File::open(path).map(File::Real),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.open_file(path).map(File::Sim),
        };
        opened.map_err(Error::io("open", path))
    }

    /// Opens a file to read it and to write to it.
    pub(crate) fn open_to_write(&self, path: &Path) -> Result<File> {
        let opened = match self {
            Self::Real => OpenOptions::new().read(true).write(true).open(path).map(File::Real),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.open_file(path).map(File::Sim),
        };
        opened.map_err(Error::io("open", path))
    }

    /// Makes an empty file, or empties the one that is there. It can be read too, as one that is to be mapped must.
    pub(crate) fn create(&self, path: &Path) -> Result<File> {
        let created = match self {
            Self::Real => {
                OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).map(File::Real)
            }
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.create_file(path).map(File::Sim),
        };
        created.map_err(Error::io("create", path))
    }

    /// Opens a file to read it and to write to it, and makes an empty one if there is none.
    pub(crate) fn open_or_create(&self, path: &Path) -> Result<File> {
        let opened = match self {
            Self::Real => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false).open(path).map(File::Real)
            }
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.open_or_create(path).map(File::Sim),
        };
        opened.map_err(Error::io("create", path))
    }

    /// As [`Disk::create`], to write and read past the page cache where that is possible.
    pub(super) fn create_direct(&self, path: &Path) -> Result<File> {
        let created = match self {
            Self::Real => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(true);
                direct::open(&options, path).map(File::Real)
            }
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.create_file(path).map(File::Sim),
        };
        created.map_err(Error::io("create", path))
    }

    /// As [`Disk::open_to_write`], past the page cache where that is possible.
    pub(super) fn open_direct(&self, path: &Path) -> Result<File> {
        let opened = match self {
            Self::Real => direct::open(OpenOptions::new().read(true).write(true), path).map(File::Real),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.open_file(path).map(File::Sim),
        };
        opened.map_err(Error::io("open", path))
    }

    /// The bytes of a file, at most so many; `None` if there is none.
    pub(crate) fn read(&self, path: &Path, at_most: u64) -> Result<Option<Vec<u8>>> {
        if !self.exists(path)? {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.open(path)?.take(at_most).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        Ok(Some(bytes))
    }
}

impl File {
    /// Bytes of the file.
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Real(file) => file.metadata().map(|metadata| metadata.len()),
            #[cfg(feature = "internals")]
            Self::Sim(file) => file.len(),
        }
    }

    /// Cuts the file, or lengthens it with zeros.
    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        match self {
            Self::Real(file) => file.set_len(len),
            #[cfg(feature = "internals")]
            Self::Sim(file) => file.set_len(len),
        }
    }

    /// Fills `to` with what is at `offset`, whatever the place of the next read.
    pub(crate) fn read_exact_at(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Real(file) => at_place::read(file, offset, to),
            #[cfg(feature = "internals")]
            Self::Sim(file) => file.read_exact_at(offset, to),
        }
    }

    /// Writes all of `bytes` at `offset`, whatever the place of the next write.
    pub(crate) fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Real(file) => at_place::write(file, offset, bytes),
            #[cfg(feature = "internals")]
            Self::Sim(file) => file.write_all_at(offset, bytes),
        }
    }

    /// Makes the bytes of the file durable, and everything that is known about it. Its name is not.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        match self {
            Self::Real(file) => file.sync_all(),
            #[cfg(feature = "internals")]
            Self::Sim(file) => file.sync(),
        }
    }

    /// Makes the bytes of the file durable, and its length.
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        match self {
            Self::Real(file) => file.sync_data(),
            #[cfg(feature = "internals")]
            Self::Sim(file) => file.sync(),
        }
    }
}

/// Reads and writes that leave the place in the file alone.
#[cfg(unix)]
mod at_place {
    use std::fs::File;
    use std::io::Result;
    use std::os::unix::fs::FileExt;

    pub(super) fn read(file: &File, offset: u64, to: &mut [u8]) -> Result<()> {
        file.read_exact_at(to, offset)
    }

    pub(super) fn write(file: &File, offset: u64, bytes: &[u8]) -> Result<()> {
        file.write_all_at(bytes, offset)
    }
}

/// As on Unix, one at a time: what has no such calls moves the place.
#[cfg(not(unix))]
mod at_place {
    use std::fs::File;
    use std::io::{Read, Result, Seek, SeekFrom, Write};

    static TURN: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

    pub(super) fn read(mut file: &File, offset: u64, to: &mut [u8]) -> Result<()> {
        let _turn = TURN.lock();
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(to)
    }

    pub(super) fn write(mut file: &File, offset: u64, bytes: &[u8]) -> Result<()> {
        let _turn = TURN.lock();
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }
}

impl Read for &File {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            File::Real(file) => (&*file).read(to),
            #[cfg(feature = "internals")]
            File::Sim(file) => file.read(to),
        }
    }
}

impl Write for &File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            File::Real(file) => (&*file).write(bytes),
            #[cfg(feature = "internals")]
            File::Sim(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            File::Real(file) => (&*file).seek(to),
            #[cfg(feature = "internals")]
            File::Sim(file) => file.seek(to),
        }
    }
}

impl Read for File {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        (&*self).read(to)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}
