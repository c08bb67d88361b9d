//! Ranges as files: what is exported, what is taken in, and what is refused.

use std::fs;

use unlisted::{
    AccountId, BackupMode, Caller, Error, Index, Listing, OptIns, Options, Ownership, PhoneHash, Purpose,
    ShardError, Version,
};

use super::common::number;
use super::fleet::{Fleet, found, span};

fn small(options: Options) -> Options {
    options.segment_listings(1_000)
}

/// A fleet whose first node has so many listings, in several segments.
fn filled(listings: u64) -> Fleet {
    let record = Ownership::of_one("a").unwrap();
    let mut fleet = Fleet::with_record(&record, &["a"], small);
    fleet.open("b");
    fleet.node("b").follow_ownership(&record).unwrap();
    let rows = (0..listings).map(|n| Listing {
        hash: number(n),
        account: AccountId::from(n),
        opt_ins: OptIns::SEARCH,
        version: Version::new(1).unwrap(),
    });
    fleet.node("a").import(rows).unwrap();
    fleet
}

fn refused<T>(done: unlisted::Result<T>) -> ShardError {
    match done {
        Err(Error::Shard(error)) => error,
        Err(error) => panic!("expected a refusal, found {error}"),
        Ok(_) => panic!("expected a refusal"),
    }
}

fn found_all(fleet: &Fleet, listings: u64) -> usize {
    let hashes: Vec<PhoneHash> = (0..listings).map(number).collect();
    let ask = |chunk: &[PhoneHash]| found(&fleet.ask("a", &Caller::new("one"), Purpose::Search, chunk)).len();
    hashes.chunks(5_000).map(ask).sum()
}

#[test]
fn segments_move_as_they_are() {
    const LISTINGS: u64 = 6_000;
    let mut fleet = filled(LISTINGS);
    let moved = span(0x4000, 0xc000);
    let folder = fleet.folder();
    fleet.node("b").expect_range(moved).unwrap();
    let export = fleet.node("a").export_range(moved, &folder, |_| true).unwrap();
    assert!(export.segments >= 2 && export.linked == export.segments && export.changes == 0, "{export:?}");
    let bytes_of = |dir: &std::path::Path| -> Vec<Vec<u8>> {
        let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        let mut all: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|e| e == "seg"))
            .map(|path| fs::read(path).unwrap())
            .collect();
        all.sort();
        all
    };
    let report = fleet.node("b").import_range(&folder).unwrap();
    assert_eq!((report.segments, report.bytes, report.changes), (export.segments, export.bytes, 0));
    assert_eq!(bytes_of(&fleet.dir.path().join("b/segments")), bytes_of(&folder));
    let next = fleet.records.get().moved(moved, "b").unwrap();
    assert!(fleet.records.compare_and_set(1, &next));
    fleet.nodes.values().for_each(|node| node.follow_ownership(&next).unwrap());
    let dropped = fleet.node("a").drop_range(moved).unwrap();
    assert_eq!((dropped.segments, dropped.bytes), (export.segments, export.bytes));
    assert_eq!(found_all(&fleet, LISTINGS), LISTINGS as usize);
    fleet.open("b");
    assert_eq!(found_all(&fleet, LISTINGS), LISTINGS as usize);
    assert_eq!(fleet.node("b").held_ranges(), [moved]);

    // From there to a third, with changes above them, and one more update of the same listings.
    fleet.open("c");
    fleet.node("c").follow_ownership(&next).unwrap();
    fleet.update(&(0..50).map(|n| (n, n, Some(0), 2)).collect::<Vec<_>>());
    fleet.move_range(span(0x4000, 0x8000), "c", |_| ());
    assert_eq!(found_all(&fleet, LISTINGS), LISTINGS as usize - 50);
    fleet.nodes.values().for_each(|node| {
        node.fold().unwrap();
        node.verify(|_, _| ()).unwrap();
    });
    assert_eq!(found_all(&fleet, LISTINGS), LISTINGS as usize - 50);
    let listings: u64 = fleet.nodes.values().map(|node| node.stats().unwrap().listings).sum();
    assert_eq!(listings, LISTINGS);
}

