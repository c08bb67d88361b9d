//! Which bits of a key a segment keeps, and which its place in the file already says.
//!
//! A key has 128 bits. The range fixes the first `range_bits`, the bucket about `log2(buckets)` more. A
//! *narrow* slot stores the 64 bits that follow (overlapping the bucket's by one or two), and its tag the 8
//! bits after those, so that place and slot together know `key_bits` = `window + 72` bits; the rest is
//! forgotten. A *wide* slot stores all 16 bytes and is used where the buckets are too few to say much.
//!
//! A fold must put an old slot into a new place, so the stored bits must give back what the place said:
//! [`KeyShape::restore`]. For the same reason a segment never knows more bits than the one it replaces.
//!
//! A false match needs another listing of the same bucket to agree on all 72 stored bits: about
//! 51 · 2^-72 = 2^-66 a probe in a segment built by an import, and it cannot be searched for, since keys are
//! outputs of a PRF whose secret the caller does not have.

use crate::words::Key;

/// Most bits of a range prefix.
pub(crate) const MAX_RANGE_BITS: u8 = 16;
/// Bits that a narrow slot and its tag store: no segment and no change knows fewer of a key.
pub(crate) const MIN_KEY_BITS: u8 = 72;
/// Below this many buckets a segment uses wide slots.
const MIN_NARROW_BUCKETS: u64 = 1 << 12;

/// A range of keys: all that begin with these bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyRange {
    /// The prefix, at the top of the word; the rest is zero.
    prefix: u64,
    bits: u8,
}

impl KeyRange {
    /// Every key.
    pub(crate) const ALL: Self = Self { prefix: 0, bits: 0 };

    /// `None` if there are too many bits, or bits set behind the prefix.
    pub(crate) const fn new(prefix: u64, bits: u8) -> Option<Self> {
        if bits > MAX_RANGE_BITS || prefix & tail_mask(bits) != 0 {
            return None;
        }
        Some(Self { prefix, bits })
    }

    pub(crate) const fn prefix(self) -> u64 {
        self.prefix
    }

    pub(crate) const fn bits(self) -> u8 {
        self.bits
    }

    pub(crate) const fn contains(self, key: Key) -> bool {
        key.hi & !tail_mask(self.bits) == self.prefix
    }

    /// Does this range contain the other, or equal it?
    pub(crate) const fn covers(self, other: Self) -> bool {
        self.bits <= other.bits && other.prefix & !tail_mask(self.bits) == self.prefix
    }

    /// The smallest key of the range.
    pub(crate) const fn first_key(self) -> Key {
        Key { hi: self.prefix, lo: 0 }
    }

    /// The largest key of the range.
    pub(crate) const fn last_key(self) -> Key {
        Key { hi: self.prefix | tail_mask(self.bits), lo: u64::MAX }
    }

    /// The ranges of `depth` bits inside this one, in order.
    pub(crate) fn split_to(self, depth: u8) -> impl Iterator<Item = Self> {
        let depth = depth.clamp(self.bits, MAX_RANGE_BITS);
        let prefix = self.prefix;
        (0..1_u64 << (depth - self.bits))
            .map(move |i| Self { prefix: if depth == 0 { 0 } else { prefix | i << (64 - depth) }, bits: depth })
    }
}

/// The bits of a `u64` behind a prefix of `bits`.
const fn tail_mask(bits: u8) -> u64 {
    if bits == 0 {
        u64::MAX
    } else if bits >= 64 {
        0
    } else {
        u64::MAX >> bits
    }
}

/// Which bits of a key the slots of one segment keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyShape {
    pub(crate) range: KeyRange,
    pub(crate) buckets: u64,
    /// Bits of the key that the segment knows; the rest counts as zero.
    pub(crate) key_bits: u8,
    pub(crate) wide: bool,
}

impl KeyShape {
    /// The best shape for so many buckets when the sources know `known_bits` of each key.
    pub(crate) const fn best(range: KeyRange, buckets: u64, known_bits: u8) -> Self {
        let natural = range.bits as u32 + (buckets | 1).ilog2() + MIN_KEY_BITS as u32 - 1;
        let wide = buckets < MIN_NARROW_BUCKETS || natural >= 128;
        let most = if wide { 128 } else { natural as u8 };
        Self { range, buckets, key_bits: if known_bits < most { known_bits } else { most }, wide }
    }

    /// Is this a shape that [`KeyShape::best`] can have made?
    pub(crate) const fn is_sound(self) -> bool {
        let best = Self::best(self.range, self.buckets, 128);
        self.key_bits >= MIN_KEY_BITS && self.key_bits <= best.key_bits && self.wide == best.wide
    }

    /// The key without the bits that the segment does not know.
    #[inline]
    pub(crate) const fn mask(self, key: Key) -> Key {
        mask_key(key, self.key_bits)
    }

    /// Where in the range a key is: its 32 bits behind the range prefix.
    #[inline(always)]
    pub(crate) const fn place(self, key: Key) -> u64 {
        key.hi << self.range.bits >> 32
    }

    /// The bucket a key belongs to: its place, scaled.
    #[inline(always)]
    pub(crate) const fn home(self, key: Key) -> u64 {
        (self.place(key) * self.buckets) >> 32
    }

