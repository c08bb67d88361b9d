//! A file that is redb's pages and nothing else: what databases were before [`super::paged`].

use std::io;

use redb::StorageBackend;

use crate::disk::File;

/// The pages as they are. The lock of the directory keeps others out, so it has none for ranges.
#[derive(Debug)]
pub(super) struct PlainFile(pub(super) File);

impl StorageBackend for PlainFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(offset, data)
    }
}