/// Enough listings that slots are narrow: what comes knows fewer bits of a key, and updates find it all the same.
#[test]
fn narrow_segments_are_cut_and_move() {
    const LISTINGS: u64 = 300_000;
    let record = Ownership::of_one("a").unwrap();
    let mut fleet = Fleet::with_record(&record, &["a"], |options| options);
    fleet.open("b");
    fleet.node("b").follow_ownership(&record).unwrap();
    let rows = (0..LISTINGS).map(|n| Listing {
        hash: number(n),
        account: AccountId::from(n),
        opt_ins: OptIns::SEARCH,
        version: Version::new(1).unwrap(),
    });
    fleet.node("a").import(rows).unwrap();
    assert_eq!(fleet.node("a").stats().unwrap().segments, 1);
    let hidden: Vec<_> = (0..400).map(|n| (n, n, Some(0), 2)).collect();
    fleet.move_range(span(0, 0xc000), "b", |fleet| {
        fleet.update(&hidden);
    });
    let ask = |fleet: &Fleet| {
        let hashes: Vec<PhoneHash> = (0..800).chain(LISTINGS - 800..LISTINGS + 100).map(number).collect();
        found(&fleet.ask("a", &Caller::new("one"), Purpose::Search, &hashes)).len()
    };
    assert_eq!(ask(&fleet), 1_200);
    fleet.node("b").erase_account(AccountId::from(500)).unwrap();
    fleet.node("a").erase_account(AccountId::from(500)).unwrap();
    fleet.nodes.values().for_each(|node| {
        node.fold().unwrap();
        node.verify(|_, _| ()).unwrap();
    });
    assert_eq!(ask(&fleet), 1_199);
}

#[test]
fn of_a_listing_on_both_sides_the_newer_counts() {
    let mut fleet = filled(0);
    let search = Some(OptIns::SEARCH.bits());
    let moved = span(0, 0x1_0000);
    // Before anybody expects anything only the owner keeps it.
    let reports = fleet.update(&[(1, 1, search, 1), (2, 2, search, 1), (3, 3, search, 1), (4, 4, search, 1)]);
    assert_eq!((reports[0].applied, reports[1].elsewhere), (4, 4));
    fleet.node("a").fold().unwrap();
    fleet.node("b").expect_range(moved).unwrap();
    // 1 reaches both in time; 2 reaches the next owner only after the export; 3 reached it long before and the owner has newer;
    // 4 is removed at the owner, and the next one heard something older.
    super::fleet::update(fleet.node("b"), &[(1, 1, Some(0), 5), (3, 3, search, 3), (4, 4, search, 2)], None);
    super::fleet::update(fleet.node("a"), &[(1, 1, Some(0), 5), (3, 3, Some(0), 4), (4, 4, None, 3)], None);
    // The next owner folds meanwhile, and keeps what is coming apart.
    fleet.node("b").fold().unwrap();
    let folder = fleet.folder();
    fleet.node("a").export_range(moved, &folder, |_| true).unwrap();
    super::fleet::update(fleet.node("b"), &[(2, 2, Some(0), 2)], None);
    fleet.open("b");
    fleet.node("b").import_range(&folder).unwrap();
    let shown = |fleet: &Fleet| {
        let hashes: Vec<PhoneHash> = (0..6).map(number).collect();
        found(&fleet.ask("a", &Caller::new("one"), Purpose::Search, &hashes))
    };
    let next = fleet.records.get().moved(moved, "b").unwrap();
    fleet.nodes.values().for_each(|node| node.follow_ownership(&next).unwrap());
    assert_eq!(shown(&fleet), []);
    // None of the older states comes back by an older update, a fold or an open.
    super::fleet::update(
        fleet.node("b"),
        &[(1, 1, search, 4), (2, 2, search, 1), (3, 3, search, 3), (4, 4, search, 2)],
        None,
    );
    fleet.node("b").fold().unwrap();
    fleet.open("b");
    assert_eq!(shown(&fleet), []);
    let applied = super::fleet::update(fleet.node("b"), &[(4, 4, search, 4)], None);
    assert_eq!((applied.applied, shown(&fleet)), (1, vec![(4, 4)]));
}

