//! A span of keys.

use std::fmt;

use crate::segment::keys::{KeyRange, MAX_RANGE_BITS};
use crate::words::{Key, ShardError};

/// Keys whose first 16 bits are in `from..to`: what a node owns, and what moves between nodes.
///
/// Keys are spread evenly, so a span holds its share of the listings. A span that begins and ends at round numbers is few
/// segments: 0x4000 to 0x8000 is one range, 0x4001 to 0x7fff is 26.
///
/// ```
/// use unlisted::{KeySpan, ShardError};
/// let quarter = KeySpan::new(0x4000, 0x8000)?;
/// assert_eq!(quarter.to_string(), "4000..8000");
/// assert!(KeySpan::ALL.covers(quarter) && !quarter.overlaps(KeySpan::new(0x8000, 0x1_0000)?));
/// assert!(matches!(KeySpan::new(5, 5), Err(ShardError::BadSpan { .. })));
/// # Ok::<(), ShardError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeySpan {
    from: u32,
    to: u32,
}

impl KeySpan {
    /// Every key.
    pub const ALL: Self = Self { from: 0, to: Self::END };
    /// Where the last span ends.
    pub const END: u32 = 1 << 16;

    /// Keys from the first 16 bits `from` on, up to `to`, which is not in it.
    ///
    /// # Errors
    /// [`ShardError::BadSpan`] if there is nothing in it, or `to` is more than [`KeySpan::END`].
    pub const fn new(from: u32, to: u32) -> Result<Self, ShardError> {
        if from < to && to <= Self::END { Ok(Self { from, to }) } else { Err(ShardError::BadSpan { from, to }) }
    }

    /// Where it begins.
    #[must_use]
    pub const fn from(self) -> u32 {
        self.from
    }

    /// Where it ends: the first that is not in it.
    #[must_use]
    pub const fn to(self) -> u32 {
        self.to
    }

    /// Is all of the other in this one?
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.from <= other.from && other.to <= self.to
    }

    /// Have the two a key in common?
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    pub(crate) const fn contains(self, key: Key) -> bool {
        let place = place_of(key) as u32;
        self.from <= place && place < self.to
    }

    /// The span of a range of keys.
    pub(crate) const fn of_range(range: KeyRange) -> Self {
        let from = place_of(range.first_key()) as u32;
        Self { from, to: place_of(range.last_key()) as u32 + 1 }
    }

    /// The fewest ranges that are this span together, in order.
    pub(crate) fn ranges(self) -> Vec<KeyRange> {
        let mut ranges = Vec::new();
        let mut from = self.from;
        while from < self.to {
            let aligned = if from == 0 { Self::END } else { 1 << from.trailing_zeros() };
            let mut len = aligned;
            while len > self.to - from {
                len /= 2;
            }
            let bits = MAX_RANGE_BITS - len.trailing_zeros() as u8;
            ranges.extend(KeyRange::new(u64::from(from) << 48, bits));
            from += len;
        }
        ranges
    }
}

/// The first 16 bits of a key.
pub(super) const fn place_of(key: Key) -> u16 {
    (key.hi >> 48) as u16
}

impl fmt::Display for KeySpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}..{:04x}", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key_at(place: u32) -> Key {
        Key { hi: u64::from(place) << 48, lo: 0 }
    }

    proptest! {
        #[test]
        fn ranges_are_the_span((from, to) in (0..KeySpan::END).prop_flat_map(|from| (Just(from), from + 1..=KeySpan::END))) {
            let span = KeySpan::new(from, to).unwrap();
            let ranges = span.ranges();
            let mut at = from;
            for range in &ranges {
                let of_range = KeySpan::of_range(*range);
                prop_assert_eq!(of_range.from(), at);
                at = of_range.to();
            }
            prop_assert_eq!(at, to);
            prop_assert!(ranges.len() <= 30);
            for place in [from, to - 1] {
                prop_assert!(span.contains(key_at(place)));
            }
            prop_assert!(to == KeySpan::END || !span.contains(key_at(to)));
        }
    }

    #[test]
    fn everything_is_one_range() {
        assert_eq!(KeySpan::ALL.ranges(), [KeyRange::ALL]);
        assert_eq!(KeySpan::new(0x4001, 0x7fff).unwrap().ranges().len(), 26);
        assert!(KeySpan::new(0, KeySpan::END + 1).is_err());
    }
}
