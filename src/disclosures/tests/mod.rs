//! The log as a whole: damage, crashes, filters, compaction, threads. `history` holds any history to a model.

mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::words::{Damage, Error};

const ID: [u8; 16] = [9; 16];
const RETENTION: Duration = Duration::from_secs(1_000_000);
const WRITTEN: DisclosureSync = DisclosureSync::Written { sync_within_ms: 5 };

/// Logs of a few frames, so that tests rotate.
fn folder(dir: &Path) -> Folder {
    Folder { log_bytes: 600, ..Folder::of(&Disk::Real, dir, ID) }
}

fn open(dir: &Path, mark: Mark) -> Result<DisclosureLog> {
    DisclosureLog::open(folder(dir), mark, WRITTEN, RETENTION)
}

fn fresh() -> (TempDir, DisclosureLog) {
    let dir = tempfile::tempdir().unwrap();
    let mark = DisclosureLog::create(&folder(dir.path())).unwrap();
    let log = open(dir.path(), mark).unwrap();
    (dir, log)
}

fn group(caller: u8, origins: u8) -> Group {
    let origins = (0..4).filter(|bit| origins >> bit & 1 == 1).map(|bit| [100 + bit; 16]);
    Group { caller: [caller; 16], origins: Origins::new(origins), purpose: caller % 3 }
}

/// Every fifth one is wide.
fn account(number: u64) -> AccountId {
    let high = if number.is_multiple_of(5) { 7_u128 } else { 0 };
    AccountId::from_bytes((high << 64 | u128::from(number)).to_be_bytes())
}

fn record(log: &DisclosureLog, group: Group, at_ms: u64, numbers: std::ops::Range<u64>) -> Result<()> {
    log.record(&group, at_ms, numbers.map(account).collect::<Vec<_>>().into_iter())
}

type Shown = BTreeMap<(Group, AccountId), (u64, u64)>;

/// What the log says, each disclosure once.
fn shown(log: &DisclosureLog, filter: Filter, now_ms: u64) -> Result<Shown> {
    let mut shown = Shown::new();
    for row in log.rows(filter, now_ms)? {
        let row = row?;
        let times = shown.entry((row.group, row.account)).or_insert((row.first_ms, row.last_ms));
        *times = (times.0.min(row.first_ms), times.1.max(row.last_ms));
    }
    Ok(shown)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir.join(FOLDER))
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What a killed process leaves: the log as it is at one moment, whatever its thread does.
fn killed(log: &DisclosureLog, dir: &Path) -> TempDir {
    log.writer.with(|_| copy(dir))
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join(FOLDER)).unwrap();
    for name in names(from) {
        fs::copy(from.join(FOLDER).join(&name), to.path().join(FOLDER).join(&name)).unwrap();
    }
    to
}

/// A log with a compacted run, a sealed log, and a growing one.
fn small() -> (TempDir, Mark, Shown) {
    let (dir, log) = fresh();
    record(&log, group(1, 3), 1_000, 0..9).unwrap();
    record(&log, group(2, 0), 2_000, 3..7).unwrap();
    log.compact(2_000, true).unwrap();
    record(&log, group(2, 1), 3_000, 0..20).unwrap();
    log.writer.seal().unwrap();
    record(&log, group(1, 2), 4_000, 30..32).unwrap();
    record(&log, group(0, 0), 5_000, 40..41).unwrap();
    let mark = log.settle().unwrap();
    let all = shown(&log, Filter::ALL, 5_000).unwrap();
    assert_eq!(all.len(), 9 + 4 + 20 + 3);
    drop(log);
    (dir, mark, all)
}

fn read_all(dir: &Path, mark: Mark) -> Result<Shown> {
    let log = open(dir, mark)?;
    log.verify()?;
    shown(&log, Filter::ALL, 5_000)
}

