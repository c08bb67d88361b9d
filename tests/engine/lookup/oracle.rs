//! Real-looking accounts and address books against an independent answer, before and after a fold, a reopen and
//! a process killed in between.
//!
//! The oracle reads the same files with its own few lines: a map from E.164 text to accounts and opt-in names.
//! `UNLISTED_DATA` names a folder with `listings.csv.gz`, `address_books.jsonl.gz` and `numbers.csv.gz` to use
//! instead of the shipped slice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use unlisted::{AccountId, Caller, E164, Index, Listing, OptIns, Origin, PhoneHash, Purpose, Version};

use crate::common;

const CHILD_DIR: &str = "UNLISTED_ORACLE_DIR";

/// A caller's address book: numbers as typed, and libphonenumber's E.164 of each (empty where it finds none).
struct Book {
    caller: Caller,
    contacts: Vec<(String, String)>,
}

struct Data {
    rows: Vec<BTreeMap<String, String>>,
    books: Vec<Book>,
}

fn reader(path: &Path) -> impl Read + use<> {
    GzDecoder::new(File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn csv_rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(reader(path));
    reader.deserialize().map(Result::unwrap).collect()
}

impl Data {
    fn load() -> Self {
        let given = std::env::var_os("UNLISTED_DATA").map(PathBuf::from);
        let folder = given.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"));
        let numbers = given.map(|folder| e164_of_raw(&folder.join("numbers.csv.gz")));
        let lines = BufReader::new(reader(&folder.join("address_books.jsonl.gz"))).lines();
        let books =
            lines.map(|line| book(&serde_json::from_str(&line.unwrap()).unwrap(), numbers.as_ref())).collect();
        Self { rows: csv_rows(&folder.join("listings.csv.gz")), books }
    }

    /// The host's side: rows as the index takes them.
    fn listings(&self) -> impl Iterator<Item = Listing> {
        self.rows.iter().map(|row| Listing {
            hash: PhoneHash::of_e164(&row["phone"]).unwrap(),
            account: row["account"].parse().unwrap(),
            opt_ins: OptIns::from_names(&row["opt_ins"]).unwrap(),
            version: Version::new(row["version"].parse().unwrap()).unwrap(),
        })
    }

    /// The oracle: E.164 text to accounts that agreed to a purpose, from the newest row of each pair.
    fn oracle(&self, purpose: &str) -> HashMap<&str, BTreeSet<u64>> {
        let mut newest: HashMap<(&str, u64), (u64, &str)> = HashMap::new();
        for row in &self.rows {
            let version: u64 = row["version"].parse().unwrap();
            let slot = newest
                .entry((&row["phone"], row["account"].parse().unwrap()))
                .or_insert((version, &row["opt_ins"]));
            if version > slot.0 {
                *slot = (version, &row["opt_ins"]);
            }
        }
        let mut accounts: HashMap<&str, BTreeSet<u64>> = HashMap::new();
        for ((phone, account), (_, opt_ins)) in newest {
            if opt_ins.split('|').any(|name| name == purpose) {
                accounts.entry(phone).or_default().insert(account);
            }
        }
        accounts
    }
}

fn e164_of_raw(path: &Path) -> HashMap<(String, String), String> {
    csv_rows(path)
        .into_iter()
        .map(|row| ((row["raw"].clone(), row["region"].clone()), row["e164"].clone()))
        .collect()
}

fn book(line: &serde_json::Value, numbers: Option<&HashMap<(String, String), String>>) -> Book {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let contact = |contact: &serde_json::Value| match contact.as_array() {
        Some(pair) => (text(&pair[0]), text(&pair[1])),
        None => {
            let key = (text(contact), text(&line["region"]));
            let e164 = numbers.unwrap()[&key].clone();
            (key.0, e164)
        }
    };
    Book {
        caller: Caller::new(text(&line["caller"])).via(Origin::parse_network(&text(&line["network"])).unwrap()),
        contacts: line["contacts"].as_array().unwrap().iter().map(contact).collect(),
    }
}

/// Looks every address book up for every purpose and compares with the oracle. Each costs its distinct numbers when it
/// is synced first, and nothing in any later sync.
fn check(index: &Index, data: &Data, is_first: bool) -> usize {
    let mut found = 0;
    for purpose in [Purpose::ContactSync, Purpose::Search, Purpose::Suggestions, Purpose::Payments, Purpose::Host1]
    {
        let oracle = data.oracle(purpose.name());
        for book in &data.books {
            let numbers: Vec<&str> =
                book.contacts.iter().map(|(_, e164)| e164.as_str()).filter(|n| !n.is_empty()).collect();
            let hashes: Vec<PhoneHash> =
                numbers.iter().map(|number| PhoneHash::of_e164(number).unwrap()).collect();
            let reply = index.lookup(&book.caller, purpose, &hashes).unwrap();
            let mut answers: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); numbers.len()];
            for found in reply.matches() {
                assert!(answers[found.position].insert(found.account.as_u64().unwrap()));
            }
            let distinct: BTreeSet<&str> = numbers.iter().copied().collect();
            let is_paid = !is_first || purpose != Purpose::ContactSync;
            assert_eq!(reply.charged(), if is_paid { 0 } else { distinct.len() as u64 });
            for (number, answer) in numbers.iter().zip(&answers) {
                assert_eq!(answer, oracle.get(number).unwrap_or(&BTreeSet::new()), "{purpose}");
            }
            found += reply.matches().len();
        }
    }
    found
}

