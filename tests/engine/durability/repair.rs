//! Damaged segments: what can be read stays, what cannot comes from a backup or is told, and no opt-out is undone unseen.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use unlisted::{
    AccountId, BackupMode, Error, Index, ManualClock, OptIns, Options, Purpose, RangeOutcome, RepairReport,
};

use crate::common::{self, ask, clock, number, secret};

const COUNT: u64 = 3_000;

fn options(clock: &Arc<ManualClock>) -> Options {
    common::options(clock).segment_listings(1_000)
}

struct World {
    _folder: tempfile::TempDir,
    dir: PathBuf,
    backup: PathBuf,
    clock: Arc<ManualClock>,
}

impl World {
    /// An index of segments only, at watermark 1.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (dir, backup) = (folder.path().join("index"), folder.path().join("backup"));
        let world = Self { _folder: folder, dir, backup, clock: clock() };
        let index = world.open().unwrap();
        put_all(&index, 1);
        index.fold().unwrap();
        world
    }

    fn open(&self) -> unlisted::Result<Index> {
        Index::open(&self.dir, options(&self.clock))
    }

    fn repair(&self, from: Option<&Path>) -> unlisted::Result<RepairReport> {
        Index::repair(&self.dir, options(&self.clock), from)
    }

    fn back_up(&self, mode: BackupMode) {
        self.open().unwrap().backup(&self.backup, mode).unwrap();
    }

    /// A segment's file, the first in the order of ranges.
    fn segment(&self) -> PathBuf {
        let items = fs::read_dir(self.dir.join("segments")).unwrap();
        items.map(|item| item.unwrap().path()).min().unwrap()
    }

    /// Which numbers are found.
    fn found(&self) -> Vec<u64> {
        let index = self.open().unwrap();
        index.verify(|_, _| ()).unwrap();
        let numbers: Vec<_> = (0..COUNT).map(number).collect();
        ask(&index, Purpose::Search, &numbers).into_iter().map(|(position, _)| position as u64).collect()
    }
}

fn put_all(index: &Index, version: u64) {
    let done = index.update(|batch| {
        batch.watermark(version.to_be_bytes())?;
        (0..COUNT).try_for_each(|i| batch.put(number(i), AccountId::from(i), OptIns::SEARCH, version))
    });
    done.unwrap();
}

fn opt_out(index: &Index, numbers: std::ops::Range<u64>, version: u64) {
    let done = index.update(|batch| {
        batch.watermark(version.to_be_bytes())?;
        numbers.clone().try_for_each(|i| batch.put(number(i), AccountId::from(i), OptIns::empty(), version))
    });
    done.unwrap();
}