#[test]
fn every_changed_byte_and_every_cut_is_an_error_or_the_right_answer() {
    let (dir, mark, all) = small();
    assert_eq!(read_all(dir.path(), mark).unwrap(), all);
    for name in names(dir.path()) {
        let path = dir.path().join(FOLDER).join(&name);
        let good = fs::read(&path).unwrap();
        // Pages are mostly zeros: every byte of what is in use, and some of the rest.
        let flips = (0..good.len()).filter(|at| *at < 1_200 || at % 61 == 0);
        for at in flips {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            match read_all(dir.path(), mark) {
                Ok(found) => assert_eq!(found, all, "{name}: byte {at}"),
                Err(
                    Error::Damaged { path: named, .. }
                    | Error::ForeignFormat { path: named, .. }
                    | Error::NewerFormat { path: named, .. },
                ) => assert_eq!(named, path),
                Err(error) => panic!("{name}: byte {at}: {error}"),
            }
            fs::write(&path, &good).unwrap();
        }
        for len in (0..good.len()).filter(|at| *at < 1_200 || at % 61 == 0) {
            fs::write(&path, &good[..len]).unwrap();
            let error = read_all(dir.path(), mark).unwrap_err();
            let typed = matches!(error, Error::Damaged { .. } | Error::DisclosuresOlder { .. });
            assert!(typed, "{name}: {len} bytes: {error}");
        }
        fs::write(&path, &good).unwrap();
        fs::remove_file(&path).unwrap();
        // Without the newest the log seems to end earlier.
        let gone = read_all(dir.path(), mark);
        let typed = matches!(gone, Err(Error::DisclosuresMissing { .. } | Error::DisclosuresOlder { .. }));
        assert!(typed, "{name}: {gone:?}");
        fs::write(&path, &good).unwrap();
    }
    assert_eq!(read_all(dir.path(), mark).unwrap(), all);
}

