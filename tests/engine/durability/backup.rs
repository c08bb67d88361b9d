//! Backups of an index that serves, restores of them, and every way in which a backup can be wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use unlisted::{
    AccountId, BackupMode, Caller, DisclosureQuery, Error, Index, ManualClock, OptIns, Options, Purpose, Quota,
    QuotaPolicy,
};

use crate::common::{self, ask, clock, number, options, secret};

fn optins(version: u64) -> OptIns {
    OptIns::from_bits_truncate(version as u8 & 0x3f)
}

/// An index of `count` listings in several segments, of which "test" paid for the first ten.
fn filled(dir: &Path, clock: &Arc<ManualClock>, count: u64) -> Index {
    let index = Index::open(dir, options(clock).segment_listings(1_000)).unwrap();
    put(&index, 0..count, 1);
    index.fold().unwrap();
    ask(&index, Purpose::Search, &(0..10).map(number).collect::<Vec<_>>());
    index
}

fn put(index: &Index, numbers: std::ops::Range<u64>, version: u64) {
    let done = index.update(|batch| {
        batch.watermark(version.to_be_bytes())?;
        numbers.clone().try_for_each(|i| batch.put(number(i), AccountId::from(i), OptIns::SEARCH, version))
    });
    done.unwrap();
}

fn restore(from: &Path, dir: &Path, clock: &Arc<ManualClock>) -> unlisted::Result<Index> {
    Index::restore(from, dir, options(clock).segment_listings(1_000))
}

/// Every file below a folder, by its path in it, without `LOCK`.
fn files(dir: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inside, path)| (format!("{name}/{inside}"), path)));
        } else if name != "LOCK" {
            found.insert(name, path);
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for (name, path) in files(from) {
        let to = to.join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
}

/// The opt-ins of the ten numbers, from what lookups that were paid for before find.
fn found_optins(index: &Index) -> Vec<OptIns> {
    let mut found = vec![OptIns::empty(); 10];
    let numbers: Vec<_> = (0..10).map(number).collect();
    for purpose in Purpose::ALL {
        for (position, account) in ask(index, purpose, &numbers) {
            assert_eq!(account, AccountId::from(position as u64));
            found[position] |= OptIns::from(purpose);
        }
    }
    found
}

/// What threads did so far: the last version that was acknowledged, the last that was begun, numbers shown.
struct Done {
    acknowledged: AtomicU64,
    begun: AtomicU64,
    shown: AtomicU64,
    stop: AtomicBool,
}

/// A number that is found always.
const FOUND: u64 = 180;

/// Ten numbers change with every version, and more move, so that ranges are folded and split while backups are made.
fn write(index: &Index, version: u64) {
    let done = index.update(|batch| {
        batch.watermark(version.to_be_bytes())?;
        (0..10).try_for_each(|i| batch.put(number(i), AccountId::from(i), optins(version), version))?;
        (0..40).try_for_each(|i| {
            let i = 100 + (version * 40 + i) % 6_000;
            batch.put(number(i), AccountId::from(i), OptIns::SEARCH, version)
        })
    });
    done.unwrap();
}

impl Done {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn update(&self, index: &Index) {
        for version in (3..).take_while(|_| self.goes_on()) {
            self.begun.store(version, Ordering::SeqCst);
            write(index, version);
            self.acknowledged.store(version, Ordering::SeqCst);
        }
    }

    fn fold(&self, index: &Index) {
        while self.goes_on() {
            index.fold().unwrap();
        }
    }

    fn look_up(&self, index: &Index) {
        for i in (1..).take_while(|_| self.goes_on()) {
            index.lookup(&Caller::new(format!("caller {i}")), Purpose::Search, &[number(FOUND)]).unwrap();
            self.shown.store(i, Ordering::SeqCst);
            if i % 50 == 0 {
                index.compact_disclosures().unwrap();
            }
        }
    }
}

#[test]
fn a_backup_while_threads_update_fold_and_look_up_is_one_moment_of_it() {
    let world = tempfile::tempdir().unwrap();
    let clock = clock();
    let options = || options(&clock).segment_listings(1_000).background(true).fold_at_changes(500);
    let index = Index::open(world.path().join("index"), options()).unwrap();
    write(&index, 1);
    write(&index, 2);
    found_optins(&index);
    let [acknowledged, begun, shown] = [2, 2, 0].map(AtomicU64::new);
    let done = Done { acknowledged, begun, shown, stop: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        let _end = End(&done.stop);
        scope.spawn(|| done.update(&index));
        scope.spawn(|| done.fold(&index));
        scope.spawn(|| done.look_up(&index));
        for round in 0..6 {
            std::thread::sleep(std::time::Duration::from_millis(100));
            let [at_least, shown] =
                [&done.acknowledged, &done.shown].map(|counter| counter.load(Ordering::SeqCst));
            let (backup, to) = (world.path().join("backup"), world.path().join(format!("restored-{round}")));
            let mut stream = Vec::new();
            match round {
                5 => index.backup_to(&mut stream).unwrap(),
                0 | 2 | 4 => index.backup(&backup, BackupMode::Linked).unwrap(),
                _ => index.backup(&backup, BackupMode::Copied).unwrap(),
            };
            let at_most = done.begun.load(Ordering::SeqCst);
            let restored = match round {
                5 => Index::restore_from(&stream[..], &to, options()).unwrap(),
                _ => Index::restore(&backup, &to, options()).unwrap(),
            };
            let version = u64::from_be_bytes(restored.watermark().unwrap().try_into().unwrap());
            assert!((at_least..=at_most).contains(&version), "{at_least} {version} {at_most}");
            assert_eq!(found_optins(&restored), vec![optins(version); 10]);
            restored.verify(|_, _| ()).unwrap();
            // Who was shown before the backup began is on record in it.
            let of_account = DisclosureQuery::new().account(AccountId::from(FOUND));
            let told = restored.inspector().disclosures(&of_account).unwrap().count() as u64;
            assert!(told >= shown, "{told} of {shown}");
            assert_eq!(restored.budget(&Caller::new("never seen")).unwrap().remaining, 0);
        }
    });
}

