//! The log of changes: one row for each transaction, appended and never changed, so that a commit writes a few
//! pages in a row however many listings it touches and however large the delta is.
//!
//! Which of its changes still count is said once for a whole range: a fold notes that everything of its range up to
//! some row is in segments. Rows that no range needs any more are removed from the old end.

use bincode::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::DeltaRef;
use super::delta;
use crate::database::{Db, Kept, Snapshot, decode, encode};
use crate::overlay::{Change, Overlay};
use crate::segment::keys::{KeyRange, MIN_KEY_BITS};
use crate::words::{AccountId, Entry, Error, Key, Result, Stamp};

pub(super) const NAME: &str = "log";
/// Number of the row to row.
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new(NAME);
pub(super) const FOLDED_NAME: &str = "folded";
/// Prefix and bits of a range to the last row whose changes of that range are all in segments.
pub(super) const FOLDED: TableDefinition<'_, (u64, u8), u64> = TableDefinition::new(FOLDED_NAME);
/// Changes of one row at most: a row has at most 64 KiB, and a change 51 bytes at most.
const ROW_CHANGES: usize = 1_000;
/// Numbers of rows are below this, which no writer reaches, so that counting on from one never overflows.
const MAX_NUMBER: u64 = 1 << 62;
/// Rows that one transaction removes.
const TRIMMED_AT_ONCE: usize = 4_096;

#[derive(Encode, Decode)]
enum Row {
    V1 { dropped: Vec<Dropped>, put: Vec<Put> },
}

#[derive(Encode, Decode)]
struct Dropped {
    key: [u8; 16],
    account: [u8; 16],
    stamp: u64,
}

#[derive(Encode, Decode)]
struct Put {
    key: [u8; 16],
    account: [u8; 16],
    stamp: u64,
    known_bits: u8,
    removed_at_s: u64,
}

/// Where the log stands: what the rows on disk say, kept in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogState {
    /// The newest row; zero before the first.
    last: u64,
    /// The oldest row that is still there.
    first: u64,
    /// Bytes of all rows that are still there.
    bytes: u64,
    folded: Vec<(KeyRange, u64)>,
}

impl Default for LogState {
    fn default() -> Self {
        Self { last: 0, first: 1, bytes: 0, folded: Vec::new() }
    }
}

impl LogState {
    /// The newest row.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    /// Bytes of all rows, of changes that count and others.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Are there rows up to this one?
    pub(crate) const fn has_rows_to(&self, to: u64) -> bool {
        self.first <= self.last && self.first <= to
    }

    /// The last row whose changes of the range are all in segments.
    pub(crate) fn folded_to(&self, range: KeyRange) -> u64 {
        self.folded.iter().filter(|(of, _)| of.covers(range)).map(|(_, to)| *to).max().unwrap_or(0)
    }

    fn counts(&self, row: u64, key: Key) -> bool {
        !self.folded.iter().any(|(of, to)| row <= *to && of.contains(key))
    }
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<Row>(bytes, NAME, std::path::Path::new(NAME))
}

/// Appends changes.
pub(super) fn append(
    db: &Db,
    txn: &WriteTransaction,
    state: &mut LogState,
    put: &[Change],
    dropped: &[DeltaRef],
) -> Result<()> {
    if put.is_empty() && dropped.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(LOG).map_err(db.error("open the log"))?;
    let mut add = |row: Row| -> Result<()> {
        let bytes = encode(&row, NAME, db.path())?;
        state.last += 1;
        state.bytes += bytes.len() as u64;
        table.insert(state.last, bytes.as_slice()).map_err(db.error("write the log"))?;
        Ok(())
    };
    // A row that drops and one that puts, in this order, are as good as one.
    for some in dropped.chunks(ROW_CHANGES) {
        add(Row::V1 { dropped: some.iter().map(dropped_row).collect(), put: Vec::new() })?;
    }
    for some in put.chunks(ROW_CHANGES) {
        add(Row::V1 { dropped: Vec::new(), put: some.iter().map(put_row).collect() })?;
    }
    Ok(())
}

