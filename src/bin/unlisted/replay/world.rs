//! The index of a run: in a temporary folder, under a clock that the run moves, closed and killed as the run wants.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use unlisted::{DisclosureSync, Index, ManualClock, Options, QuotaPolicy, Secret};

use super::numbers::Numbers;
use crate::error::CliError;
use crate::input::shown;

/// November 2026. It is the same in every run, so that runs are.
const START_MS: u64 = 1_795_000_000_000;
const HOUR: Duration = Duration::from_secs(3_600);
/// Memory that looks like a folder: a simulated night must not wait for a device.
const MEMORY_FOLDER: &str = "/dev/shm";

/// Numbers of one lookup, the default of an index.
pub const MAX_BATCH: u64 = 10_000;

pub struct World {
    /// Above its folder: fields are dropped in order, and what is open is closed before its files go.
    index: Option<Index>,
    folder: Folder,
    /// How often it was killed; each life has a folder of its own.
    life: u32,
    clock: Arc<ManualClock>,
    quotas: QuotaPolicy,
}

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind in the temporary folder is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new(name: &str) -> Result<Self, CliError> {
        let name = format!("unlisted-replay-{}-{name}", std::process::id());
        let in_memory = Path::new(MEMORY_FOLDER).join(&name);
        if std::env::var_os("TMPDIR").is_none() && fs::create_dir(&in_memory).is_ok() {
            return Ok(Self(in_memory));
        }
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).map_err(CliError::file("create", &shown(&path)))?;
        Ok(Self(path))
    }
}

impl World {
    /// A new index with the listings among the first `count` numbers.
    pub fn new(name: &str, quotas: QuotaPolicy, numbers: Numbers, count: u64) -> Result<Self, CliError> {
        let clock = Arc::new(ManualClock::at_wall_ms(START_MS));
        let mut world = Self { folder: Folder::new(name)?, life: 0, clock, quotas, index: None };
        world.open()?.import(numbers.listings(count))?;
        Ok(world)
    }

    fn dir(&self) -> PathBuf {
        self.folder.0.join(self.life.to_string())
    }

    /// The index, which is opened if it was closed.
    pub fn open(&mut self) -> Result<&Index, CliError> {
        let (dir, options) = (self.dir(), self.options());
        match &mut self.index {
            Some(index) => Ok(index),
            closed => Ok(closed.insert(Index::open(dir, options)?)),
        }
    }

    fn options(&self) -> Options {
        // Its secret is no secret: nothing but made-up numbers is in it.
        Options::new(Secret::from_bytes([0x9e; 32]))
            .quotas(self.quotas.clone())
            .clock(self.clock.clone())
            .background(false)
            .max_batch(MAX_BATCH as usize)
            .activity_scopes(1_024)
            .disclosure_sync(DisclosureSync::Written { sync_within_ms: 60_000 })
    }

    pub fn pass_an_hour(&self) {
        self.clock.advance(HOUR);
    }

    /// A clean end; the next use opens it again.
    pub fn close(&mut self) {
        self.index = None;
    }

    /// An end without a close: what goes on is a copy of the files as they were while the index was in use.
    pub fn kill(&mut self) -> Result<(), CliError> {
        let killed = self.dir();
        self.life += 1;
        copy(&killed, &self.dir())?;
        self.index = None;
        fs::remove_dir_all(&killed).map_err(CliError::file("remove", &shown(&killed)))
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), CliError> {
    fs::create_dir(to).map_err(CliError::file("create", &shown(to)))?;
    let failed = || CliError::file("read", &shown(from));
    for item in fs::read_dir(from).map_err(failed())? {
        let item = item.map_err(failed())?;
        let target = to.join(item.file_name());
        if item.file_type().map_err(failed())?.is_dir() {
            copy(&item.path(), &target)?;
        } else {
            fs::copy(item.path(), &target).map_err(CliError::file("copy", &shown(&item.path())))?;
        }
    }
    Ok(())
}
