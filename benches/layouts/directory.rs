//! Directories: what stands for the slots of a bucket and says which of them may hold a key.
//!
//! An empty directory is zeros. A key that finds all slots of its bucket in use goes to the spill area, a second, smaller
//! table of the same kind; the overflow filter of its bucket says so.

use unlisted::internals::tags_equal;
use wide::{u8x16, u16x8};

use super::memory::LINE;
use super::population::Key;

/// The highest bit of what [`Directory::find`] returns: the key may be in the spill area.
pub const OVERFLOWS: u64 = 1 << 63;

/// Where the directories are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Those of so many buckets in a row, in front of the slots of these buckets.
    InFront(usize),
    /// All of them in front of all slots.
    Apart,
}

/// How a prototype finds the slot of a key. A fingerprint is the lowest [`Directory::BITS`] bits of what is passed.
pub trait Directory {
    /// Bytes of a bucket's.
    const LEN: usize;
    /// Slots of a bucket.
    const SLOTS: usize;
    /// Where it is.
    const PLACE: Place;
    /// Listings a bucket that the table is built for, on average.
    const LOAD: f64;
    /// Bits of the fingerprint.
    const BITS: u32;

    /// The slots that may answer, a bit each, and [`OVERFLOWS`].
    fn find(directory: &[u8], key: Key, fingerprint: u64, purpose: u32) -> u64;

    /// Takes the next slot, if there is one.
    fn take(directory: &mut [u8], fingerprint: u64, opt_ins: u8) -> Option<usize>;

    /// Notes that the key found no slot.
    fn note_overflow(directory: &mut [u8], key: Key, opt_ins: u8);
}

const fn place(apart: bool) -> Place {
    if apart { Place::Apart } else { Place::InFront(1) }
}

/// Bits of a key that choose no bucket and are in no fingerprint, as one of `bits`.
const fn overflow_bit(key: Key, bits: u64) -> usize {
    (((key.hi & 0xff) * bits) >> 8) as usize
}

const fn is_set(filter: &[u8], bit: usize) -> u64 {
    (filter[bit / 8] >> (bit % 8) & 1) as u64 * OVERFLOWS
}

const fn set(filter: &mut [u8], bit: usize) {
    filter[bit / 8] |= 1 << (bit % 8);
}

/// What ships: 56 tags of a byte, 56 bits of overflow filter, a count.
pub struct Tags56<const APART: bool>;

impl<const APART: bool> Directory for Tags56<APART> {
    const LEN: usize = LINE;
    const SLOTS: usize = 56;
    const PLACE: Place = place(APART);
    const LOAD: f64 = 54.0;
    const BITS: u32 = 8;

    #[inline(always)]
    fn find(directory: &[u8], key: Key, fingerprint: u64, _: u32) -> u64 {
        let Some(line) = directory.first_chunk::<LINE>() else { return 0 };
        let candidates = tags_equal(line, fingerprint as u8) & ((1 << line[63]) - 1);
        candidates | is_set(&line[56..], overflow_bit(key, 56))
    }

    fn take(directory: &mut [u8], fingerprint: u64, _: u8) -> Option<usize> {
        let slot = usize::from(directory[63]);
        if slot == Self::SLOTS {
            return None;
        }
        directory[slot] = fingerprint as u8;
        directory[63] += 1;
        Some(slot)
    }

    fn note_overflow(directory: &mut [u8], key: Key, _: u8) {
        set(&mut directory[56..], overflow_bit(key, 56));
    }
}

/// Eight tags of a byte, 56 bits of overflow filter, a count: a quarter of a line, of which `SHARED` are in a row.
pub struct Tags8<const SHARED: usize>;

impl<const SHARED: usize> Directory for Tags8<SHARED> {
    const LEN: usize = 16;
    const SLOTS: usize = 8;
    const PLACE: Place = Place::InFront(SHARED);
    const LOAD: f64 = 6.8;
    const BITS: u32 = 8;

    #[inline(always)]
    fn find(directory: &[u8], key: Key, fingerprint: u64, _: u32) -> u64 {
        const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
        let Some(bytes) = directory.first_chunk::<16>() else { return 0 };
        let tags = u128::from_le_bytes(*bytes) as u64;
        let differs = tags ^ (fingerprint * 0x0101_0101_0101_0101);
        // The high bit of each byte that is zero, gathered into one byte.
        let zero = !(((differs & LOW) + LOW) | differs) & !LOW;
        let equal = (zero >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        equal & ((1 << bytes[15]) - 1) | is_set(&bytes[8..], overflow_bit(key, 56))
    }

    fn take(directory: &mut [u8], fingerprint: u64, _: u8) -> Option<usize> {
        let slot = usize::from(directory[15]);
        if slot == Self::SLOTS {
            return None;
        }
        directory[slot] = fingerprint as u8;
        directory[15] += 1;
        Some(slot)
    }

    fn note_overflow(directory: &mut [u8], key: Key, _: u8) {
        set(&mut directory[8..], overflow_bit(key, 56));
    }
}

/// The words of a line that are the wanted one where the mask has bits, a bit each.
#[inline(always)]
fn equal_words(line: &[u8; LINE], wanted: u16, mask: u16) -> u64 {
    let (wanted, mask) = (u16x8::splat(wanted), u16x8::splat(mask));
    line.as_chunks::<16>().0.iter().enumerate().fold(0, |all, (i, quarter)| {
        let words = u16x8::new(cast_words(quarter));
        all | u64::from((words & mask).simd_eq(wanted).to_bitmask()) << (8 * i)
    })
}

#[inline(always)]
fn cast_words(bytes: &[u8; 16]) -> [u16; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *word = u16::from_le_bytes(*bytes);
    }
    words
}