/// Ends the threads of a test, also if it fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_second_backup_writes_only_what_changed() {
    let world = tempfile::tempdir().unwrap();
    let clock = clock();
    let index = filled(&world.path().join("index"), &clock, 6_000);
    let segments = index.stats().unwrap().segments as u64;
    assert!(segments >= 6);
    let backup = |name: &str, mode| index.backup(world.path().join(name), mode).unwrap();
    let first = backup("copied", BackupMode::Copied);
    assert_eq!((first.copied_files, first.unchanged_files, first.linked_files), (segments + 3, 0, 0));
    let again = backup("copied", BackupMode::Copied);
    assert_eq!((again.copied_files, again.unchanged_files, again.removed_files), (3, segments, 3));

    let linked = backup("linked", BackupMode::Linked);
    assert_eq!((linked.copied_files, linked.linked_files), (3, segments));
    assert_eq!(backup("linked", BackupMode::Linked).unchanged_files, segments);

    // One listing of one range changes.
    put(&index, 17..18, 2);
    index.fold().unwrap();
    index.compact_disclosures().unwrap();
    for name in ["copied", "linked"] {
        let mode = if name == "copied" { BackupMode::Copied } else { BackupMode::Linked };
        let third = backup(name, mode);
        let new = third.copied_files + third.linked_files;
        assert_eq!((new, third.unchanged_files), (1 + 3 + 1, segments - 1), "{name}");
        assert_eq!(third.removed_files, 4, "{name}");
    }
    // A copy that was a link until now is made.
    let parted = backup("linked", BackupMode::Copied);
    assert_eq!((parted.unchanged_files, parted.linked_files), (0, 0));
    assert_eq!(backup("linked", BackupMode::Copied).unchanged_files, segments + 1);
    drop(index);
    for name in ["copied", "linked"] {
        let restored =
            restore(&world.path().join(name), &world.path().join(format!("of {name}")), &clock).unwrap();
        assert_eq!(restored.verify(|_, _| ()).unwrap().listings, 6_000);
        assert_eq!(restored.watermark(), Some(2_u64.to_be_bytes().to_vec()));
    }
}