/// Changes a byte where it is, as a disk would: a link has it too.
fn damage(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

/// Where the table begins: behind the header and six filters of 12 bits a listing, in whole pages.
fn table_at(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    let members = |i: usize| u64::from_le_bytes(bytes[96 + 8 * i..104 + 8 * i].try_into().unwrap());
    let blocks: u64 = (0..6).map(|i| (12 * members(i)).div_ceil(512).max(1)).sum();
    4_096 + (blocks * 64).next_multiple_of(4_096)
}

fn watermark(version: u64) -> Option<Vec<u8>> {
    Some(version.to_be_bytes().to_vec())
}

#[test]
fn nothing_is_done_where_nothing_is_wrong() {
    let world = World::new();
    let before = world.found();
    let report = world.repair(None).unwrap();
    assert!(report.segments >= 3 && report.ranges.is_empty() && !report.is_replay_needed);
    assert_eq!((report.watermark.clone(), report.watermark_before), (watermark(1), watermark(1)));
    assert_eq!(world.found(), before);
    assert_eq!(before.len() as u64, COUNT);
    assert!(!world.dir.join("quarantine").exists());
}

#[test]
fn a_damaged_page_costs_its_listings_and_no_others() {
    let world = World::new();
    let path = world.segment();
    damage(&path, table_at(&path) + 4_096 + 50);
    assert!(world.open().unwrap().verify(|_, _| ()).is_err());
    let report = world.repair(None).unwrap();
    let [range] = &report.ranges[..] else { panic!("{report:?}") };
    assert_eq!(range.outcome, RangeOutcome::Lost);
    assert!(range.listings_read > range.listings_before * 3 / 4, "{range:?}");
    // The log still has what was folded last, unless it was trimmed: here it was.
    assert_eq!(range.listings, range.listings_read);
    assert!(!range.affected.is_empty() && range.affected.iter().all(|(first, last)| first <= last));
    let affected: u128 = range.affected.iter().map(|(first, last)| u128::from(last - first) + 1).sum();
    assert!(affected < 1 << 62, "about a page of a segment: {affected:x}");
    assert!(range.cause.contains(&range.file), "{range:?}");
    assert!(world.dir.join("quarantine").join(&range.file).exists());
    assert!(report.is_replay_needed);
    assert_eq!((report.watermark.clone(), report.watermark_before.clone()), (None, watermark(1)));

    let found = world.found().len() as u64;
    assert_eq!(found, COUNT - (range.listings_before - range.listings));
    // The host's feed fills it again; for everything else it says nothing new.
    let index = world.open().unwrap();
    assert_eq!(index.watermark(), None);
    put_all(&index, 1);
    drop(index);
    assert_eq!(world.found().len() as u64, COUNT);
}

#[test]
fn a_damaged_filter_costs_nothing() {
    let world = World::new();
    damage(&world.segment(), 4_096 + 20);
    let report = world.repair(None).unwrap();
    assert_eq!(report.ranges[0].outcome, RangeOutcome::Whole);
    assert!(report.ranges[0].affected.is_empty() && !report.is_replay_needed);
    assert_eq!(report.watermark, watermark(1));
    assert_eq!(world.found().len() as u64, COUNT);
}

#[test]
fn the_same_segment_of_a_backup_is_everything() {
    let world = World::new();
    world.back_up(BackupMode::Copied);
    // Changes since are in the log: they do not depend on the segment.
    opt_out(&world.open().unwrap(), 0..40, 2);
    let damages: [&dyn Fn(&Path); 5] = [
        &|path| fs::remove_file(path).unwrap(),
        &|path| fs::write(path, b"").unwrap(),
        &|path| fs::write(path, [0; 100]).unwrap(),
        &|path| damage(path, 20),
        &|path| damage(path, table_at(path) + 9_000),
    ];
    for damage in damages {
        damage(&world.segment());
        let report = world.repair(Some(&world.backup)).unwrap();
        assert_eq!(report.ranges.len(), 1);
        assert_eq!(report.ranges[0].outcome, RangeOutcome::Whole, "{report:?}");
        assert!(!report.is_replay_needed && report.backup_version.is_some());
        assert_eq!(report.watermark, watermark(2));
        assert_eq!(world.found(), (40..COUNT).collect::<Vec<_>>());
    }
    // Missing files leave nothing to put aside.
    assert_eq!(fs::read_dir(world.dir.join("quarantine")).unwrap().count(), 4);
}

#[test]
fn an_older_backup_fills_what_cannot_be_read_and_says_what_has_to_be_replayed() {
    let world = World::new();
    // Opt-outs that the backup has in its log only ...
    opt_out(&world.open().unwrap(), 0..30, 2);
    world.back_up(BackupMode::Copied);
    // ... that were folded since, and that are not folded yet.
    let index = world.open().unwrap();
    opt_out(&index, 30..60, 3);
    index.fold().unwrap();
    opt_out(&index, 60..90, 4);
    drop(index);
    for item in fs::read_dir(world.dir.join("segments")).unwrap() {
        fs::write(item.unwrap().path(), b"gone").unwrap();
    }
    assert!(world.open().is_err());
    let report = world.repair(Some(&world.backup)).unwrap();
    assert!(report.ranges.iter().all(|range| range.outcome == RangeOutcome::FromBackup), "{report:?}");
    assert!(report.ranges.iter().all(|range| range.listings_read == 0 && range.affected.len() == 1));
    assert!(report.is_replay_needed);
    assert_eq!((report.watermark.clone(), report.watermark_before.clone()), (watermark(2), watermark(4)));

    // Not in the log any more and not in the backup: undone until the feed is replayed, and the report said so.
    assert_eq!(world.found(), (30..60).chain(90..COUNT).collect::<Vec<_>>());
    let index = world.open().unwrap();
    assert_eq!(index.watermark(), watermark(2));
    opt_out(&index, 30..60, 3);
    opt_out(&index, 60..90, 4);
    drop(index);
    assert_eq!(world.found(), (90..COUNT).collect::<Vec<_>>());
}

#[test]
fn an_erasure_is_not_undone_where_the_log_or_the_segment_still_knows_it() {
    let world = World::new();
    world.back_up(BackupMode::Copied);
    let index = world.open().unwrap();
    index.erase_accounts(&(0..50).map(AccountId::from).collect::<Vec<_>>()).unwrap();
    drop(index);
    let path = world.segment();
    fs::remove_file(&path).unwrap();
    world.repair(Some(&world.backup)).unwrap();
    assert_eq!(world.found(), (50..COUNT).collect::<Vec<_>>());
    // Folded, and a page of another kind of data damaged: removals that can be read stay removals.
    world.open().unwrap().fold().unwrap();
    let path = world.segment();
    damage(&path, 4_096 + 20);
    assert!(!world.repair(Some(&world.backup)).unwrap().is_replay_needed);
    assert_eq!(world.found(), (50..COUNT).collect::<Vec<_>>());
}

#[test]
fn a_backup_that_shares_the_damage_does_not_help_and_one_of_another_index_is_refused() {
    let world = World::new();
    world.back_up(BackupMode::Linked);
    let path = world.segment();
    damage(&path, table_at(&path) + 4_096 + 50);
    let report = world.repair(Some(&world.backup)).unwrap();
    assert_eq!(report.ranges[0].outcome, RangeOutcome::Lost);
    assert!(report.is_replay_needed && report.watermark.is_none());

    let other = World::new();
    other.back_up(BackupMode::Copied);
    let foreign = world.repair(Some(&other.backup));
    assert!(matches!(foreign, Err(Error::BackupForeign { .. })), "{foreign:?}");
    let none = world.repair(Some(&world.dir.join("segments")));
    assert!(matches!(none, Err(Error::NotABackup { .. })), "{none:?}");
    let wrong = Index::repair(&world.dir, Options::new(unlisted::Secret::from_bytes([1; 32])), None);
    assert!(matches!(wrong, Err(Error::WrongSecret { .. })), "{wrong:?}");
    let nothing = Index::repair(world.dir.join("segments"), Options::new(secret()), None);
    assert!(matches!(nothing, Err(Error::NotAnIndex { .. })), "{nothing:?}");
    let open = world.open().unwrap();
    assert!(matches!(world.repair(None), Err(Error::InUse { .. })));
    drop(open);
}

#[test]
fn a_backup_of_a_later_state_is_of_another_copy() {
    let world = World::new();
    world.back_up(BackupMode::Copied);
    let early = world.dir.with_file_name("early");
    drop(Index::restore(&world.backup, &early, options(&world.clock)).unwrap());
    let index = world.open().unwrap();
    opt_out(&index, 0..5, 2);
    index.backup(&world.backup, BackupMode::Copied).unwrap();
    let newer = Index::repair(&early, options(&world.clock), Some(&world.backup));
    assert!(matches!(newer, Err(Error::BackupNewer { .. })), "{newer:?}");
}
