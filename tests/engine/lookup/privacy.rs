//! What callers and thieves must not be able to tell apart or find.

use std::fs;
use std::path::Path;
use std::time::Duration;

use unlisted::{AccountId, Caller, Error, Index, OptIns, Options, Origin, PhoneHash, Purpose, Reply, Secret};

use crate::common;

/// Numbers that must look alike: never listed, removed, listed without opt-ins, listed for everything else, or for others.
const ABSENT: u64 = 1_000;
const REMOVED: u64 = 1;
const HIDDEN: u64 = 2;
const OTHER_PURPOSE: u64 = 3;
const SHOWN: u64 = 4;
/// Listed for contacts of its account, of whom the caller is none.
const MUTUAL: u64 = 5;
/// The caller's own number.
const OWN: u64 = 2_000;

fn fill(index: &Index, purpose: Purpose) {
    let others = OptIns::ALL_PURPOSES - OptIns::from(purpose);
    index
        .update(|batch| {
            for i in 0..200 {
                batch.put(common::number(10_000 + i), AccountId::from(i), OptIns::ALL_PURPOSES, 1)?;
            }
            batch.put(common::number(REMOVED), AccountId::from(71), OptIns::ALL_PURPOSES, 1)?;
            batch.remove(common::number(REMOVED), AccountId::from(71), 2)?;
            batch.put(common::number(HIDDEN), AccountId::from(72), OptIns::empty(), 1)?;
            batch.put(common::number(OTHER_PURPOSE), AccountId::from(73), others, 1)?;
            batch.put(common::number(MUTUAL), AccountId::from(75), OptIns::from(purpose) | OptIns::MUTUAL, 1)?;
            batch.put(common::number(SHOWN), AccountId::from(74), OptIns::ALL_PURPOSES, 1)
        })
        .unwrap();
}

/// A reply with everything that is in it.
fn serialised(reply: &Reply) -> String {
    format!("{reply:?}")
}

/// Every row of the ledger, read with redb alone, after the index is closed.
fn ledger_rows(dir: &Path) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle};
    // The pages without those that have their checksums are a file of redb's.
    let (file, plain) = (std::fs::read(dir.join("ledger.redb")).unwrap(), dir.join("plain.redb"));
    let pages = file.chunks(4_096).enumerate().filter(|(number, _)| number % 513 != 0);
    std::fs::write(&plain, pages.flat_map(|(_, page)| page).copied().collect::<Vec<u8>>()).unwrap();
    let database = redb::Database::open(&plain).unwrap();
    let txn = database.begin_read().unwrap();
    let mut rows = Vec::new();
    for table in txn.list_tables().unwrap() {
        let name = table.name().to_owned();
        match name.as_str() {
            "buckets" => {
                let table = txn.open_table(TableDefinition::<[u8; 16], &[u8]>::new(&name)).unwrap();
                for row in table.iter().unwrap() {
                    let (key, value) = row.unwrap();
                    rows.push((name.clone(), key.value().to_vec(), value.value().to_vec()));
                }
            }
            "novelty" => {
                let table = txn.open_table(TableDefinition::<(u32, [u8; 16], u16), &[u8]>::new(&name)).unwrap();
                for row in table.iter().unwrap() {
                    let (key, value) = row.unwrap();
                    let (generation, caller, section) = key.value();
                    // What is remembered is of the number that was asked, which differs; only its size may tell.
                    let size = value.value().len().to_be_bytes().to_vec();
                    rows.push((name.clone(), [&caller[..], &generation.to_be_bytes()].concat(), size));
                    assert_eq!(section, 0, "one lookup needs one row");
                }
            }
            "activity" => {
                let table = txn.open_table(TableDefinition::<(u32, &[u8], [u8; 16]), &[u8]>::new(&name)).unwrap();
                for row in table.iter().unwrap() {
                    let (key, value) = row.unwrap();
                    let (slot, kind, id) = key.value();
                    rows.push((
                        name.clone(),
                        [&slot.to_be_bytes()[..], kind, &id].concat(),
                        value.value().to_vec(),
                    ));
                }
            }
            "activity_slots" => {
                let table = txn.open_table(TableDefinition::<u32, &[u8]>::new(&name)).unwrap();
                for row in table.iter().unwrap() {
                    let (key, value) = row.unwrap();
                    rows.push((name.clone(), key.value().to_be_bytes().to_vec(), value.value().to_vec()));
                }
            }
            "bucket_log" => {
                let table = txn.open_table(TableDefinition::<(u64, u8), &[u8]>::new(&name)).unwrap();
                assert!(table.is_empty().unwrap(), "a clean close leaves something in the log of buckets");
            }
            // Holds ids that are random by design.
            "state" => {}
            other => panic!("the ledger has a table {other}"),
        }
    }
    rows
}