fn dropped_row((key, account, stamp): &DeltaRef) -> Dropped {
    Dropped { key: key.to_bytes(), account: account.to_bytes(), stamp: stamp.word() }
}

fn put_row(change: &Change) -> Put {
    let Change { entry, known_bits, removed_at_s } = *change;
    let (key, account, stamp) = (entry.key.to_bytes(), entry.account.to_bytes(), entry.stamp.word());
    Put { key, account, stamp, known_bits, removed_at_s }
}

/// Notes that everything of a range up to a row is in segments.
pub(super) fn note_folded(
    db: &Db,
    txn: &WriteTransaction,
    state: &mut LogState,
    (range, to): (KeyRange, u64),
) -> Result<()> {
    let mut table = txn.open_table(FOLDED).map_err(db.error("open what is folded"))?;
    table.insert((range.prefix(), range.bits()), to).map_err(db.error("write what is folded"))?;
    state.folded.retain(|(of, _)| *of != range);
    state.folded.push((range, to));
    Ok(())
}

/// Removes rows up to `to` from the old end, some thousand at once, and notes about rows that are gone.
pub(super) fn trim(db: &Db, txn: &WriteTransaction, state: &mut LogState, to: u64) -> Result<()> {
    let mut table = txn.open_table(LOG).map_err(db.error("open the log"))?;
    let to = to.min(state.last);
    // Rows are counted, and not their numbers: bytes from disk may have left wide gaps.
    let last_of_some = {
        let mut rows = table.range(..=to).map_err(db.error("read the log"))?.skip(TRIMMED_AT_ONCE - 1);
        rows.next().transpose().map_err(db.error("read the log"))?.map(|(number, _)| number.value())
    };
    let upto = last_of_some.unwrap_or(to);
    {
        let removed = table.extract_from_if(..=upto, |_, _| true).map_err(db.error("trim the log"))?;
        for row in removed {
            let (_, row) = row.map_err(db.error("trim the log"))?;
            state.bytes = state.bytes.saturating_sub(row.value().len() as u64);
        }
    }
    state.first = state.first.max(upto + 1);
    let mut table = txn.open_table(FOLDED).map_err(db.error("open what is folded"))?;
    let first = state.first;
    for (range, _) in state.folded.iter().filter(|(_, to)| *to < first) {
        table.remove((range.prefix(), range.bits())).map_err(db.error("write what is folded"))?;
    }
    state.folded.retain(|(_, to)| *to >= first);
    Ok(())
}

/// Copies the changes that count, under the numbers that they have. Returns where the copy stands.
pub(super) fn copy_what_counts(from: &Snapshot, to: &Db, state: &LogState) -> Result<LogState> {
    let mut copied = LogState { first: state.last + 1, bytes: 0, ..state.clone() };
    from.copy_some(LOG, to, |number: &u64, bytes| {
        let Row::V1 { mut dropped, mut put } = decode(bytes, NAME, to.path())?;
        let before = (dropped.len(), put.len());
        // What a fold took counts no more, and neither does the drop of what it took.
        dropped.retain(|row| state.counts(*number, Key::from_bytes(row.key)));
        put.retain(|row| state.counts(*number, Key::from_bytes(row.key)));
        let kept = match (dropped.len(), put.len()) {
            // Numbers stay known without it: a fold noted this one or a later one.
            (0, 0) => return Ok(Kept::Gone),
            same if same == before => Kept::Same,
            _ => Kept::Changed(encode(&Row::V1 { dropped, put }, NAME, to.path())?),
        };
        let len = if let Kept::Changed(changed) = &kept { changed.len() } else { bytes.len() };
        copied.first = copied.first.min(*number);
        copied.bytes += len as u64;
        Ok(kept)
    })?;
    Ok(copied)
}

/// Reads all changes that count, oldest first, and where the log stands.
pub(super) fn replay(db: &Db, txn: &ReadTransaction) -> Result<(Overlay, LogState)> {
    replay_above(db, txn, read_folded(db, txn)?)
}