/// The bytes of a line that have the bit, a bit each.
#[inline(always)]
fn bytes_with(line: &[u8; LINE], bit: u32) -> u64 {
    let bit = u8x16::splat(1 << bit);
    line.as_chunks::<16>().0.iter().enumerate().fold(0, |all, (i, quarter)| {
        all | u64::from((u8x16::new(*quarter) & bit).simd_eq(bit).to_bitmask()) << (16 * i)
    })
}

/// Writes a word that is not zero into the first of `slots` words that is.
fn take_word(directory: &mut [u8], slots: usize, word: u16) -> Option<usize> {
    let words = directory.as_chunks_mut::<2>().0;
    let slot = words.iter().take(slots).position(|word| *word == [0, 0])?;
    words[slot] = word.to_le_bytes();
    Some(slot)
}

/// A fingerprint of so many bits; zero is an empty slot's.
const fn not_zero(fingerprint: u64, bits: u32) -> u16 {
    let cut = fingerprint as u16 & (u16::MAX >> (16 - bits));
    if cut == 0 { 1 } else { cut }
}

/// "fp2": 30 fingerprints of two bytes, 32 bits of overflow filter.
pub struct Words30<const APART: bool>;

impl<const APART: bool> Directory for Words30<APART> {
    const LEN: usize = LINE;
    const SLOTS: usize = 30;
    const PLACE: Place = place(APART);
    const LOAD: f64 = 27.0;
    const BITS: u32 = 16;

    #[inline(always)]
    fn find(directory: &[u8], key: Key, fingerprint: u64, _: u32) -> u64 {
        let Some(line) = directory.first_chunk::<LINE>() else { return 0 };
        let candidates = equal_words(line, not_zero(fingerprint, 16), u16::MAX) & ((1 << Self::SLOTS) - 1);
        candidates | is_set(&line[60..], overflow_bit(key, 32))
    }

    fn take(directory: &mut [u8], fingerprint: u64, _: u8) -> Option<usize> {
        take_word(directory, Self::SLOTS, not_zero(fingerprint, 16))
    }

    fn note_overflow(directory: &mut [u8], key: Key, _: u8) {
        set(&mut directory[60..], overflow_bit(key, 32));
    }
}

/// The bit, of so many, of a key that overflowed, for one purpose. A hidden listing must set none that its purpose reads:
/// otherwise the spill area would tell hidden from absent.
const fn purpose_bit(key: Key, purpose: u32, bits: u64) -> usize {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let hash = ((key.hi & 0xffff_ffff) << 3 | purpose as u64).wrapping_mul(MULTIPLIER) >> 32;
    ((hash * bits) >> 32) as usize
}

fn note_purposes(filter: &mut [u8], key: Key, opt_ins: u8, bits: u64) {
    for purpose in (0..6).filter(|purpose| opt_ins >> purpose & 1 == 1) {
        set(filter, purpose_bit(key, purpose, bits));
    }
}

/// Opt-ins beside the fingerprint: 20 fingerprints of two bytes, 20 bytes of opt-ins, 32 bits of overflow filter.
pub struct OptIns20<const APART: bool>;

impl<const APART: bool> Directory for OptIns20<APART> {
    const LEN: usize = LINE;
    const SLOTS: usize = 20;
    const PLACE: Place = place(APART);
    const LOAD: f64 = 17.0;
    const BITS: u32 = 16;

    #[inline(always)]
    fn find(directory: &[u8], key: Key, fingerprint: u64, purpose: u32) -> u64 {
        let Some(line) = directory.first_chunk::<LINE>() else { return 0 };
        let equal = equal_words(line, not_zero(fingerprint, 16), u16::MAX) & ((1 << Self::SLOTS) - 1);
        equal & bytes_with(line, purpose) >> 40 | is_set(&line[60..], purpose_bit(key, purpose, 32))
    }

    fn take(directory: &mut [u8], fingerprint: u64, opt_ins: u8) -> Option<usize> {
        let slot = take_word(directory, Self::SLOTS, not_zero(fingerprint, 16))?;
        directory[40 + slot] = opt_ins;
        Some(slot)
    }

    fn note_overflow(directory: &mut [u8], key: Key, opt_ins: u8) {
        note_purposes(&mut directory[60..], key, opt_ins, 32);
    }
}

/// Opt-ins beside the fingerprint in one word: 28 words of 10 bits of fingerprint and 6 opt-ins, 64 bits of overflow
/// filter.
pub struct OptIns28<const APART: bool>;

impl<const APART: bool> Directory for OptIns28<APART> {
    const LEN: usize = LINE;
    const SLOTS: usize = 28;
    const PLACE: Place = place(APART);
    const LOAD: f64 = 26.0;
    const BITS: u32 = 10;

    #[inline(always)]
    fn find(directory: &[u8], key: Key, fingerprint: u64, purpose: u32) -> u64 {
        let Some(line) = directory.first_chunk::<LINE>() else { return 0 };
        let agreed = 1 << purpose;
        let wanted = not_zero(fingerprint, 10) << 6 | agreed;
        let candidates = equal_words(line, wanted, 0x3ff << 6 | agreed) & ((1 << Self::SLOTS) - 1);
        candidates | is_set(&line[56..], purpose_bit(key, purpose, 64))
    }

    fn take(directory: &mut [u8], fingerprint: u64, opt_ins: u8) -> Option<usize> {
        take_word(directory, Self::SLOTS, not_zero(fingerprint, 10) << 6 | u16::from(opt_ins))
    }

    fn note_overflow(directory: &mut [u8], key: Key, opt_ins: u8) {
        note_purposes(&mut directory[56..], key, opt_ins, 64);
    }
}
