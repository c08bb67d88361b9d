//! Segments: hostile bytes, and what goes in comes out.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use unlisted::internals::{
    OpenSegment, RawEntry, SegmentFlaw, SegmentSpec, build_segment, repair_segment, reseal_segment,
};
use unlisted::{AccountId, Purpose};

use super::input::Input;

const PAGE_LEN: usize = 4096;
/// Longest files that are made of what a header says: zeros and their checksums take nearly all of an execution.
const SHORT: usize = 64 << 10;
const LONG: usize = 512 << 10;
/// Keys of a base that are asked for, about.
const ASKED: usize = 6;

/// Sound segments that inputs change: few listings in wide slots; and many accounts of one phone, so that the spill
/// area is full.
static BASES: LazyLock<[Base; 2]> = LazyLock::new(|| [Base::of(100, 1 << 40, 16), Base::of(240, 3, 8)]);
/// Narrow slots, which need thousands of buckets.
static NARROW: LazyLock<Base> = LazyLock::new(|| Base::of(230_000, 1 << 40, 8));

/// A sound segment and what it says.
struct Base {
    image: Vec<u8>,
    /// What is found of some of its keys.
    answers: Vec<Answer>,
    /// All listings, sorted.
    listed: Vec<RawEntry>,
}

struct Answer {
    key: [u8; 16],
    found: Vec<(AccountId, u64)>,
    /// Does the key pass the filter, by purpose?
    passes: Vec<bool>,
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
        let (image, mut listed) = build_segment(&spec(0, 0, 128), &entries).expect("sound listings");
        let mut repaired = image.clone();
        repair_segment(&mut repaired, image.len());
        assert!(repaired == image, "a repair makes what no writer writes: inputs would not get past it");
        let segment = OpenSegment::open(image.clone()).expect("a built segment opens");
        let keys = listed.iter().step_by(listed.len().div_ceil(ASKED));
        let answers = keys.map(|e| Answer::of(&segment, e.key).expect("a built segment answers")).collect();
        listed.sort_unstable();
        Self { image, answers, listed }
    }

    /// One byte of it is another, and no checksum was made to fit: that is found, whoever reads what was changed gets an error,
    /// and who does not the right answer.
    fn expect_found(&self, bytes: Vec<u8>) {
        let Ok(segment) = OpenSegment::open(bytes) else { return };
        for right in &self.answers {
            if let Ok(answer) = Answer::of(&segment, right.key) {
                assert!(answer.found == right.found && answer.passes == right.passes, "a wrong answer");
            }
        }
        assert!(segment.verify_pages().is_err(), "a changed byte is not found");
        let left = segment.salvage();
        let mut read = left.listings;
        read.sort_unstable();
        for listing in &self.listed {
            let hi = u64::from_be_bytes(*listing.key.first_chunk().expect("a key is longer"));
            let may_be_missing = left.lost.iter().any(|(first, last)| (*first..=*last).contains(&hi));
            assert!(may_be_missing || read.binary_search(listing).is_ok(), "what is lost is not told");
        }
        let is_one = |listing: &RawEntry| self.listed.binary_search(listing).is_ok();
        assert!(read.iter().all(is_one), "something is read that was not written");
    }
}

impl Answer {
    fn of(segment: &OpenSegment, key: [u8; 16]) -> Result<Self, SegmentFlaw> {
        let mut found = segment.probe(key)?;
        found.sort_unstable();
        let passes: Result<_, _> = Purpose::ALL.iter().map(|purpose| segment.may_contain(key, *purpose)).collect();
        Ok(Self { key, found, passes: passes? })
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
    match mode % 64 {
        0 => ask_everything(input.rest().to_vec(), &[], Walk::of(mode)),
        kind @ 1..=3 => {
            let mut bytes = input.rest().to_vec();
            repair_segment(&mut bytes, if kind == 1 { LONG } else { SHORT });
            ask_everything(bytes, &[], Walk::of(mode));
        }
        4..=25 => change(&BASES[1], mode, &mut input),
        _ => change(&BASES[0], mode, &mut input),
    }
}

/// As [`segment_open`], of a segment with narrow slots. It has megabytes, so that an execution takes milliseconds.
pub fn segment_narrow(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    change(&NARROW, mode, &mut input);
}

/// How all of a segment is read: each way takes longer than all single questions.
#[derive(Clone, Copy)]
enum Walk {
    List,
    Salvage,
}

impl Walk {
    const fn of(mode: u8) -> Self {
        if mode & 64 == 0 { Self::List } else { Self::Salvage }
    }
}

/// Changes a base, makes its checksums right or not, and asks it.
fn change(base: &Base, mode: u8, input: &mut Input<'_>) {
    let mut bytes = base.image.clone();
    let patched = Patched::of(&mut bytes, input);
    match &patched {
        Patched::Nothing => {}
        Patched::Pages(pages) => reseal_segment(&mut bytes, pages.iter().copied()),
        Patched::Header => repair_segment(&mut bytes, base.image.len().max(SHORT)),
    }
    let is_damaged = mode >= 128 && damage(&mut bytes, input);
    if is_damaged && matches!(patched, Patched::Nothing) {
        base.expect_found(bytes);
    } else {
        ask_everything(bytes, &base.answers, Walk::of(mode));
    }
}

/// Damage that no checksum was made to fit; `false` if there is none.
fn damage(bytes: &mut [u8], input: &mut Input<'_>) -> bool {
    let at = input.u64() as usize % bytes.len().max(1);
    let bits = input.u8();
    bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= bits);
    bits != 0
}

/// Where a base is another.
enum Patched {
    Nothing,
    Pages(Vec<usize>),
    Header,
}

impl Patched {
    fn of(bytes: &mut [u8], input: &mut Input<'_>) -> Self {
        let (mut pages, mut has_header) = (Vec::new(), false);
        for _ in 0..input.below(16) {
            let (kind, at, value) = (input.u8(), input.u64() as usize, input.array::<8>());
            // One in sixteen changes the header, whose fields are few. Most that do leave a file of the wrong length.
            let is_of_header = kind % 16 == 0;
            let (start, len) = if is_of_header { (12, 148) } else { (PAGE_LEN, bytes.len() - PAGE_LEN) };
            let at = start + at % len;
            let width = 1 + usize::from(kind / 16) % 8;
            for (to, from) in bytes[at..].iter_mut().zip(&value[..width]) {
                *to = *from;
            }
            has_header |= is_of_header;
            if !is_of_header {
                // A patch may lie in two.
                pages.extend([at, at + width - 1].map(|at| at / PAGE_LEN - 1));
            }
        }
        match (has_header, pages.is_empty()) {
            (true, _) => Self::Header,
            (false, true) => Self::Nothing,
            (false, false) => Self::Pages(pages),
        }
    }
}

fn ask_everything(bytes: Vec<u8>, answers: &[Answer], walk: Walk) {
    let slots = bytes.len() / 24;
    let Ok(segment) = OpenSegment::open(bytes) else { return };
    let keys = answers.iter().map(|answer| answer.key);
    for key in keys.chain([[0; 16], [0xff; 16], spread(1 << 50)]) {
        let _ = Answer::of(&segment, key);
    }
    let listed = match walk {
        Walk::List => {
            let _ = segment.verify_pages();
            segment.listings().unwrap_or_default()
        }
        Walk::Salvage => segment.salvage().listings,
    };
    assert!(listed.len() <= slots, "more listings than there is room for");
    for listing in listed.iter().take(4) {
        let _ = Answer::of(&segment, listing.key);
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
