//! The one routine that makes a file appear: whole and durable, or not at all.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::MappedFile;
use crate::words::{Error, Result};

/// Bytes that are written before they are synced. Where one file's sync waits for what others wrote before (ext4 with
/// ordered data does), this is what a charge or an update waits for while a segment is written.
const SYNCED_AT_ONCE: usize = 1 << 20;

/// Writes `bytes` to `dir/name` and returns the mapped file.
///
/// Temporary name, fsync, open again and `verify` what the disk gives back, rename, fsync of the folder. A
/// crash leaves at most a file with a temporary name, which the next open removes.
pub(crate) fn publish<T>(
    dir: &Path,
    name: &str,
    bytes: &[u8],
    verify: impl FnOnce(&Path, MappedFile) -> Result<T>,
) -> Result<T> {
    let temporary = dir.join(format!("{name}.tmp"));
    let path = dir.join(name);
    let written = write_synced(&temporary, bytes).and_then(|()| verify(&path, MappedFile::open(&temporary)?));
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

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    for slice in bytes.chunks(SYNCED_AT_ONCE) {
        file.write_all(slice).map_err(Error::io("write", path))?;
        file.sync_data().map_err(Error::io("sync", path))?;
    }
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
        let refuse = |path: &Path, _| -> Result<()> {
            Err(Error::Damaged { path: path.to_owned(), offset: 0, what: Damage::Checksum { of: "the page" } })
        };
        assert!(publish(dir.path(), "a.seg", b"x", refuse).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let map = publish(dir.path(), "a.seg", b"x", |_, map| Ok(map)).unwrap();
        assert_eq!(map.as_ref(), b"x");
        assert!(dir.path().join("a.seg").exists() && !dir.path().join("a.seg.tmp").exists());
    }
}
