//! Each fault of the model, on its own.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use super::*;
use crate::disk::{DirLock, Disk, File};
use crate::words::Error;

const DIR: &str = "/dir";

/// A disk with a durable folder.
fn fresh() -> (SimDisk, Disk) {
    let sim = SimDisk::new(7);
    let disk = Disk::Sim(sim.clone());
    disk.create_dir_all(Path::new(DIR)).unwrap();
    (sim, disk)
}

fn at(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn read(sim: &SimDisk, name: &str) -> Option<Vec<u8>> {
    Disk::Sim(sim.clone()).read(&at(name), u64::MAX).unwrap()
}

/// A durable file of sectors that are all ones.
fn durable(disk: &Disk, name: &str, sectors: usize) -> File {
    let mut file = disk.create(&at(name)).unwrap();
    file.write_all(&vec![1; sectors * SECTOR_LEN]).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    file
}

/// What many power losses leave.
fn crashes(sim: &SimDisk) -> impl Iterator<Item = SimDisk> {
    (0..400).map(|seed| sim.crash(seed))
}

#[test]
fn what_is_synced_stays_and_what_is_not_may_go_sector_by_sector() {
    let (sim, disk) = fresh();
    let file = durable(&disk, "file", 20);
    let Disk::Sim(_) = &disk else { panic!("it is simulated") };
    let File::Sim(inner) = &file else { panic!("it is simulated") };
    inner.write_all_at(0, &[2; 20 * SECTOR_LEN]).unwrap();
    inner.write_all_at(0, &[3; 20 * SECTOR_LEN]).unwrap();
    let mut kinds = BTreeSet::new();
    for crash in crashes(&sim) {
        let bytes = read(&crash, "file").unwrap();
        assert_eq!(bytes.len(), 20 * SECTOR_LEN);
        let sectors: Vec<_> = bytes.chunks(SECTOR_LEN).collect();
        assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])), "a sector is torn");
        kinds.insert(sectors.iter().map(|sector| sector[0]).collect::<BTreeSet<u8>>());
    }
    // Nothing, everything, and mixtures of all moments.
    let expected = [&[1][..], &[3], &[1, 2, 3], &[1, 3]].map(|kind| kind.iter().copied().collect());
    assert!(expected.iter().all(|kind: &BTreeSet<u8>| kinds.contains(kind)), "{kinds:?}");
    file.sync_all().unwrap();
    assert!(crashes(&sim).all(|crash| read(&crash, "file").unwrap() == [3; 20 * SECTOR_LEN]));
}

#[test]
fn a_length_is_the_old_one_or_a_new_one_and_what_was_not_written_is_zeros() {
    let (sim, disk) = fresh();
    let file = durable(&disk, "file", 1);
    file.set_len(5_000).unwrap();
    let File::Sim(inner) = &file else { panic!("it is simulated") };
    inner.write_all_at(4_900, &[9; 200]).unwrap();
    let mut lens = BTreeSet::new();
    for crash in crashes(&sim) {
        let bytes = read(&crash, "file").unwrap();
        lens.insert(bytes.len());
        assert!(bytes[SECTOR_LEN..].iter().take(4_900 - SECTOR_LEN).all(|byte| *byte == 0));
    }
    assert_eq!(lens, BTreeSet::from([SECTOR_LEN, 5_000, 5_100]));
    // What was cut does not come back when the file grows again.
    file.set_len(100).unwrap();
    file.set_len(SECTOR_LEN as u64).unwrap();
    file.sync_data().unwrap();
    let cut: Vec<u8> = [vec![1; 100], vec![0; SECTOR_LEN - 100]].concat();
    assert!(crashes(&sim).all(|crash| read(&crash, "file").unwrap() == cut));
}

#[test]
fn names_are_durable_when_their_folder_was_synced() {
    let (sim, disk) = fresh();
    drop(durable(&disk, "old", 1));
    let new = disk.create(&at("new")).unwrap();
    new.sync_all().unwrap();
    sim.rename_file(&at("old"), &at("renamed")).unwrap();
    let mut left = BTreeSet::new();
    for crash in crashes(&sim) {
        left.insert(crash.names_in(Path::new(DIR)).unwrap());
    }
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for kind in [&["old"][..], &["new", "old"], &["renamed"], &["new", "renamed"], &["old", "renamed"]] {
        assert!(left.contains(&names(kind)), "{kind:?} is not among {left:?}");
    }
    assert!(left.iter().all(|names| names.iter().any(|name| name != "new")), "a rename lost its file: {left:?}");
    disk.sync_dir(Path::new(DIR)).unwrap();
    let synced = names(&["new", "renamed"]);
    assert!(crashes(&sim).all(|crash| crash.names_in(Path::new(DIR)).unwrap() == synced));

    disk.remove_file(&at("new")).unwrap();
    let kept = crashes(&sim).filter(|crash| read(crash, "new").is_some()).count();
    assert!((1..400).contains(&kept), "{kept} of 400 crashes undid the removal");
    disk.sync_dir(Path::new(DIR)).unwrap();
    assert!(crashes(&sim).all(|crash| read(&crash, "new").is_none()));
}

#[test]
fn a_folder_takes_what_is_in_it_along() {
    let (sim, disk) = fresh();
    let inner = at("inner");
    disk.create_dir(&inner).unwrap();
    drop(disk.create(&inner.join("file")).unwrap());
    disk.sync_dir(&inner).unwrap();
    let kept = crashes(&sim).filter(|crash| crash.name_exists(&inner.join("file")).unwrap()).count();
    let folders = crashes(&sim).filter(|crash| crash.is_folder(&inner)).count();
    assert!(kept == folders && (1..400).contains(&kept), "{kept} files in {folders} folders");
    disk.remove_dir_all(&inner).unwrap();
    assert!(!disk.exists(&inner).unwrap() && disk.list(&inner).is_err());
    // A new folder of the name has nothing of the old one, whatever comes back of that.
    disk.create_dir(&inner).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    assert!(crashes(&sim).all(|crash| crash.names_in(&inner).unwrap().is_empty()));
}

