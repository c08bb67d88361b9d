//! Files and folders that only the process that made them needs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{backup, import, repair};
use crate::disk::Disk;
use crate::words::Result;

/// What the names of such folders begin with.
const PREFIXES: [&str; 3] = [import::FOLDER_PREFIX, backup::FOLDER_PREFIX, repair::FOLDER_PREFIX];

/// Databases that did not take their places.
const DATABASES: [&str; 2] = ["index.redb.tmp", "ledger.redb.tmp"];

/// A folder that goes when it is dropped.
#[derive(Debug)]
pub(super) struct TemporaryFolder {
    disk: Disk,
    path: PathBuf,
}

impl TemporaryFolder {
    /// Makes a folder in the directory of an index that this process has open.
    pub(super) fn create(disk: &Disk, dir: &Path, prefix: &str) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = dir.join(format!("{prefix}{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        disk.create_dir(&path)?;
        Ok(Self { disk: disk.clone(), path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder and says if that fails.
    pub(super) fn remove(self) -> Result<()> {
        self.disk.remove_dir_all(&self.path)
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // Gone already after `remove`; after an error the next open removes it.
        let _ = self.disk.remove_dir_all(&self.path);
    }
}

/// Removes what was left behind by work that did not end. Nobody else has the directory open.
pub(super) fn remove_leftovers(disk: &Disk, dir: &Path) -> Result<()> {
    for name in disk.list(dir)? {
        let path = dir.join(&name);
        if DATABASES.contains(&name.as_str()) {
            // One that was being written anew.
            disk.remove_file(&path)?;
        }
        if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && disk.is_dir(&path) {
            tracing::info!(name, "removing what interrupted work left behind");
            disk.remove_dir_all(&path)?;
        }
    }
    Ok(())
}
