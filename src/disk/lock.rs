//! The lock that keeps a second process out of a directory.

use std::fs::{self, TryLockError};
use std::path::Path;

use super::Disk;
use crate::words::{Error, Result};

/// Held while an index is open. The operating system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) enum DirLock {
    Real {
        _lock: FileLock,
    },
    #[cfg(feature = "internals")]
    Sim {
        _lock: super::sim::SimLock,
    },
}

/// The lock of an open file.
#[derive(Debug)]
pub(crate) struct FileLock(fs::File);

impl Drop for FileLock {
    fn drop(&mut self) {
        // To close the file is not enough: a process that another thread is just starting has a copy of the handle until it
        // runs its own program, and the lock would stay for as long.
        let _ = self.0.unlock();
    }
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
            Ok(()) => Ok(Self::Real { _lock: FileLock(file) }),
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
            Ok(()) => Ok(Some(Self::Real { _lock: FileLock(file) })),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "a directory is read without a lock");
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_although_a_child_has_its_handle() {
        let dir = tempfile::tempdir().unwrap();
        let acquire = || DirLock::acquire(&Disk::Real, dir.path());
        let lock = acquire().unwrap();
        assert!(matches!(acquire(), Err(Error::InUse { .. })));
        #[allow(irrefutable_let_patterns, reason = "there are simulated locks with a feature")]
        let DirLock::Real { _lock: FileLock(file) } = &lock else { unreachable!() };
        // What a fork has of it.
        let copy = file.try_clone().unwrap();
        drop(lock);
        drop(acquire().unwrap());
        drop(copy);
    }
}