#[test]
fn a_log_of_version_1_goes_on_without_short_accounts() {
    let (dir, log) = fresh();
    let path = log.writer.with(|state| state.active.path.clone());
    drop(log);
    let mut bytes = fs::read(&path).unwrap();
    let (summed, sum) = bytes.split_at_mut(frame::HEADER_LEN - frame::SUM_LEN);
    assert_eq!(summed[8], 2);
    summed[8] = 1;
    sum.copy_from_slice(&xxhash_rust::xxh3::xxh3_64(summed).to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let mark = Mark { seq: 1, len: bytes.len() as u64 };
    let log = open(dir.path(), mark).unwrap();
    // 1 and 2 are short, and a log has no room for the frames of the last round.
    for at_ms in (3_000..9_000).step_by(1_000) {
        record(&log, group(1, 0), at_ms, 1..3).unwrap();
        record(&log, group(1, 1), at_ms, 4..9).unwrap();
    }
    let all = shown(&log, Filter::ALL, 9_000).unwrap();
    assert_eq!(all.len(), 7);
    let bytes = fs::read(&path).unwrap();
    assert_eq!((bytes[8], bytes[frame::HEADER_LEN + 6]), (1, 0));
    assert!(log.writer.with(|state| state.active.seq > 1 && state.active.has_short));
    drop(log);
    assert_eq!(shown(&open(dir.path(), mark).unwrap(), Filter::ALL, 9_000).unwrap(), all);
}

#[test]
fn a_damaged_log_is_readable_to_the_damage() {
    let (dir, mark, _) = small();
    let log = open(dir.path(), mark).unwrap();
    record(&log, group(1, 0), 6_000, 0..2).unwrap();
    record(&log, group(1, 0), 7_000, 0..2).unwrap();
    let mark = log.settle().unwrap();
    let path = log.writer.with(|state| state.active.path.clone());
    drop(log);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - frame::frame_len(0, 2, false);
    bytes[last + 50] ^= 1;
    fs::write(&path, &bytes).unwrap();
    // Of a growing log the damage is found when it is opened.
    match open(dir.path(), mark) {
        Err(Error::Damaged { offset, what: Damage::Checksum { of: "a frame" }, .. }) => {
            assert_eq!(offset, last as u64);
        }
        other => panic!("{other:?}"),
    }
    // Of a sealed one when it is read: everything before it comes first.
    bytes[last + 50] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let log = open(dir.path(), mark).unwrap();
    log.writer.seal().unwrap();
    let before = log.rows_of_all().unwrap().map(Result::unwrap).count();
    bytes = fs::read(&path).unwrap();
    bytes[last + 50] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let rows: Vec<_> = log.rows_of_all().unwrap().collect();
    let (error, good) = rows.split_last().unwrap();
    assert_eq!(good.len(), before - 2);
    assert!(good.iter().all(Result::is_ok));
    assert!(matches!(error, Err(Error::Damaged { offset, .. }) if *offset == last as u64), "{error:?}");
    assert!(matches!(log.compact(7_000, false), Err(Error::Damaged { .. })));
}

#[test]
fn a_log_of_another_index_or_an_older_copy_is_refused() {
    let (dir, mark, _) = small();
    let other = Folder::of(&Disk::Real, dir.path(), [8; 16]);
    let opened = DisclosureLog::open(other, mark, WRITTEN, RETENTION);
    assert!(matches!(opened, Err(Error::DisclosuresForeign { .. })));
    let older = copy(dir.path());
    let log = open(dir.path(), mark).unwrap();
    record(&log, group(1, 0), 6_000, 0..2).unwrap();
    let mark = log.settle().unwrap();
    assert!(matches!(open(older.path(), mark), Err(Error::DisclosuresOlder { .. })));
    fs::remove_dir_all(older.path().join(FOLDER)).unwrap();
    assert!(matches!(open(older.path(), mark), Err(Error::DisclosuresMissing { .. })));
}

#[test]
fn a_torn_end_is_cut_and_what_stands_before_a_vouching_frame_is_not() {
    let (dir, log) = fresh();
    let mark = log.settle().unwrap();
    let path = log.writer.with(|state| state.active.path.clone());
    record(&log, group(1, 0), 1, 0..3).unwrap();
    log.settle().unwrap();
    let second = log.writer.with(|state| state.active.len) as usize;
    record(&log, group(1, 0), 2, 0..3).unwrap();
    drop(log);
    let good = fs::read(&path).unwrap();
    // The second frame is torn: it goes, and the log is written on from there.
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    let log = open(dir.path(), mark).unwrap();
    assert_eq!(log.usage().rows, 3);
    record(&log, group(1, 0), 3, 0..1).unwrap();
    drop(log);
    assert_eq!(open(dir.path(), mark).unwrap().usage().rows, 4);
    // The first is damaged, and the second knows that it was on the device.
    let mut bad = good.clone();
    bad[70] ^= 1;
    fs::write(&path, &bad).unwrap();
    assert!(matches!(open(dir.path(), mark), Err(Error::Damaged { offset: 64, .. })));
    // Without the second nobody can know.
    fs::write(&path, &bad[..second]).unwrap();
    assert_eq!(open(dir.path(), mark).unwrap().usage().rows, 0);
}

#[test]
fn filters_take_what_they_name() {
    let (dir, mark, all) = small();
    let log = open(dir.path(), mark).unwrap();
    for round in 0..2 {
        let count = |filter: Filter| shown(&log, filter, 5_000).unwrap().len();
        let of = |take: &dyn Fn(&(Group, AccountId), u64) -> bool| {
            all.iter().filter(|(id, times)| take(id, times.0)).count()
        };
        for caller in 0..4 {
            let filter = Filter { caller: Some([caller; 16]), ..Filter::ALL };
            assert_eq!(count(filter), of(&|id, _| id.0.caller == [caller; 16]), "caller {caller}, round {round}");
            let origin = [99 + caller; 16];
            let filter = Filter { origin: Some(origin), ..Filter::ALL };
            assert_eq!(count(filter), of(&|id, _| id.0.origins.tokens().contains(&origin)), "origin {caller}");
            let (since_ms, until_ms) = (u64::from(caller) * 1_000, u64::from(caller) * 1_500);
            let filter = Filter { since_ms, until_ms, ..Filter::ALL };
            assert_eq!(count(filter), of(&|_, at| (since_ms..until_ms).contains(&at)), "window {caller}");
        }
        for number in 0..42 {
            let filter = Filter { account: Some(account(number)), ..Filter::ALL };
            assert_eq!(count(filter), of(&|id, _| id.1 == account(number)), "account {number}");
        }
        log.compact(5_000, true).unwrap();
    }
}

#[test]
fn large_lookups_take_several_frames_and_runs_many_pages() {
    let (dir, log) = fresh();
    let many = 3 * frame::MAX_ACCOUNTS as u64 / 2;
    record(&log, group(1, 1), 10, 0..many).unwrap();
    record(&log, group(2, 1), 20, 5..6).unwrap();
    log.compact(20, true).unwrap();
    let one = shown(&log, Filter { caller: Some([2; 16]), ..Filter::ALL }, 20).unwrap();
    assert_eq!(one.into_iter().collect::<Vec<_>>(), [((group(2, 1), account(5)), (20, 20))]);
    assert_eq!(log.verify().unwrap(), many + 1);
    drop(log);
    // Forgotten once they are old, in whole and for good.
    let log = open(dir.path(), Mark { seq: 1, len: 0 }).unwrap();
    let late = RETENTION.as_millis() as u64 * 2;
    assert_eq!(log.compact(late, true).unwrap().forgotten, many + 1);
    assert_eq!((log.verify().unwrap(), names(dir.path()).len()), (0, 2));
}

#[test]
fn many_logs_compact_into_few_runs() {
    let (dir, log) = fresh();
    for i in 0..80_u64 {
        record(&log, group((i % 7) as u8, 1), i, i % 30..i % 30 + 40).unwrap();
    }
    assert!(names(dir.path()).len() > 70);
    let before = shown(&log, Filter::ALL, 80).unwrap();
    let reader = log.rows(Filter::ALL, 80).unwrap();
    log.compact(80, true).unwrap();
    // A query that began before still reads what it saw, and then lets the files go.
    let seen: BTreeSet<_> = reader.map(Result::unwrap).map(|row| (row.group, row.account)).collect();
    assert!(seen.iter().eq(before.keys()));
    assert!(names(dir.path()).len() < 8, "{:?}", names(dir.path()));
    assert!(shown(&log, Filter::ALL, 80).unwrap().keys().eq(before.keys()));
    drop(log);
    assert!(read_all(dir.path(), Mark { seq: 2, len: 0 }).unwrap().keys().eq(before.keys()));
}

#[test]
fn threads_that_sync_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mark = DisclosureLog::create(&folder(dir.path())).unwrap();
    let log = DisclosureLog::open(folder(dir.path()), mark, DisclosureSync::Synced, RETENTION).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let log = &log;
            scope.spawn(move || {
                for i in 0..25 {
                    record(log, group(thread, 0), i, i..i + 2).unwrap();
                    // Whatever was recorded is on the device when it returns.
                    assert!(log.settle().unwrap() >= mark);
                }
            });
        }
    });
    assert_eq!(log.verify().unwrap(), 200);
}