#[test]
fn a_restored_index_gives_no_budget_back_and_keeps_what_was_paid_for() {
    let world = tempfile::tempdir().unwrap();
    let epoch_file = world.path().join("epoch");
    let policy = QuotaPolicy::of_caller(Quota::per_hour(100, 1).unwrap());
    let options = || Options::new(secret()).background(false).quotas(policy.clone()).epoch_file(&epoch_file);
    let dir = world.path().join("index");
    let numbers = |range: std::ops::Range<u64>| range.map(number).collect::<Vec<_>>();
    let ada = Caller::new("ada");
    let index = Index::open(&dir, options()).unwrap();
    put(&index, 0..100, 1);
    assert_eq!(index.lookup(&ada, Purpose::Search, &numbers(0..10)).unwrap().charged(), 10);
    index.suspend(&Caller::new("bob"), "a scraper").unwrap();
    index.backup(world.path().join("backup"), BackupMode::Linked).unwrap();
    // After the backup: this must not come back.
    index.lookup(&ada, Purpose::Search, &numbers(10..70)).unwrap();
    drop(index);

    let restored = Index::restore(world.path().join("backup"), world.path().join("restored"), options()).unwrap();
    for caller in ["ada", "never seen"] {
        assert_eq!(restored.budget(&Caller::new(caller)).unwrap().remaining, 0);
    }
    let reply = restored.lookup(&ada, Purpose::Search, &numbers(0..20)).unwrap();
    assert_eq!((reply.charged(), reply.matches().count(), reply.deferred().count()), (0, 10, 10));
    let refused = restored.lookup(&Caller::new("bob"), Purpose::Search, &numbers(0..1));
    assert!(matches!(refused, Err(Error::Suspended { .. })), "{refused:?}");
    drop(restored);
    // The restored one is the newest now: it opens as it is, and the one before does not.
    drop(Index::open(world.path().join("restored"), options()).unwrap());
    assert!(matches!(Index::open(&dir, options()), Err(Error::LedgerRestored { .. })));
}

/// A small backup: two databases, two or more segments, a run, a growing log.
fn small(world: &Path, clock: &Arc<ManualClock>) -> PathBuf {
    let index = filled(&world.join("index"), clock, 1_500);
    index.compact_disclosures().unwrap();
    ask(&index, Purpose::Search, &[number(3)]);
    index.backup(world.join("backup"), BackupMode::Copied).unwrap();
    world.join("backup")
}

#[track_caller]
fn refused(backup: &Path, dir: &Path, clock: &Arc<ManualClock>, named: &str) -> Error {
    let error = restore(backup, dir, clock).expect_err(named);
    let text = error.with_causes();
    assert!(text.contains(named), "{named} is not named: {text}");
    assert!(!dir.exists() && !dir.with_extension("restoring").exists(), "{named}: something appeared");
    error
}

#[test]
fn every_changed_byte_and_every_cut_of_a_backup_is_found() {
    let world = tempfile::tempdir().unwrap();
    let clock = clock();
    let backup = small(world.path(), &clock);
    let to = world.path().join("restored");
    let all = files(&backup);
    assert_eq!(all.keys().filter(|name| name.ends_with(".seg")).count(), 2);
    assert_eq!(all.keys().filter(|name| name.starts_with("disclosures/")).count(), 2, "{:?}", all.keys());
    for (name, path) in &all {
        let good = fs::read(path).unwrap();
        let short = name.rsplit('/').next().unwrap();
        // Every byte of the small ones, some hundred of the large ones.
        let step = if good.len() < 1_200 { 1 } else { good.len() / 60 };
        for at in (0..good.len()).step_by(step).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(path, &bad).unwrap();
            refused(&backup, &to, &clock, short);
        }
        for cut in (0..good.len()).step_by((good.len() / 12).max(1)).chain([good.len() - 1]) {
            fs::write(path, &good[..cut]).unwrap();
            refused(&backup, &to, &clock, short);
        }
        fs::write(path, [&good[..], b"x"].concat()).unwrap();
        refused(&backup, &to, &clock, short);
        fs::remove_file(path).unwrap();
        let error = refused(&backup, &to, &clock, if name == "BACKUP" { "backup" } else { short });
        match name.as_str() {
            "BACKUP" => assert!(matches!(error, Error::NotABackup { .. }), "{error:?}"),
            _ => assert!(matches!(error, Error::BackupIncomplete { .. }), "{error:?}"),
        }
        fs::write(path, &good).unwrap();
    }
    restore(&backup, &to, &clock).unwrap().verify(|_, _| ()).unwrap();
}

