//! A disk in memory that loses power, fails and fills up as a test asks.
//!
//! # The fault model
//!
//! **A power loss** ([`SimDisk::crash`]) leaves another disk, made of this one by a seed:
//!
//! - A file holds what it held when it was last synced, and of what was written since any subset, sector by sector
//!   ([`SECTOR_LEN`] bytes), in any order: a sector has the bytes of any moment since the sync. A sector is never torn.
//!   So a write longer than a sector may be torn, and a later write may be there without an earlier one.
//! - Its length is the synced one, or one that it had since. What the file has gained and no write reached is zeros.
//! - Of the names that were created, renamed and removed in a folder since the folder was synced, any subset is:
//!   a file that was synced may have no name. A rename may also leave both names. It never leaves none.
//! - The chances differ from file to file and from crash to crash: from nothing to everything, which is what a killed
//!   process leaves.
//! - Locks are gone.
//!
//! **The end of the process** ([`Moment::kill`]) leaves everything as it reads, and unsynced as it was: a power loss
//! may follow.
//!
//! **A failed call** ([`SimDisk::fail`]): the n-th call that changes something does nothing and returns an error. If it
//! was a sync of a file, what it was to make durable is on the disk or not, sector by sector, and *no later sync makes up
//! for it*: the file reads as it was written, and a crash shows what is there. So do kernels that mark pages clean whose
//! write failed. A folder may be synced again. A read may fail too ([`SimDisk::fail_read`]).
//!
//! **A short write**: the n-th call, if it writes, writes half of its bytes and says so.
//!
//! **A lost device**: the n-th call fails, and all calls after it, reads too.
//!
//! **No space** ([`SimDisk::limit`]): a write that needs more pages than there are writes what fits and returns an error.
//!
//! What is not modelled: bytes that change by themselves (`tests/engine/durability/corrupt.rs` does that), reads that return old bytes, a
//! rename that leaves no name, and a sync that lies.

mod content;
mod file;
mod names;
mod outside;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

pub(crate) use file::SimFile;

use content::Content;
use names::{Names, Node};

/// Bytes that reach the disk together or not at all.
pub const SECTOR_LEN: usize = 512;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and returns an error. Later calls work.
    Error,
    /// A write writes half of its bytes. Other calls work.
    Short,
    /// It fails, and every call after it.
    Gone,
}

/// Told of every call that changed something: its number, counted from one, and the disk as it is then.
pub type Watch = dyn Fn(u64, &Moment<'_>) + Send + Sync;

/// A disk between two calls.
pub struct Moment<'a>(&'a State);

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct State {
    seed: u64,
    names: Names,
    contents: HashMap<u64, Content>,
    next_inode: u64,
    /// Calls so far that change something.
    changes: u64,
    reads: u64,
    fault: Option<(u64, Fault)>,
    read_fault: Option<u64>,
    is_gone: bool,
    /// Did a sync fail that had something to do?
    has_lost: bool,
    /// Pages there are.
    limit: Option<usize>,
    locked: BTreeSet<PathBuf>,
    watch: Option<Arc<Watch>>,
    /// Pages of files that were read, by inode, if somebody wants to know.
    noted_reads: Option<BTreeSet<(u64, u64)>>,
}

/// Holds a path locked.
#[derive(Debug)]
pub(crate) struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.0.lock().locked.remove(&self.path);
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk(..)")
    }
}

impl fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moment(..)")
    }
}

impl Moment<'_> {
    /// What a power loss now would leave, on a disk of its own.
    #[must_use]
    pub fn crash(&self, seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(self.0.crash(seed))))
    }

    /// What the end of the process now would leave, on a disk of its own.
    #[must_use]
    pub fn kill(&self) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(self.0.kill())))
    }
}

