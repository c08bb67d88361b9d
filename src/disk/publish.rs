//! The one routine that makes a file appear: whole and durable, or not at all.

use std::path::Path;

use super::direct::{self, Buffer};
use super::{Disk, File, MappedFile};
use crate::words::{Error, Result};

impl Disk {
    /// Writes `bytes` to `dir/name`, past the page cache.
    ///
    /// Temporary name, fsync, `verify` what the disk gives back, rename, fsync of the folder. A crash leaves at most a file
    /// with a temporary name, which the next open removes. What is read back comes into the memory it was written from:
    /// new pages for it, in the page cache or elsewhere, were a fifth of the processor time of an import.
    pub(crate) fn publish(
        &self,
        dir: &Path,
        name: &str,
        bytes: &mut Buffer,
        verify: impl FnOnce(&Path, &Buffer) -> Result<()>,
    ) -> Result<()> {
        self.publish_written(dir, name, |path| {
            direct::write_synced(self, path, bytes)?;
            bytes.read_back(self, path)?;
            verify(&dir.join(name), bytes)
        })
    }

    /// As [`Disk::publish`], for a file that is too large to be put together in memory: a map of it is verified.
    pub(crate) fn publish_streamed<T>(
        &self,
        dir: &Path,
        name: &str,
        write: impl FnOnce(&Path, &mut File) -> Result<()>,
        verify: impl FnOnce(&Path, MappedFile) -> Result<T>,
    ) -> Result<T> {
        self.publish_written(dir, name, |path| {
            self.write_synced(path, write)?;
            verify(&dir.join(name), MappedFile::open(self, path)?)
        })
    }

    fn publish_written<T>(
        &self,
        dir: &Path,
        name: &str,
        write_and_verify: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let temporary = dir.join(format!("{name}.tmp"));
        let verified = match write_and_verify(&temporary) {
            Ok(verified) => verified,
            Err(error) => {
                // The first error is the one to report; a file left over is removed at the next open.
                let _ = self.remove_file(&temporary);
                return Err(error);
            }
        };
        self.rename(&temporary, &dir.join(name))?;
        Ok(verified)
    }

    fn write_synced(&self, path: &Path, write: impl FnOnce(&Path, &mut File) -> Result<()>) -> Result<()> {
        let mut file = self.create(path)?;
        write(path, &mut file)?;
        file.sync_all().map_err(Error::io("sync", path))?;
        forget_cached(&file);
        Ok(())
    }
}

/// Lets go of the pages that writing left in memory: what is verified next is then what the disk gives back, and
/// comes in pieces as large as the map asked for. A system that does not take the hint verifies its memory.
fn forget_cached(file: &File) {
    #[cfg(target_os = "linux")]
    match file {
        File::Real(file) => {
            if let Err(error) = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed) {
                tracing::debug!(%error, "written pages stay in memory");
            }
        }
        #[cfg(feature = "internals")]
        File::Sim(_) => {}
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::words::Damage;

    #[test]
    fn a_file_that_does_not_verify_does_not_appear() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Buffer::zeroed(1).unwrap();
        bytes.as_mut().copy_from_slice(b"x");
        let refuse = |path: &Path, _: &Buffer| -> Result<()> {
            Err(Error::Damaged { path: path.to_owned(), offset: 0, what: Damage::Checksum { of: "the page" } })
        };
        assert!(Disk::Real.publish(dir.path(), "a.seg", &mut bytes, refuse).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let verify = |_: &Path, read: &Buffer| {
            assert_eq!(read.as_ref(), b"x");
            Ok(())
        };
        Disk::Real.publish(dir.path(), "a.seg", &mut bytes, verify).unwrap();
        assert_eq!(fs::read(dir.path().join("a.seg")).unwrap(), b"x");
        assert!(!dir.path().join("a.seg.tmp").exists());
    }
}
