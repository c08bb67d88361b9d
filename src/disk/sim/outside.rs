//! What somebody else does to the disk, behind the back of whoever uses it: files that come and change, and are durable as they
//! are. And what of them was read.

use std::io;
use std::path::Path;

use super::content::{Content, PAGE_LEN};
use super::names::Node;
use super::{Moment, SimDisk, State};

impl SimDisk {
    /// Bytes that [`SimDisk::pages_read`] counts as one page.
    pub const PAGE_LEN: usize = PAGE_LEN;

    /// The same files on a disk of its own.
    #[must_use]
    pub fn copy(&self) -> Self {
        Moment(&self.0.lock()).kill()
    }

    /// Writes into a file, which is made, with its folders, if it is not there.
    ///
    /// # Errors
    /// The path names a folder, or has a file where a folder should be.
    pub fn put(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.alter(path.as_ref(), |content| content.write(offset, bytes))
    }

    /// Makes a file shorter, or longer by zeros.
    ///
    /// # Errors
    /// As [`SimDisk::put`].
    pub fn cut(&self, path: impl AsRef<Path>, len: u64) -> io::Result<()> {
        self.alter(path.as_ref(), |content| content.set_len(len))
    }

    fn alter(&self, path: &Path, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        let mut state = self.0.lock();
        let inode = state.find_or_make(path)?;
        let content = state.content(inode)?;
        change(content);
        content.sync();
        Ok(())
    }

    /// From now on notes which pages of files are read.
    pub fn note_reads(&self) {
        self.0.lock().noted_reads = Some(Default::default());
    }

    /// The pages of a file that were read since [`SimDisk::note_reads`], in order. None of a file that is not there.
    #[must_use]
    pub fn pages_read(&self, path: impl AsRef<Path>) -> Vec<u64> {
        let state = self.0.lock();
        let Ok(Node::File(inode)) = state.names.find(path.as_ref()) else { return Vec::new() };
        let noted = state.noted_reads.iter().flatten();
        noted.filter(|(of, _)| *of == inode).map(|(_, page)| *page).collect()
    }
}

impl State {
    fn find_or_make(&mut self, path: &Path) -> io::Result<u64> {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for folder in above.into_iter().rev().filter(|folder| folder.file_name().is_some()) {
            if self.names.find(folder).is_err() {
                let node = Node::Folder(self.new_inode());
                self.names.create(folder, node)?;
            }
        }
        match self.names.find(path) {
            Ok(Node::File(inode)) => Ok(inode),
            Ok(Node::Folder(_)) => Err(io::ErrorKind::IsADirectory.into()),
            Err(_) => {
                let inode = self.new_inode();
                self.names.create(path, Node::File(inode))?;
                self.contents.insert(inode, Content::default());
                path.ancestors().skip(1).try_for_each(|folder| self.names.sync(folder))?;
                Ok(inode)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_from_outside_is_durable_and_what_is_read_of_it_is_known() {
        let disk = SimDisk::new(1);
        let path = Path::new("/a/b/file");
        disk.put(path, 2 * SimDisk::PAGE_LEN as u64, &[7; 100]).unwrap();
        disk.put(path, 5, &[8]).unwrap();
        let copy = disk.copy();
        copy.cut(path, 6).unwrap();
        assert!(disk.put("/a/b", 0, &[1]).is_err() && disk.put("/a/b/file/c", 0, &[1]).is_err());
        let file = disk.crash(3).open_file(path).unwrap();
        assert_eq!(file.len().unwrap(), 2 * SimDisk::PAGE_LEN as u64 + 100);
        disk.note_reads();
        let mut byte = [0];
        disk.open_file(path).unwrap().read_exact_at(5, &mut byte).unwrap();
        assert_eq!((byte, disk.pages_read(path), disk.pages_read("/a/none")), ([8], vec![0], vec![]));
        let all = &mut [0; SimDisk::PAGE_LEN + 20];
        disk.open_file(path).unwrap().read_exact_at(SimDisk::PAGE_LEN as u64, all).unwrap();
        assert_eq!(disk.pages_read(path), [0, 1, 2]);
        assert_eq!(copy.open_file(path).unwrap().len().unwrap(), 6, "a copy is a disk of its own");
    }
}
