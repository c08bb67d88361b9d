use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::activity::TopBy;
use crate::database::DbOptions;
use crate::disk::Disk;
use crate::ledger::{LedgerOptions, LedgerState};
use crate::words::{Error, ManualClock, QuotaPolicy};

const DATABASE: DbOptions = DbOptions { disk: Disk::Real, cache_bytes: 1 << 20, check: true };
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const START_MS: u64 = 1_795_000_000_000;

struct World {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    options: LedgerOptions,
}

impl World {
    fn new(scopes: usize) -> Self {
        let clock = Arc::new(ManualClock::at_wall_ms(START_MS));
        let dir = tempfile::tempdir().unwrap();
        let first = LedgerState::new([1; 16], [2; 16], QuotaPolicy::default(), START_MS);
        RedbLedger::create(dir.path(), &DATABASE, &first).unwrap();
        let options = LedgerOptions {
            database: DATABASE,
            max_clock_jump: DAY * 365,
            clock: clock.clone(),
            active_buckets: 1 << 10,
            max_lease: 1 << 16,
            novelty_window: Duration::ZERO,
            novelty_bytes: 1 << 20,
            activity: ActivityOptions { scopes, retention: DAY * 3 },
            background: true,
        };
        Self { dir, clock, options }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn try_open(&self) -> Result<RedbLedger> {
        RedbLedger::open(self.path(), &self.options)
    }

    fn open(&self) -> RedbLedger {
        self.try_open().unwrap()
    }
}

fn id(i: u16) -> ScopeId {
    *blake3::hash(&i.to_le_bytes()).as_bytes().first_chunk().unwrap()
}

fn scope(i: u16) -> Scope<'static> {
    Scope { id: id(i), kind: ScopeKind::Caller }
}

fn origin(i: u16, kind: &str) -> Scope<'_> {
    Scope { id: id(i), kind: ScopeKind::Origin(kind) }
}

fn counts(charged: u64, missed: u64, deferred: u64) -> Counts {
    let found = charged - missed;
    Counts { lookups: 1, asked: charged + deferred, charged, found, missed, deferred, tripwires: 0 }
}

fn note(ledger: &RedbLedger, caller: u16, counts: &Counts) {
    ledger.note_activity(&[scope(caller)], counts).unwrap();
}

const ALL: TopOf<'static> =
    TopOf { by: TopBy::Charged, window_ns: 24 * HOUR_NS, kind: None, only: &[], limit: usize::MAX };

fn charged(ledger: &RedbLedger, of: &TopOf<'_>) -> BTreeMap<ScopeId, u64> {
    ledger.top(of).unwrap().scopes.iter().map(|scope| (scope.id, scope.counts.by(of.by))).collect()
}

/// Rows in the file: of scopes, of hours.
fn rows_in(ledger: &RedbLedger) -> (usize, usize) {
    let read = ledger.db.read(|txn| {
        let slots = rows::slots(&ledger.db, txn, 0, u32::MAX)?;
        let mut scopes = 0;
        for (slot, _) in &slots {
            rows::of_slot(&ledger.db, txn, *slot, |_, _| scopes += 1)?;
        }
        Ok((scopes, slots.len()))
    });
    read.unwrap()
}

