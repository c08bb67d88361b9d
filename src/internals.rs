//! What benchmarks, fuzz targets and the format test of this crate reach past the public interface.
//!
//! Plain values in, plain values out, so that the types of the layers stay private. No promise holds for it.

use std::path::Path;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::disclosures::{DisclosureLog, DisclosureSync, Filter, Folder, Group, Origins, hostile};
use crate::disk::Disk;
use crate::index::import_blocks;
use crate::segment::Flaw;
use crate::segment::builder::{Input, build, shape_for};
use crate::segment::keys::KeyRange;
use crate::segment::layout::{FORMAT_VERSION, PAGE_LEN, footer, page_sum};
use crate::segment::line;
use crate::segment::reader::Segment;
use crate::shards::hostile as shards;
use crate::words::{AccountId, Damage, Entry, Error, Key, KeyRing, PhoneHash, Purpose, Secret, Stamp};
use crate::{ledger, store};

pub use crate::disk::sim::{Fault, Moment, SimDisk, Watch};
pub use crate::index::raw::{PreparedCaller, PreparedKeys};
pub use crate::ledger::LedgerSizes;
pub use crate::words::prf::Prf;

/// Bytes of a segment's footer.
const FOOTER_LEN: usize = 24;
/// Bytes of the header that its checksum, which follows them, covers.
const HEADER_SUMMED: usize = 160;
/// redb on `index.redb` or `ledger.redb`, for who reads or writes rows as nothing in this crate does. Nobody else may have it open.
///
/// # Errors
/// No database of this crate, or redb's own.
pub fn open_database(path: &Path) -> Result<redb::Database, Error> {
    crate::database::open_redb(path)
}

/// What a segment is built from, besides its listings.
#[derive(Debug, Clone, Copy)]
pub struct SegmentSpec {
    /// The index it belongs to.
    pub index_id: [u8; 16],
    /// Which segment of the index it is.
    pub generation: u64,
    /// The prefix of its keys, at the top of the word.
    pub range_prefix: u64,
    /// Bits of that prefix.
    pub range_bits: u8,
    /// Bits of the keys that are known.
    pub known_bits: u8,
    /// Seconds of an era of removal.
    pub era_s: u64,
}

/// A stored listing, as plain values. The order is that of the segment's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RawEntry {
    /// The key.
    pub key: [u8; 16],
    /// The account.
    pub account: AccountId,
    /// Version and flags.
    pub stamp: u64,
}

/// The image of a segment of these listings, and the listings as the segment knows them: those in the range, keys
/// cut, sorted, the last of equal ones. `None` if the range or a stamp is none that a writer makes.
#[must_use]
pub fn build_segment(spec: &SegmentSpec, entries: &[RawEntry]) -> Option<(Vec<u8>, Vec<RawEntry>)> {
    let range = KeyRange::new(spec.range_prefix, spec.range_bits)?;
    let entries: Option<Vec<Entry>> = entries.iter().map(entry).collect();
    let mut entries = entries?;
    entries.retain(|e| range.contains(e.key));
    // The shape depends on the number of listings, and its cut may make two of them one, which changes it again.
    loop {
        let before = entries.len();
        let shape = shape_for(range, before, spec.known_bits);
        entries.iter_mut().for_each(|e| e.key = shape.mask(e.key));
        entries.sort_by_key(Entry::id);
        entries.dedup_by(|later, kept| {
            let same = later.id() == kept.id();
            if same {
                *kept = *later;
            }
            same
        });
        if entries.len() == before {
            break;
        }
    }
    let image = build(&Input {
        index_id: spec.index_id,
        generation: spec.generation,
        range,
        known_bits: spec.known_bits,
        era_s: spec.era_s,
        entries: &entries,
    });
    Some((image, entries.iter().map(raw).collect()))
}

fn entry(raw: &RawEntry) -> Option<Entry> {
    Some(Entry { key: Key::from_bytes(raw.key), account: raw.account, stamp: Stamp::from_word(raw.stamp)? })
}

fn raw(entry: &Entry) -> RawEntry {
    RawEntry { key: entry.key.to_bytes(), account: entry.account, stamp: entry.stamp.word() }
}

/// What is wrong with the bytes of a segment. Its text is made only where it is asked for: fuzz targets meet thousands a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFlaw(Flaw);

/// What is left of a damaged segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvaged {
    /// The listings of every bucket that is right.
    pub listings: Vec<RawEntry>,
    /// Spans of the first eight bytes of keys whose listings may be missing, both ends included.
    pub lost: Vec<(u64, u64)>,
}

/// A segment over bytes in memory.
#[derive(Debug)]
pub struct OpenSegment(Segment<Vec<u8>>);