/// Of two changes of one version the first in the feed counts, in one index as with a move between the two.
#[test]
fn of_two_changes_of_one_version_the_first_counts() {
    let mut fleet = filled(0);
    let search = Some(OptIns::SEARCH.bits());
    // What a fold has put into a segment, and what is still above it.
    fleet.update(&[(1, 1, search, 5), (2, 2, None, 5)]);
    fleet.node("a").fold().unwrap();
    fleet.update(&[(3, 3, search, 5), (4, 4, None, 5)]);
    // The next owner hears of the second ones only.
    fleet.move_range(span(0, 0x1_0000), "b", |fleet| {
        fleet.update(&[(1, 1, None, 5), (2, 2, search, 5), (3, 3, None, 5), (4, 4, search, 5)]);
    });
    let hashes: Vec<PhoneHash> = (1..5).map(number).collect();
    let shown = |fleet: &Fleet| found(&fleet.ask("a", &Caller::new("one"), Purpose::Search, &hashes));
    assert_eq!(shown(&fleet), [(0, 1), (2, 3)]);
    fleet.node("b").fold().unwrap();
    fleet.open("b");
    assert_eq!(shown(&fleet), [(0, 1), (2, 3)]);
}

/// The listings of an account are at two nodes, and none of them knows what version the other has.
#[test]
fn an_erasure_as_of_a_version_is_the_same_wherever_the_listings_are() {
    let mut fleet = filled(0);
    let search = Some(OptIns::SEARCH.bits());
    let listings: Vec<(u64, u64, Option<u8>, u64)> = (0..8).map(|n| (n, 7, search, n + 1)).collect();
    fleet.update(&listings);
    fleet.move_range(span(0, 0x8000), "b", |_| ());
    let held = |node: &str| fleet.node(node).stats().unwrap().listings;
    assert!(held("a") > 0 && held("b") > 0);
    let removed = fleet.nodes.values().map(|node| node.erase_accounts_at(&[7.into()], 6).unwrap().removed);
    assert_eq!(removed.sum::<usize>(), 8);
    // Up to 6, or to their own version where that is newer, updates are late.
    for (version, expected) in [(6, 0), (8, 7), (9, 8)] {
        let again: Vec<_> = (0..8).map(|n| (n, 7, search, version)).collect();
        let applied: usize = fleet.update(&again).iter().map(|report| report.applied).sum();
        assert_eq!(applied, expected, "updates of version {version}");
    }
}

/// The next owner folds what it has, closes and opens between export and arrival: what it kept of the span since is still there.
#[test]
fn what_is_kept_of_an_expected_range_outlives_folds_and_openings() {
    let mut fleet = Fleet::new(&["a", "b"], small);
    let search = Some(OptIns::SEARCH.bits());
    let all: Vec<_> = (0..60).map(|n| (n, n, search, 1)).collect();
    fleet.update(&all);
    let moved = span(0, 0x8000);
    fleet.node("b").expect_range(moved).unwrap();
    let folder = fleet.folder();
    fleet.node("a").export_range(moved, &folder, |_| true).unwrap();
    // Everybody opts out, and is listed again at other accounts.
    let since: Vec<_> =
        (0..60).map(|n| (n, n, Some(0), 2)).chain((0..60).map(|n| (n, n + 100, search, 1))).collect();
    fleet.update(&since);
    let folded = fleet.node("b").fold().unwrap();
    assert!(
        folded.folded > 0 && fleet.node("b").stats().unwrap().delta > 0,
        "its own part is folded, and no other"
    );
    fleet.node("b").vacuum().unwrap();
    fleet.open("b");
    fleet.node("b").import_range(&folder).unwrap();
    fleet.node("b").fold().unwrap();
    fleet.open("b");
    let next = fleet.records.get().moved(moved, "b").unwrap();
    fleet.nodes.values().for_each(|node| node.follow_ownership(&next).unwrap());
    let hashes: Vec<PhoneHash> = (0..60).map(number).collect();
    let shown = found(&fleet.ask("a", &Caller::new("one"), Purpose::Search, &hashes));
    assert_eq!(shown, (0..60).map(|n| (n as usize, n + 100)).collect::<Vec<_>>());
    // What was dropped stays dropped through an open, also what was not folded.
    fleet.node("a").drop_range(moved).unwrap();
    fleet.open("a");
    assert_eq!((fleet.node("a").stats().unwrap().listings, fleet.node("a").held_ranges()), (0, vec![]));
}