/// Reads all changes that are still there, those that are in segments too.
pub(super) fn replay_all(db: &Db, txn: &ReadTransaction) -> Result<Overlay> {
    Ok(replay_above(db, txn, Vec::new())?.0)
}

/// Reads the changes that no note says to be in segments.
fn replay_above(db: &Db, txn: &ReadTransaction, folded: Vec<(KeyRange, u64)>) -> Result<(Overlay, LogState)> {
    let mut state = LogState { folded, ..LogState::default() };
    // Rows are not numbered again while a note may speak of their numbers.
    state.last = state.folded.iter().map(|(_, to)| *to).max().unwrap_or(0);
    state.first = state.last + 1;
    let mut overlay = Overlay::default();
    let table = match txn.open_table(LOG) {
        Err(TableError::TableDoesNotExist(_)) => return Ok((overlay, state)),
        other => other.map_err(db.error("open the log"))?,
    };
    for item in table.iter().map_err(db.error("read the log"))? {
        let (number, row) = item.map_err(db.error("read the log"))?;
        let number = checked_number(db, number.value())?;
        if state.bytes == 0 {
            state.first = number;
        }
        state.last = state.last.max(number);
        state.bytes += row.value().len() as u64;
        let Row::V1 { dropped, put } = decode(row.value(), NAME, db.path())?;
        for row in dropped {
            let stamp = stamp(db, row.stamp)?;
            overlay.drop_unchanged(Key::from_bytes(row.key), AccountId::from_bytes(row.account), stamp);
        }
        for row in put {
            let change = change(db, row)?;
            if state.counts(number, change.entry.key) {
                overlay.set(change);
            }
        }
    }
    Ok((overlay, state))
}

fn read_folded(db: &Db, txn: &ReadTransaction) -> Result<Vec<(KeyRange, u64)>> {
    let table = match txn.open_table(FOLDED) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open what is folded"))?,
    };
    let mut folded = Vec::new();
    for item in table.iter().map_err(db.error("read what is folded"))? {
        let (range, to) = item.map_err(db.error("read what is folded"))?;
        let (prefix, bits) = range.value();
        let range = KeyRange::new(prefix, bits).ok_or_else(|| damaged(db, "its key range is impossible"))?;
        folded.push((range, checked_number(db, to.value())?));
    }
    Ok(folded)
}

fn checked_number(db: &Db, number: u64) -> Result<u64> {
    if number < MAX_NUMBER { Ok(number) } else { Err(damaged(db, "its number is impossible")) }
}

fn change(db: &Db, row: Put) -> Result<Change> {
    let Put { key, account, known_bits, removed_at_s, .. } = row;
    if !(MIN_KEY_BITS..=128).contains(&known_bits) {
        return Err(damaged(db, "its key is too short"));
    }
    let stamp = stamp(db, row.stamp)?;
    let entry = Entry { key: Key::from_bytes(key), account: AccountId::from_bytes(account), stamp };
    Ok(Change { entry, known_bits, removed_at_s })
}

fn stamp(db: &Db, word: u64) -> Result<Stamp> {
    Stamp::from_word(word).ok_or_else(|| damaged(db, "its flags have a bit that no writer sets"))
}

fn damaged(db: &Db, reason: &'static str) -> Error {
    Error::DamagedRow { path: db.path().to_owned(), table: NAME, reason }
}

