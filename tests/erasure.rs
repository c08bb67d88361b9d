//! After an erasure and its bound no byte of the account and of the keys of its numbers is in any file of the index. Every
//! file is read and searched, in whatever order of bytes and cut of the key a file has.

#![cfg(feature = "internals")]

mod common;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unlisted::internals::{identity_of, keys_of};
use unlisted::{
    AccountId, Caller, Index, Listing, ManualClock, OptIns, Options, PhoneHash, Purpose, TopBy, TopQuery, Version,
};

const DAY: Duration = Duration::from_secs(86_400);
/// How long removals are remembered here, and how long a mark stays at most: eras are a sixteenth, and one more is waited.
const RETENTION: Duration = DAY;
const BOUND: Duration = Duration::from_secs(86_400 / 16 * 18);
/// Other people's listings.
const OTHERS: u64 = 3_000;
/// Numbers of the account that is erased, far from those of others.
const FIRST: u64 = 1 << 40;
const NUMBERS: u64 = 6;
const TRIPWIRES: u64 = 1 << 41;

/// What must not be left: words of eight bytes, by what they are of.
struct Traces(HashMap<[u8; 8], &'static str>);

impl Traces {
    fn of(account: AccountId, numbers: &[PhoneHash]) -> Self {
        let mut traces = Self(HashMap::new());
        let bytes = account.to_bytes();
        let (high, low) = bytes.split_at(8);
        for half in [high, low].into_iter().filter(|half| half.iter().any(|byte| *byte != 0)) {
            traces.add(half.try_into().unwrap(), "the account");
        }
        if high.iter().all(|byte| *byte == 0) {
            // As the first row of a group in a run has it.
            traces.add_once(varint(u64::from_be_bytes(low.try_into().unwrap())), "the account");
        }
        for key in keys_of(&common::secret(), numbers) {
            // A segment keeps 64 bits of a key, from some bit on.
            let key = u128::from_be_bytes(key);
            (0..=64).for_each(|from| traces.add(((key << from >> 64) as u64).to_be_bytes(), "a key"));
        }
        traces
    }

    fn of_caller(account: AccountId) -> Self {
        let mut traces = Self(HashMap::new());
        let identity = identity_of(&common::secret(), "caller", account.to_string().as_bytes());
        identity.as_chunks::<8>().0.iter().for_each(|half| traces.add(*half, "the caller"));
        traces
    }

    /// In both orders of bytes.
    fn add(&mut self, word: [u8; 8], of: &'static str) {
        self.add_once(word, of);
        let mut turned = word;
        turned.reverse();
        self.add_once(turned, of);
    }

    fn add_once(&mut self, word: [u8; 8], of: &'static str) {
        assert!(word.iter().collect::<BTreeSet<_>>().len() > 4, "a word that is anywhere: {word:?}");
        self.0.insert(word, of);
    }

    /// Folders or files in which there is something, and what.
    fn in_files(&self, dir: &Path) -> BTreeSet<(String, &'static str)> {
        let mut may_begin = vec![false; 1 << 16];
        for word in self.0.keys() {
            may_begin[usize::from(u16::from_be_bytes([word[0], word[1]]))] = true;
        }
        let mut found = BTreeSet::new();
        for (name, bytes) in files(dir) {
            for window in bytes.array_windows::<8>() {
                if may_begin[usize::from(u16::from_be_bytes([window[0], window[1]]))]
                    && let Some(of) = self.0.get(window)
                {
                    found.insert((name.clone(), *of));
                }
            }
        }
        found
    }
}

fn varint(mut number: u64) -> [u8; 8] {
    [(); 8].map(|()| {
        let byte = number as u8 | 0x80;
        number >>= 7;
        byte
    })
}

/// Every file in the directory, under the name of its folder if it is in one.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files.extend(self::files(&path).into_iter().map(|(_, bytes)| (name.clone(), bytes)));
        } else {
            match fs::read(&path) {
                Ok(bytes) => files.push((name, bytes)),
                // The background replaces files meanwhile.
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{name}"),
            }
        }
    }
    files
}

