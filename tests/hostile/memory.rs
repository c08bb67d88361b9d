//! The files on the simulated disk, so that hundreds of thousands of changes can be tried: nothing is copied but what changes, and
//! no call goes to the kernel. It is there with the feature `internals`.

#[cfg(not(feature = "internals"))]
pub use without::{Memory, tried};

#[cfg(feature = "internals")]
pub use with::{Memory, tried};

#[cfg(feature = "internals")]
mod with {
    use std::collections::HashMap;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use unlisted::internals::SimDisk;
    use unlisted::{Error, Index, Secret};

    use crate::kinds::{Kind, Verdict};
    use crate::world::{
        Answers, BACKUP, EPOCH, INDEX, Place, RESTORED, Reader, SECRET, STREAM, ask_everything, options_later,
    };
    use crate::{Change, FILES, attempt, judge, right};

    /// Of the bytes of a page that nobody reads, those that are changed all the same: every 512th.
    const SPARSE: usize = 512;

    /// Changes that were tried, and bytes of pages that nobody reads.
    static TRIED: AtomicUsize = AtomicUsize::new(0);
    static UNREAD: AtomicUsize = AtomicUsize::new(0);

    pub fn tried() -> String {
        let [tried, unread] = [&TRIED, &UNREAD].map(|count| count.load(Ordering::Relaxed));
        format!("{tried} of them on a disk in memory, {unread} more of pages that nobody reads")
    }

    /// Disks with what each reader needs, as it is.
    pub struct Memory {
        disks: [SimDisk; 3],
        stream: Vec<u8>,
        secret: Secret,
        /// Whether a page of a file is read at all, by the file.
        read: HashMap<&'static str, Vec<bool>>,
        /// For the secret, which is no file of the index.
        place: Place,
    }

    fn at(name: &str) -> String {
        format!("/{name}")
    }

    fn disk(folder: &str) -> SimDisk {
        let disk = SimDisk::new(1);
        for (name, bytes) in FILES.iter().filter(|(name, _)| name.starts_with(folder)) {
            // Pages of zeros need no memory: the end first, then what is something.
            disk.cut(at(name), bytes.len() as u64).unwrap();
            for (page, bytes) in bytes.chunks(SimDisk::PAGE_LEN).enumerate() {
                if bytes.iter().any(|byte| *byte != 0) {
                    disk.put(at(name), (page * SimDisk::PAGE_LEN) as u64, bytes).unwrap();
                }
            }
        }
        disk
    }

    impl Memory {
        pub fn new() -> Option<Self> {
            let index = disk(INDEX);
            for (name, bytes) in FILES.iter().filter(|(name, _)| name.starts_with(EPOCH)) {
                index.put(at(name), 0, bytes).unwrap();
            }
            let place = Place::new();
            place.fill(&FILES);
            let secret = Secret::from_file(place.path(SECRET)).unwrap();
            let (disks, stream) = ([index, disk(BACKUP), SimDisk::new(1)], FILES[STREAM].clone());
            let mut memory = Self { disks, stream, secret, read: HashMap::new(), place };
            memory.read = FILES.keys().map(|path| (path.as_str(), Vec::new())).collect();
            for reader in [Reader::Index, Reader::Backup] {
                let disk = memory.disks[reader as usize].copy();
                disk.note_reads();
                let answers = memory.use_it(&disk, reader, &memory.stream).unwrap();
                assert_eq!(&answers, right(reader), "a disk in memory has other answers");
                for (path, pages) in &mut memory.read {
                    pages.resize(FILES[*path].len().div_ceil(SimDisk::PAGE_LEN), false);
                    for page in disk.pages_read(at(path)) {
                        pages.get_mut(page as usize).into_iter().for_each(|is_read| *is_read = true);
                    }
                }
            }
            for (path, pages) in &memory.read {
                let kind = Kind::of(path).unwrap();
                let may_be_unread = kind.reader == Reader::Index && kind.verdict == Verdict::FoundIfUsed;
                assert!(
                    !may_be_unread || *path == SECRET || pages.contains(&true),
                    "{path} is read, or it has gone"
                );
            }
            Some(memory)
        }

        fn use_it(&self, disk: &SimDisk, reader: Reader, stream: &[u8]) -> Result<Answers, Error> {
            let options = options_later(self.secret.clone()).disk(disk);
            let index = match reader {
                Reader::Index => Index::open(at(INDEX), options.must_exist().epoch_file(at(EPOCH)))?,
                Reader::Backup => Index::restore(at(BACKUP), at(RESTORED), options)?,
                Reader::Stream => Index::restore_from(stream, at(RESTORED), options)?,
            };
            ask_everything(&index)
        }

        /// A page that is not read when all is as it should be is not read either when one of its bytes is another, since nobody
        /// learns of that. So of such pages a few bytes are enough.
        fn is_told_by_others(&self, path: &str, kind: &Kind, change: &Change) -> bool {
            let (Change::Byte(at, _), Verdict::FoundIfUsed, Reader::Index) = (change, kind.verdict, kind.reader)
            else {
                return false;
            };
            let is_read = self.read[path].get(at / SimDisk::PAGE_LEN).copied();
            is_read == Some(false) && at % SPARSE != 0
        }

        /// Changes the file and uses what it is of.
        pub fn attempt(&self, path: &str, kind: &Kind, change: &Change) -> Result<(), String> {
            if path == SECRET {
                return attempt(&self.place, path, kind, change, right(kind.reader));
            }
            if self.is_told_by_others(path, kind, change) {
                UNREAD.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            TRIED.fetch_add(1, Ordering::Relaxed);
            let is_stream = kind.reader == Reader::Stream;
            let disk = self.disks[kind.reader as usize].copy();
            let stream = if is_stream { change.apply(&self.stream) } else { Vec::new() };
            if !is_stream {
                let (name, bytes) = (at(path), &FILES[path]);
                match change {
                    Change::Cut(len) => disk.cut(name, *len as u64).unwrap(),
                    Change::Byte(byte, bits) => disk.put(name, *byte as u64, &[bytes[*byte] ^ bits]).unwrap(),
                    Change::Longer => disk.put(name, bytes.len() as u64, &[0]).unwrap(),
                    Change::Bytes(_) => disk.put(name, 0, &change.apply(bytes)).unwrap(),
                }
            }
            judge(path, kind, change, right(kind.reader), Path::new(&at(path)), || {
                self.use_it(&disk, kind.reader, &stream)
            })
        }
    }
}

#[cfg(not(feature = "internals"))]
mod without {
    use crate::Change;
    use crate::kinds::Kind;

    /// Nothing: all changes are tried on the system's disk.
    pub enum Memory {}

    impl Memory {
        pub const fn new() -> Option<Self> {
            None
        }

        pub fn attempt(&self, _: &str, _: &Kind, _: &Change) -> Result<(), String> {
            match *self {}
        }
    }

    pub const fn tried() -> &'static str {
        "all of them on the system's disk"
    }
}
