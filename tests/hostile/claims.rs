//! Headers, footers and rows that claim far more than there is, with every checksum right, as who writes into the directory
//! can make them: an error or the right answer, and no memory for what is not there.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::FILES;
use crate::allocations;
use crate::kinds::Kind;
use crate::world::{Place, Reader};

/// What is claimed: more than any machine has, and what overflows when something is added.
pub const CLAIMS: [u64; 3] = [1 << 32, 1 << 40, u64::MAX];

fn path_of(kind: &str) -> &'static String {
    FILES.keys().find(|path| Kind::of(path).is_some_and(|of| of.name == kind)).unwrap()
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Uses an index, or restores a backup. It may be an error or not, but it ends and takes little memory.
pub fn survive(what: &str, change: impl FnOnce(&Place), reader: Reader) -> bool {
    let place = Place::new();
    place.fill(&FILES);
    change(&place);
    let outcome = catch_unwind(AssertUnwindSafe(|| place.use_as(reader)));
    allocations::check(what);
    outcome.unwrap_or_else(|_| panic!("{what}: a panic")).is_ok()
}

/// Changes a number at an offset of a file and makes a checksum right.
fn claim(kind: &str, at: usize, repair: fn(&mut [u8])) {
    let path = path_of(kind);
    let reader = Kind::of(path).unwrap().reader;
    for value in CLAIMS {
        let mut bytes = FILES[path].clone();
        put(&mut bytes, at, value);
        repair(&mut bytes);
        let write = |place: &Place| fs::write(place.path(path), &bytes).unwrap();
        survive(&format!("{kind}: {value} at {at}"), write, reader);
    }
}

#[test]
fn headers_are_not_believed() {
    let of_segment = |bytes: &mut [u8]| {
        let sum = xxh3_64(&bytes[..160]);
        put(bytes, 160, sum);
    };
    for at in (40..96).step_by(8).chain((96..144).step_by(8)) {
        claim("segment", at, of_segment);
    }
    let of_run = |bytes: &mut [u8]| {
        let sum = xxh3_64(&bytes[..120]);
        put(bytes, 120, sum);
    };
    for at in (32..88).step_by(8) {
        claim("run", at, of_run);
    }
    let of_manifest = |bytes: &mut [u8]| {
        let end = bytes.len() - 8;
        let sum = xxh3_64(&bytes[..end]);
        put(bytes, end, sum);
    };
    // Versions, epochs, the length of the watermark, how many files, the length of the first.
    for at in (48..104).step_by(8).chain([104 + 8 + 4]) {
        claim("manifest of a backup", at, of_manifest);
    }
    claim("erased accounts", 48, of_manifest);
    for at in [24, 32] {
        claim("epoch file", at, of_manifest);
    }
}

#[test]
fn a_footer_and_a_frame_of_a_log_are_not_believed() {
    let end = FILES[path_of("sealed log")].len() - 64;
    for word in 1..6 {
        claim("sealed log", end + 8 * word, |bytes| {
            let end = bytes.len() - 64;
            let salt = xxh3_64(&bytes[..56]);
            let sum = xxh3_64_with_seed(&bytes[end..end + 56], salt ^ end as u64);
            put(bytes, end + 56, sum);
        });
    }
    // The accounts of the first frame; nothing can make its checksum right, for they are not there.
    claim("sealed log", 64, |_| ());
    claim("growing log", 64, |_| ());
}

/// A log, a run and a segment with the largest number there is, in the name and in the header.
#[test]
fn the_largest_numbers_in_names_are_no_numbers() {
    let mut run = FILES[path_of("run")].clone();
    put(&mut run, 40, u64::MAX);
    let sum = xxh3_64(&run[..120]);
    put(&mut run, 120, sum);
    let names =
        ["0000000000000001-ffffffffffffffff.run", "ffffffffffffffff.log", "0000000000000004-ffffffffffffffff.run"];
    for name in names {
        let write = |place: &Place| fs::write(place.path(&format!("index/disclosures/{name}")), &run).unwrap();
        survive(name, write, Reader::Index);
    }
}

/// A tar archive whose entries claim what does not follow.
#[test]
fn sizes_in_a_stream_are_not_believed() {
    let path = path_of("stream");
    for (at, kind) in [(0, b'0'), (0, b'L'), (0, b'K'), (0, b'x'), (0, b'g'), (0, b'S'), (1_024, b'0')] {
        let mut bytes = FILES[path].clone();
        let at =
            if at == 0 { 0 } else { 512 + FILES[path_of("manifest of a backup")].len().next_multiple_of(512) };
        // The size in base 256, then the kind; the checksum is a sum of the header with spaces in its place.
        bytes[at + 124..at + 136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        bytes[at + 156] = kind;
        bytes[at + 148..at + 156].fill(b' ');
        let sum: u32 = bytes[at..at + 512].iter().map(|byte| u32::from(*byte)).sum();
        bytes[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let write = |place: &Place| fs::write(place.path(path), &bytes).unwrap();
        let what = format!("a stream with an entry of kind {:?}", char::from(kind));
        assert!(!survive(&what, write, Reader::Stream), "{what} was taken");
    }
}
