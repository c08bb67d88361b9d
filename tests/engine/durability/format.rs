//! The format on disk: images of segments pinned by their bytes, and an index that version 2 wrote, which every
//! later version must open and answer alike. `docs/FORMAT.md` is the text to this.
//!
//! A change that makes this file fail needs a new format version, and this file then keeps the old one beside it.

#![cfg(feature = "internals")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use unlisted::internals::{self, OpenSegment, RawEntry, SegmentSpec, build_segment};
use unlisted::{
    AccountId, Caller, Domain, Index, ManualClock, OptIns, Options, Origin, PhoneHash, Purpose, Quota, QuotaPolicy,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::common::{START_MS, clock, number, secret};

/// Length, XXH3, wide slots, account bytes, spill buckets.
type Pin = (usize, &'static str, bool, u8, u64);
const PIN_WIDE: Pin = (12328, "32be173bd374af48", true, 8, 0);
const PIN_UUIDS: Pin = (12328, "32a27021c8118018", true, 16, 0);
const PIN_SPILLED: Pin = (28744, "dd7a33be63ff0436", true, 8, 4);
const PIN_NARROW: Pin = (8236744, "a13335c962f5acc4", false, 8, 210);
const HEADER: [&str; 11] = [
    "554e4c53545345470200000004800110",
    "7369787465656e206279746573206964",
    "090000000000000000000000000000a0",
    "01000000000000000000000000000000",
    "06000000000000000100000000000000",
    "0500000000000000d078020000000000",
    "03000000000000000200000000000000",
    "02000000000000000200000000000000",
    "03000000000000000100000000000000",
    "00000000000000000000000000000000",
    "8933c7d01f3357160000000000000000",
];
const FOOTER: &str = "843f6d2764a72835283000000000000047455354534c4e55";
const PINNED_KEYS: [&str; 2] = ["c5a7238b488367d144314fd155f34ae5", "4371f0bd1dc9f88c3276c407d813dec8"];
const PINNED_CALLER: &str = "bda8f37f2381a054c43aad35175a8169";
const PINNED_NETWORK: &str = "8b27387911ed7945f8fa21a38775d95d";
const PINNED_CHECK: &str = "2b9d2127252a66cf226bc9989eaf0d12";

/// Listings that only this file's arithmetic makes: some removed, some hidden, some phones with three accounts.
fn entries(count: u64, phones: u64, account_high: u128) -> Vec<RawEntry> {
    let entry = |i: u64| RawEntry {
        key: xxh3_128(&(i % phones).to_le_bytes()).to_be_bytes(),
        account: AccountId::from_bytes(((account_high << 64) | u128::from(i * 7)).to_be_bytes()),
        stamp: ((1_000 + i) << 8) | if i.is_multiple_of(9) { 0x80 | (i % 64) } else { i % 64 },
    };
    (0..count).map(entry).collect()
}

fn image(range_prefix: u64, range_bits: u8, entries: &[RawEntry]) -> Vec<u8> {
    let index_id = *b"sixteen bytes id";
    let spec = SegmentSpec { index_id, generation: 9, range_prefix, range_bits, known_bits: 128, era_s: 162_000 };
    build_segment(&spec, entries).unwrap().0
}

/// What of an image is pinned: its length, the XXH3 of it, its shape.
fn pin(image: &[u8]) -> (usize, String, bool, u8, u64) {
    let segment = OpenSegment::open(image.to_vec()).unwrap();
    segment.verify_pages().unwrap();
    let sum = format!("{:016x}", xxh3_64(image));
    (image.len(), sum, segment.is_wide(), segment.account_len(), segment.spill_buckets())
}

#[test]
fn images_of_segments_are_pinned_byte_by_byte() {
    let wide = image(0, 0, &entries(100, 60, 0));
    let expect = |(len, sum, wide, account, spill): Pin| (len, sum.to_owned(), wide, account, spill);
    assert_eq!(pin(&wide), expect(PIN_WIDE));
    let uuids = image(0xa << 60, 4, &entries(100, 60, 5));
    assert_eq!(pin(&uuids), expect(PIN_UUIDS));
    let spilled = image(0, 0, &entries(300, 2, 0));
    assert_eq!(pin(&spilled), expect(PIN_SPILLED));
    let narrow = image(0, 0, &entries(260_000, 250_000, 0));
    assert_eq!(pin(&narrow), expect(PIN_NARROW));
}

#[test]
fn the_header_is_pinned_byte_by_byte() {
    let image = image(0xa << 60, 4, &entries(100, 60, 5));
    let lines: Vec<String> = image[..176].chunks(16).map(hex::encode).collect();
    assert_eq!(lines, HEADER);
    assert!(image[176..4096].iter().all(|byte| *byte == 0));
    let footer = hex::encode(&image[image.len() - 24..]);
    assert_eq!(footer, FOOTER);
}

#[test]
fn keys_and_identities_are_pinned() {
    let phone = PhoneHash::of_e164("+14155550100").unwrap();
    let keys = internals::keys_of(&secret(), &[phone, phone.in_domain(Domain::Email)]);
    assert_eq!(keys.iter().map(hex::encode).collect::<Vec<_>>(), PINNED_KEYS);
    assert_eq!(hex::encode(internals::identity_of(&secret(), "caller", b"user-7")), PINNED_CALLER);
    let network = internals::identity_of(&secret(), "origin:network", &[198, 51, 100, 0]);
    assert_eq!(hex::encode(network), PINNED_NETWORK);
    assert_eq!(hex::encode(internals::check_value(&secret())), PINNED_CHECK);
}

/// The folder of the index that version 2 wrote. Its files are compressed: a database is mostly zeros.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden-v2")
}

fn options(clock: &std::sync::Arc<ManualClock>) -> Options {
    Options::new(secret())
        .clock(clock.clone())
        .background(false)
        .index_cache_bytes(1 << 20)
        .ledger_cache_bytes(1 << 20)
        .import_memory_bytes(1 << 20)
        .removal_retention(Duration::from_secs(30 * 86_400))
}

fn caller() -> Caller {
    Caller::new("user-7").via(Origin::network([198, 51, 100, 7].into()))
}

/// Makes the golden index anew: `UNLISTED_WRITE_GOLDEN=1 cargo test --all-features --test format -- write`. Only for a
/// new format version, in a folder of its own.
#[test]
fn write_the_golden_index_when_asked_to() {
    if std::env::var_os("UNLISTED_WRITE_GOLDEN").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let quota = |burst, refill| Quota::per_hour(burst, refill).unwrap();
    let policy = QuotaPolicy::of_caller(quota(100, 6)).with_origin("network", quota(1_000, 60)).unwrap();
    let index = Index::open(dir.path(), options(&clock).quotas(policy.with_everyone(quota(5_000, 600)))).unwrap();
    let put = |numbers: std::ops::Range<u64>, version| {
        let fill = |batch: &mut unlisted::UpdateBatch| {
            batch.watermark(format!("offset {version}"))?;
            numbers.clone().try_for_each(|i| match i % 10 {
                9 => batch.remove(number(i), AccountId::from(i), version),
                _ => batch.put(number(i), AccountId::from(i), OptIns::from_bits_truncate((i % 64) as u8), version),
            })
        };
        index.update(fill).unwrap();
    };
    put(0..60, 10);
    index.fold().unwrap();
    put(50..70, 20);
    index.lookup(&caller(), Purpose::Search, &(0..40).map(number).collect::<Vec<_>>()).unwrap();
    drop(index);
    let _ = fs::remove_dir_all(golden());
    pack(dir.path(), &golden());
}

/// Compresses every file of a folder into another.
fn pack(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            pack(&path, &target);
        } else if path.file_name().unwrap() != "LOCK" {
            let file = fs::File::create(format!("{}.gz", target.display())).unwrap();
            let mut writer = flate2::write::GzEncoder::new(file, flate2::Compression::best());
            std::io::Write::write_all(&mut writer, &fs::read(&path).unwrap()).unwrap();
            writer.finish().unwrap();
        }
    }
}

