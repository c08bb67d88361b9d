//! Rows of both databases that claim far more than there is, in pages whose checksums are right.

use std::path::Path;

use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use unlisted::internals::open_database;

use crate::claims::{CLAIMS, survive};
use crate::world::Reader;

/// A table whose rows are bytes.
type Rows<K> = TableDefinition<'static, K, &'static [u8]>;

/// Such tables, by the type of their keys.
enum Table {
    Text(Rows<&'static str>),
    Number(Rows<u64>),
    Version(Rows<u32>),
    Scope(Rows<[u8; 16]>),
    Novelty(Rows<(u32, [u8; 16], u16)>),
    Activity(Rows<(u32, &'static [u8], [u8; 16])>),
}

const fn text(name: &'static str) -> Table {
    Table::Text(TableDefinition::new(name))
}

/// Every table of `docs/FORMAT.md` whose values are rows.
const TABLES: [(&str, &str, Table); 11] = [
    ("index.redb", "state", text("state")),
    ("index.redb", "segments", Table::Number(TableDefinition::new("segments"))),
    ("index.redb", "log", Table::Number(TableDefinition::new("log"))),
    ("index.redb", "disclosures", text("disclosures")),
    ("ledger.redb", "state", text("state")),
    ("ledger.redb", "buckets", Table::Scope(TableDefinition::new("buckets"))),
    ("ledger.redb", "policies", Table::Version(TableDefinition::new("policies"))),
    ("ledger.redb", "standings", Table::Scope(TableDefinition::new("standings"))),
    ("ledger.redb", "novelty", Table::Novelty(TableDefinition::new("novelty"))),
    ("ledger.redb", "activity", Table::Activity(TableDefinition::new("activity"))),
    ("ledger.redb", "activity_slots", Table::Version(TableDefinition::new("activity_slots"))),
];

/// Changes every row of a table as `change` says; `false` if there was none.
fn change_rows(path: &Path, table: &Table, change: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> bool {
    fn all<K: redb::Key + 'static>(
        (read, write): &(redb::ReadTransaction, redb::WriteTransaction),
        table: Rows<K>,
        change: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> bool {
        let (rows, mut table) = (read.open_table(table).unwrap(), write.open_table(table).unwrap());
        let rows = rows.iter().unwrap().map(Result::unwrap);
        let changed: Vec<_> = rows.filter_map(|(key, row)| Some((key, change(row.value())?))).collect();
        for (key, row) in &changed {
            table.insert(key.value(), row.as_slice()).unwrap();
        }
        !changed.is_empty()
    }
    let database = open_database(path).unwrap();
    let txn = (database.begin_read().unwrap(), database.begin_write().unwrap());
    let changed = match table {
        Table::Text(table) => all(&txn, *table, change),
        Table::Number(table) => all(&txn, *table, change),
        Table::Version(table) => all(&txn, *table, change),
        Table::Scope(table) => all(&txn, *table, change),
        Table::Novelty(table) => all(&txn, *table, change),
        Table::Activity(table) => all(&txn, *table, change),
    };
    txn.1.commit().unwrap();
    changed
}

/// A number of `docs/FORMAT.md` that claims the most, in the place of the one that begins at `at`.
fn with_claim(row: &[u8], at: usize, value: u64) -> Option<Vec<u8>> {
    let (before, rest) = row.split_at_checked(at)?;
    let old = match rest.first()? {
        0..=250 => 1,
        0xfb => 3,
        0xfc => 5,
        0xfd => 9,
        _ => return None,
    };
    Some([before, &[0xfd], &value.to_le_bytes(), rest.get(old..)?].concat())
}

/// Every byte of every row in turn as the beginning of a number that claims the most.
#[test]
fn numbers_and_lengths_in_rows_are_not_believed() {
    let mut tried = 0;
    for (file, name, table) in &TABLES {
        for at in (0..140).step_by(if crate::every() == Some(1) { 1 } else { 11 }) {
            let mut changed = false;
            let value = CLAIMS[at % CLAIMS.len()];
            survive(
                &format!("{file}, {name}: {value} at byte {at}"),
                |place| {
                    let path = place.path(&format!("index/{file}"));
                    changed = change_rows(&path, table, &|row| with_claim(row, at, value));
                },
                Reader::Index,
            );
            if !changed {
                assert!(at > 0, "the table {name} of {file} has no rows");
                break;
            }
            tried += 1;
        }
    }
    println!("{tried} rows with claims");
}