impl OpenSegment {
    /// Checks header, length, footer and the checksum of the page checksums.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn open(bytes: Vec<u8>) -> Result<Self, SegmentFlaw> {
        Segment::open(bytes).map(Self).map_err(SegmentFlaw)
    }

    /// May the key have a listing that opted in to the purpose?
    ///
    /// # Errors
    /// What is wrong with the page.
    pub fn may_contain(&self, key: [u8; 16], purpose: Purpose) -> Result<bool, SegmentFlaw> {
        self.0.may_contain(Key::from_bytes(key), purpose).map_err(SegmentFlaw)
    }

    /// Accounts and stamps of every listing of a key.
    ///
    /// # Errors
    /// What is wrong with a page or a listing.
    pub fn probe(&self, key: [u8; 16]) -> Result<Vec<(AccountId, u64)>, SegmentFlaw> {
        let mut found = Vec::new();
        let probed = self.0.probe(Key::from_bytes(key), |account, stamp| found.push((account, stamp.word())));
        probed.map(|()| found).map_err(SegmentFlaw)
    }

    /// Every listing, in no useful order.
    ///
    /// # Errors
    /// What is wrong with a page or a listing.
    pub fn listings(&self) -> Result<Vec<RawEntry>, SegmentFlaw> {
        let mut found = Vec::new();
        self.0.for_each(|e| found.push(raw(&e))).map_err(SegmentFlaw)?;
        Ok(found)
    }

    /// Every listing of the buckets that are right, and which keys the others were of.
    #[must_use]
    pub fn salvage(&self) -> Salvaged {
        let mut listings = Vec::new();
        let lost = self.0.salvage(|e| listings.push(raw(&e)));
        Salvaged { listings, lost: lost.spans() }
    }

    /// Checks every page.
    ///
    /// # Errors
    /// The first page that is damaged.
    pub fn verify_pages(&self) -> Result<(), SegmentFlaw> {
        self.0.verify_pages().map_err(SegmentFlaw)
    }

    /// Does the segment use wide slots?
    #[must_use]
    pub fn is_wide(&self) -> bool {
        self.0.header().keys.wide
    }

    /// Bytes of an account in its slots.
    #[must_use]
    pub fn account_len(&self) -> u8 {
        self.0.header().account_len
    }

    /// Buckets of its spill area.
    #[must_use]
    pub fn spill_buckets(&self) -> u64 {
        self.0.header().spill_buckets
    }
}

/// Makes the magic, the length and every checksum of a segment right, so that what is behind them is reached.
/// Pages that have to be added are zero. A hostile header may ask for petabytes: the file gets at most `longest` bytes, and
/// is as it was if that is not enough.
pub fn repair_segment(bytes: &mut Vec<u8>, longest: usize) {
    if bytes.len() < PAGE_LEN {
        bytes.resize(PAGE_LEN, 0);
    }
    put(bytes, 0, b"UNLSTSEG");
    put(bytes, 8, &FORMAT_VERSION.to_le_bytes());
    let sum = xxh3_64(bytes.get(..HEADER_SUMMED).unwrap_or_default());
    put(bytes, HEADER_SUMMED, &sum.to_le_bytes());
    if let Some(padding) = bytes.get_mut(HEADER_SUMMED + 8..PAGE_LEN) {
        padding.fill(0);
    }
    if let Some(len) = expected_len(bytes, longest) {
        bytes.resize(len, 0);
    }
    // A page and its checksum take PAGE_LEN + 8 bytes.
    let pages = bytes.len().saturating_sub(PAGE_LEN + FOOTER_LEN) / (PAGE_LEN + 8);
    let sums_at = PAGE_LEN * (1 + pages);
    bytes.resize(sums_at + 8 * pages + FOOTER_LEN, 0);
    reseal_segment(bytes, 0..pages);
}

/// [`repair_segment`] of one whose header is right, if only these pages, counted behind it, are others.
pub fn reseal_segment(bytes: &mut [u8], pages: impl IntoIterator<Item = usize>) {
    let count = bytes.len().saturating_sub(PAGE_LEN + FOOTER_LEN) / (PAGE_LEN + 8);
    let sums_at = PAGE_LEN * (1 + count);
    for number in pages.into_iter().filter(|number| *number < count) {
        let at = PAGE_LEN * (1 + number);
        let sum = page_sum(bytes.get(at..at + PAGE_LEN).unwrap_or_default(), number);
        put(bytes, sums_at + 8 * number, &sum.to_le_bytes());
    }
    let end = footer(bytes.get(sums_at..sums_at + 8 * count).unwrap_or_default(), bytes.len());
    put(bytes, sums_at + 8 * count, &end);
}

/// The length that the header asks for, unless it is the present one, impossible, or too long.
fn expected_len(bytes: &[u8], longest: usize) -> Option<usize> {
    match crate::segment::layout::Header::decode(bytes) {
        Err(Flaw::Damaged { what: Damage::Length { expected, .. }, .. }) => {
            usize::try_from(expected).ok().filter(|len| *len <= longest)
        }
        _ => None,
    }
}

fn put(bytes: &mut [u8], at: usize, from: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at + from.len()) {
        to.copy_from_slice(from);
    }
}

/// How many kinds of rows the databases have.
pub const ROW_KINDS: usize = store::REREAD.len() + ledger::REREAD.len() + store::REREAD_OF_NODES.len();

