//! Folders of files that only the process that made them needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{backup, import, repair};
use crate::words::{Error, Result};

/// What the names of such folders begin with.
const PREFIXES: [&str; 3] = [import::FOLDER_PREFIX, backup::FOLDER_PREFIX, repair::FOLDER_PREFIX];

/// A folder that goes when it is dropped.
#[derive(Debug)]
pub(super) struct TemporaryFolder {
    path: PathBuf,
}

impl TemporaryFolder {
    /// Makes a folder in the directory of an index that this process has open.
    pub(super) fn create(dir: &Path, prefix: &str) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = dir.join(format!("{prefix}{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder and says if that fails.
    pub(super) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.path).map_err(Error::io("remove", &self.path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // Gone already after `remove`; after an error the next open removes it.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what was left behind by work that did not end. Nobody else has the directory open.
pub(super) fn remove_leftovers(dir: &Path) -> Result<()> {
    for item in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = item.map_err(Error::io("list", dir))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && path.is_dir() {
            tracing::info!(name, "removing what interrupted work left behind");
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}
