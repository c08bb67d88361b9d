//! Files copied, linked and compared, for backups.

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::Disk;
use crate::words::{Error, Result};

/// Bytes of one read and write.
const PIECE_LEN: usize = 1 << 20;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) len: u64,
    /// XXH3-128 of the bytes.
    pub(crate) digest: u128,
}

/// What a copy of these bytes would say.
pub(crate) fn digest(bytes: &[u8]) -> Copied {
    Copied { len: bytes.len() as u64, digest: xxh3_128(bytes) }
}

impl Disk {
    /// Reads a file to its end.
    pub(crate) fn digest_file(&self, path: &Path) -> Result<Copied> {
        pump(&mut self.open(path)?, path, u64::MAX, |_| Ok(()))
    }

    /// Copies bytes into a new file and makes them durable; its name is not. Of more than `limit` bytes no more are taken than
    /// show it. `source` is where they come from.
    pub(crate) fn copy_to(&self, from: &mut dyn Read, source: &Path, limit: u64, to: &Path) -> Result<Copied> {
        let mut file = self.create(to)?;
        let copied = pump(from, source, limit, |piece| file.write_all(piece).map_err(Error::io("write", to)))?;
        file.sync_all().map_err(Error::io("sync", to))?;
        Ok(copied)
    }

    /// Gives a file one more name. `false` where that cannot be, as between file systems.
    pub(crate) fn link(&self, from: &Path, to: &Path) -> Result<bool> {
        let linked = match self {
            Self::Real => fs::hard_link(from, to),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.link_file(from, to),
        };
        match linked {
            Ok(()) => Ok(true),
            Err(error) if [ErrorKind::NotFound, ErrorKind::AlreadyExists].contains(&error.kind()) => {
                Err(Error::io("link", from)(error))
            }
            Err(error) => {
                tracing::debug!(%error, "a file is copied, for it cannot be linked");
                Ok(false)
            }
        }
    }

    /// Are these two names of one file? `false` where the system does not say.
    pub(crate) fn are_same_file(&self, one: &Path, other: &Path) -> Result<bool> {
        match self {
            Self::Real => are_same_file(one, other),
            #[cfg(feature = "internals")]
            Self::Sim(disk) => disk.are_same_file(one, other).map_err(Error::io("ask the size of", one)),
        }
    }
}

fn pump(
    from: &mut dyn Read,
    source: &Path,
    limit: u64,
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Copied> {
    let mut piece = vec![0; PIECE_LEN];
    let (mut hash, mut len) = (Xxh3::new(), 0_u64);
    while len <= limit {
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", source)(error)),
        };
        let bytes = piece.get(..read).unwrap_or_default();
        hash.update(bytes);
        each(bytes)?;
        len += read as u64;
    }
    Ok(Copied { len, digest: hash.digest128() })
}

fn are_same_file(one: &Path, other: &Path) -> Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let of = |path: &Path| fs::metadata(path).map_err(Error::io("ask the size of", path));
        let (one, other) = (of(one)?, of(other)?);
        Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = (one, other);
        Ok(false)
    }
}

/// The length of a file, its first bytes and its last.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ends<const HEAD: usize, const TAIL: usize> {
    pub(crate) len: u64,
    pub(crate) head: [u8; HEAD],
    pub(crate) tail: [u8; TAIL],
}

impl<const HEAD: usize, const TAIL: usize> Ends<HEAD, TAIL> {
    /// `None` if there is no such file, or if it is shorter than both.
    pub(crate) fn of(disk: &Disk, path: &Path) -> Result<Option<Self>> {
        if !disk.exists(path)? {
            return Ok(None);
        }
        let mut file = disk.open(path)?;
        let len = file.len().map_err(Error::io("ask the size of", path))?;
        if len < (HEAD + TAIL) as u64 {
            return Ok(None);
        }
        let mut ends = Self { len, head: [0; HEAD], tail: [0; TAIL] };
        file.read_exact(&mut ends.head).map_err(Error::io("read", path))?;
        file.seek(SeekFrom::Start(len - TAIL as u64)).map_err(Error::io("read", path))?;
        file.read_exact(&mut ends.tail).map_err(Error::io("read", path))?;
        Ok(Some(ends))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_copy_says_what_it_took_and_no_more_than_shows_that_it_was_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let bytes: Vec<u8> = (0..3 * PIECE_LEN + 17).map(|i| (i / 7) as u8).collect();
        fs::write(&from, &bytes).unwrap();
        let copied = Disk::Real.copy_to(&mut File::open(&from).unwrap(), &from, u64::MAX, &to).unwrap();
        assert_eq!((copied, Disk::Real.digest_file(&from).unwrap()), (digest(&bytes), digest(&bytes)));
        assert_eq!(fs::read(&to).unwrap(), bytes);
        let cut = Disk::Real.copy_to(&mut File::open(&from).unwrap(), &from, 10, &to).unwrap();
        assert!(cut.len > 10 && cut.len < bytes.len() as u64);
        let ends = Ends::<4, 2>::of(&Disk::Real, &from).unwrap().unwrap();
        assert_eq!((ends.len, &ends.head[..]), (bytes.len() as u64, &bytes[..4]));
        assert_eq!(&ends.tail[..], &bytes[bytes.len() - 2..]);
        fs::write(&to, b"abc").unwrap();
        assert_eq!(Ends::<3, 1>::of(&Disk::Real, &to).unwrap(), None);
        assert_eq!(Ends::<3, 1>::of(&Disk::Real, &dir.path().join("none")).unwrap(), None);
    }

    #[test]
    fn a_link_is_the_same_file_and_a_copy_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let [from, linked, copied] = ["from", "linked", "copied"].map(|name| dir.path().join(name));
        fs::write(&from, b"abc").unwrap();
        assert!(Disk::Real.link(&from, &linked).unwrap());
        fs::copy(&from, &copied).unwrap();
        assert!(
            Disk::Real.are_same_file(&from, &linked).unwrap()
                && !Disk::Real.are_same_file(&from, &copied).unwrap()
        );
        assert!(
            Disk::Real.link(&from, &linked).is_err()
                && Disk::Real.link(&dir.path().join("none"), &copied).is_err()
        );
    }
}