/// Every file of the disclosure log and its length, after the index is closed. The header of a log holds a random id,
/// and checksums depend on it, so bytes cannot be compared.
fn disclosure_files(dir: &Path) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let files = fs::read_dir(dir.join("disclosures")).unwrap().map(|item| item.unwrap());
    let len = |file: &fs::DirEntry| file.metadata().unwrap().len().to_le_bytes().to_vec();
    files.map(|file| ("disclosures".to_owned(), file.file_name().into_encoded_bytes(), len(&file))).collect()
}

/// A whole reply, every ledger row and what the disclosure log takes.
type Outcome = (String, Vec<(String, Vec<u8>, Vec<u8>)>);

/// Asks for one number in a fresh index.
fn outcome(number: u64, purpose: Purpose, fold: bool) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let index = common::open(dir.path(), &clock);
    fill(&index, purpose);
    if fold {
        index.fold().unwrap();
    }
    let network = Origin::network("198.51.100.7".parse().unwrap());
    let caller = Caller::new("user-7").via(network).own_number(common::number(OWN));
    // The account of the mutual listing asks too, for somebody else.
    index.lookup(&Caller::of_account(AccountId::from(75)), purpose, &[common::number(OWN + 1)]).unwrap();
    let reply = index.lookup(&caller, purpose, &[common::number(number)]).unwrap();
    drop(index);
    let mut rows = ledger_rows(dir.path());
    rows.extend(disclosure_files(dir.path()));
    (serialised(&reply), rows)
}

#[test]
fn hidden_removed_and_absent_are_the_same_for_every_purpose() {
    for purpose in Purpose::ALL {
        for fold in [false, true] {
            let absent = outcome(ABSENT, purpose, fold);
            for like_absent in [REMOVED, HIDDEN, OTHER_PURPOSE, MUTUAL] {
                assert_eq!(outcome(like_absent, purpose, fold), absent, "{purpose}, folded: {fold}");
            }
            // The comparison can fail: a listing that agreed is told apart.
            assert_ne!(outcome(SHOWN, purpose, fold), absent);
        }
    }
}

#[test]
fn a_whole_batch_of_hidden_numbers_is_a_batch_of_absent_ones() {
    let dir = tempfile::tempdir().unwrap();
    let index = common::open(dir.path(), &common::clock());
    index
        .update(|batch| {
            (0..500).try_for_each(|i| batch.put(common::number(i), AccountId::from(i), OptIns::SEARCH, 1))
        })
        .unwrap();
    index.fold().unwrap();
    let ask = |caller: &str, first: u64| {
        let hashes: Vec<PhoneHash> = (first..first + 500).map(common::number).collect();
        serialised(&index.lookup(&Caller::new(caller), Purpose::Payments, &hashes).unwrap())
    };
    assert_eq!(ask("a", 0), ask("b", 900_000));
}

/// Does any file below the folder hold these bytes?
fn files_hold(dir: &Path, needle: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|item| {
        let path = item.unwrap().path();
        if path.is_dir() {
            return files_hold(&path, needle);
        }
        fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle)
    })
}