impl SimDisk {
    /// An empty disk. The seed decides what a failed sync leaves.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let empty = State::holding(Names::default(), HashMap::new());
        Self(Arc::new(Mutex::new(State { seed, ..empty })))
    }

    /// As [`Moment::crash`].
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        Moment(&self.0.lock()).crash(seed)
    }

    /// Calls so far that changed something, or tried to.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// Did a sync fail? Files may read as they are not on the disk then.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.0.lock().has_lost
    }

    /// Reads of files so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.0.lock().reads
    }

    /// The changing call with this number, counted from one, will fail.
    pub fn fail(&self, call: u64, fault: Fault) {
        self.0.lock().fault = Some((call, fault));
    }

    /// The read with this number, counted from one, will fail.
    pub fn fail_read(&self, read: u64) {
        self.0.lock().read_fault = Some(read);
    }

    /// Files may take so many bytes more than they do. `None` gives the space back.
    pub fn limit(&self, more_bytes: Option<usize>) {
        let mut state = self.0.lock();
        state.limit = more_bytes.map(|more| state.used_pages() + more / content::PAGE_LEN);
    }

    /// Calls `watch` after every changing call.
    pub fn watch(&self, watch: Arc<Watch>) {
        self.0.lock().watch = Some(watch);
    }

    /// One changing call.
    fn change<T>(&self, work: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock();
        state.check()?;
        state.changes += 1;
        let fault = state.fault.filter(|(call, _)| *call == state.changes).map(|(_, fault)| fault);
        state.is_gone |= fault == Some(Fault::Gone);
        let done = work(&mut state, fault);
        if let Some(watch) = state.watch.clone() {
            watch(state.changes, &Moment(&state));
        }
        done
    }

    /// One changing call that a fault keeps from doing anything.
    fn change_whole<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.change(|state, fault| match fault {
            Some(Fault::Error | Fault::Gone) => Err(failure()),
            Some(Fault::Short) | None => work(state),
        })
    }

    pub(crate) fn open_file(&self, path: &Path) -> io::Result<SimFile> {
        let state = self.0.lock();
        state.check()?;
        match state.names.find(path)? {
            Node::File(inode) => Ok(SimFile::new(self.clone(), inode)),
            Node::Folder(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    pub(crate) fn create_file(&self, path: &Path) -> io::Result<SimFile> {
        self.change_whole(|state| {
            let inode = match state.names.find(path) {
                Ok(Node::File(inode)) => {
                    state.content(inode)?.set_len(0);
                    inode
                }
                Ok(Node::Folder(_)) => return Err(ErrorKind::IsADirectory.into()),
                Err(_) => {
                    let inode = state.new_inode();
                    state.names.create(path, Node::File(inode))?;
                    state.contents.insert(inode, Content::default());
                    inode
                }
            };
            Ok(SimFile::new(self.clone(), inode))
        })
    }

    pub(crate) fn open_or_create(&self, path: &Path) -> io::Result<SimFile> {
        if self.name_exists(path)? { self.open_file(path) } else { self.create_file(path) }
    }

    pub(crate) fn name_exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.0.lock();
        state.check()?;
        Ok(state.names.find(path).is_ok())
    }

    pub(crate) fn is_folder(&self, path: &Path) -> bool {
        matches!(self.0.lock().names.find(path), Ok(Node::Folder(_)))
    }

    pub(crate) fn names_in(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        state.check()?;
        state.names.list(dir)
    }

    pub(crate) fn create_folder(&self, dir: &Path) -> io::Result<()> {
        self.change_whole(|state| {
            let folder = Node::Folder(state.new_inode());
            state.names.create(dir, folder)
        })
    }

    pub(crate) fn remove_name(&self, path: &Path) -> io::Result<()> {
        self.change_whole(|state| state.names.remove(path))
    }

    pub(crate) fn link_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change_whole(|state| state.names.link(from, to))
    }

    pub(crate) fn are_same_file(&self, one: &Path, other: &Path) -> io::Result<bool> {
        let state = self.0.lock();
        state.check()?;
        Ok(state.names.find(one)? == state.names.find(other)?)
    }

    pub(crate) fn remove_folder(&self, dir: &Path) -> io::Result<()> {
        self.change_whole(|state| state.names.remove_all(dir))
    }

    pub(crate) fn rename_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change_whole(|state| state.names.rename(from, to))
    }

    pub(crate) fn sync_folder(&self, dir: &Path) -> io::Result<()> {
        self.change_whole(|state| state.names.sync(dir))
    }

    /// `None` if it is locked.
    pub(crate) fn lock(&self, path: &Path) -> Option<SimLock> {
        let is_new = self.0.lock().locked.insert(path.to_owned());
        is_new.then(|| SimLock { disk: self.clone(), path: path.to_owned() })
    }
}

impl State {
    fn check(&self) -> io::Result<()> {
        if self.is_gone { Err(failure()) } else { Ok(()) }
    }

    fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.next_inode
    }

    fn content(&mut self, inode: u64) -> io::Result<&mut Content> {
        self.contents.get_mut(&inode).ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Pages of files that have a name.
    fn used_pages(&self) -> usize {
        self.names.files().filter_map(|inode| self.contents.get(&inode)).map(Content::used_pages).sum()
    }

    fn crash(&self, seed: u64) -> Self {
        let names = self.names.crash(Random(mix(seed, 0, 0)));
        let survivor = |inode| {
            let content = self.contents.get(&inode)?;
            Some((inode, content.crash(Random(mix(seed, 1, inode)))))
        };
        let contents = names.files().filter_map(survivor).collect();
        Self { seed, next_inode: self.next_inode, ..Self::holding(names, contents) }
    }

    fn kill(&self) -> Self {
        let left = Self::holding(self.names.clone(), self.contents.clone());
        Self { seed: self.seed, next_inode: self.next_inode, ..left }
    }

    fn holding(names: Names, contents: HashMap<u64, Content>) -> Self {
        Self {
            seed: 0,
            names,
            contents,
            next_inode: 1,
            changes: 0,
            reads: 0,
            fault: None,
            read_fault: None,
            is_gone: false,
            has_lost: false,
            limit: None,
            locked: BTreeSet::new(),
            watch: None,
            noted_reads: None,
        }
    }
}

fn failure() -> io::Error {
    io::Error::other("the simulated disk failed")
}

/// A number that its three parts decide.
fn mix(a: u64, b: u64, c: u64) -> u64 {
    let mut x = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ c.wrapping_mul(0xd1b5_4a32_d192_ed03);
    for _ in 0..3 {
        x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    x ^ (x >> 29)
}

/// Numbers that a place decides and not the order in which they are asked for.
#[derive(Debug, Clone, Copy)]
struct Random(u64);

impl Random {
    fn at(self, a: u64, b: u64) -> u64 {
        mix(self.0, a.wrapping_add(1), b)
    }

    /// Of this file or folder, so many eighths survive: none, few, half, most or all.
    fn survivors_in_8(self) -> u64 {
        [0, 1, 4, 7, 8].get(self.0 as usize % 5).copied().unwrap_or_default()
    }

    /// Does something survive?
    fn survives(self, a: u64, b: u64) -> bool {
        self.at(a, b) % 8 < self.survivors_in_8()
    }
}
