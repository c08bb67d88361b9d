//! Files that change under an open index: what is survived, and what ends the process. `docs/THREAT-MODEL.md` says the same.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use unlisted::{Damage, Error, Index, Memory};

use crate::FILES;
use crate::world::{Place, ask_everything, find};

struct Live {
    // Closed before its place goes.
    index: Index,
    segment: PathBuf,
    place: Place,
}

fn open(memory: Memory) -> Live {
    let place = Place::new();
    place.fill(&FILES);
    let options = place.options().unwrap().epoch_file(place.path("epoch")).memory(memory);
    let index = Index::open(place.path("index"), options).unwrap();
    let mut segments = fs::read_dir(place.path("index/segments")).unwrap();
    let segment = segments.next().unwrap().unwrap().path();
    assert!(segments.next().is_none(), "what nothing names is gone");
    Live { index, segment, place }
}

fn overwrite(path: &PathBuf, with: u8) {
    let len = fs::metadata(path).unwrap().len();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![with; usize::try_from(len).unwrap()], 0).unwrap();
}

fn cut(path: &PathBuf) {
    fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
}

fn right() -> Vec<(usize, unlisted::AccountId)> {
    find(&open(Memory::Mapped).index).unwrap()
}

#[test]
fn a_mapped_segment_that_is_replaced_or_removed_is_still_whole() {
    let right = right();
    let Live { index, segment, place: _place } = open(Memory::Mapped);
    let other = segment.with_extension("other");
    fs::write(&other, b"not a segment").unwrap();
    fs::rename(&other, &segment).unwrap();
    assert_eq!(find(&index).unwrap(), right);
    fs::remove_file(&segment).unwrap();
    assert_eq!(find(&index).unwrap(), right);
    ask_everything(&index).unwrap();
}

#[test]
fn a_mapped_page_that_is_overwritten_before_it_is_touched_is_an_error() {
    let Live { index, segment, place: _place } = open(Memory::Mapped);
    overwrite(&segment, 0xa5);
    let error = find(&index).unwrap_err();
    assert!(
        matches!(&error, Error::Damaged { path, what: Damage::Checksum { .. }, .. } if *path == segment),
        "{error}"
    );
}

#[test]
fn a_resident_segment_survives_everything_and_the_next_open_finds_it() {
    let right = right();
    let changes: [fn(&PathBuf); 3] = [|path| overwrite(path, 0), cut, |path| fs::remove_file(path).unwrap()];
    for change in changes {
        let Live { place, index, segment } = open(Memory::Resident);
        change(&segment);
        assert_eq!(find(&index).unwrap(), right);
        index.verify(|_, _| ()).unwrap();
        drop(index);
        let again = Index::open(place.path("index"), place.options().unwrap());
        assert!(
            matches!(&again, Err(Error::Damaged { path, .. } | Error::ForeignFormat { path, .. } | Error::Io { path, .. })
            if *path == segment),
            "{again:?}"
        );
    }
}

/// The databases are read with calls, so nothing ends the process: redb may panic on a page that was changed after it was
/// checked, and that is an error of the call.
#[test]
fn databases_that_are_overwritten_or_cut_give_errors_and_no_wrong_match() {
    let right = right();
    let quiet = std::panic::take_hook();
    // What is contained is printed all the same, and here it is expected.
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|at| at.file().contains("redb")) {
            quiet(info);
        }
    }));
    for name in ["index.redb", "ledger.redb"] {
        let changes: [fn(&PathBuf); 3] = [|path| overwrite(path, 0), |path| overwrite(path, 0xa5), cut];
        for change in changes {
            let Live { place, index, segment: _ } = open(Memory::Mapped);
            change(&place.path(&format!("index/{name}")));
            if let Ok(found) = find(&index) {
                assert_eq!(found, right, "{name}");
            }
            // Errors are answers; a panic would end this test.
            let _ = ask_everything(&index);
            let _ = index.update(|batch| batch.remove(crate::common::number(3), unlisted::AccountId::from(3), 99));
            let _ = index.backup(place.path("another backup"), unlisted::BackupMode::Copied);
            drop(index);
        }
    }
}

const AS_VICTIM: &str = "UNLISTED_HOSTILE_VICTIM";

/// What no library can survive: the operating system ends a process that reads a mapped page which is no more. Nothing is
/// answered then.
#[cfg(target_os = "linux")]
#[test]
fn a_mapped_segment_that_is_cut_ends_the_process_before_an_answer() {
    use std::os::unix::process::ExitStatusExt;
    const SIGBUS: i32 = 7;
    let name = "live::a_mapped_segment_that_is_cut_ends_the_process_before_an_answer";
    if std::env::var_os(AS_VICTIM).is_some() {
        let Live { index, segment, place: _place } = open(Memory::Mapped);
        cut(&segment);
        println!("answered: {}", find(&index).is_ok());
        return;
    }
    let victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(AS_VICTIM, "1")
        .output()
        .unwrap();
    assert_eq!(victim.status.signal(), Some(SIGBUS), "{victim:?}");
    assert!(!String::from_utf8_lossy(&victim.stdout).contains("answered"));
}
