//! Rows of both databases with any bytes: the index opens and works, or says what is wrong.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use redb::TableDefinition;
use unlisted::internals::open_database;
use unlisted::{AccountId, Caller, Index, OptIns, Options, Origin, PhoneHash, Purpose, Quota, QuotaPolicy};

use super::input::Input;
use super::scratch;

const DELTA: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("delta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const FOLDED: TableDefinition<'_, (u64, u8), u64> = TableDefinition::new("folded");
const SEGMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("segments");
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
const BUCKETS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("buckets");
const BUCKET_LOG: TableDefinition<'_, (u64, u8), &[u8]> = TableDefinition::new("bucket_log");

/// The files of a small index, by name: some listings in a segment, some in the delta, a spent bucket.
static TEMPLATE: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let dir = scratch::folder();
    let index = Index::open(dir.path(), options()).expect("the index opens");
    put(&index, 0..6);
    index.fold().expect("the fold ends");
    put(&index, 4..9);
    ask(&index).expect("the lookup is answered");
    drop(index);
    let mut files = Vec::new();
    for folder in ["", "segments", "disclosures"] {
        for item in fs::read_dir(dir.path().join(folder)).expect("the folder is there") {
            let path = item.expect("an item of the folder").path();
            if path.is_file() {
                let name = path.strip_prefix(dir.path()).expect("it is inside").to_string_lossy().into_owned();
                files.push((name, fs::read(&path).expect("the file is read")));
            }
        }
    }
    files
});

fn options() -> Options {
    let quota = Quota::per_hour(1_000, 60).expect("a sound quota");
    let policy = QuotaPolicy::default().with_caller(quota).with_everyone(quota);
    scratch::options(&scratch::clock(), policy).removal_retention(Duration::from_secs(60))
}

fn hash(number: u64) -> PhoneHash {
    PhoneHash::from_bytes([number as u8; 32])
}

fn put(index: &Index, numbers: std::ops::Range<u64>) {
    let fill = |batch: &mut unlisted::UpdateBatch| {
        numbers.clone().try_for_each(|i| match i % 4 {
            3 => batch.remove(hash(i), AccountId::from(i), 10 + i),
            _ => batch.put(hash(i), AccountId::from(i), OptIns::ALL_PURPOSES, 10 + i),
        })
    };
    index.update(fill).expect("the update is taken");
}

fn caller() -> Caller {
    Caller::new("fuzz").via(Origin::network([192, 0, 2, 1].into()))
}

fn ask(index: &Index) -> unlisted::Result<unlisted::Reply> {
    let hashes: Vec<PhoneHash> = (0..12).map(hash).collect();
    index.lookup(&caller(), Purpose::Search, &hashes)
}

/// Puts rows of any bytes where rows of an index are, and uses it. Errors are answers, panics are not.
pub fn codec(data: &[u8]) {
    let mut input = Input::new(data);
    let dir = scratch::folder();
    for folder in ["segments", "disclosures"] {
        fs::create_dir(dir.path().join(folder)).expect("the folder is made");
    }
    for (name, bytes) in TEMPLATE.iter() {
        fs::write(dir.path().join(name), bytes).expect("the file is written");
    }
    for _ in 0..1 + input.below(3) {
        write_row(dir.path(), &mut input).expect("redb takes any bytes");
    }
    // With a policy in the options or without one, as both are read.
    let Ok(index) = Index::open(dir.path(), options()) else { return };
    let _ = ask(&index);
    let _ = index.inspector().disclosed_to(&caller());
    let _ = index.stats();
    let _ = index.verify(|_, _| ());
    let _ = index.update(|batch| batch.put(hash(4), AccountId::from(4), OptIns::SEARCH, 1_000));
    let _ = index.erase_account(AccountId::from(5));
    let _ = index.fold();
    let _ = ask(&index);
}

/// A row of the log, of what is folded, or of the delta that the log took the place of.
fn write_change(txn: &redb::WriteTransaction, input: &mut Input<'_>) -> Result<(), redb::Error> {
    match input.u8() % 8 {
        7 => {
            txn.open_table(FOLDED)?.insert((input.u64(), input.u8()), input.u64())?;
        }
        6 => {
            txn.open_table(DELTA)?.insert(input.array(), changed(&[], input).as_slice())?;
        }
        _ => {
            let mut rows = txn.open_table(LOG)?;
            let old = nth(redb::ReadableTable::iter(&rows)?, input.u8())?;
            let number = if input.u8().is_multiple_of(4) { input.u64() } else { old.0 };
            rows.insert(number, changed(&old.1, input).as_slice())?;
        }
    }
    Ok(())
}

/// Replaces a row, or changes a few bytes of the one that is there.
fn write_row(dir: &Path, input: &mut Input<'_>) -> Result<(), redb::Error> {
    let table = input.u8();
    let file = if matches!(table % 6, 3..) { "ledger.redb" } else { "index.redb" };
    let database = open_database(&dir.join(file)).expect("the file is whole");
    let txn = database.begin_write()?;
    match table % 6 {
        0 => write_change(&txn, input)?,
        1 => {
            let mut rows = txn.open_table(SEGMENTS)?;
            let old = nth(redb::ReadableTable::iter(&rows)?, input.u8())?;
            let generation = if input.u8().is_multiple_of(4) { input.u64() } else { old.0 };
            rows.insert(generation, changed(&old.1, input).as_slice())?;
        }
        2 | 3 => {
            let row = if table % 6 == 2 { "index" } else { "ledger" };
            let mut rows = txn.open_table(STATE)?;
            let old = redb::ReadableTable::get(&rows, row)?.map(|old| old.value().to_vec()).unwrap_or_default();
            rows.insert(row, changed(&old, input).as_slice())?;
        }
        4 => {
            // Of one bucket, so that most are right: a length, an identity and the rest.
            let row = [&[0, 1][..], &input.array::<16>(), &[9, 1]].concat();
            let key = (input.u64(), input.u8());
            txn.open_table(BUCKET_LOG)?.insert(key, changed(&row, input).as_slice())?;
        }
        _ => {
            let mut rows = txn.open_table(BUCKETS)?;
            let old = nth(redb::ReadableTable::iter(&rows)?, input.u8())?;
            rows.insert(old.0, changed(&old.1, input).as_slice())?;
        }
    }
    txn.commit()?;
    Ok(())
}

/// The key and the bytes of one of a table's rows.
fn nth<K, O: Default>(rows: redb::Range<'_, K, &[u8]>, number: u8) -> Result<(O, Vec<u8>), redb::Error>
where
    for<'a> K: redb::Key<SelfType<'a> = O> + 'static,
{
    let mut all = Vec::new();
    for row in rows {
        let (key, bytes) = row?;
        all.push((key.value(), bytes.value().to_vec()));
    }
    let number = usize::from(number) % all.len().max(1);
    Ok(all.into_iter().nth(number).unwrap_or_default())
}

fn changed(old: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let kind = input.u8();
    if kind.is_multiple_of(4) {
        let len = usize::from(input.u8());
        return input.bytes(len).to_vec();
    }
    let mut bytes = old.to_vec();
    if kind % 4 == 1 {
        bytes.truncate(usize::from(input.u8()) % (bytes.len() + 1));
    }
    for _ in 0..kind / 4 % 4 {
        let (at, value) = (usize::from(input.u8()), input.u8());
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = value;
        }
    }
    bytes
}
