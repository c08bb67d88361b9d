//! Where segments are makes no difference to answers; what is damaged, cut or too large is found when it should be.

mod common;

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use unlisted::{AccountId, Error, Index, Listing, Memory, OptIns, Options, PhoneHash, Purpose, Version};

const LISTINGS: u64 = 150_000;
/// Too little memory for that many: pages are asked for, and forgotten after 128.
const LITTLE_BYTES: u64 = 1 << 20;

fn listing(i: u64) -> Listing {
    let opt_ins = OptIns::from_bits_truncate((i % 64) as u8);
    Listing { hash: common::number(i / 8 * 7), account: AccountId::from(i), opt_ins, version: Version::default() }
}

/// A closed index in several segments, and changes that are not folded.
fn closed_index() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path(), options()).unwrap();
    index.import((0..LISTINGS).map(listing)).unwrap();
    index
        .update(|batch| {
            (0..LISTINGS).step_by(101).try_for_each(|i| {
                let Listing { hash, account, .. } = listing(i);
                batch.set_opt_ins(hash, account, OptIns::SEARCH, 1)
            })
        })
        .unwrap();
    dir
}

fn options() -> Options {
    common::options(&common::clock()).segment_listings(50_000)
}

fn numbers() -> Vec<PhoneHash> {
    (0..LISTINGS + 20_000).step_by(3).map(common::number).collect()
}

fn answers(index: &Index) -> Vec<Vec<(usize, AccountId)>> {
    let numbers = numbers();
    Purpose::ALL.iter().map(|purpose| common::ask(index, *purpose, &numbers)).collect()
}

fn segments_of(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir.join("segments")).unwrap().map(|item| item.unwrap().path()).collect()
}

/// Pushes segments out of the page cache, where the system lets us.
fn forget(dir: &Path) {
    for path in segments_of(dir) {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

#[test]
fn wherever_segments_are_the_answers_are_the_same() {
    let dir = closed_index();
    let open = |options| Index::open(dir.path(), options).unwrap();
    let expected = answers(&open(options().memory(Memory::Resident)));
    assert!(expected.iter().all(|found| found.len() > 10_000));

    for little in [false, true] {
        let options = || if little { options().segment_memory_bytes(LITTLE_BYTES) } else { options() };
        forget(dir.path());
        let index = open(options());
        assert_eq!(answers(&index), expected, "nothing was read ahead");
        assert_eq!(answers(&index), expected, "everything was read");
        index.warm().unwrap();
        assert_eq!(answers(&index), expected, "what fits was read ahead");
        drop(index);
        forget(dir.path());
        let index = open(options());
        index.warm().unwrap();
        index.fold().unwrap();
        assert_eq!(answers(&index), expected, "new segments came");
        index.verify(|_, _| ()).unwrap();
    }
    let index = open(options().background(true));
    assert_eq!(answers(&index), expected, "it is read ahead meanwhile");
}

#[test]
fn resident_segments_do_not_change_with_their_files() {
    let dir = closed_index();
    let index = Index::open(dir.path(), options().memory(Memory::Resident)).unwrap();
    let before = answers(&index);
    index.fold().unwrap();
    for (i, path) in segments_of(dir.path()).into_iter().enumerate() {
        if i % 2 == 0 {
            OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
        } else {
            let len = fs::metadata(&path).unwrap().len() as usize;
            fs::write(path, vec![0xee; len]).unwrap();
        }
    }
    assert_eq!(answers(&index), before);
    index.verify(|_, _| ()).unwrap();
}

#[test]
fn damage_is_found_at_the_open_or_when_it_is_read() {
    let dir = closed_index();
    let path = segments_of(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&path, &bytes).unwrap();

    let resident = Index::open(dir.path(), options().memory(Memory::Resident));
    assert!(matches!(resident.unwrap_err(), Error::Damaged { path: found, .. } if found == path));
    let mapped = Index::open(dir.path(), options()).unwrap();
    assert!(matches!(mapped.warm().unwrap_err(), Error::Damaged { path: found, .. } if found == path));
    // It is not trusted because it was read ahead.
    let lookup = |purpose| {
        numbers()
            .chunks(10_000)
            .try_for_each(|numbers| mapped.lookup(&unlisted::Caller::new("test"), purpose, numbers).map(drop))
    };
    assert!(Purpose::ALL.into_iter().any(|purpose| lookup(purpose).is_err()));
}

#[test]
fn memory_that_cannot_be_had_is_refused() {
    let dir = closed_index();
    let little = || options().segment_memory_bytes(LITTLE_BYTES);
    let error = Index::open(dir.path(), little().memory(Memory::Resident)).unwrap_err();
    let Error::NotEnoughMemory { needed_bytes, available_bytes } = error else { panic!("{error}") };
    assert!(needed_bytes > 3_000_000 && available_bytes == LITTLE_BYTES);
    Index::open(dir.path(), little()).unwrap();
    let error = Index::open(dir.path(), options().segment_memory_bytes(LITTLE_BYTES - 1)).unwrap_err();
    assert!(matches!(error, Error::BadOption { name: "segment_memory_bytes", .. }), "{error}");
}

/// How often this thread waited for a page of a file.
#[cfg(target_os = "linux")]
fn major_faults() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(9).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_cold_batch_does_not_wait_for_its_pages_one_by_one() {
    let dir = closed_index();
    forget(dir.path());
    let index = Index::open(dir.path(), options().segment_memory_bytes(LITTLE_BYTES)).unwrap();
    index.warm().unwrap();
    let numbers: Vec<PhoneHash> = (0..2_000).map(|i| common::number(i * 61)).collect();
    let before = major_faults();
    let found = common::ask(&index, Purpose::Search, &numbers);
    let faults = major_faults() - before;
    // As many pages were read as there are: of some, half a bucket was asked for while it was read.
    assert!(found.len() > 500, "{} found", found.len());
    assert!(faults < 50, "{faults} pages were waited for alone");
}