#[test]
fn a_log_that_is_off_records_nothing() {
    let (dir, log) = fresh();
    record(&log, group(1, 0), 1, 0..3).unwrap();
    drop(log);
    let mark = Mark { seq: 1, len: 0 };
    let log = DisclosureLog::open(folder(dir.path()), mark, DisclosureSync::Off, RETENTION).unwrap();
    record(&log, group(1, 0), 2, 3..9).unwrap();
    assert_eq!(log.verify().unwrap(), 3);
}

#[test]
fn every_log_reserves_room_ahead_and_gives_it_back() {
    let (dir, log) = fresh();
    let lens = |log: &DisclosureLog| {
        log.writer.with(|state| (fs::metadata(&state.active.path).unwrap().len(), state.active.len))
    };
    record(&log, group(1, 0), 1, 0..3).unwrap();
    // Not every file system can: then none of its logs may seem to.
    let can = lens(&log).0 > lens(&log).1;
    for i in 0..40 {
        record(&log, group(1, 0), 2 + i, i..i + 3).unwrap();
        let (file, frames) = lens(&log);
        assert_eq!(file, if can { 1_200 } else { frames }, "log {i}");
    }
    log.writer.seal().unwrap();
    record(&log, group(1, 0), 50, 0..3).unwrap();
    let (seq, rows) = log.writer.with(|state| (state.active.seq, state.active.totals.rows));
    assert!((seq, rows) > (4, 0), "{seq} {rows}");
    drop(log);
    // Logs take no byte more than their frames, and footers if they are sealed: they are opened by that.
    let log = open(dir.path(), Mark { seq, len: frame::HEADER_LEN as u64 }).unwrap();
    let (file, frames) = lens(&log);
    assert_eq!((file, log.usage().rows), (frames, 42 * 3));
    let bytes: u64 =
        names(dir.path()).iter().map(|n| fs::metadata(dir.path().join(FOLDER).join(n)).unwrap().len()).sum();
    assert_eq!(bytes, log.usage().bytes);
}