#[test]
fn a_move_that_would_lose_something_is_refused() {
    let mut fleet = filled(100);
    let upper = span(0x8000, 0x1_0000);
    let (a, b) = (fleet.node("a").clone(), fleet.node("b").clone());
    let folder = fleet.folder();
    // Nobody gives what he does not have, or drops what is his.
    assert_eq!(refused(b.export_range(upper, &folder, |_| true)), ShardError::RangeNotHeld);
    assert_eq!(refused(a.drop_range(upper)), ShardError::RangeOwned);
    assert_eq!(refused(a.expect_range(upper)), ShardError::RangeHeld);
    assert_eq!(refused(a.begin_ownership(&fleet.records.get())), ShardError::RangeHeld);
    // What the owner has not heard of, the next one left out.
    super::fleet::update(&b, &[], Some(7));
    let expected = b.expect_range(upper).unwrap();
    assert_eq!(expected.as_deref(), Some(&7_u64.to_be_bytes()[..]));
    let behind = a.export_range(upper, &folder, |here| here >= expected.as_deref());
    assert_eq!(refused(behind), ShardError::FeedBehind);
    super::fleet::update(&a, &[], Some(7));
    let export = a.export_range(upper, &folder, |here| here >= expected.as_deref()).unwrap();
    assert_eq!(export.watermark, expected);
    assert_eq!(
        refused(a.export_range(upper, &folder, |_| true)),
        ShardError::ExportExists { dir: folder.clone() }
    );
    // In bulk nothing comes in meanwhile.
    assert!(matches!(b.importer(), Err(Error::Shard(ShardError::RangeExpected))));
    // Accounts that are erased do not come back with what was exported before.
    a.erase_account(AccountId::from(1)).unwrap();
    b.erase_account(AccountId::from(1)).unwrap();
    assert_eq!(refused(b.import_range(&folder)), ShardError::ErasedMeanwhile);
    b.drop_range(upper).unwrap();
    assert_eq!(refused(b.import_range(&folder)), ShardError::RangeNotExpected);
    b.expect_range(upper).unwrap();
    let again = fleet.folder();
    a.export_range(upper, &again, |_| true).unwrap();
    b.import_range(&again).unwrap();
    // Whose it is the record says, not who has it.
    assert_eq!(refused(b.import_range(&again)), ShardError::RangeNotExpected);
    b.drop_range(upper).unwrap();
    assert_eq!(found_all(&fleet, 100), 99);
}