#[test]
fn nothing_that_names_a_number_a_caller_or_an_origin_reaches_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let index = common::open(dir.path(), &common::clock());
    let number = "+14155550123";
    let hash = PhoneHash::of_e164(number).unwrap();
    let caller = Caller::new("caller-with-a-name")
        .via(Origin::network("203.0.113.77".parse().unwrap()))
        .via(Origin::named("device", "device-with-a-name").unwrap());
    let account = AccountId::from_bytes(*b"account-in-clear");
    index.update(|batch| batch.put(hash, account, OptIns::ALL_PURPOSES, 1)).unwrap();
    index.lookup(&caller, Purpose::Search, &[hash]).unwrap();
    index.fold().unwrap();
    index.lookup(&caller, Purpose::Payments, &[hash]).unwrap();
    drop(index);
    let secret = [0x5e; 32];
    let needles: [&[u8]; 6] = [
        number.as_bytes(),
        &hash.as_bytes()[..8],
        b"caller-with-a-name",
        &[203, 0, 113, 0],
        b"device-with-a-name",
        &secret[..16],
    ];
    for needle in needles {
        assert!(!files_hold(dir.path(), needle), "{:?}", String::from_utf8_lossy(needle));
    }
    // The search can find: an account is stored in clear.
    assert!(files_hold(dir.path(), b"account-in-clear"));
}

#[test]
fn debug_forms_and_errors_name_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(common::secret()).must_exist();
    let caller = Caller::new("caller-with-a-name").via(Origin::named("device", "device-with-a-name").unwrap());
    let text = format!("{options:?} {caller:?} {:?}", caller.origins());
    assert!(
        !text.contains("with-a-name") && !text.contains("94, 94") && !text.to_lowercase().contains("5e5e"),
        "{text}"
    );
    let index = common::open(dir.path(), &common::clock());
    let error = index.lookup(&Caller::new(""), Purpose::Search, &[]).unwrap_err();
    assert!(matches!(error, Error::EmptyCaller));
    drop(index);
    let wrong = Options::new(Secret::from_bytes([7; 32]));
    let error = Index::open(dir.path(), wrong).unwrap_err();
    assert!(matches!(error, Error::WrongSecret { .. }));
    assert!(!format!("{error:?} {error}").contains("0707"));
}

#[test]
fn a_late_older_update_never_undoes_an_opt_out() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let open = || {
        let options = common::options(&clock).removal_retention(Duration::from_secs(10 * 86_400));
        Index::open(dir.path(), options).unwrap()
    };
    let (hash, account) = (common::number(1), AccountId::from(1));
    let index = open();
    index.update(|batch| batch.put(hash, account, OptIns::ALL_PURPOSES, 5)).unwrap();
    index.update(|batch| batch.remove(hash, account, 9)).unwrap();
    let late =
        |index: &Index| index.update(|batch| batch.put(hash, account, OptIns::ALL_PURPOSES, 8)).unwrap().stale;
    assert_eq!(late(&index), 1);
    index.fold().unwrap();
    assert_eq!(late(&index), 1);
    drop(index);
    let index = open();
    clock.advance(Duration::from_secs(9 * 86_400));
    index.fold().unwrap();
    assert_eq!((late(&index), index.stats().unwrap().removed), (1, 1));
    // Past its retention the removal is forgotten, with everything that named the account.
    clock.advance(Duration::from_secs(3 * 86_400));
    assert_eq!(index.fold().unwrap().forgotten, 1);
    assert_eq!((index.stats().unwrap().removed, index.stats().unwrap().segments), (0, 0));
}

#[test]
fn an_opt_out_that_overtakes_its_listing_wins() {
    let dir = tempfile::tempdir().unwrap();
    let index = common::open(dir.path(), &common::clock());
    let (hash, account) = (common::number(1), AccountId::from(1));
    index.set_opt_ins(hash, account, OptIns::empty(), 7).unwrap();
    assert_eq!(index.update(|batch| batch.put(hash, account, OptIns::ALL_PURPOSES, 6)).unwrap().stale, 1);
    assert!(common::ask(&index, Purpose::Search, &[hash]).is_empty());
}