#[test]
fn the_thread_that_syncs_makes_the_next_log_and_seals_a_full_one() {
    let (dir, log) = fresh();
    let until = |is_so: &dyn Fn() -> bool, what: &str| {
        let start = std::time::Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(30), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let ahead = || names(dir.path()).iter().filter(|name| name.ends_with(".ahead.tmp")).count();
    let active = || log.writer.with(|state| (state.active.seq, state.active.len));
    // A lookup that finds no room in twice the bytes seals in its own time; these three leave some.
    record(&log, group(1, 0), 1, 0..18).unwrap();
    until(&|| ahead() == 1, "a log that is half full has a successor ready");
    assert_eq!(active().0, 1);
    let killed = killed(&log, dir.path());
    record(&log, group(1, 0), 2, 18..36).unwrap();
    until(&|| active() == (2, frame::HEADER_LEN as u64), "a full log is sealed");
    assert_eq!(ahead(), 0);
    record(&log, group(1, 0), 3, 36..54).unwrap();
    until(&|| ahead() == 1, "the next one has a successor ready too");
    assert_eq!(log.verify().unwrap(), 54);
    drop(log);
    assert_eq!(names(dir.path()), ["0000000000000001.log", "0000000000000002.log"]);
    assert_eq!(open(dir.path(), Mark { seq: 2, len: 0 }).unwrap().verify().unwrap(), 54);
    // A process that died leaves its successor, which nobody takes for a log.
    assert_eq!(open(killed.path(), Mark { seq: 1, len: 0 }).unwrap().verify().unwrap(), 18);
    assert_eq!(names(killed.path()), ["0000000000000001.log"]);
}

#[test]
fn frames_that_are_written_and_frames_that_are_put_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let folder = || Folder::of(&Disk::Real, dir.path(), ID);
    let mark = DisclosureLog::create(&folder()).unwrap();
    let log = DisclosureLog::open(folder(), mark, WRITTEN, RETENTION).unwrap();
    let mut rows = 0;
    for i in 0..60 {
        // Up to 17 KiB each, so that they leave the first room and come back into the next.
        let count = [1, 300, 1_000, 2, 5, 1_100][i as usize % 6];
        record(&log, group(1, 0), i, i..i + count).unwrap();
        rows += count;
        assert_eq!(log.verify().unwrap(), rows);
    }
    let killed = killed(&log, dir.path());
    let log = DisclosureLog::open(Folder::of(&Disk::Real, killed.path(), ID), mark, WRITTEN, RETENTION).unwrap();
    assert_eq!(log.verify().unwrap(), rows);
    log.writer.seal().unwrap();
    assert_eq!(log.verify().unwrap(), rows);
}

#[test]
fn a_log_whose_room_was_reserved_when_the_process_died_goes_on() {
    let (dir, log) = fresh();
    record(&log, group(1, 0), 1, 0..3).unwrap();
    let mark = log.settle().unwrap();
    record(&log, group(1, 0), 2, 0..3).unwrap();
    let (end, path) = log.writer.with(|state| (state.active.len as usize, state.active.path.clone()));
    let reserved = 4_096;
    drop(log);
    let mut good = fs::read(&path).unwrap();
    good.resize(reserved, 0);
    // Whole frames and zeros; then a frame of which a part was put; then a footer that was put before the file was cut.
    let part = [&good[..end], &good[64..100], &good[end..]].concat();
    let (salt, totals) =
        (frame::LogHeader::encode(&ID, 1).1.salt, frame::Totals { rows: 6, frames: 2, first_ms: 1, last_ms: 2 });
    let footer = [&good[..end], &totals.encode(end as u64, salt), &good[end..]].concat();
    for (bytes, seq, len) in [(&good, 1, end), (&part, 1, end), (&footer, 2, end + frame::FOOTER_LEN)] {
        fs::write(&path, bytes).unwrap();
        let log = open(dir.path(), mark).unwrap();
        assert_eq!(log.writer.with(|state| state.active.seq), seq);
        assert_eq!((fs::metadata(&path).unwrap().len(), log.verify().unwrap()), (len as u64, 6));
        drop(log);
        for name in names(dir.path()).iter().filter(|name| *name != "0000000000000001.log") {
            fs::remove_file(dir.path().join(FOLDER).join(name)).unwrap();
        }
    }
    // Zeros where the device had a frame are a log that is older than its mark.
    let zeroed = [&good[..64], &vec![0; reserved - 64][..]].concat();
    fs::write(&path, zeroed).unwrap();
    assert!(matches!(open(dir.path(), mark), Err(Error::DisclosuresOlder { found_len: 64, .. })));
}