#[test]
fn what_is_no_backup_and_where_nothing_may_be_restored_are_errors() {
    let world = tempfile::tempdir().unwrap();
    let clock = clock();
    let backup = small(world.path(), &clock);
    let to = world.path().join("restored");
    let wrong = Index::restore(&backup, &to, Options::new(unlisted::Secret::from_bytes([1; 32])));
    assert!(matches!(wrong, Err(Error::WrongSecret { .. })) && !to.exists(), "{wrong:?}");
    let not_empty = restore(&backup, &world.path().join("index"), &clock);
    assert!(matches!(not_empty, Err(Error::NotEmpty { .. })), "{not_empty:?}");
    // What an interrupted restore left behind does not matter.
    fs::create_dir_all(to.with_extension("restoring").join("segments")).unwrap();
    fs::create_dir(&to).unwrap();
    drop(restore(&backup, &to, &clock).unwrap());

    let other = Index::open(world.path().join("other"), options(&clock)).unwrap();
    let foreign = other.backup(&backup, BackupMode::Linked);
    assert!(matches!(foreign, Err(Error::BackupForeign { .. })), "{foreign:?}");
    for (name, file) in [("index", "LOCK"), ("home", "notes.txt"), ("home", "index-of-books.txt")] {
        let dir = world.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), b"").unwrap();
        let refused = other.backup(&dir, BackupMode::Linked);
        assert!(matches!(refused, Err(Error::NotABackup { .. })), "{refused:?}");
        fs::remove_file(dir.join(file)).unwrap();
    }
    fs::write(backup.join("BACKUP"), b"something else").unwrap();
    let foreign = restore(&backup, &world.path().join("again"), &clock);
    assert!(matches!(foreign, Err(Error::ForeignFormat { .. })), "{foreign:?}");
}

#[test]
fn a_stream_restores_whole_or_not_at_all() {
    let world = tempfile::tempdir().unwrap();
    let clock = clock();
    let index = filled(&world.path().join("index"), &clock, 1_500);
    put(&index, 3..5, 2);
    let mut stream = Vec::new();
    let report = index.backup_to(&mut stream).unwrap();
    let stats = index.stats().unwrap();
    assert_eq!(report.copied_files, stats.segments as u64 + 3);
    drop(index);
    assert!(files(&world.path().join("index")).keys().all(|name| !name.contains("unlisted-stream")));
    let restore =
        |bytes: &[u8], to: &Path| Index::restore_from(bytes, to, options(&clock).segment_listings(1_000));

    let to = world.path().join("restored");
    let restored = restore(&stream, &to).unwrap();
    let again = restored.stats().unwrap();
    assert_eq!((again.listings, again.delta, again.segments), (stats.listings, stats.delta, stats.segments));
    assert_eq!(restored.verify(|_, _| ()).unwrap().delta, 2);
    drop(restored);
    fs::remove_dir_all(&to).unwrap();

    // The last 2 KiB may be padding and the end of the archive.
    for cut in (0..stream.len() - 2_048).step_by(stream.len() / 40) {
        restore(&stream[..cut], &to).unwrap_err();
        assert!(!to.exists(), "cut to {cut}");
    }
    for at in (0..stream.len()).step_by(stream.len() / 40) {
        let mut bad = stream.clone();
        bad[at] ^= 0x20;
        match restore(&bad, &to) {
            Err(_) => assert!(!to.exists()),
            // Padding, and what an archive says that nobody reads.
            Ok(restored) => {
                restored.verify(|_, _| ()).unwrap();
                drop(restored);
                fs::remove_dir_all(&to).unwrap();
            }
        }
    }
    assert!(matches!(restore(b"", &to), Err(Error::ForeignFormat { .. })));
    assert!(matches!(restore(&[7; 4_096], &to), Err(Error::ForeignFormat { .. })));
}

