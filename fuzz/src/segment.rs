//! Segments: hostile bytes, and what goes in comes out.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use unlisted::internals::{OpenSegment, RawEntry, SegmentSpec, build_segment, repair_segment};
use unlisted::{AccountId, Purpose};

use super::input::Input;

const PAGE_LEN: usize = 4096;

/// Sound segments that inputs change: few listings in wide slots; and many accounts of one phone, so that the spill
/// area is full.
static BASES: LazyLock<[Base; 2]> = LazyLock::new(|| [Base::of(120, 1 << 40, 16), Base::of(300, 7, 8)]);
/// Narrow slots, which need thousands of buckets.
static NARROW: LazyLock<Base> = LazyLock::new(|| Base::of(230_000, 1 << 40, 8));

struct Base {
    image: Vec<u8>,
    /// Some of its listings' keys.
    keys: Vec<[u8; 16]>,
}

impl Base {
    /// `distinct` bounds the number of keys, `account_len` is 8 or 16.
    fn of(count: u64, distinct: u64, account_len: u64) -> Self {
        let high = if account_len == 16 { 1_u128 << 100 } else { 0 };
        let entries: Vec<RawEntry> = (0..count)
            .map(|i| RawEntry {
                key: spread(i % distinct),
                account: AccountId::from_bytes((high | u128::from(i)).to_be_bytes()),
                stamp: i << 8 | if i % 5 == 0 { 0x83 } else { i & 0x3f },
            })
            .collect();
        let (image, stored) = build_segment(&spec(0, 0, 128), &entries).expect("sound listings");
        let mut repaired = image.clone();
        repair_segment(&mut repaired);
        assert!(repaired == image, "a repair makes what no writer writes: inputs would not get past it");
        let keys = stored.iter().step_by(stored.len().div_ceil(64)).map(|e| e.key).collect();
        Self { image, keys }
    }
}

/// Keys that lie all over the key space, as those of a PRF do.
fn spread(i: u64) -> [u8; 16] {
    let mixed = u128::from(i.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (mixed ^ mixed >> 61).wrapping_mul(0xda94_2042_e4dd_58b5_aef1_7502_108e_f2d9).to_be_bytes()
}

fn spec(range_prefix: u64, range_bits: u8, known_bits: u8) -> SegmentSpec {
    SegmentSpec { index_id: [7; 16], generation: 3, range_prefix, range_bits, known_bits, era_s: 3_600 }
}

/// Opens bytes that may be anything and asks everything of them. The answer may be wrong where a checksum was
/// made right; it must come, and within the memory that the bytes take.
pub fn segment_open(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let (mut bytes, keys) = match mode % 64 {
        0 => (input.rest().to_vec(), Vec::new()),
        1..=3 => {
            let mut bytes = input.rest().to_vec();
            repair_segment(&mut bytes);
            (bytes, Vec::new())
        }
        4..=25 => patched(&BASES[1], &mut input),
        _ => patched(&BASES[0], &mut input),
    };
    if mode >= 128 {
        damage(&mut bytes, &mut input);
    }
    ask_everything(bytes, &keys);
}

/// As [`segment_open`], of a segment with narrow slots. It has megabytes, so that an execution takes milliseconds.
pub fn segment_narrow(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let (mut bytes, keys) = patched(&NARROW, &mut input);
    if mode >= 128 {
        damage(&mut bytes, &mut input);
    }
    ask_everything(bytes, &keys);
}

/// Damage that no checksum was made to fit: an error or the right answer.
fn damage(bytes: &mut [u8], input: &mut Input<'_>) {
    let at = input.u64() as usize % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= input.u8();
    }
}

/// A base with bytes of header and pages changed, and its checksums right.
fn patched(base: &Base, input: &mut Input<'_>) -> (Vec<u8>, Vec<[u8; 16]>) {
    let mut bytes = base.image.clone();
    let patches = input.below(16);
    for _ in 0..patches {
        let (kind, at, value) = (input.u8(), input.u64() as usize, input.array::<8>());
        // One in four changes the header, whose fields are few and matter most.
        let (start, len) = if kind % 4 == 0 { (12, 148) } else { (PAGE_LEN, bytes.len() - PAGE_LEN) };
        let at = start + at % len;
        let width = 1 + usize::from(kind / 4) % 8;
        for (to, from) in bytes[at..].iter_mut().zip(&value[..width]) {
            *to = *from;
        }
    }
    repair_segment(&mut bytes);
    (bytes, base.keys.clone())
}

