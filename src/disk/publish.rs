//! The one routine that makes a file appear: whole and durable, or not at all.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use super::MappedFile;
use super::direct::{self, Buffer};
use crate::words::{Error, Result};

/// Writes `bytes` to `dir/name`, past the page cache.
///
/// Temporary name, fsync, map again and `verify` what the disk gives back, rename, fsync of the folder. A crash leaves
/// at most a file with a temporary name, which the next open removes. The map that was verified goes: what a process
/// touched of a map counts as its memory.
pub(crate) fn publish(
    dir: &Path,
    name: &str,
    bytes: &Buffer,
    verify: impl FnOnce(&Path, MappedFile) -> Result<()>,
) -> Result<()> {
    publish_written(dir, name, |path| direct::write_synced(path, bytes), verify)
}

/// As [`publish`], for a file that is too large to be put together in memory.
pub(crate) fn publish_streamed<T>(
    dir: &Path,
    name: &str,
    write: impl FnOnce(&Path, &mut File) -> Result<()>,
    verify: impl FnOnce(&Path, MappedFile) -> Result<T>,
) -> Result<T> {
    publish_written(dir, name, |path| write_synced(path, write), verify)
}

fn publish_written<T>(
    dir: &Path,
    name: &str,
    write: impl FnOnce(&Path) -> Result<()>,
    verify: impl FnOnce(&Path, MappedFile) -> Result<T>,
) -> Result<T> {
    let temporary = dir.join(format!("{name}.tmp"));
    let path = dir.join(name);
    let written = write(&temporary).and_then(|()| verify(&path, MappedFile::open(&temporary)?));
    let verified = match written {
        Ok(verified) => verified,
        Err(error) => {
            // The first error is the one to report; a file left over is removed at the next open.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
    };
    rename(&temporary, &path)?;
    Ok(verified)
}

/// Gives a file its final name, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io("rename", from))?;
    to.parent().map_or(Ok(()), sync_dir)
}

fn write_synced(path: &Path, write: impl FnOnce(&Path, &mut File) -> Result<()>) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    write(path, &mut file)?;
    file.sync_all().map_err(Error::io("sync", path))?;
    forget_cached(&file);
    Ok(())
}

/// Lets go of the pages that writing left in memory: what is verified next is then what the disk gives back, and
/// comes in pieces as large as the map asked for. A system that does not take the hint verifies its memory.
fn forget_cached(file: &File) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed) {
        tracing::debug!(%error, "written pages stay in memory");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Makes created, renamed and removed names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    // The folder of a name without one.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let folder = File::open(dir).map_err(Error::io("open", dir))?;
    folder.sync_all().map_err(Error::io("sync", dir))
}

/// Removes a file; one that is gone already is fine.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Damage;

    #[test]
    fn a_file_that_does_not_verify_does_not_appear() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Buffer::zeroed(1).unwrap();
        bytes.as_mut().copy_from_slice(b"x");
        let refuse = |path: &Path, _| -> Result<()> {
            Err(Error::Damaged { path: path.to_owned(), offset: 0, what: Damage::Checksum { of: "the page" } })
        };
        assert!(publish(dir.path(), "a.seg", &bytes, refuse).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let verify = |_: &Path, map: MappedFile| {
            assert_eq!(map.as_ref(), b"x");
            Ok(())
        };
        publish(dir.path(), "a.seg", &bytes, verify).unwrap();
        assert_eq!(fs::read(dir.path().join("a.seg")).unwrap(), b"x");
        assert!(!dir.path().join("a.seg.tmp").exists());
    }
}