fn unpack(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            unpack(&path, &to.join(path.file_name().unwrap()));
        } else {
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()).read_to_end(&mut bytes).unwrap();
            fs::write(to.join(path.file_stem().unwrap()), bytes).unwrap();
        }
    }
}

#[test]
fn an_index_of_version_2_opens_and_answers_as_it_did() {
    let dir = tempfile::tempdir().unwrap();
    unpack(&golden(), dir.path());
    let clock = std::sync::Arc::new(ManualClock::at_wall_ms(START_MS));
    let index = Index::open(dir.path(), options(&clock).must_exist()).unwrap();
    index.verify(|_, _| ()).unwrap();

    // Sixty numbers folded at version 10, twenty in the delta at version 20; every tenth one removed.
    let stats = index.stats().unwrap();
    assert_eq!((stats.listings, stats.removed, stats.delta, stats.segments), (63, 7, 20, 1));
    assert_eq!(index.watermark().as_deref(), Some(&b"offset 20"[..]));
    assert_eq!(index.snapshot_version(), 2);

    // The caller had a burst of 100 and asked for 40; nothing came back since, for no time has passed.
    let hashes: Vec<PhoneHash> = (40..120).map(number).collect();
    let reply = index.lookup(&caller(), Purpose::Search, &hashes).unwrap();
    assert_eq!((reply.charged(), reply.remaining()), (60, 0));
    let found: Vec<_> = reply.matches().map(|found| found.account).collect();
    let shown = |i: &u64| i % 10 != 9 && *i < 70 && (i % 64) & 2 == 2;
    assert_eq!(found, (40..100).filter(shown).map(AccountId::from).collect::<Vec<_>>());
    let disclosed = index.inspector().disclosed_to(&caller()).unwrap();
    assert_eq!(disclosed.len(), (0..100).filter(shown).count());
    assert!(disclosed.iter().all(|row| row.first_at_ms == START_MS));

    // An older change stays stale, a newer one is taken, and a fold carries all of it on.
    let update = |account: u64, version| {
        index
            .set_opt_ins(number(account), AccountId::from(account), OptIns::ALL_PURPOSES, version)
            .unwrap()
            .applied
    };
    assert_eq!((update(9, 9), update(55, 15), update(55, 21)), (0, 0, 1));
    assert_eq!(index.fold().unwrap().ranges, 1);
    index.verify(|_, _| ()).unwrap();
    assert_eq!(index.quotas().everyone(), Some(Quota::per_hour(5_000, 600).unwrap()));
}