/// Reads a row of a database that may be any bytes, as an open does, and returns the bytes of what was read. `None` if it is none
/// of that kind.
#[must_use]
pub fn reread_row(kind: usize, bytes: &[u8]) -> Option<Vec<u8>> {
    store::REREAD.iter().chain(&ledger::REREAD).chain(&store::REREAD_OF_NODES).nth(kind)?(bytes).ok()
}

/// Rows whose keys begin with the same byte as an import keeps them until it builds its segments. `None` if they are not, if a
/// stamp is none that a writer makes, or if they are more than a block holds.
#[must_use]
pub fn pack_import_rows(rows: &[RawEntry]) -> Option<Vec<u8>> {
    let rows: Option<Vec<Entry>> = rows.iter().map(entry).collect();
    import_blocks::pack_rows(&rows?)
}

/// Reads such rows from bytes that may be any, in the order of their keys' second byte. `None` if no import wrote them.
#[must_use]
pub fn read_import_rows(bytes: &[u8], first_byte: u8) -> Option<Vec<RawEntry>> {
    Some(import_blocks::read_rows(bytes, first_byte)?.iter().map(raw).collect())
}

/// Goes through the rows of a page of the disclosure log that may be any bytes and whose checksum was right.
///
/// # Errors
/// What is wrong with it.
pub fn read_disclosure_page(page: &[u8], is_wide: bool) -> Result<usize, &'static str> {
    hostile::read_page(page, is_wide)
}

/// Goes through the frames of any bytes, whose checksums are made right; returns how many accounts they have.
pub fn read_disclosure_frames(bytes: &mut [u8], salt: u64) -> usize {
    hostile::read_frames(bytes, salt)
}

/// Reads any bytes as one of four kinds (a record of who owns which keys, a ticket, an answer, the manifest of an exported range,
/// without their tags), and returns the bytes of what was read.
#[must_use]
pub fn reread_shard_bytes(kind: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    shards::reread(kind, bytes)
}

/// Do these bytes pass as a ticket, an answer or an exported range of some secret?
#[must_use]
pub fn shard_bytes_pass(bytes: &[u8]) -> bool {
    shards::passes(bytes)
}

/// Asks the memory for the line at an offset, as the engine does.
#[inline(always)]
pub fn prefetch(bytes: &[u8], at: usize) {
    crate::prefetch::ask_for_byte(bytes, at);
}

/// The first 56 bytes of a line that are the tag, a bit each, compared as the engine does.
#[inline(always)]
#[must_use]
pub fn tags_equal(line: &[u8; 64], tag: u8) -> u64 {
    line::with_tag(line, tag)
}

/// A disclosure log alone, without an index: its bytes and its speed.
#[derive(Debug)]
pub struct RawDisclosures(DisclosureLog);

impl RawDisclosures {
    /// Makes a log in a folder, under an index id.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(dir: &Path, index_id: [u8; 16], sync: DisclosureSync) -> Result<Self, Error> {
        let folder = || Folder::of(&Disk::Real, dir, index_id);
        let mark = DisclosureLog::create(&folder())?;
        DisclosureLog::open(folder(), mark, sync, Duration::from_secs(u64::from(u32::MAX))).map(Self)
    }

    /// Records what one lookup shows. The origins are those of the caller.
    ///
    /// # Errors
    /// What the disk says.
    pub fn record(
        &self,
        (caller, origins): ([u8; 16], &[[u8; 16]]),
        purpose: Purpose,
        at_ms: u64,
        accounts: &[AccountId],
    ) -> Result<(), Error> {
        let origins = Origins::new(origins.iter().copied());
        let group = Group { caller, origins, purpose: purpose.bit() as u8 };
        self.0.record(&group, at_ms, accounts.iter().copied())
    }

    /// Compacts everything.
    ///
    /// # Errors
    /// Damage, or what the disk says.
    pub fn compact(&self, now_ms: u64) -> Result<(), Error> {
        self.0.compact(now_ms, true).map(drop)
    }

    /// Goes through every row; returns how many there are and the last time of any.
    ///
    /// # Errors
    /// Damage, or what the disk says.
    pub fn scan(&self, now_ms: u64) -> Result<(u64, u64), Error> {
        let mut seen = (0, 0);
        for row in self.0.rows(Filter::ALL, now_ms)? {
            seen = (seen.0 + 1, seen.1.max(row?.last_ms));
        }
        Ok(seen)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.usage().bytes
    }
}

/// The keys of these hashes under a secret.
#[must_use]
pub fn keys_of(secret: &Secret, hashes: &[PhoneHash]) -> Vec<[u8; 16]> {
    let mut keys = Vec::with_capacity(hashes.len());
    KeyRing::new(secret).keys_of(hashes.iter(), &mut keys);
    keys.into_iter().map(Key::to_bytes).collect()
}

/// The stored identity of a caller (`caller`), an origin (`origin:KIND`) or everyone (`everyone`, no bytes).
#[must_use]
pub fn identity_of(secret: &Secret, kind: &str, id: &[u8]) -> [u8; 16] {
    KeyRing::new(secret).identity_of(kind, id)
}

/// The value by which an index knows its secret.
#[must_use]
pub fn check_value(secret: &Secret) -> [u8; 16] {
    KeyRing::new(secret).check_value()
}