#[test]
fn callers_and_origins_are_counted_apart_and_everyone_is_not() {
    let world = World::new(1 << 10);
    let ledger = world.open();
    // A caller, a network, a device, everyone.
    let everyone = Scope { id: id(4), kind: ScopeKind::Everyone };
    let scopes = [scope(1), origin(2, "network"), origin(3, "device"), everyone];
    ledger.note_activity(&scopes, &counts(5, 2, 1)).unwrap();
    ledger.note_activity(&scopes[..2], &counts(3, 3, 0)).unwrap();
    world.clock.advance(Duration::from_millis(1_500));
    note(&ledger, 9, &counts(7, 0, 0));
    let of = |kind| TopOf { kind, ..ALL };
    assert_eq!(charged(&ledger, &of(None)), BTreeMap::from([(id(1), 8), (id(9), 7)]));
    assert_eq!(charged(&ledger, &of(Some("network"))), BTreeMap::from([(id(2), 8)]));
    assert_eq!(charged(&ledger, &of(Some("device"))), BTreeMap::from([(id(3), 5)]));
    assert_eq!(charged(&ledger, &of(Some("cohort"))), BTreeMap::new());
    let by = |by| ledger.top(&TopOf { by, ..ALL }).unwrap().scopes.iter().map(|s| s.id).collect::<Vec<_>>();
    assert_eq!(
        (by(TopBy::Charged), by(TopBy::Missed), by(TopBy::Deferred)),
        (vec![id(1), id(9)], vec![id(1)], vec![id(1)])
    );
    let top = ledger.top(&TopOf { only: &[id(9), id(77)], by: TopBy::Deferred, ..ALL }).unwrap();
    let scopes: Vec<_> = top.scopes.iter().map(|s| (s.id, s.counts, s.first_ms, s.last_ms, s.short_by)).collect();
    assert_eq!(scopes, [(id(9), counts(7, 0, 0), START_MS + 1_500, START_MS + 1_500, 0)]);
    assert_eq!(top.short_by, 0);
}

#[test]
fn equal_ones_are_ordered_by_identity_before_and_after_a_close() {
    let world = World::new(1 << 10);
    let ledger = world.open();
    (0..50).for_each(|i| note(&ledger, i, &counts(u64::from(i % 3) + 1, 0, 0)));
    let order = |ledger: &RedbLedger| -> Vec<ScopeId> {
        ledger.top(&TopOf { limit: 20, ..ALL }).unwrap().scopes.iter().map(|scope| scope.id).collect()
    };
    let mut expected: Vec<u16> = (0..50).collect();
    expected.sort_by_key(|i| (std::cmp::Reverse(i % 3), id(*i)));
    let expected: Vec<ScopeId> = expected.into_iter().take(20).map(id).collect();
    assert_eq!(order(&ledger), expected);
    ledger.settle().unwrap();
    drop(ledger);
    assert_eq!(order(&world.open()), expected);
    world.clock.advance(HOUR * 2);
    assert_eq!(order(&world.open()), expected);
}

#[test]
fn a_close_keeps_everything_and_a_crash_what_was_written() {
    let world = World::new(1 << 10);
    let ledger = world.open();
    note(&ledger, 1, &counts(5, 2, 0));
    ledger.settle().unwrap();
    drop(ledger);
    world.clock.advance(Duration::from_secs(60));
    // The same hour goes on.
    let ledger = world.open();
    note(&ledger, 1, &counts(1, 1, 4));
    let only = &ledger.top(&ALL).unwrap().scopes[0];
    assert_eq!((only.counts.charged, only.counts.deferred, only.counts.lookups), (6, 4, 2));
    assert_eq!((only.first_ms, only.last_ms), (START_MS, START_MS + 60_000));
    ledger.write_activity().unwrap();
    note(&ledger, 1, &counts(100, 0, 0));
    drop(ledger);
    let ledger = world.open();
    assert_eq!(charged(&ledger, &ALL), BTreeMap::from([(id(1), 6)]));
}

#[test]
fn the_background_writes_once_a_minute_and_when_an_hour_ends() {
    let world = World::new(1 << 10);
    let ledger = world.open();
    let written = || {
        let before = ledger.commits();
        ledger.write_activity_if_due().unwrap();
        ledger.commits() - before
    };
    note(&ledger, 1, &counts(5, 2, 0));
    assert_eq!((written(), rows_in(&ledger)), (0, (0, 0)));
    world.clock.advance(Duration::from_secs(60));
    assert_eq!((written(), rows_in(&ledger)), (1, (1, 1)));
    // Nothing new, nothing written.
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(written(), 0);
    world.clock.advance(Duration::from_secs(57 * 60 + 30));
    note(&ledger, 2, &counts(5, 2, 0));
    assert_eq!(written(), 1);
    note(&ledger, 2, &counts(1, 0, 0));
    world.clock.advance(Duration::from_secs(31));
    assert_eq!((written(), rows_in(&ledger)), (1, (2, 1)));
    assert_eq!(charged(&ledger, &ALL), BTreeMap::from([(id(1), 5), (id(2), 6)]));
}