/// Header and first frame of a log; header and first group of the run that it is compacted to; XXH3 of the log, of one with
/// wide accounts, and of the runs of both.
const PIN_DISCLOSURES: [&str; 8] = [
    "554e4c5354444c4702000000000000007369787465656e20627974657320696401000000000000000000000000000000\
     00000000000000007440b18cbb280913",
    "0200000002010100005e56eea10100004000000000000000010101010101010101010101010101010202020202020202\
     02020202020202020303030303030303030303030303030300000000000003e800000000000007d0e3500af58ca22223",
    "554e4c535444524e01000000000000007369787465656e20627974657320696401000000000000000100000000000000\
     07000000000000000100000000000000005e56eea1010000a0e457eea1010000005e56eea10100000000000000000000\
     000000000000000000000000000000000000000000000000bb85c54f7150096e",
    "880000000000000001010101010101010101010101010101020102020202020202020202020202020202030303030303\
     03030303030303030303005e56eea101000005001600e80700e8070103e807c0fc15e807c0fc15e807c0fc15ffff",
    "19ae6cddc53a329d",
    "61c98b2dd28a82a3",
    "159051b68c7c6f4a",
    "b8e0aa81163d2568",
];

#[test]
fn the_disclosure_log_is_pinned_byte_by_byte() {
    let dir = tempfile::tempdir().unwrap();
    let sync = unlisted::DisclosureSync::Synced;
    let log = internals::RawDisclosures::create(dir.path(), *b"sixteen bytes id", sync).unwrap();
    let accounts = |range: std::ops::Range<u64>| range.map(|i| AccountId::from(i * 1_000)).collect::<Vec<_>>();
    let origins = [[3; 16], [2; 16]];
    log.record(([1; 16], &origins), Purpose::Search, START_MS, &accounts(1..3)).unwrap();
    log.record(([1; 16], &origins), Purpose::Search, START_MS + 90_000, &accounts(2..6)).unwrap();
    log.record(([0xff; 16], &[]), Purpose::ContactSync, START_MS + 100_000, &accounts(7..9)).unwrap();
    let read = |name: &str| fs::read(dir.path().join("disclosures").join(name)).unwrap();
    let growing = read("0000000000000001.log");
    log.compact(START_MS).unwrap();
    let narrow = read("0000000000000001-0000000000000001.run");
    log.record(([1; 16], &[]), Purpose::Search, START_MS, &[AccountId::from_bytes([7; 16])]).unwrap();
    let growing_wide = read("0000000000000002.log");
    log.compact(START_MS).unwrap();
    let wide = read("0000000000000002-0000000000000002.run");

    let (frame, group) = (64 + 40 + 2 * 16 + 2 * 8 + 8, 128 + 16 + 16 + 2 + 2 * 16 + 8 + 4);
    let parts = [&growing[..64], &growing[64..frame], &narrow[..128], &narrow[136..group + 24]].map(hex::encode);
    let sums = [&growing, &growing_wide, &narrow, &wide].map(|bytes| format!("{:016x}", xxh3_64(bytes)));
    assert_eq!([&parts[..], &sums].concat(), PIN_DISCLOSURES);
}

#[test]
fn another_secret_does_not_open_it() {
    let dir = tempfile::tempdir().unwrap();
    unpack(&golden(), dir.path());
    let clock = clock();
    let options = Options::new(unlisted::Secret::from_bytes([1; 32])).clock(clock).background(false);
    assert!(matches!(Index::open(dir.path(), options), Err(unlisted::Error::WrongSecret { .. })));
}