#[test]
fn the_end_of_the_process_loses_nothing_and_syncs_nothing() {
    let (sim, disk) = fresh();
    let mut file = durable(&disk, "file", 1);
    file.write_all(&[2; SECTOR_LEN]).unwrap();
    let lock = DirLock::acquire(&disk, Path::new(DIR)).unwrap();
    assert!(matches!(DirLock::acquire(&disk, Path::new(DIR)), Err(Error::InUse { .. })));
    let killed = Moment(&sim.0.lock()).kill();
    assert_eq!(read(&killed, "file").unwrap().len(), 2 * SECTOR_LEN);
    let lost = crashes(&killed).filter(|crash| read(crash, "file").unwrap().len() == SECTOR_LEN).count();
    assert!((1..400).contains(&lost), "{lost} of 400 crashes lost what the process wrote");
    assert!(DirLock::acquire(&Disk::Sim(killed), Path::new(DIR)).is_ok());
    drop(lock);
    assert!(DirLock::acquire(&disk, Path::new(DIR)).is_ok());
}

#[test]
fn a_call_fails_once_or_for_good() {
    for fault in [Fault::Error, Fault::Gone] {
        let (sim, disk) = fresh();
        sim.fail(sim.changes() + 1, fault);
        assert!(disk.create(&at("file")).is_err());
        assert_eq!(disk.create(&at("file")).is_ok(), fault == Fault::Error);
        assert_eq!(disk.exists(&at("file")).is_ok_and(|found| found), fault == Fault::Error);
        assert!(!sim.has_lost());
    }
    let (sim, disk) = fresh();
    drop(durable(&disk, "file", 1));
    sim.fail_read(sim.reads() + 2);
    let mut file = disk.open(&at("file")).unwrap();
    let mut byte = [0];
    assert_eq!([(); 3].map(|()| file.read(&mut byte).is_ok()), [true, false, true]);
}

#[test]
fn no_sync_makes_up_for_one_that_failed() {
    let (sim, disk) = fresh();
    let mut file = durable(&disk, "file", 1);
    file.write_all(&[2; 40 * SECTOR_LEN]).unwrap();
    sim.fail(sim.changes() + 1, Fault::Error);
    assert!(file.sync_data().is_err() && sim.has_lost());
    file.sync_data().unwrap();
    let reads = read(&sim, "file").unwrap();
    assert_eq!(reads.len(), 41 * SECTOR_LEN);
    let left = read(&sim.crash(0), "file").unwrap();
    assert!(crashes(&sim).all(|crash| read(&crash, "file").unwrap() == left), "it is decided");
    // The next disk may decide otherwise.
    let other = |seed| {
        let disk = SimDisk::new(seed);
        let file = durable_on(&disk);
        disk.fail(disk.changes() + 1, Fault::Error);
        assert!(file.sync_data().is_err());
        read(&disk.crash(0), "file").unwrap()
    };
    assert!((0..40).any(|seed| other(seed) != reads) && (0..40).any(|seed| other(seed) == reads));
}

fn durable_on(sim: &SimDisk) -> File {
    let disk = Disk::Sim(sim.clone());
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let mut file = durable(&disk, "file", 1);
    file.write_all(&[2; 40 * SECTOR_LEN]).unwrap();
    file
}

#[test]
fn a_short_write_says_so_and_a_full_disk_takes_what_fits() {
    let (sim, disk) = fresh();
    let mut file = disk.create(&at("file")).unwrap();
    sim.fail(sim.changes() + 1, Fault::Short);
    assert_eq!(file.write(&[1; 1_000]).unwrap(), 500);
    assert_eq!(file.write(&[1; 1_000]).unwrap(), 1_000);
    // The page that is there takes more; a second one is the last.
    sim.limit(Some(4_096));
    assert_eq!(file.write(&[2; 9_000]).unwrap(), 9_000 - 4_096);
    assert_eq!(file.write(&[2; 4_096]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(disk.create(&at("other")).is_ok_and(|mut other| other.write(&[3]).is_err()));
    sim.limit(None);
    assert_eq!(file.write(&[2; 9_000]).unwrap(), 9_000);
}

#[test]
fn a_crash_is_its_seed() {
    let (sim, disk) = fresh();
    let mut file = durable(&disk, "file", 1);
    file.write_all(&[2; 40 * SECTOR_LEN]).unwrap();
    drop(disk.create(&at("other")).unwrap());
    for seed in 0..20 {
        let (one, other) = (sim.crash(seed), sim.crash(seed));
        assert_eq!(read(&one, "file"), read(&other, "file"));
        assert_eq!(read(&one, "other"), read(&other, "other"));
    }
}

#[test]
fn a_watch_sees_the_disk_behind_every_change() {
    let (sim, disk) = fresh();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let to = seen.clone();
    let before = sim.changes();
    sim.watch(Arc::new(move |call, moment: &Moment<'_>| {
        to.lock().push((call - before, read(&moment.kill(), "file").map(|bytes| bytes.len())));
    }));
    let mut file = disk.create(&at("file")).unwrap();
    file.write_all(&[1; 10]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(*seen.lock(), [(1, Some(0)), (2, Some(10)), (3, Some(10))]);
}
