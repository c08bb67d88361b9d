//! A directory that was copied and put back: nobody gets back what was asked in between.

use std::fs;
use std::path::Path;

use unlisted::{Caller, Error, Index, Options, PhoneHash, Purpose, Quota, QuotaPolicy};

use crate::common;

fn options(epoch_file: &Path) -> Options {
    let policy = QuotaPolicy::of_caller(Quota::per_hour(100, 1).unwrap());
    Options::new(common::secret()).background(false).quotas(policy).epoch_file(epoch_file)
}

fn numbers(range: std::ops::Range<u64>) -> Vec<PhoneHash> {
    range.map(common::number).collect()
}

fn ask(index: &Index, range: std::ops::Range<u64>) -> u64 {
    index.lookup(&Caller::new("ada"), Purpose::Search, &numbers(range)).unwrap().charged()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let to = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &to);
        } else {
            fs::copy(item.path(), to).unwrap();
        }
    }
}

/// An index of which ten numbers were asked, a copy of it, and 60 more asked since.
fn world() -> tempfile::TempDir {
    let world = tempfile::tempdir().unwrap();
    let (dir, epoch_file) = (world.path().join("index"), world.path().join("epoch"));
    let index = Index::open(&dir, options(&epoch_file)).unwrap();
    assert_eq!(ask(&index, 0..10), 10);
    drop(index);
    copy(&dir, &world.path().join("backup"));
    let index = Index::open(&dir, options(&epoch_file)).unwrap();
    assert_eq!(ask(&index, 10..70), 60);
    drop(index);
    world
}

#[test]
fn a_restored_directory_is_refused_or_opens_with_empty_budgets() {
    let world = world();
    let (backup, epoch_file) = (world.path().join("backup"), world.path().join("epoch"));
    match Index::open(&backup, options(&epoch_file)) {
        Err(Error::LedgerRestored { found, expected, .. }) => assert!(found < expected, "{found} {expected}"),
        other => panic!("{other:?}"),
    }
    let index = Index::open(&backup, options(&epoch_file).exhaust_if_restored()).unwrap();
    assert_eq!(index.budget(&Caller::new("ada")).unwrap().remaining, 0);
    assert_eq!(index.budget(&Caller::new("never seen")).unwrap().remaining, 0);
    // What was paid for before the copy is still free; nothing else is answered.
    assert_eq!(ask(&index, 0..20), 0);
    let reply = index.lookup(&Caller::new("ada"), Purpose::Search, &numbers(0..20)).unwrap();
    assert_eq!(reply.deferred().count(), 10);
    drop(index);
    // It is the newest now, and stays as it is.
    let index = Index::open(&backup, options(&epoch_file).exhaust_if_restored()).unwrap();
    index.grant(&Caller::new("ada"), 30).unwrap();
    drop(index);
    let index = Index::open(&backup, options(&epoch_file)).unwrap();
    assert!((29..=30).contains(&ask(&index, 20..70)));
    drop(index);
    // The one that went on meanwhile is the older copy now.
    let other = Index::open(world.path().join("index"), options(&epoch_file));
    assert!(matches!(other, Err(Error::LedgerRestored { .. })), "{other:?}");
}

#[test]
fn without_an_epoch_file_an_operator_empties_the_budgets() {
    let world = world();
    let policy = QuotaPolicy::of_caller(Quota::per_hour(100, 1).unwrap());
    let options = || Options::new(common::secret()).background(false).quotas(policy.clone());
    let index = Index::open(world.path().join("backup"), options()).unwrap();
    index.exhaust_budgets().unwrap();
    assert_eq!(ask(&index, 0..70), 0);
    drop(index);
    let index = Index::open(world.path().join("backup"), options()).unwrap();
    assert_eq!(ask(&index, 0..70), 0);
}

#[test]
fn a_crash_is_not_a_restore() {
    let world = world();
    let (dir, epoch_file) = (world.path().join("index"), world.path().join("epoch"));
    let index = Index::open(&dir, options(&epoch_file)).unwrap();
    assert_eq!(ask(&index, 70..80), 10);
    // What the disk holds while the index is open is what a killed process leaves.
    let crashed = world.path().join("crashed");
    copy(&dir, &crashed);
    let index_after = Index::open(&crashed, options(&epoch_file)).unwrap();
    assert!(index_after.budget(&Caller::new("ada")).unwrap().remaining <= 20);
}

#[test]
fn a_missing_foreign_or_damaged_epoch_file_is_an_error() {
    let world = world();
    let (dir, epoch_file) = (world.path().join("index"), world.path().join("epoch"));
    let gone = world.path().join("gone");
    let missing = Index::open(&dir, options(&gone));
    assert!(matches!(missing, Err(Error::EpochFileMissing { .. })), "{missing:?}");
    drop(Index::open(&dir, options(&gone).create_epoch_file()).unwrap());
    drop(Index::open(&dir, options(&gone)).unwrap());

    drop(Index::open(world.path().join("other"), options(&world.path().join("of-other"))).unwrap());
    let foreign = Index::open(&dir, options(&world.path().join("of-other")));
    assert!(matches!(foreign, Err(Error::EpochFileForeign { .. })), "{foreign:?}");

    let bytes = fs::read(&epoch_file).unwrap();
    fs::write(&epoch_file, &bytes[..20]).unwrap();
    assert!(matches!(Index::open(&dir, options(&epoch_file)), Err(Error::Damaged { .. })));
    fs::write(&epoch_file, b"something else").unwrap();
    assert!(matches!(Index::open(&dir, options(&epoch_file)), Err(Error::ForeignFormat { .. })));
}
