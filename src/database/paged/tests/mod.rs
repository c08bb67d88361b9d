//! A database of some thousand pages, whose bytes change while it is closed and while it is open.

use std::fs;
use std::path::Path;

use redb::TableDefinition;

use super::super::{Db, DbOptions};
use super::*;
use crate::disk::Disk;
use crate::words::Error;

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
/// A cache of one page, so that nearly every read is one of the file.
const OPTIONS: DbOptions = DbOptions { disk: Disk::Real, cache_bytes: 8_192, check: false };
/// Rows of some hundred bytes, and now and then one of several pages.
const COUNT: u64 = 6_000;

fn row(number: u64) -> Vec<u8> {
    let len = if number.is_multiple_of(1_000) { 150_000 } else { 200 + number % 300 };
    (0..len).map(|i| (number + i) as u8).collect()
}

fn fill(path: &Path) -> Db {
    let db = Db::create(path, &OPTIONS).unwrap();
    for part in 0..8 {
        let done = db.write(|txn| {
            let mut table = txn.open_table(ROWS).map_err(db.error("open"))?;
            for number in (part..COUNT).step_by(8) {
                table.insert(number, row(number).as_slice()).map_err(db.error("insert"))?;
            }
            Ok(())
        });
        done.unwrap();
    }
    db
}

/// The row, which is right if there is one at all.
fn get(db: &Db, number: u64) -> crate::words::Result<bool> {
    db.read(|txn| {
        let table = txn.open_table(ROWS).map_err(db.error("open"))?;
        let found = redb::ReadableTable::get(&table, number).map_err(db.error("get"))?;
        assert!(found.as_ref().is_none_or(|found| found.value() == row(number)), "row {number} is another");
        Ok(found.is_some())
    })
}

fn open(path: &Path) -> crate::words::Result<Db> {
    Db::open(path, &OPTIONS, "a database")
}

#[test]
fn rows_come_back_over_several_groups_and_after_a_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = fill(&path);
    assert!(pages_in(fs::metadata(&path).unwrap().len()) > 2 * GROUP_PAGES);
    assert!((0..COUNT).all(|number| get(&db, number).unwrap()));
    assert!(db.verify().unwrap() > GROUP_PAGES);
    drop(db);
    let db = open(&path).unwrap();
    assert!((0..COUNT).all(|number| get(&db, number).unwrap()));
    // redb gives back pages at the end, and takes them again.
    let before = fs::metadata(&path).unwrap().len();
    let emptied = db.write(|txn| {
        let mut table = txn.open_table(ROWS).map_err(db.error("open"))?;
        table.retain(|number, _| number < 100).map_err(db.error("retain"))
    });
    emptied.unwrap();
    drop(db);
    let mut database = redb::Database::builder()
        .create_with_backend(Paged::new(Disk::Real.open_to_write(&path).unwrap()).unwrap())
        .unwrap();
    database.compact().unwrap();
    drop(database);
    assert!(fs::metadata(&path).unwrap().len() < before / 2, "nothing was given back");
    let db = fill(&path);
    assert!((0..COUNT).all(|number| get(&db, number).unwrap()));
}

#[test]
fn a_changed_byte_is_found_by_the_read_that_meets_it_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    drop(fill(&path));
    let good = fs::read(&path).unwrap();
    let (mut at_open, mut at_read, mut unused) = (0, 0, 0);
    // The header's sector, then one byte of most pages, and pages of checksums.
    let header = (0..16).chain((4_096..4_096 + 328).step_by(3));
    let others = (8_192..good.len()).step_by(4_096 * 29 + 7);
    let sums = (513 * 4_096..514 * 4_096).step_by(797);
    for at in header.chain(others).chain(sums) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        let named = |error: &Error| match error {
            Error::Damaged { path: named, offset, what: Damage::Checksum { .. } } => {
                assert_eq!(*named, path);
                at < 8_192 || *offset == at as u64 / 4_096 * 4_096 || (at as u64 / 4_096).is_multiple_of(513)
            }
            Error::ForeignFormat { .. } => at < 8,
            _ => false,
        };
        let db = match open(&path) {
            Ok(db) => db,
            Err(error) => {
                assert!(named(&error), "byte {at}: {error:?}");
                at_open += 1;
                continue;
            }
        };
        match (0..COUNT).map(|number| get(&db, number)).find(|row| !matches!(row, Ok(true))) {
            Some(Err(error)) => {
                assert!(named(&error), "byte {at}: {error:?}");
                // Whatever is tried from here on fails of the same.
                let after = db.write(|txn| txn.open_table(ROWS).map(drop).map_err(db.error("open")));
                assert!(after.is_err_and(|error| named(&error)), "byte {at}");
                at_read += 1;
            }
            Some(found) => panic!("byte {at}: {found:?}"),
            None => unused += 1,
        }
    }
    println!("{at_open} found by an open, {at_read} by a read, {unused} of no page in use");
    assert!(at_open > 118 && at_read > 15, "{at_open} found by an open, {at_read} by a read");
}