/// Moves the rows of the first layout, one for each listing, into the log.
pub(super) fn adopt_delta(db: &Db) -> Result<()> {
    let Some(rows) = db.read(|txn| delta::read(db, txn))? else { return Ok(()) };
    let (_, mut state) = db.read(|txn| replay(db, txn))?;
    db.write(|txn| {
        append(db, txn, &mut state, &rows, &[])?;
        delta::remove(db, txn)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::DbOptions;
    use crate::disk::Disk;
    use crate::words::{Flags, OptIns, Version};

    fn change(key: u128, version: u64) -> Change {
        let (key, version) = (Key::from_u128(key << 96), Version::new(version).unwrap());
        Change {
            entry: Entry::new(key, 1.into(), version, Flags::live(OptIns::SEARCH)),
            known_bits: 128,
            removed_at_s: 0,
        }
    }

    fn fresh() -> (tempfile::TempDir, Db, LogState) {
        let dir = tempfile::tempdir().unwrap();
        let options = DbOptions { disk: Disk::Real, cache_bytes: 1 << 20, check: true };
        let db = Db::create(&dir.path().join("log"), &options).unwrap();
        (dir, db, LogState::default())
    }

    fn read(db: &Db) -> (Vec<Change>, LogState) {
        let (overlay, state) = db.read(|txn| replay(db, txn)).unwrap();
        let mut changes: Vec<_> = overlay.iter().copied().collect();
        changes.sort_by_key(|change| change.entry.id());
        (changes, state)
    }

    #[test]
    fn the_newest_change_counts_and_a_dropped_one_does_not() {
        let (_dir, db, mut state) = fresh();
        let dropped = |change: Change| (change.entry.key, change.entry.account, change.entry.stamp);
        db.write(|txn| append(&db, txn, &mut state, &[change(1, 1), change(2, 1), change(3, 1)], &[])).unwrap();
        db.write(|txn| append(&db, txn, &mut state, &[change(2, 2)], &[dropped(change(1, 1))])).unwrap();
        // Changed since: another drop of the first version leaves the second.
        db.write(|txn| append(&db, txn, &mut state, &[], &[dropped(change(2, 1))])).unwrap();
        assert_eq!(read(&db), (vec![change(2, 2), change(3, 1)], state));
    }

    #[test]
    fn what_a_fold_notes_counts_no_more_until_it_changes_again_and_rows_go_when_nobody_needs_them() {
        let (_dir, db, mut state) = fresh();
        let (low, high) = (KeyRange::new(0, 1).unwrap(), KeyRange::new(1 << 63, 1).unwrap());
        let (one, far) = (1, 1 << 31 | 1);
        db.write(|txn| append(&db, txn, &mut state, &[change(one, 1), change(far, 1)], &[])).unwrap();
        let folded_to = state.last();
        db.write(|txn| append(&db, txn, &mut state, &[change(one, 2)], &[])).unwrap();
        db.write(|txn| note_folded(&db, txn, &mut state, (low, folded_to))).unwrap();
        assert_eq!(read(&db), (vec![change(one, 2), change(far, 1)], state.clone()));
        let quarter = KeyRange::new(1 << 62, 2).unwrap();
        assert_eq!((state.folded_to(low), state.folded_to(quarter), state.folded_to(high)), (1, 1, 0));
        db.write(|txn| note_folded(&db, txn, &mut state, (high, 2))).unwrap();
        db.write(|txn| trim(&db, txn, &mut state, 1)).unwrap();
        assert_eq!((state.first, state.folded.as_slice()), (2, &[(high, 2)][..]));
        assert_eq!(read(&db), (vec![change(one, 2)], state.clone()));
        // An empty log goes on counting where a note left off.
        db.write(|txn| note_folded(&db, txn, &mut state, (low, 2))).unwrap();
        db.write(|txn| trim(&db, txn, &mut state, 2)).unwrap();
        assert_eq!((state.bytes(), state.has_rows_to(u64::MAX)), (0, false));
        let (changes, mut state) = read(&db);
        assert!(changes.is_empty());
        db.write(|txn| append(&db, txn, &mut state, &[change(one, 3)], &[])).unwrap();
        assert_eq!(read(&db).0, [change(one, 3)]);
    }

    #[test]
    fn a_copy_has_what_counts_and_goes_on_counting() {
        let (dir, db, mut state) = fresh();
        let (low, high) = (KeyRange::new(0, 1).unwrap(), KeyRange::new(1 << 63, 1).unwrap());
        let (one, far) = (1, 1 << 31 | 1);
        let dropped = |change: Change| (change.entry.key, change.entry.account, change.entry.stamp);
        db.write(|txn| append(&db, txn, &mut state, &[change(one, 1)], &[])).unwrap();
        db.write(|txn| append(&db, txn, &mut state, &[change(one, 2), change(far, 1)], &[])).unwrap();
        db.write(|txn| append(&db, txn, &mut state, &[change(far, 2)], &[dropped(change(far, 1))])).unwrap();
        db.write(|txn| note_folded(&db, txn, &mut state, (low, 2))).unwrap();
        let path = dir.path().join("copy");
        let options = DbOptions { disk: Disk::Real, cache_bytes: 1 << 20, check: true };
        let copy_of = |state: &LogState, name: &str| {
            let copy = Db::create(&path.with_extension(name), &options).unwrap();
            let from = db.snapshot().unwrap();
            from.copy_table(FOLDED, &copy).unwrap();
            let copied = copy_what_counts(&from, &copy, state).unwrap();
            assert_eq!(read(&copy).1, copied);
            (copy, copied)
        };
        let (copy, copied) = copy_of(&state, "some");
        // What a transaction drops has a row of its own before what it puts.
        assert_eq!((copied.first, copied.last, read(&copy).0), (2, 4, vec![change(far, 2)]));
        assert!(copied.bytes < state.bytes);
        db.write(|txn| note_folded(&db, txn, &mut state, (high, 4))).unwrap();
        let (copy, mut copied) = copy_of(&state, "none");
        assert_eq!((copied.bytes, copied.has_rows_to(u64::MAX), copied.last()), (0, false, 4));
        copy.write(|txn| append(&copy, txn, &mut copied, &[change(one, 3)], &[])).unwrap();
        assert_eq!(read(&copy), (vec![change(one, 3)], copied));
    }

    #[test]
    fn numbers_that_no_writer_reaches_are_refused_and_gaps_cost_nothing() {
        let (_dir, db, mut state) = fresh();
        db.write(|txn| append(&db, txn, &mut state, &[change(1, 1)], &[])).unwrap();
        state.last = MAX_NUMBER - 2;
        db.write(|txn| append(&db, txn, &mut state, &[change(2, 1)], &[])).unwrap();
        let (changes, mut state) = read(&db);
        assert_eq!((changes, state.last()), (vec![change(1, 1), change(2, 1)], MAX_NUMBER - 1));
        db.write(|txn| trim(&db, txn, &mut state, MAX_NUMBER)).unwrap();
        assert!(read(&db).0.is_empty() && !state.has_rows_to(u64::MAX));
        for number in [MAX_NUMBER, u64::MAX] {
            let note = (KeyRange::ALL, number);
            db.write(|txn| note_folded(&db, txn, &mut LogState::default(), note)).unwrap();
            assert!(matches!(db.read(|txn| replay(&db, txn)), Err(Error::DamagedRow { table: NAME, .. })));
        }
    }

    #[test]
    fn a_long_log_is_trimmed_in_several_transactions() {
        let (_dir, db, mut state) = fresh();
        let rows = TRIMMED_AT_ONCE as u64 + 10;
        db.write(|txn| (0..rows).try_for_each(|i| append(&db, txn, &mut state, &[change(1, i)], &[]))).unwrap();
        db.write(|txn| trim(&db, txn, &mut state, rows - 1)).unwrap();
        assert_eq!((state.first, read(&db)), (rows - 9, (vec![change(1, rows - 1)], state.clone())));
        db.write(|txn| trim(&db, txn, &mut state, rows - 1)).unwrap();
        assert_eq!((state.first, read(&db)), (rows, (vec![change(1, rows - 1)], state.clone())));
    }

    #[test]
    fn a_large_transaction_is_cut_into_rows_that_fit() {
        let (_dir, db, mut state) = fresh();
        let longest = |i: u128| Change {
            entry: Entry::new(
                Key::from_u128(u128::MAX - i),
                AccountId::from_bytes([0xff; 16]),
                Version::MAX,
                Flags::removed(63),
            ),
            known_bits: 128,
            removed_at_s: u64::MAX,
        };
        let changes: Vec<_> = (0..2_500).rev().map(longest).collect();
        db.write(|txn| append(&db, txn, &mut state, &changes, &[])).unwrap();
        assert_eq!(state.last(), 3);
        assert_eq!(read(&db), (changes, state));
    }
}