#[test]
fn an_export_that_was_changed_is_refused_and_leaves_nothing() {
    let mut fleet = filled(2_000);
    let folder = fleet.folder();
    fleet.node("b").expect_range(span(0, 0x8000)).unwrap();
    fleet.update(&[(1, 1, Some(0), 9)]);
    fleet.node("a").export_range(span(0, 0x8000), &folder, |_| true).unwrap();
    let copy = |name: &str| {
        let to = fleet.dir.path().join(name);
        fs::create_dir(&to).unwrap();
        for file in fs::read_dir(&folder).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
        to
    };
    let b = fleet.node("b");
    let manifest = fs::read(folder.join("range")).unwrap();
    for at in (0..manifest.len()).step_by(3) {
        let to = copy(&format!("manifest-{at}"));
        let mut changed = manifest.clone();
        changed[at] ^= 1;
        fs::write(to.join("range"), changed).unwrap();
        let error = refused(b.import_range(&to));
        assert!(
            matches!(error, ShardError::ExportMalformed { .. } | ShardError::ExportForeign { .. }),
            "{at}: {error}"
        );
        fs::remove_dir_all(to).unwrap();
    }
    let segment = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let segment = segment.into_iter().find(|name| name.ends_with(".seg")).unwrap();
    let bytes = fs::read(folder.join(&segment)).unwrap();
    for (name, cut, at) in [("cut", 4_096, None), ("header", 0, Some(40)), ("page", 0, Some(bytes.len() / 2))] {
        let to = copy(name);
        let mut changed = bytes[..bytes.len() - cut].to_vec();
        at.into_iter().for_each(|at| changed[at] ^= 1);
        fs::write(to.join(&segment), changed).unwrap();
        let error = b.import_range(&to).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. } | Error::ForeignFormat { .. }), "{name}: {error}");
    }
    let gone = copy("gone");
    fs::remove_file(gone.join(&segment)).unwrap();
    assert!(matches!(b.import_range(&gone), Err(Error::Io { .. })));
    fs::remove_file(gone.join("range")).unwrap();
    assert_eq!(refused(b.import_range(&gone)), ShardError::NotAnExport { dir: gone.clone() });
    assert_eq!(
        refused(fleet.node("a").export_range(span(0, 1), fleet.dir.path(), |_| true)),
        ShardError::NotAnExport { dir: fleet.dir.path().to_owned() }
    );
    // Another secret, and another fleet under the same one.
    let other =
        Index::open(fleet.dir.path().join("x"), Options::new(unlisted::Secret::from_bytes([9; 32])).node("b"))
            .unwrap();
    other.follow_ownership(&fleet.records.get()).unwrap();
    assert_eq!(refused(other.import_range(&folder)), ShardError::ExportForeign { dir: folder.clone() });
    let copy = Fleet::new(&["a", "b"], |options| options);
    assert_eq!(refused(copy.node("b").import_range(&folder)), ShardError::ExportForeign { dir: folder.clone() });
    assert_eq!(fs::read_dir(fleet.dir.path().join("b/segments")).unwrap().count(), 0);
    b.import_range(&folder).unwrap();
}

#[test]
fn backups_and_repairs_know_segments_that_came_from_elsewhere() {
    let mut fleet = filled(3_000);
    fleet.move_range(span(0, 0x8000), "b", |_| ());
    let (backup, restored) = (fleet.dir.path().join("backup"), fleet.dir.path().join("restored"));
    let b = fleet.node("b");
    b.backup(&backup, BackupMode::Copied).unwrap();
    let again = b.backup(&backup, BackupMode::Copied).unwrap();
    assert_eq!(again.unchanged_files as usize, b.stats().unwrap().segments);
    let listings = b.stats().unwrap().listings;
    b.vacuum().unwrap();
    b.verify(|_, _| ()).unwrap();
    let copy = Index::restore(&backup, &restored, fleet.options()).unwrap();
    assert_eq!((copy.stats().unwrap().listings, copy.held_ranges()), (listings, vec![span(0, 0x8000)]));
    copy.verify(|_, _| ()).unwrap();
    drop(copy);
    // A page of one of them is damaged: a repair takes it from the backup.
    let segment = fs::read_dir(restored.join("segments")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let report = Index::repair(&restored, fleet.options(), Some(&backup)).unwrap();
    assert_eq!(report.ranges.len(), 1);
    let copy = Index::open(&restored, fleet.options()).unwrap();
    copy.verify(|_, _| ()).unwrap();
    assert_eq!(copy.stats().unwrap().listings, listings);
}