fn places(found: &BTreeSet<(String, &'static str)>, of: &str) -> Vec<String> {
    found.iter().filter(|(_, what)| *what == of).map(|(name, _)| name.clone()).collect()
}

fn wide() -> AccountId {
    AccountId::from_bytes([
        0xe7, 0x1a, 0x5c, 0x93, 0x4d, 0x02, 0xb8, 0x6f, 0x9e, 0x31, 0xd4, 0x77, 0x0b, 0xc5, 0x28, 0x8a,
    ])
}

fn narrow() -> AccountId {
    AccountId::from(0xa5c3_96e1_7b2d_4f88)
}

fn of_account(numbers: u64) -> Vec<PhoneHash> {
    (FIRST..FIRST + numbers).map(common::number).collect()
}

fn options(clock: &Arc<ManualClock>) -> Options {
    // Some ranges, so that a fold of one leaves the changes of others in the log.
    common::options(clock).removal_retention(RETENTION).segment_listings(1_000)
}

fn listing(number: u64, account: AccountId) -> Listing {
    let version = Version::new(1).unwrap();
    Listing { hash: common::number(number), account, opt_ins: OptIns::ALL_PURPOSES, version }
}

/// An account with listings in segments, in the delta and in the log behind both, shown to others, and asking itself.
fn live(index: &Index, account: AccountId, others: u64) {
    let numbers = of_account(NUMBERS);
    let shown_to =
        |name: &str| index.lookup(&Caller::new(name), Purpose::Search, &numbers).unwrap().matches().count();
    index.import((0..others).map(|i| listing(i, AccountId::from(i)))).unwrap();
    assert_eq!(index.set_tripwires((TRIPWIRES..TRIPWIRES + 4).map(common::number)).unwrap(), 4);
    let put = |numbers: &[PhoneHash], opt_ins: OptIns, version: u64| {
        let done = index.update(|batch| {
            // Beside changes of others in all ranges.
            (0..40).try_for_each(|i| {
                batch.put(common::number(i * 7), AccountId::from(i * 7), OptIns::ALL_PURPOSES, version + 1)
            })?;
            numbers.iter().try_for_each(|number| batch.put(*number, account, opt_ins, version))
        });
        done.unwrap();
    };
    put(&numbers[..4], OptIns::SEARCH, 1);
    put(&numbers[..4], OptIns::ALL_PURPOSES, 2);
    index.fold().unwrap();
    put(&numbers[3..], OptIns::SEARCH, 3);
    put(&numbers[3..], OptIns::ALL_PURPOSES, 4);
    assert_eq!(shown_to("somebody"), NUMBERS as usize);
    index.compact_disclosures().unwrap();
    assert_eq!(shown_to("somebody else"), NUMBERS as usize);
    let asked: Vec<PhoneHash> = (0..50).map(common::number).collect();
    let itself = Caller::of_account(account);
    assert_eq!(index.lookup(&itself, Purpose::Search, &asked).unwrap().matches().count(), 50);
}

/// What is of nobody but others is as it was.
fn others_are_there(index: &Index, others: u64) {
    let numbers: Vec<PhoneHash> = (0..others).map(common::number).collect();
    assert_eq!(common::ask(index, Purpose::Search, &numbers).len() as u64, others);
    assert_eq!(index.stats().unwrap().tripwires, 4);
    let enumerator = Caller::new("enumerator");
    let tripwires: Vec<PhoneHash> = (TRIPWIRES..TRIPWIRES + 4).map(common::number).collect();
    assert_eq!(index.lookup(&enumerator, Purpose::Search, &tripwires).unwrap().matches().count(), 0);
    let met = index.inspector().top_callers(&TopQuery::new(TopBy::Missed).caller(&enumerator)).unwrap();
    assert_eq!(met.rows[0].tripwires, 4);
    index.verify(|_, _| ()).unwrap();
}

#[test]
fn an_erased_account_leaves_no_byte_in_any_file() {
    let (dir, clock, account) = (tempfile::tempdir().unwrap(), common::clock(), wide());
    let (traces, caller) = (Traces::of(account, &of_account(NUMBERS)), Traces::of_caller(account));
    let index = Index::open(dir.path(), options(&clock)).unwrap();
    live(&index, account, OTHERS);
    // A close writes down what was paid for.
    drop(index);
    let index = Index::open(dir.path(), options(&clock)).unwrap();
    let before = traces.in_files(dir.path());
    assert_eq!(places(&before, "the account"), ["disclosures", "index.redb", "segments"], "the search finds it");
    assert_eq!(places(&before, "a key"), ["index.redb", "segments"]);
    assert_eq!(places(&caller.in_files(dir.path()), "the caller"), ["disclosures", "ledger.redb"]);

    assert_eq!(index.erase_account(account).unwrap().removed as u64, NUMBERS);
    index.compact_disclosures().unwrap();
    let marked = traces.in_files(dir.path());
    assert_eq!(
        places(&marked, "the account"),
        ["index.redb", "segments"],
        "the log of disclosures has none of it"
    );
    let held = index.inspector().held(account).unwrap();
    assert_eq!((held.listings.rows, held.removals.rows, held.shown.rows), (0, NUMBERS, 0));
    let until_ms = held.removals.until_ms.unwrap();
    assert!(until_ms <= common::START_MS + BOUND.as_millis() as u64);

    // Until then it can be undone by no late update.
    clock.advance(RETENTION);
    assert_eq!(index.vacuum().unwrap().removals, 0);
    let late = |version| {
        let done = index.update(|batch| batch.put(common::number(FIRST), account, OptIns::SEARCH, version));
        done.unwrap().applied
    };
    assert_eq!(late(4), 0);
    clock.advance(Duration::from_millis(until_ms - common::START_MS) - RETENTION);
    assert_eq!(index.vacuum().unwrap().removals as u64, NUMBERS);
    assert_eq!(traces.in_files(dir.path()), BTreeSet::new());
    others_are_there(&index, OTHERS);
    let held = index.inspector().held(account).unwrap();
    assert!(held.listings.is_empty() && held.removals.is_empty() && held.shown.is_empty());
    drop(index);
    assert_eq!(traces.in_files(dir.path()), BTreeSet::new());
    let index = Index::open(dir.path(), options(&clock)).unwrap();
    others_are_there(&index, OTHERS);
    assert_eq!(traces.in_files(dir.path()), BTreeSet::new());
}

/// Segments of more than 220,000 listings keep only a part of each key, and of a `u64` account eight bytes.
#[test]
fn nor_in_segments_that_cut_keys() {
    const MANY: u64 = 230_000;
    let (dir, clock, account) = (tempfile::tempdir().unwrap(), common::clock(), narrow());
    let traces = Traces::of(account, &of_account(NUMBERS));
    let open = || Index::open(dir.path(), common::options(&clock).removal_retention(RETENTION)).unwrap();
    let index = open();
    live(&index, account, MANY);
    let before = traces.in_files(dir.path());
    assert_eq!(places(&before, "the account"), ["disclosures", "index.redb", "segments"]);
    assert_eq!(places(&before, "a key"), ["index.redb", "segments"]);
    index.erase_account(account).unwrap();
    // Some marks are in the segment by then, the rest in the overlay.
    clock.advance(BOUND);
    assert_eq!(index.vacuum().unwrap().removals as u64, NUMBERS);
    assert_eq!(traces.in_files(dir.path()), BTreeSet::new());
}

#[test]
fn the_background_forgets_within_the_hour() {
    let (dir, clock, account) = (tempfile::tempdir().unwrap(), common::clock(), wide());
    let traces = Traces::of(account, &of_account(NUMBERS));
    let index = Index::open(dir.path(), options(&clock).background(true)).unwrap();
    live(&index, account, OTHERS);
    index.erase_account(account).unwrap();
    assert!(!traces.in_files(dir.path()).is_empty());
    clock.advance(BOUND + Duration::from_secs(3_600));
    let began = Instant::now();
    while !traces.in_files(dir.path()).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", traces.in_files(dir.path()));
        // Wakes it; otherwise it looks once a minute.
        index.erase_account(AccountId::from(1 << 50)).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    others_are_there(&index, OTHERS);
}

#[test]
fn what_is_still_held_is_said_and_in_the_end_there_is_nothing() {
    let (dir, clock, account) = (tempfile::tempdir().unwrap(), common::clock(), wide());
    let caller = Traces::of_caller(account);
    let index = Index::open(dir.path(), options(&clock)).unwrap();
    let held = || index.inspector().held(account).unwrap();
    assert!(held().is_empty());
    live(&index, account, OTHERS);
    let before = held();
    assert_eq!((before.listings.rows, before.listings.until_ms), (NUMBERS, None));
    // A compaction keeps what somebody was shown once.
    assert!(before.removals.is_empty() && before.shown.rows >= 2, "{before:?}");
    assert_eq!((before.as_caller.disclosures.rows, before.as_caller.numbers.rows), (50, 50));
    assert_eq!((before.as_caller.budget.rows, before.as_caller.activity.rows), (1, 1));

    index.erase_account(account).unwrap();
    let after = held();
    assert_eq!((after.listings.rows, after.removals.rows, after.shown.rows), (0, NUMBERS, 0));
    // What it did to others stays, and so does what it spent.
    let as_caller = after.as_caller;
    assert_eq!((as_caller.disclosures.rows, as_caller.numbers.rows, as_caller.budget.rows), (50, 0, 1));
    let itself = Caller::of_account(account);
    index.suspend(&itself, "a crawl").unwrap();
    assert_eq!(held().as_caller.standing.rows, 1);
    assert_eq!(index.inspector().held_by_caller(&itself).unwrap(), held().as_caller);
    index.reinstate(&itself).unwrap();

    // Each part is there until the moment that was said, and gone after a vacuum then.
    let mut untils = [after.removals, as_caller.disclosures, as_caller.budget, as_caller.activity]
        .map(|rows| rows.until_ms.unwrap());
    untils.sort_unstable();
    let mut now_ms = common::START_MS;
    for until_ms in untils {
        clock.advance(Duration::from_millis(until_ms.saturating_sub(now_ms)));
        now_ms = now_ms.max(until_ms);
        index.vacuum().unwrap();
        let held = held();
        let rows = [
            held.removals,
            held.as_caller.disclosures,
            held.as_caller.budget,
            held.as_caller.activity,
            held.as_caller.numbers,
        ];
        assert!(rows.iter().all(|rows| rows.until_ms.is_none_or(|until_ms| until_ms > now_ms)), "{held:?}");
    }
    // A retention ends with its last millisecond.
    clock.advance(Duration::from_secs(1));
    index.vacuum().unwrap();
    assert!(held().is_empty(), "{:?}", held());
    assert_eq!(caller.in_files(dir.path()), BTreeSet::new());
    others_are_there(&index, OTHERS);
}

/// An erasure is no way to a fresh budget, and a vacuum gives nothing back.
#[test]
fn neither_an_erasure_nor_a_vacuum_gives_budget_back() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
    let quota = unlisted::Quota::per_hour(10, 1).unwrap();
    let options = || options(&clock).quotas(unlisted::QuotaPolicy::of_caller(quota));
    let itself = Caller::of_account(AccountId::from(42));
    let ask = |index: &Index, numbers: std::ops::Range<u64>| {
        let hashes: Vec<PhoneHash> = numbers.map(common::number).collect();
        index.lookup(&itself, Purpose::Search, &hashes).unwrap().charged()
    };
    let index = Index::open(dir.path(), options()).unwrap();
    assert_eq!(ask(&index, 0..20), 10);
    for hours in 0..10 {
        index.erase_account(AccountId::from(42)).unwrap();
        assert_eq!(index.vacuum().unwrap().buckets, 0, "after {hours} hours");
        assert_eq!(index.budget(&itself).unwrap().remaining, hours);
        clock.advance(Duration::from_secs(3_600));
    }
    // A lease may be ahead by what comes back in a second.
    clock.advance(Duration::from_secs(1));
    assert_eq!(index.vacuum().unwrap().buckets, 1);
    assert_eq!(ask(&index, 100..120), 10);
    index.vacuum().unwrap();
    // A crash behind it, and a clock that goes back, give nothing back either.
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in files(dir.path()).into_iter().filter(|(name, _)| name.ends_with(".redb")) {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    for folder in ["segments", "disclosures"] {
        fs::create_dir(copy.path().join(folder)).unwrap();
        for item in fs::read_dir(dir.path().join(folder)).unwrap() {
            let path = item.unwrap().path();
            fs::copy(&path, copy.path().join(folder).join(path.file_name().unwrap())).unwrap();
        }
    }
    clock.set_wall_ms(common::START_MS);
    let copied = Index::open(copy.path(), options()).unwrap();
    assert_eq!(copied.budget(&itself).unwrap().remaining, 0);
    assert_eq!(ask(&copied, 200..220), 0);
}