#[test]
fn what_people_typed_is_read_as_libphonenumber_reads_it() {
    let data = Data::load();
    let mut read = 0;
    for (raw, e164) in data.books.iter().flat_map(|book| &book.contacts) {
        if let Ok(number) = E164::parse(raw)
            && !e164.is_empty()
        {
            assert_eq!(number.as_str(), e164);
            read += 1;
        }
    }
    assert!(read > 1_000, "only {read} numbers needed no region");
}

#[test]
fn address_books_get_the_oracles_answers_before_and_after_everything() {
    let data = Data::load();
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let index = common::open(dir.path(), &clock);
    assert_eq!(index.import(data.listings()).unwrap().rows, data.rows.len() as u64);
    let found = check(&index, &data, true);
    assert!(found > 100, "a test without matches shows nothing");

    // The same rows again, now as updates: all stale, and the answers stay.
    let rows: Vec<Listing> = data.listings().take(2_000).collect();
    let again = index.update(|batch| {
        rows.iter().try_for_each(|row| batch.put(row.hash, row.account, row.opt_ins, row.version.get()))
    });
    assert_eq!(again.unwrap().applied, 0);
    // One listing opts out under a newer version and comes back, for everything, under one newer still.
    let everyone = [(OptIns::empty(), 10_000), (OptIns::ALL_PURPOSES, 10_001)];
    for (opt_ins, version) in everyone {
        let change = |row: &Listing| index.set_opt_ins(row.hash, row.account, opt_ins, version).unwrap();
        assert_eq!(change(&rows[0]).applied, 1);
    }
    let mut data = data;
    let (phone, account) = (data.rows[0]["phone"].clone(), data.rows[0]["account"].clone());
    for row in data.rows.iter_mut().filter(|row| row["phone"] == phone && row["account"] == account) {
        row.insert("opt_ins".to_owned(), "contact-sync|search|suggestions|payments|host-1|host-2".to_owned());
    }
    check(&index, &data, false);
    index.fold().unwrap();
    check(&index, &data, false);
    drop(index);
    check(&common::open(dir.path(), &clock), &data, false);
    for life_ms in [20, 60, 140] {
        kill_while_folding(dir.path(), Duration::from_millis(life_ms));
        check(&common::open(dir.path(), &clock), &data, false);
    }
}

/// A process that changes, imports and folds what does not matter to any address book, until it is killed.
fn kill_while_folding(dir: &Path, life: Duration) {
    let mut child = common::child(module_path!()).env(CHILD_DIR, dir).spawn().unwrap();
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The child: not a test of its own, it does nothing unless the parent asks.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let index = common::open(Path::new(&dir), &common::clock());
    for round in 0.. {
        let listing = |i: u64| Listing {
            hash: common::number(round * 1_000 + i),
            account: AccountId::from(i),
            opt_ins: OptIns::ALL_PURPOSES,
            version: Version::new(round).unwrap(),
        };
        index.import((0..500).map(listing)).unwrap();
        let put = |row: Listing| (row.hash, row.account, row.opt_ins, row.version.get() + 1);
        index
            .update(|batch| (400..700).map(listing).map(put).try_for_each(|(h, a, o, v)| batch.put(h, a, o, v)))
            .unwrap();
        index.fold().unwrap();
    }
}

#[test]
fn the_same_rows_through_updates_answer_alike() {
    let mut data = Data::load();
    data.rows.truncate(3_000);
    data.books.truncate(20);
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let index = common::open(dir.path(), &clock);
    let rows: Vec<Listing> = data.listings().collect();
    for chunk in rows.chunks(1_000) {
        let put = |row: &Listing| (row.hash, row.account, row.opt_ins, row.version.get());
        index
            .update(|batch| {
                chunk
                    .iter()
                    .map(put)
                    .try_for_each(|(hash, account, opt_ins, version)| batch.put(hash, account, opt_ins, version))
            })
            .unwrap();
    }
    check(&index, &data, true);
    index.fold().unwrap();
    check(&index, &data, false);
    let accounts: Vec<AccountId> = rows.iter().map(|row| row.account).collect();
    index.erase_accounts(&accounts).unwrap();
    data.rows.clear();
    assert_eq!(check(&index, &data, false), 0);
    index.fold().unwrap();
    assert_eq!(check(&index, &data, false), 0);
}