    /// The bucket, and where among its keys this one is: a fraction, in 2^-32.
    #[inline(always)]
    pub(crate) const fn home_and_part(self, key: Key) -> (u64, u32) {
        let product = self.place(key) * self.buckets;
        (product >> 32, product as u32)
    }

    /// The tag: the last eight bits that are known. They are in the low half of a key always.
    #[inline(always)]
    pub(crate) const fn tag(self, key: Key) -> u8 {
        (key.lo >> (128 - self.key_bits as u32)) as u8
    }

    /// Which of the 56 bits of a bucket's overflow filter stands for the key: its bits 56 to 63, scaled. The bucket
    /// is chosen by bits before them.
    #[inline(always)]
    pub(crate) const fn overflow_bit(self, key: Key) -> u32 {
        ((key.hi & 0xff) as u32 * 56) >> 8
    }

    /// The bucket of the spill area, of so many, where the search for a key begins: its bits 32 to 63, scaled.
    #[inline]
    pub(crate) const fn spill_home(self, key: Key, spill_buckets: u64) -> u64 {
        ((key.hi & 0xffff_ffff) * spill_buckets) >> 32
    }

    /// The eight bytes that a narrow slot stores.
    #[inline(always)]
    pub(crate) const fn stored(self, key: Key) -> u64 {
        // A shift of the whole key without 128-bit arithmetic; the window is below 64.
        key.hi << self.window() | key.lo >> 1 >> (63 - self.window())
    }

    /// The first bit that a narrow slot stores.
    const fn window(self) -> u32 {
        (self.key_bits - MIN_KEY_BITS) as u32
    }

    /// The known bits of the key in a narrow slot of bucket `home`. `None` if no key gives these.
    pub(crate) fn restore(self, home: u64, stored: u64, tag: u8) -> Option<Key> {
        let window = self.window();
        let tail = (u128::from(stored) << 64 | u128::from(tag) << 56) >> window;
        let candidate = |hi: u64| {
            let head = if window == 0 { 0 } else { u128::from(hi >> (64 - window) << (64 - window)) << 64 };
            let key = Key::from_u128(head | tail);
            (self.range.contains(key) && self.home(key) == home).then_some(key)
        };
        // The bucket's keys begin with the bits of its first or of its last: the window is cut so that an
        // interval of keys that is as long as a bucket's touches at most two prefixes.
        let first = (home << 32).div_ceil(self.buckets);
        let last = (((home + 1) << 32) - 1) / self.buckets;
        let at = |place: u64| self.range.prefix | (place << 32) >> self.range.bits;
        candidate(at(first)).or_else(|| candidate(at(last)))
    }
}

/// The key with only its first `bits` bits.
#[inline]
pub(crate) const fn mask_key(key: Key, bits: u8) -> Key {
    if bits >= 128 { key } else { Key::from_u128(key.to_u128() & !(u128::MAX >> bits)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range_and_key() -> impl Strategy<Value = (KeyRange, Key)> {
        (any::<u128>(), 0..=MAX_RANGE_BITS).prop_map(|(bits, range_bits)| {
            let key = Key::from_u128(bits);
            (KeyRange::new(key.hi & !tail_mask(range_bits), range_bits).unwrap(), key)
        })
    }

    proptest! {
        #[test]
        fn a_narrow_slot_gives_its_key_back(
            (range, key) in range_and_key(),
            buckets in MIN_NARROW_BUCKETS..1 << 20,
            known in 72_u8..=128,
        ) {
            let shape = KeyShape::best(range, buckets, known);
            prop_assert!(!shape.wide && shape.is_sound());
            let masked = shape.mask(key);
            let home = shape.home(key);
            prop_assert!(home < buckets && shape.home(masked) == home && shape.home_and_part(key).0 == home);
            prop_assert_eq!(shape.tag(key), shape.tag(masked));
            prop_assert_eq!(shape.overflow_bit(key), shape.overflow_bit(masked));
            prop_assert_eq!(shape.restore(home, shape.stored(key), shape.tag(key)), Some(masked));
        }

        #[test]
        fn ranges_split_into_what_they_cover((range, key) in range_and_key(), deeper in 0_u8..4) {
            let depth = (range.bits() + deeper).min(MAX_RANGE_BITS);
            let parts: Vec<_> = range.split_to(depth).collect();
            prop_assert_eq!(parts.len(), 1 << (depth - range.bits()));
            prop_assert_eq!(parts.iter().filter(|part| part.contains(key)).count(), 1);
            prop_assert!(parts.iter().all(|part| range.covers(*part)));
            prop_assert_eq!(parts[0].first_key(), range.first_key());
            prop_assert_eq!(parts[parts.len() - 1].last_key(), range.last_key());
        }
    }

    #[test]
    fn unsound_shapes_are_refused() {
        assert_eq!(KeyRange::new(1, 4), None);
        assert_eq!(KeyRange::new(0, MAX_RANGE_BITS + 1), None);
        let shape = KeyShape::best(KeyRange::ALL, 1 << 15, 128);
        assert!(!KeyShape { key_bits: 71, ..shape }.is_sound());
        assert!(!KeyShape { key_bits: shape.key_bits + 1, ..shape }.is_sound());
        assert!(!KeyShape { wide: true, ..shape }.is_sound());
    }
}