#[test]
fn a_history_that_went_another_way_is_not_taken_for_the_same() {
    let world = tempfile::tempdir().unwrap();
    let clock = clock();
    let [dir, early, late] = ["index", "early", "late"].map(|name| world.path().join(name));
    let index = filled(&dir, &clock, 1_500);
    index.backup(&early, BackupMode::Copied).unwrap();
    put(&index, 0..10, 2);
    index.fold().unwrap();
    index.backup(&late, BackupMode::Copied).unwrap();
    drop(index);
    // The restored one gives the same generations to other content of the same size.
    let other = restore(&early, &world.path().join("other"), &clock).unwrap();
    let done = other.update(|batch| {
        (0..10).try_for_each(|i| batch.put(number(i), AccountId::from(i), OptIns::CONTACT_SYNC, 3))
    });
    done.unwrap();
    other.fold().unwrap();
    let names = |dir: &Path| files(&dir.join("segments")).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&late), names(other.dir()), "the test is about equal names");
    other.backup(&late, BackupMode::Copied).unwrap();
    drop(other);
    let restored = restore(&late, &world.path().join("restored"), &clock).unwrap();
    restored.verify(|_, _| ()).unwrap();
    assert_eq!(found_optins(&restored), vec![OptIns::CONTACT_SYNC; 10]);
}

#[test]
fn a_copied_folder_of_a_backup_is_as_good() {
    let world = tempfile::tempdir().unwrap();
    let clock = clock();
    let backup = small(world.path(), &clock);
    copy(&backup, &world.path().join("moved"));
    let restored = restore(&world.path().join("moved"), &world.path().join("restored"), &clock).unwrap();
    assert_eq!(restored.verify(|_, _| ()).unwrap().listings, 1_500);
}

const CHILD_DIR: &str = "UNLISTED_BACKUP_CHILD";

/// The child: not a test of its own, it does nothing unless the parent asks.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR).map(PathBuf::from) else { return };
    let index = Index::open(dir.join("index"), options(&clock()).segment_listings(1_000)).unwrap();
    let begin = index.watermark().map_or(0, |mark| u64::from_be_bytes(mark.try_into().unwrap()));
    for version in begin + 1.. {
        put(&index, (version % 20) * 100..(version % 20) * 100 + 120, version);
        if version % 3 == 0 {
            index.fold().unwrap();
        }
        let mode = if version % 2 == 0 { BackupMode::Copied } else { BackupMode::Linked };
        index.backup(dir.join("backup"), mode).unwrap();
        println!("\ndone {version}");
    }
}

#[test]
fn a_killed_backup_leaves_the_one_before() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let world = tempfile::tempdir().unwrap();
    drop(filled(&world.path().join("index"), &clock(), 3_000));
    let mut done = 0;
    for round in 0..8 {
        let mut child =
            common::child(module_path!()).env(CHILD_DIR, world.path()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.filter_map(|line| line.strip_prefix("done ")?.parse().ok()).last()
        });
        std::thread::sleep(std::time::Duration::from_millis(400 + 67 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        done = reader.join().unwrap().unwrap_or(done);
        if done == 0 {
            continue;
        }
        let to = world.path().join(format!("restored-{round}"));
        let restored = restore(&world.path().join("backup"), &to, &clock()).unwrap();
        restored.verify(|_, _| ()).unwrap();
        let version = u64::from_be_bytes(restored.watermark().unwrap().try_into().unwrap());
        // The one that was acknowledged last, or the next one that was not.
        assert!((done..=done + 1).contains(&version), "{done} {version}");
        // A child that is killed before it says so has made a backup all the same, and the next one begins behind it.
        done = version;
    }
    assert!(done > 3, "no backup ended in time");
}