fn ask_everything(bytes: Vec<u8>, keys: &[[u8; 16]]) {
    let Ok(segment) = OpenSegment::open(bytes) else { return };
    let _ = segment.verify_pages();
    let listed = segment.listings().unwrap_or_default();
    let listed = listed.iter().take(8).map(|e| e.key);
    for key in keys.iter().step_by(8).copied().chain(listed).chain([[0; 16], [0xff; 16], spread(1 << 50)]) {
        let _ = segment.probe(key);
        for purpose in Purpose::ALL {
            let _ = segment.may_contain(key, purpose);
        }
    }
}

/// Builds a segment from any listings and finds them again, by key and by listing all.
pub fn segment_roundtrip(data: &[u8]) {
    let mut input = Input::new(data);
    let range_bits = input.u8() % 17;
    let prefix = input.u64();
    let prefix = if range_bits == 0 { 0 } else { prefix >> (64 - range_bits) << (64 - range_bits) };
    let spec = spec(prefix, range_bits, 72 + input.u8() % 57);
    let entries = entries(&mut input, prefix, range_bits);
    let (image, expected) = build_segment(&spec, &entries).expect("sound listings");
    let segment = OpenSegment::open(image).expect("a built segment opens");
    segment.verify_pages().expect("its checksums are right");
    let mut listed = segment.listings().expect("its listings can be listed");
    listed.sort_unstable();
    let mut sorted = expected.clone();
    sorted.sort_unstable();
    assert_eq!(listed, sorted, "the segment lists other listings");

    let mut by_key: BTreeMap<[u8; 16], Vec<(AccountId, u64)>> = BTreeMap::new();
    for e in &expected {
        by_key.entry(e.key).or_default().push((e.account, e.stamp));
    }
    for (key, expected) in &mut by_key {
        let mut found = segment.probe(*key).expect("the probe is answered");
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(&found, expected, "a key finds other listings");
        for purpose in Purpose::ALL {
            if expected.iter().any(|(_, stamp)| shows(*stamp, purpose)) {
                assert_eq!(segment.may_contain(*key, purpose), Ok(true), "the filter hides a listing");
            }
        }
    }
}

/// Any listings: their keys, and how alike they are, from the input.
fn entries(input: &mut Input<'_>, prefix: u64, range_bits: u8) -> Vec<RawEntry> {
    let mut entries = Vec::new();
    while !input.is_empty() && entries.len() < 4_000 {
        let kind = input.u8();
        let seed = if kind & 1 == 0 {
            u128::from_be_bytes(spread(input.u64()))
        } else {
            u128::from_be_bytes(input.array())
        };
        let copies = if kind & 2 == 0 { 1 } else { u64::from(input.u8()) + 1 };
        let account = input.u64();
        let stamp = input.u64();
        // Bit 6 is a live listing's.
        let stamp = if stamp & 0x80 == 0 { stamp } else { stamp & !0x40 };
        for i in 0..copies {
            // Copies share the key, or differ in it from the end on.
            let key = if kind & 4 == 0 { seed } else { seed ^ u128::from(i) << (kind >> 3) };
            let high = if kind & 0x80 == 0 { 0 } else { 1 << 64 };
            let key = key >> range_bits | u128::from(prefix) << 64;
            let account = AccountId::from_bytes((high | u128::from(account ^ i)).to_be_bytes());
            entries.push(RawEntry { key: key.to_be_bytes(), account, stamp });
        }
    }
    entries
}

/// Is a listing with this stamp shown for a purpose? Written from `docs/FORMAT.md`, not from the code.
fn shows(stamp: u64, purpose: Purpose) -> bool {
    let bit = Purpose::ALL.iter().position(|p| *p == purpose).expect("every purpose is in ALL");
    stamp & 0x80 == 0 && stamp >> bit & 1 == 1
}
