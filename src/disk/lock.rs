//! The lock that keeps a second process out of a directory.

use std::fs::{self, TryLockError};
use std::path::Path;

use super::Disk;
use crate::words::{Error, Result};

/// Held while an index is open. The operating system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) enum DirLock {
    Real {
        _file: fs::File,
    },
    #[cfg(feature = "internals")]
    Sim {
        _lock: super::sim::SimLock,
    },
}

impl DirLock {
    /// Locks `dir` through its `LOCK` file.
    pub(crate) fn acquire(disk: &Disk, dir: &Path) -> Result<Self> {
        match disk {
            Disk::Real => Self::acquire_real(dir),
            #[cfg(feature = "internals")]
            Disk::Sim(disk) => match disk.lock(&dir.join("LOCK")) {
                Some(_lock) => Ok(Self::Sim { _lock }),
                None => Err(Error::InUse { dir: dir.to_owned() }),
            },
        }
    }

    fn acquire_real(dir: &Path) -> Result<Self> {
        let path = dir.join("LOCK");
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self::Real { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
        }
    }

    /// Keeps writers out of a directory that is only read, and may be on a medium that cannot be written. Where there is no
    /// `LOCK`, or none can be had, nobody is kept out.
    pub(crate) fn share(disk: &Disk, dir: &Path) -> Result<Option<Self>> {
        match disk {
            Disk::Real => Self::share_real(dir),
            #[cfg(feature = "internals")]
            Disk::Sim(_) => Self::acquire(disk, dir).map(Some),
        }
    }

    fn share_real(dir: &Path) -> Result<Option<Self>> {
        let Ok(file) = fs::File::open(dir.join("LOCK")) else { return Ok(None) };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self::Real { _file: file })),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "a directory is read without a lock");
                Ok(None)
            }
        }
    }
}