#[test]
fn without_a_background_thread_the_first_lookup_of_an_hour_writes() {
    let mut world = World::new(1 << 10);
    world.options.background = false;
    let ledger = world.open();
    note(&ledger, 1, &counts(5, 2, 0));
    assert_eq!(rows_in(&ledger), (0, 0));
    world.clock.advance(HOUR);
    note(&ledger, 2, &counts(1, 0, 0));
    assert_eq!(rows_in(&ledger), (2, 2));
    note(&ledger, 2, &counts(1, 0, 0));
    drop(ledger);
    assert_eq!(charged(&world.open(), &ALL), BTreeMap::from([(id(1), 5), (id(2), 1)]));
}

#[test]
fn what_is_past_the_retention_is_removed_and_not_told() {
    let world = World::new(1 << 14);
    let ledger = world.open();
    // More rows than one transaction forgets.
    (0..4_200).for_each(|i| note(&ledger, i, &counts(1, 0, 0)));
    ledger.write_activity().unwrap();
    world.clock.advance(HOUR);
    note(&ledger, 1, &counts(2, 0, 0));
    ledger.write_activity().unwrap();
    // One has less than the 4,096 heaviest, as their identities decide; so it is cut.
    assert_eq!(rows_in(&ledger), (4_096 + 1, 2));
    world.clock.advance(HOUR * 72);
    // The first hour ended just within three days.
    let week = TopOf { window_ns: 7 * 24 * HOUR_NS, ..ALL };
    assert_eq!(charged(&ledger, &week), BTreeMap::from([(id(1), 2)]));
    ledger.write_activity_if_due().unwrap();
    assert_eq!(rows_in(&ledger), (1, 1));
    world.clock.advance(HOUR);
    assert_eq!(charged(&ledger, &week), BTreeMap::new());
    drop(ledger);
    let ledger = world.open();
    ledger.settle().unwrap();
    assert_eq!(rows_in(&ledger), (0, 0));
}

#[test]
fn who_is_dropped_or_cut_was_not_heavier_than_stated() {
    let world = World::new(512);
    let mut ledger = world.open();
    let mut model: BTreeMap<ScopeId, u64> = BTreeMap::new();
    for round in 0..6_u64 {
        for i in 0..900_u16 {
            let paid = if i % 100 == 0 { 40 + round } else { u64::from(i % 5) };
            note(&ledger, i, &counts(paid, 0, 0));
            *model.entry(id(i)).or_default() += paid;
        }
        match round % 3 {
            0 => world.clock.advance(HOUR),
            1 => ledger.write_activity_if_due().unwrap(),
            _ => {
                ledger.settle().unwrap();
                drop(ledger);
                ledger = world.open();
            }
        }
        let top = ledger.top(&ALL).unwrap();
        let told: BTreeMap<_, _> = top.scopes.iter().map(|s| (s.id, (s.counts.charged, s.short_by))).collect();
        for (id, paid) in &model {
            let (counted, short_by) = told.get(id).copied().unwrap_or((0, top.short_by));
            assert!(counted <= *paid && *paid <= counted + short_by, "{counted} + {short_by}, {paid} in truth");
        }
        // The heavy ones are told, and by far not everything may be missing.
        assert!((0..9).all(|i| told.contains_key(&id(i * 100))));
        assert!(top.short_by < 45 * (round + 1), "{} after round {round}", top.short_by);
    }
}

#[test]
fn an_hour_keeps_the_heaviest_and_states_what_the_rest_had() {
    let world = World::new(1 << 14);
    let ledger = world.open();
    (0..6_000).for_each(|i| note(&ledger, i, &counts(u64::from(i) + 1, 0, 0)));
    assert_eq!(ledger.top(&ALL).unwrap().scopes.len(), 6_000);
    ledger.settle().unwrap();
    drop(ledger);
    world.clock.advance(HOUR);
    let ledger = world.open();
    let top = ledger.top(&ALL).unwrap();
    // By missed and deferred all are equal, and others are kept than by charged.
    assert!((4_096..6_000).contains(&top.scopes.len()), "{}", top.scopes.len());
    assert!(
        (1_904..6_000)
            .rev()
            .zip(&top.scopes)
            .all(|(i, scope)| scope.counts.charged == i + 1 && scope.short_by == 0)
    );
    assert!(top.short_by <= 1_904 && top.short_by > 0, "{}", top.short_by);
}

