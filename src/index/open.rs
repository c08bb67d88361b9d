//! Opening: lock, files, secret, ledger, segments, overlay, in this order; and making a new index.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::{Mutex, RwLock};

use super::epoch_file::EpochFile;
use super::group::Group;
use super::lag::Followed;
use super::maintain::{Wake, Worker};
use super::memory::{Residency, on_all_cores};
use super::options::Create;
use super::segments::{FOLDER, LiveSegment, SegmentMap};
use super::stats::Seen;
use super::{Index, Inner, Options, Writer, temporary};
use crate::disk::{DirLock, Disk};
use crate::ledger::{self, ActivityOptions, LedgerOptions, LedgerState, RedbLedger};
use crate::store::{self, Changes, SegmentRow, State, Store};
use crate::words::{Error, KeyRing, Result};

impl Index {
    /// Opens the index in a directory, and creates it where there is none (see [`Options::must_exist`]).
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::NotAnIndex`], [`Error::AlreadyExists`], [`Error::WrongSecret`]; for a ledger
    /// that is not this index's own newest one [`Error::LedgerMissing`], [`Error::LedgerForeign`],
    /// [`Error::LedgerOlder`] or [`Error::IndexOlder`], or with an epoch file [`Error::LedgerRestored`],
    /// [`Error::EpochFileMissing`] or [`Error::EpochFileForeign`]; for its disclosure log [`Error::DisclosuresMissing`],
    /// [`Error::DisclosuresForeign`] or [`Error::DisclosuresOlder`]; [`Error::Damaged`] and its kin for bytes that no writer
    /// wrote.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        let dir = dir.as_ref();
        options.check()?;
        prepare_folder(dir, &options)?;
        let lock = DirLock::acquire(&options.disk, dir)?;
        let ring = KeyRing::new(&options.secret);
        create_if_wanted(dir, &options, &ring)?;

        let (store, state, overlay) = Store::open(dir, &options.index_database())?;
        if state.check_value != ring.check_value() {
            return Err(Error::WrongSecret { dir: dir.to_owned() });
        }
        let ledger = RedbLedger::open(dir, &ledger_options(&options))?;
        check_ledger(&store, &state, &ledger)?;
        let shard = super::shards::open(&store, &state, &options)?;
        let epoch_file = EpochFile::open(&options, &ledger)?;
        let state = enter_epoch(&store, state, &ledger)?;
        if let Some(file) = &epoch_file {
            file.note(&ledger, options.clock.monotonic_ns(), true)?;
        }
        let disclosures = super::disclosures::open(dir, &options, &store, &state, &ledger)?;

        #[cfg(feature = "valkey")]
        let fleet = super::fleet::join(&options, &ring, &ledger)?;
        let residency = Residency::new(&options);
        let segments = open_segments(&options.disk, dir, &store, &state, &residency)?;
        let inner = Arc::new(Inner {
            dir: dir.to_owned(),
            clock: options.clock.clone(),
            ring,
            store,
            ledger,
            #[cfg(feature = "valkey")]
            fleet,
            epoch_file,
            disclosures,
            writer: Mutex::new(Writer { state, poison: None }),
            group: Group::default(),
            structure: Mutex::new(()),
            overlay: RwLock::new(overlay),
            segments: ArcSwap::from_pointee(segments),
            shard: ArcSwapOption::new(shard.map(Arc::new)),
            residency,
            seen: Seen::default(),
            followed: Followed::default(),
            watch: Mutex::default(),
            wake: Arc::new(Wake::default()),
            options,
            _lock: lock,
        });
        let worker = Arc::new(Worker::start(&inner)?);
        #[cfg(feature = "valkey")]
        let heart = super::fleet::Heart::start(&inner)?.map(Arc::new);
        Ok(Self {
            inner,
            _worker: worker,
            #[cfg(feature = "valkey")]
            _heart: heart,
        })
    }
}

impl Inner {
    /// Leaves both files knowing how far the other is, so that an older copy of either is found out.
    fn close(&self) -> Result<()> {
        // A broken disclosure log is no reason to leave the two apart.
        let noted = self.note_disclosures();
        #[cfg(feature = "valkey")]
        if let Some(fleet) = &self.fleet {
            fleet.leave();
        }
        self.ledger.settle()?;
        if let Some(file) = &self.epoch_file {
            file.note(&self.ledger, self.clock.monotonic_ns(), true)?;
        }
        let mut writer = self.writer.lock();
        let mut next = writer.state.clone();
        next.ledger_commits = self.ledger.commits();
        writer.commit(next, |next| self.store.commit(&Changes::default(), next))?;
        noted
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(error = error.with_causes(), "the index closed without settling; nothing is lost");
        }
    }
}

pub(super) fn ledger_options(options: &Options) -> LedgerOptions {
    LedgerOptions {
        database: options.ledger_database(),
        max_clock_jump: options.max_clock_jump,
        clock: options.clock.clone(),
        active_buckets: options.active_callers,
        max_lease: u64::from(options.max_lease),
        novelty_window: options.novelty_window,
        novelty_bytes: options.novelty_bytes,
        activity: ActivityOptions { scopes: options.activity_scopes, retention: options.activity_retention },
        background: options.background,
    }
}

fn prepare_folder(dir: &Path, options: &Options) -> Result<()> {
    let disk = &options.disk;
    let missing = !disk.exists(dir)?;
    if options.create == Create::Never && (missing || !has_files(disk, dir)?) {
        return Err(Error::NotAnIndex { dir: dir.to_owned() });
    }
    // Also if the folder is there: an interrupted creation may not have made it durable.
    if disk.exists(&dir.join(store::FILE_NAME))? { Ok(()) } else { disk.create_dir_all(dir) }
}

/// Is there any of the files that an index has?
fn has_files(disk: &Disk, dir: &Path) -> Result<bool> {
    for name in [store::FILE_NAME, ledger::FILE_NAME, FOLDER] {
        if disk.exists(&dir.join(name))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a new index where there is none.
///
/// The ledger comes first and `index.redb` last, by a rename, so that an interrupted creation leaves at most a
/// ledger that was never used; only such a one may be made again. A used ledger without an index, or an index
/// without its ledger, is a loss that the host must hear of.
fn create_if_wanted(dir: &Path, options: &Options, ring: &KeyRing) -> Result<()> {
    let index_path = dir.join(store::FILE_NAME);
    let disk = &options.disk;
    if disk.exists(&index_path)? {
        if options.create == Create::Always {
            return Err(Error::AlreadyExists { dir: dir.to_owned() });
        }
        // A process that was killed may have put a database in its place, and not durably yet: what is committed to it from
        // here on must not be lost with its name.
        return disk.sync_dir(dir);
    }
    let ledger_path = dir.join(ledger::FILE_NAME);
    if disk.exists(&ledger_path)? {
        let left = RedbLedger::open(dir, &ledger_options(options))?.state();
        if !left.is_pristine() {
            return Err(index_older(&index_path, 0, 0, &left));
        }
        disk.remove_file(&ledger_path)?;
    }
    if options.create == Create::Never {
        return Err(Error::NotAnIndex { dir: dir.to_owned() });
    }
    disk.create_dir_all(&dir.join(FOLDER))?;
    let state = State {
        index_id: random_id()?,
        check_value: ring.check_value(),
        ledger_id: random_id()?,
        epoch: 0,
        ledger_commits: 0,
        next_generation: 1,
        snapshot_version: 0,
        watermark: None,
        tripwires: 0,
        forgotten: 0,
    };
    let policy = options.quotas.clone().unwrap_or_default();
    let first = LedgerState::new(state.ledger_id, state.index_id, policy, options.clock.wall_ms());
    RedbLedger::create(dir, &options.ledger_database(), &first)?;
    Store::create(dir, &options.index_database(), &state)
}

fn random_id() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Error::Random { reason: error.to_string() })?;
    Ok(id)
}

/// Is the ledger this index's own, and neither an older copy nor ahead of an older copy of the index?
fn check_ledger(store: &Store, state: &State, ledger: &RedbLedger) -> Result<()> {
    let found = ledger.state();
    if found.ledger_id != state.ledger_id || found.index_id != state.index_id {
        return Err(Error::LedgerForeign { path: ledger.path().to_owned() });
    }
    if found.commits < state.ledger_commits {
        let (found, expected) = (found.commits, state.ledger_commits);
        return Err(Error::LedgerOlder { path: ledger.path().to_owned(), found, expected });
    }
    if found.epoch > state.epoch || found.index_version > state.snapshot_version {
        return Err(index_older(store.path(), state.epoch, state.snapshot_version, &found));
    }
    Ok(())
}

fn index_older(path: &Path, found_epoch: u64, found_version: u64, ledger: &LedgerState) -> Error {
    Error::IndexOlder {
        path: path.to_owned(),
        found_epoch,
        expected_epoch: ledger.epoch,
        found_version,
        expected_version: ledger.index_version,
    }
}

/// Counts this opening in both files, in the index first: a crash in between leaves the ledger behind, which is
/// no fault, and never ahead.
fn enter_epoch(store: &Store, mut state: State, ledger: &RedbLedger) -> Result<State> {
    // After a restore the ledger may have gone on from a later epoch.
    state.epoch = state.epoch.max(ledger.state().epoch) + 1;
    store.commit(&Changes::default(), &state)?;
    ledger.enter_epoch(state.epoch)?;
    state.ledger_commits = ledger.commits();
    store.commit(&Changes::default(), &state)?;
    Ok(state)
}

/// Maps the segments that the manifest names, or reads them, and removes every other file of the folder.
fn open_segments(
    disk: &Disk,
    dir: &Path,
    store: &Store,
    state: &State,
    residency: &Residency,
) -> Result<SegmentMap> {
    let rows = store.manifest()?;
    residency.check_room(store::bytes_of(&rows))?;
    let live = Mutex::new(Vec::with_capacity(rows.len()));
    on_all_cores(&rows, &|| false, |row| {
        let segment = LiveSegment::open(residency, (disk, dir), row, state.index_id)?;
        live.lock().push(Arc::new(segment));
        Ok(())
    })?;
    let live = live.into_inner();
    let names: HashSet<_> = rows.iter().map(SegmentRow::file_name).collect();
    let map = SegmentMap::new(live).ok_or_else(|| Error::DamagedRow {
        path: store.path().to_owned(),
        table: "segments",
        reason: "two segments cover the same keys",
    })?;
    let folder = dir.join(FOLDER);
    for name in disk.list(&folder)? {
        let ours = name.ends_with(".seg") || name.ends_with(".seg.tmp");
        if ours && !names.contains(&name) {
            tracing::info!(name, "removing a segment file that no transaction named");
            disk.remove_file(&folder.join(name))?;
        }
    }
    temporary::remove_leftovers(disk, dir)?;
    Ok(map)
}
