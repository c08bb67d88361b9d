//! Wrong bytes and wrong directories: a typed error that says what and where, or the right answer.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use unlisted::{AccountId, Damage, Error, Index, OptIns, PhoneHash, Purpose};

use crate::common;

/// A closed index of `count` folded listings; every second one is shown.
fn closed_index(count: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let index = common::open(dir.path(), &common::clock());
    index
        .update(|batch| {
            (0..count).try_for_each(|i| {
                let opt_ins = if i % 2 == 0 { OptIns::ALL_PURPOSES } else { OptIns::empty() };
                batch.put(common::number(i), AccountId::from(i), opt_ins, 1)
            })
        })
        .unwrap();
    index.fold().unwrap();
    dir
}

fn segment_of(dir: &Path) -> PathBuf {
    let mut files = fs::read_dir(dir.join("segments")).unwrap();
    let path = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    path
}

fn reopen(dir: &Path) -> Result<Index, Error> {
    Index::open(dir, common::options(&common::clock()))
}

/// Opens, looks everything up and verifies; an answer that comes must be the right one.
fn use_it(dir: &Path, count: u64) -> Result<(), Error> {
    let index = reopen(dir)?;
    let hashes: Vec<PhoneHash> = (0..count).map(common::number).collect();
    let reply = index.lookup(&unlisted::Caller::new("test"), Purpose::Search, &hashes)?;
    let found: Vec<usize> = reply.matches().map(|found| found.position).collect();
    assert_eq!(found, (0..count as usize).step_by(2).collect::<Vec<_>>());
    index.verify(|_, _| ())?;
    index.fold()?;
    Ok(())
}