/// The text to this is in docs/FORMAT.md.
#[test]
fn rows_are_pinned_byte_by_byte() {
    use redb::{ReadableTable, TableDefinition};
    let world = World::new(1 << 10);
    let ledger = world.open();
    world.clock.advance(HOUR);
    ledger.note_activity(&[scope(1), origin(2, "network")], &counts(5, 2, 1)).unwrap();
    world.clock.advance(Duration::from_millis(300));
    note(&ledger, 1, &counts(300, 0, 0));
    ledger.settle().unwrap();
    let read = ledger.db.read(|txn| {
        let table = txn.open_table(TableDefinition::<(u32, &[u8], [u8; 16]), &[u8]>::new("activity")).unwrap();
        let mut rows = Vec::new();
        for row in table.iter().unwrap() {
            let (key, value) = row.unwrap();
            let (slot, kind, id) = key.value();
            rows.push((slot, String::from_utf8(kind.to_vec()).unwrap(), id, hex::encode(value.value())));
        }
        let slots = txn.open_table(TableDefinition::<u32, &[u8]>::new("activity_slots")).unwrap();
        let (slot, row) = slots.first().unwrap().unwrap();
        Ok((rows, (slot.value(), hex::encode(row.value()))))
    });
    let caller = "0002fb3201fb3101fb2f01020100fd804c8deea1010000fb2c01000000";
    let network = "0001060503020100fd804c8deea101000000000000".to_owned();
    let expected = [(1, "caller".to_owned(), id(1), caller.to_owned()), (1, "network".to_owned(), id(2), network)];
    assert_eq!(read.unwrap(), (expected.to_vec(), (1, "00000000000000".to_owned())));
}

#[test]
fn damaged_rows_are_errors_that_name_the_table() {
    let world = World::new(1 << 10);
    let ledger = world.open();
    note(&ledger, 1, &counts(5, 2, 0));
    ledger.settle().unwrap();
    let put = |ledger: &RedbLedger, kind: &[u8], bytes: &[u8]| {
        let write = ledger.db.write(|txn| {
            let mut table = txn.open_table(rows::ACTIVITY).unwrap();
            table.insert((0, kind, id(1)), bytes).unwrap();
            Ok(())
        });
        write.unwrap();
    };
    drop(ledger);
    world.clock.advance(HOUR);
    let ledger = world.open();
    let good = [0, 1, 5, 5, 3, 2, 0, 0, 9, 9, 0, 0, 0];
    put(&ledger, b"caller", &good);
    assert_eq!(charged(&ledger, &ALL), BTreeMap::from([(id(1), 5)]));
    let cut = &good[..12];
    let left_over = [&good[..], &[0]].concat();
    // More missed than charged; more found than asked; more than can be decoded; a time past the end of time.
    let missed = [0, 1, 5, 5, 0, 6, 0, 0, 9, 9, 0, 0, 0];
    let found = [0, 1, 5, 0, 6, 0, 0, 0, 9, 9, 0, 0, 0];
    let late = [&good[..8], &[253, 255, 255, 255, 255, 255, 255, 255, 255], &good[9..]].concat();
    for bad in [&b""[..], cut, &left_over, &missed, &found, &late] {
        put(&ledger, b"caller", bad);
        let error = ledger.top(&ALL).err().unwrap();
        assert!(matches!(error, Error::DamagedRow { table: "activity", .. }), "{bad:?}: {error}");
    }
    put(&ledger, b"caller", &[1, 0]);
    assert!(matches!(ledger.top(&ALL).err(), Some(Error::NewerFormat { found: 2, .. })));
    put(&ledger, b"caller", &good);
    let write = ledger.db.write(|txn| {
        txn.open_table(rows::SLOTS).unwrap().insert(0, &[0, 1][..]).unwrap();
        Ok(())
    });
    write.unwrap();
    assert!(matches!(ledger.top(&ALL).err(), Some(Error::DamagedRow { table: "activity_slots", .. })));
}

