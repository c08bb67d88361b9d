//! Names in folders: as they read, as they are on the disk, and what is on its way there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use super::Random;

const ROOT: u64 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    File(u64),
    Folder(u64),
}

/// A folder and a name in it.
type Name = (u64, String);
type Tree = BTreeMap<Name, Node>;

#[derive(Debug, Clone)]
enum Change {
    Set(String, Node),
    Remove(String),
    Rename { from: String, to: String, node: Node },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    live: Tree,
    durable: Tree,
    /// What happened to each folder since it was synced, oldest first.
    changes: BTreeMap<u64, Vec<Change>>,
}

impl Names {
    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Folder(ROOT);
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Folder(folder) = node else { return Err(ErrorKind::NotADirectory.into()) };
            let name = (folder, name.to_string_lossy().into_owned());
            node = *self.live.get(&name).ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        }
        Ok(node)
    }

    fn folder(&self, path: &Path) -> io::Result<u64> {
        match self.find(path)? {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn name(&self, path: &Path) -> io::Result<Name> {
        let (Some(around), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        Ok((self.folder(around)?, name.to_string_lossy().into_owned()))
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let folder = self.folder(dir)?;
        let names = self.live.keys().filter(|(of, _)| *of == folder);
        Ok(names.map(|(_, name)| name.clone()).collect())
    }

    pub(super) fn files(&self) -> impl Iterator<Item = u64> {
        self.live.values().filter_map(|node| match node {
            Node::File(inode) => Some(*inode),
            Node::Folder(_) => None,
        })
    }

    fn note(&mut self, folder: u64, change: Change) {
        self.changes.entry(folder).or_default().push(change);
    }

    pub(super) fn create(&mut self, path: &Path, node: Node) -> io::Result<()> {
        let (folder, name) = self.name(path)?;
        if self.live.contains_key(&(folder, name.clone())) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.live.insert((folder, name.clone()), node);
        self.note(folder, Change::Set(name, node));
        Ok(())
    }

    /// Gives a file one more name.
    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        match self.find(from)? {
            Node::File(inode) => self.create(to, Node::File(inode)),
            Node::Folder(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// Removes a file.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        match self.find(path)? {
            Node::File(_) => self.unlink(self.name(path)?),
            Node::Folder(_) => return Err(ErrorKind::IsADirectory.into()),
        }
        Ok(())
    }

    fn unlink(&mut self, (folder, name): Name) {
        self.live.remove(&(folder, name.clone()));
        self.note(folder, Change::Remove(name));
    }

    /// Removes a folder and all in it.
    pub(super) fn remove_all(&mut self, dir: &Path) -> io::Result<()> {
        let folder = self.folder(dir)?;
        for name in self.list(dir)? {
            let path = dir.join(&name);
            match self.find(&path)? {
                Node::File(_) => self.unlink((folder, name)),
                Node::Folder(_) => self.remove_all(&path)?,
            }
        }
        self.unlink(self.name(dir)?);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        let ((folder, from), (other, to)) = (self.name(from)?, self.name(to)?);
        if folder != other {
            return Err(ErrorKind::CrossesDevices.into());
        }
        self.live.remove(&(folder, from.clone()));
        self.live.insert((folder, to.clone()), node);
        self.note(folder, Change::Rename { from, to, node });
        Ok(())
    }

    pub(super) fn sync(&mut self, dir: &Path) -> io::Result<()> {
        let folder = self.folder(dir)?;
        for change in self.changes.remove(&folder).unwrap_or_default() {
            change.apply(folder, &mut self.durable, true);
        }
        Ok(())
    }

    pub(super) fn crash(&self, random: Random) -> Self {
        let mut left = self.durable.clone();
        for (folder, changes) in &self.changes {
            survive(*folder, changes, &mut left, Random(random.at(*folder, 0)));
        }
        // What is in a folder without a name is lost with it.
        let mut reached = BTreeSet::from([ROOT]);
        loop {
            let inside = left.iter().filter(|((folder, _), _)| reached.contains(folder));
            let more: BTreeSet<u64> = inside
                .filter_map(|(_, node)| match node {
                    Node::Folder(folder) => Some(*folder),
                    Node::File(_) => None,
                })
                .filter(|folder| !reached.contains(folder))
                .collect();
            if more.is_empty() {
                break;
            }
            reached.extend(more);
        }
        left.retain(|(folder, _), _| reached.contains(folder));
        Self { live: left.clone(), durable: left, changes: BTreeMap::new() }
    }
}

fn survive(folder: u64, changes: &[Change], tree: &mut Tree, random: Random) {
    for (number, change) in (0..).zip(changes) {
        if random.survives(number, 0) {
            change.apply(folder, tree, !random.at(number, 1).is_multiple_of(4));
        }
    }
}

impl Change {
    /// A rename that is not `whole` leaves the old name too.
    fn apply(&self, folder: u64, tree: &mut Tree, whole: bool) {
        match self {
            Self::Set(name, node) => {
                tree.insert((folder, name.clone()), *node);
            }
            Self::Remove(name) => {
                tree.remove(&(folder, name.clone()));
            }
            Self::Rename { from, to, node } => {
                let from = (folder, from.clone());
                if whole && tree.get(&from) == Some(node) {
                    tree.remove(&from);
                }
                tree.insert((folder, to.clone()), *node);
            }
        }
    }
}