#[test]
fn damaged_segments_are_located() {
    let dir = closed_index(100);
    let path = segment_of(dir.path());
    let good = fs::read(&path).unwrap();
    use_it(dir.path(), 100).unwrap();
    // In the filter, in the table, in the checksums, in the footer.
    for at in [5_000, good.len() / 2, good.len() - 40, good.len() - 3] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        match use_it(dir.path(), 100) {
            Err(Error::Damaged { path: named, offset, .. }) => {
                assert_eq!(named, path);
                assert!(offset.abs_diff(at as u64) <= 4_096, "byte {at} was located at {offset}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn foreign_newer_empty_and_cut_segments_are_told_apart() {
    let dir = closed_index(100);
    let path = segment_of(dir.path());
    let good = fs::read(&path).unwrap();
    let open_with = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        use_it(dir.path(), 100).unwrap_err()
    };
    assert!(matches!(open_with(&[0; 8_192]), Error::ForeignFormat { .. }));
    let mut newer = good.clone();
    newer[8] = 9;
    assert!(matches!(open_with(&newer), Error::NewerFormat { found: 9, supported: 2, .. }));
    assert!(matches!(open_with(b""), Error::Damaged { what: Damage::Length { found: 0, .. }, .. }));
    for len in [1, 4_095, 4_096, good.len() / 2, good.len() - 1] {
        assert!(matches!(open_with(&good[..len]), Error::Damaged { what: Damage::Length { .. }, .. }), "{len}");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert!(matches!(open_with(&longer), Error::Damaged { what: Damage::Length { .. }, .. }));
    fs::remove_file(&path).unwrap();
    assert!(matches!(use_it(dir.path(), 100), Err(Error::Io { .. })));
}

#[test]
fn a_whole_segment_of_another_index_is_refused() {
    let (dir, other) = (closed_index(100), closed_index(100));
    fs::copy(segment_of(other.path()), segment_of(dir.path())).unwrap();
    let error = use_it(dir.path(), 100).unwrap_err();
    assert!(
        matches!(error, Error::Damaged { what: Damage::NotInManifest { field: "the index id" }, .. }),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_damage_of_a_segment_gives_an_error_or_the_right_answer(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let dir = closed_index(300);
        let path = segment_of(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        let good = bytes.clone();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        fs::write(&path, &bytes).unwrap();
        let result = use_it(dir.path(), 300);
        prop_assert_eq!(result.is_ok(), bytes == good, "{:?}", result);
    }
}

/// Opens, looks up and writes; an answer that comes must be the right one.
fn use_databases(dir: &Path) -> Result<(), Error> {
    let index = reopen(dir)?;
    let hashes: Vec<PhoneHash> = (0..100).map(common::number).collect();
    let found = index.lookup(&unlisted::Caller::new("test"), Purpose::Search, &hashes)?.matches().len();
    assert_eq!(found, 75, "50 folded and 25 in the delta");
    index.update(|batch| batch.put(common::number(900), AccountId::from(1), OptIns::empty(), 1))?;
    Ok(())
}

#[test]
fn damaged_and_cut_databases_give_an_error_or_the_right_answer() {
    let dir = closed_index(100);
    let index = reopen(dir.path()).unwrap();
    index
        .update(|batch| {
            let shown = (1..50).step_by(2);
            shown
                .into_iter()
                .try_for_each(|i| batch.put(common::number(i), AccountId::from(i), OptIns::ALL_PURPOSES, 2))
        })
        .unwrap();
    drop(index);
    use_databases(dir.path()).unwrap();
    let mut errors = 0;
    for name in ["index.redb", "ledger.redb"] {
        let path = dir.path().join(name);
        let both = ["index.redb", "ledger.redb"].map(|name| (name, fs::read(dir.path().join(name)).unwrap()));
        let good = fs::read(&path).unwrap();
        // The header densely, then one byte in each stretch, then lengths.
        let flips = (0..320).step_by(7).chain((320..good.len()).step_by(1_487));
        let damaged = flips.map(|at| {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            bad
        });
        let cut = [0, 1, 9, 64, 4_096, good.len() / 2, good.len() - 1].map(|len| good[..len].to_vec());
        for bad in damaged.chain(cut) {
            fs::write(&path, &bad).unwrap();
            errors += usize::from(use_databases(dir.path()).is_err());
            // Both files know of each other: both go back.
            both.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
        }
    }
    assert!(errors > 20, "only {errors} changes were noticed");
    use_databases(dir.path()).unwrap();
}

#[test]
fn directories_that_are_no_index_or_in_use_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let options = || common::options(&common::clock());
    let missing = dir.path().join("none");
    assert!(matches!(Index::open(&missing, options().must_exist()), Err(Error::NotAnIndex { .. })));
    assert!(!missing.exists(), "a failed open creates nothing");
    assert!(matches!(Index::open(dir.path(), options().must_exist()), Err(Error::NotAnIndex { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    let index = Index::open(dir.path(), options().must_create()).unwrap();
    assert!(matches!(reopen(dir.path()), Err(Error::InUse { .. })));
    let clone = index.clone();
    drop(index);
    assert!(matches!(reopen(dir.path()), Err(Error::InUse { .. })), "a clone keeps the directory");
    drop(clone);
    assert!(matches!(Index::open(dir.path(), options().must_create()), Err(Error::AlreadyExists { .. })));
    reopen(dir.path()).unwrap();
    fs::write(dir.path().join("index.redb"), b"not a database").unwrap();
    assert!(matches!(reopen(dir.path()), Err(Error::ForeignFormat { .. })));
}

#[test]
fn options_and_updates_out_of_range_are_told_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = || common::options(&common::clock());
    for bad in [options().max_batch(0), options().segment_listings(10), options().max_update(0)] {
        assert!(matches!(Index::open(dir.path(), bad), Err(Error::BadOption { .. })));
    }
    let index = Index::open(dir.path(), options().max_update(3)).unwrap();
    let (hash, account) = (common::number(1), AccountId::from(1));
    let too_many =
        index.update(|batch| (0..4).try_for_each(|v| batch.put(hash, account, OptIns::ALL_PURPOSES, v)));
    assert!(matches!(too_many, Err(Error::UpdateTooLarge { limit: 3, .. })));
    let too_new = index.update(|batch| {
        batch.put(hash, account, OptIns::ALL_PURPOSES, 1)?;
        batch.put(hash, account, OptIns::ALL_PURPOSES, 1 << 56)
    });
    assert!(matches!(too_new, Err(Error::Version(_))));
    let long = index.update(|batch| batch.watermark([0; 5_000]));
    assert!(matches!(long, Err(Error::WatermarkTooLong { len: 5_000, .. })));
    assert_eq!((index.stats().unwrap().listings, index.snapshot_version()), (0, 0));
}

#[test]
fn a_full_index_still_takes_opt_outs_removals_and_erasures() {
    let dir = tempfile::tempdir().unwrap();
    let put = |index: &Index, i: u64, opt_ins| {
        index.update(|batch| batch.put(common::number(i), AccountId::from(i), opt_ins, 5))
    };
    let index = reopen(dir.path()).unwrap();
    (0..3).for_each(|i| assert_eq!(put(&index, i, OptIns::ALL_PURPOSES).unwrap().applied, 1));
    drop(index);
    let index = Index::open(dir.path(), common::options(&common::clock()).max_bytes(1)).unwrap();
    assert!(matches!(put(&index, 9, OptIns::SEARCH), Err(Error::SizeLimit { limit_bytes: 1, .. })));
    assert!(matches!(index.importer(), Err(Error::SizeLimit { .. })));
    let more = index.set_opt_ins(common::number(0), AccountId::from(0), OptIns::SEARCH, 6).unwrap();
    assert_eq!(more.applied, 1, "giving up an opt-in is no growth");
    let narrower = OptIns::SEARCH | OptIns::MUTUAL;
    assert_eq!(index.set_opt_ins(common::number(2), AccountId::from(2), narrower, 6).unwrap().applied, 1);
    let wider = index.set_opt_ins(common::number(2), AccountId::from(2), OptIns::SEARCH, 7);
    assert!(matches!(wider, Err(Error::SizeLimit { .. })), "an audience of everyone is growth");
    index.update(|batch| batch.remove(common::number(1), AccountId::from(1), 6)).unwrap();
    assert_eq!(index.erase_account(AccountId::from(2)).unwrap().removed, 1);
    let all: Vec<PhoneHash> = (0..3).map(common::number).collect();
    assert_eq!(common::ask(&index, Purpose::Search, &all), [(0, AccountId::from(0))]);
    assert!(common::ask(&index, Purpose::Payments, &all).is_empty());
}

#[test]
fn the_watermark_is_stored_with_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    let index = reopen(dir.path()).unwrap();
    assert_eq!(index.watermark(), None);
    let put = |watermark: &str, version| {
        index.update(|batch| {
            batch.watermark(watermark)?;
            batch.put(common::number(1), AccountId::from(1), OptIns::ALL_PURPOSES, version)
        })
    };
    put("offset 1", 1).unwrap();
    assert_eq!(put("offset 2", 1).unwrap().stale, 1);
    assert_eq!(index.watermark().as_deref(), Some(&b"offset 2"[..]), "a batch without effect moves it too");
    assert!(put("offset 3", 1 << 60).is_err());
    drop(index);
    assert_eq!(reopen(dir.path()).unwrap().watermark().as_deref(), Some(&b"offset 2"[..]));
}