#[test]
fn a_damaged_row_of_the_hour_that_goes_on_is_met_by_the_open() {
    let good = [0, 1, 5, 5, 3, 2, 0, 0, 9, 9, 0, 0, 0];
    for (kind, bytes) in [(&b"network"[..], &good[..5]), (b"no kind", &good), (b"\xff\xfe", &good), (b"", &good)] {
        let world = World::new(1 << 10);
        let ledger = world.open();
        note(&ledger, 1, &counts(5, 2, 0));
        ledger.settle().unwrap();
        let write = ledger.db.write(|txn| {
            txn.open_table(rows::ACTIVITY).unwrap().insert((0, kind, id(1)), bytes).unwrap();
            Ok(())
        });
        write.unwrap();
        drop(ledger);
        let error = world.try_open().err().unwrap();
        assert!(matches!(error, Error::DamagedRow { table: "activity", .. }), "{kind:?}: {error}");
    }
}

/// Hours end, and are written and asked for, while others count.
#[test]
fn no_count_is_lost_between_memory_and_file() {
    let world = World::new(1 << 10);
    let ledger = world.open();
    let week = TopOf { window_ns: 60 * HOUR_NS, ..ALL };
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| (0..4_000_u16).for_each(|i| note(&ledger, i % 10, &counts(1, 1, 0))));
        }
        let mut last = 0;
        for _ in 0..40 {
            world.clock.advance(HOUR);
            ledger.write_activity_if_due().unwrap();
            let now = charged(&ledger, &week).values().sum();
            assert!(last <= now, "{last}, then {now}");
            last = now;
        }
    });
    assert_eq!(charged(&ledger, &week), (0..10).map(|i| (id(i), 1_600)).collect());
    ledger.settle().unwrap();
    drop(ledger);
    assert_eq!(charged(&world.open(), &week), (0..10).map(|i| (id(i), 1_600)).collect());
}

/// What happens between two questions.
#[derive(Debug, Clone)]
enum Step {
    Note { caller: u16, charged: u64, deferred: u64 },
    Advance { minutes: u64 },
    Write,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let note = (0..12_u16, 0..9_u64, 0..9_u64);
    let step = prop_oneof![
        6 => note.prop_map(|(caller, charged, deferred)| Step::Note { caller, charged, deferred }),
        2 => (1..200_u64).prop_map(|minutes| Step::Advance { minutes }),
        1 => Just(Step::Write),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn with_room_every_window_is_what_a_naive_count_says(steps in steps(), hours in 0..30_u64) {
        let world = World::new(1 << 10);
        let mut ledger = world.open();
        let mut noted: Vec<(u64, u16, u64)> = Vec::new();
        for step in steps {
            let slot = ledger.time.ledger_ns() / HOUR_NS;
            match step {
                Step::Note { caller, charged, deferred } => {
                    note(&ledger, caller, &counts(charged, charged / 2, deferred));
                    noted.push((slot, caller, deferred));
                }
                Step::Advance { minutes } => world.clock.advance(Duration::from_secs(minutes * 60)),
                Step::Write => ledger.write_activity_if_due().unwrap(),
                Step::Reopen => {
                    ledger.settle().unwrap();
                    drop(ledger);
                    ledger = world.open();
                }
            }
        }
        let now_ns = ledger.time.ledger_ns();
        let oldest = now_ns.saturating_sub(hours * HOUR_NS) / HOUR_NS;
        let mut expected: BTreeMap<ScopeId, u64> = BTreeMap::new();
        for (slot, caller, deferred) in noted {
            if slot >= oldest && slot + 72 >= now_ns / HOUR_NS {
                *expected.entry(id(caller)).or_default() += deferred;
            }
        }
        expected.retain(|_, deferred| *deferred > 0);
        let of = TopOf { by: TopBy::Deferred, window_ns: hours * HOUR_NS, ..ALL };
        prop_assert_eq!(charged(&ledger, &of), expected);
        prop_assert_eq!(ledger.top(&of).unwrap().short_by, 0);
    }
}
