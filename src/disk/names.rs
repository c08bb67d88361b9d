//! Names in folders: what is there, and the operations that change it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::Disk;
use crate::words::{Error, Result};

impl Disk {
    /// Is there a file or folder of this name?
    pub(crate) fn exists(&self, path: &Path) -> Result<bool> {
        let looked = match self {
            Self::Real => path.try_exists(),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.name_exists(path),
        };
        looked.map_err(Error::io("look for", path))
    }

    /// Is it a folder?
    pub(crate) fn is_dir(&self, path: &Path) -> bool {
        match self {
            Self::Real => path.is_dir(),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.is_folder(path),
        }
    }

    /// Bytes of a file.
    pub(crate) fn len(&self, path: &Path) -> Result<u64> {
        let len = match self {
            Self::Real => fs::metadata(path).map(|metadata| metadata.len()),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.open_file(path).and_then(|file| file.len()),
        };
        len.map_err(Error::io("ask the size of", path))
    }

    /// The names in a folder, in no useful order.
    pub(crate) fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let names = match self {
            Self::Real => list(dir),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.names_in(dir),
        };
        names.map_err(Error::io("list", dir))
    }

    /// Makes a folder.
    pub(crate) fn create_dir(&self, dir: &Path) -> Result<()> {
        let made = match self {
            Self::Real => fs::create_dir(dir),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.create_folder(dir),
        };
        made.map_err(Error::io("create", dir))
    }

    /// Makes a folder and those around it, as far as they are not there, durably.
    pub(crate) fn create_dir_all(&self, dir: &Path) -> Result<()> {
        // Where a path begins, there is a folder.
        let Some(around) = dir.parent() else { return Ok(()) };
        if self.is_dir(dir) {
            // A process that was killed may have made it, and not durably yet.
            return match self.sync_dir(around) {
                // Who may not read what is around did not make this one.
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => Ok(()),
                synced => synced,
            };
        }
        self.create_dir_all(around)?;
        match self.create_dir(dir) {
            // Somebody else was faster.
            Err(_) if self.is_dir(dir) => {}
            made => made?,
        }
        self.sync_dir(around)
    }

    /// Removes a file; one that is gone already is fine.
    pub(crate) fn remove_file(&self, path: &Path) -> Result<()> {
        let removed = match self {
            Self::Real => fs::remove_file(path),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.remove_name(path),
        };
        or_gone(removed).map_err(Error::io("remove", path))
    }

    /// Removes a folder and all in it; one that is gone already is fine.
    pub(crate) fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        let removed = match self {
            Self::Real => fs::remove_dir_all(dir),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.remove_folder(dir),
        };
        or_gone(removed).map_err(Error::io("remove", dir))
    }

    /// Removes an empty folder; one that is gone already is fine.
    pub(crate) fn remove_empty_dir(&self, dir: &Path) -> Result<()> {
        let removed = match self {
            Self::Real => fs::remove_dir(dir),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => match disk.names_in(dir) {
                Ok(names) if !names.is_empty() => Err(ErrorKind::DirectoryNotEmpty.into()),
                Ok(_) => disk.remove_folder(dir),
                Err(error) => Err(error),
            },
        };
        or_gone(removed).map_err(Error::io("remove", dir))
    }

    /// Gives a file, or a folder, its final name, durably.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let renamed = match self {
            Self::Real => fs::rename(from, to),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.rename_file(from, to),
        };
        renamed.map_err(Error::io("rename", from))?;
        to.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    /// Makes created, renamed and removed names in a folder durable.
    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<()> {
        match self {
            Self::Real => {
                // The folder in which a relative path begins has no name here.
                let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
                let folder = fs::File::open(dir).map_err(Error::io("open", dir))?;
                folder.sync_all().map_err(Error::io("sync", dir))
            }
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.sync_folder(dir).map_err(Error::io("sync", dir)),
        }
    }
}

fn list(dir: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(dir)?.map(|item| Ok(item?.file_name().to_string_lossy().into_owned())).collect()
}

fn or_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_and_removed_with_all_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let (outer, inner) = (dir.path().join("a"), dir.path().join("a/b/c"));
        Disk::Real.create_dir_all(&inner).unwrap();
        Disk::Real.create_dir_all(&inner).unwrap();
        drop(Disk::Real.create(&inner.join("file")).unwrap());
        assert_eq!(Disk::Real.list(&inner).unwrap(), ["file"]);
        assert!(Disk::Real.create_dir_all(&inner.join("file")).is_err(), "a file is in the way");
        for _ in 0..2 {
            Disk::Real.remove_dir_all(&outer).unwrap();
            assert!(!Disk::Real.exists(&outer).unwrap());
        }
    }

    #[test]
    fn a_removed_file_may_be_removed_again() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        drop(Disk::Real.create(&from).unwrap());
        Disk::Real.rename(&from, &to).unwrap();
        assert!(!Disk::Real.exists(&from).unwrap() && Disk::Real.len(&to).unwrap() == 0);
        Disk::Real.remove_file(&to).unwrap();
        Disk::Real.remove_file(&to).unwrap();
        assert_eq!(Disk::Real.read(&to, 1).unwrap(), None);
    }
}