#[test]
fn pages_that_were_cut_off_are_as_if_they_were_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = Disk::Real.open_or_create(&dir.path().join("db")).unwrap();
    let pages = Paged::new(file).unwrap();
    pages.write(0, &[1; HEADER_LEN]).unwrap();
    for (whole, cut) in
        [(10, 5), (GROUP_PAGES + 10, 5), (GROUP_PAGES + 10, GROUP_PAGES), (2 * GROUP_PAGES, GROUP_PAGES + 1)]
    {
        pages.set_len(whole * PAGE_LEN).unwrap();
        let written = vec![7; 3 * PAGE_LEN as usize];
        for first in [cut - 1, whole - 3] {
            pages.write(first * PAGE_LEN, &written).unwrap();
        }
        pages.sync_data().unwrap();
        pages.verify().unwrap();
        pages.set_len(cut * PAGE_LEN).unwrap();
        pages.set_len(whole * PAGE_LEN).unwrap();
        pages.verify().unwrap();
        assert_eq!(StorageBackend::len(&pages).unwrap(), whole * PAGE_LEN);
        let mut page = [0; PAGE_LEN as usize];
        pages.read((cut - 1) * PAGE_LEN, &mut page).unwrap();
        assert_eq!(page, [7; PAGE_LEN as usize]);
        assert!(pages.read((whole - 1) * PAGE_LEN, &mut page).is_err(), "it was never written");
    }
}

#[test]
fn what_changes_while_a_file_is_open_is_found_by_verify() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = fill(&path);
    db.verify().unwrap();
    let good = fs::read(&path).unwrap();
    let at = (1..good.len() / 4_096).rev().find(|page| good[page * 4_096] == 1).unwrap() * 4_096 + 99;
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[!good[at]], at as u64).unwrap();
    let error = db.verify().unwrap_err();
    assert!(
        matches!(&error, Error::Damaged { offset, .. } if *offset == at as u64 / 4_096 * 4_096),
        "{error:?}, not at {at}"
    );
}

#[test]
fn a_file_of_an_earlier_version_is_walked_and_changed_by_writing_it_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let old = redb::Database::create(&path).unwrap();
    let txn = old.begin_write().unwrap();
    txn.open_table(ROWS).unwrap().insert(7, row(7).as_slice()).unwrap();
    txn.commit().unwrap();
    drop(old);
    let good = fs::read(&path).unwrap();
    let needle = row(7);
    let at = good.windows(40).position(|window| window == &needle[..40]).unwrap();
    let mut bad = good.clone();
    bad[at] ^= 1;
    fs::write(&path, bad).unwrap();
    assert!(matches!(open(&path), Err(Error::Database { .. })));
    fs::write(&path, good).unwrap();
    let db = open(&path).unwrap();
    assert!(get(&db, 7).unwrap());
    assert_eq!(db.verify().unwrap(), 0);
    db.rewritten(|from, to| from.copy_table(ROWS, to)).unwrap().replace().unwrap();
    assert!(get(&db, 7).unwrap() && db.verify().unwrap() > 0);
    drop(db);
    assert_eq!(fs::read(&path).unwrap()[..8], super::super::sums::MAGIC);
    assert!(get(&open(&path).unwrap(), 7).unwrap());
}
