//! A value for every key, in pieces.

use super::span::{KeySpan, place_of};
use crate::words::Key;

/// A value for each first 16 bits of a key: where each piece begins, and its value. Neighbours differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pieces<T>(Vec<(u16, T)>);

impl<T: Clone + PartialEq> Pieces<T> {
    /// One value for all.
    pub(crate) fn whole(value: T) -> Self {
        Self(vec![(0, value)])
    }

    /// `None` unless the first piece begins at nothing, each begins behind the one before, and neighbours differ.
    pub(crate) fn from_starts(starts: Vec<(u16, T)>) -> Option<Self> {
        let begins = starts.first().is_some_and(|(from, _)| *from == 0);
        let ascends = starts.is_sorted_by(|(one, left), (other, right)| one < other && left != right);
        (begins && ascends).then_some(Self(starts))
    }

    pub(crate) fn starts(&self) -> &[(u16, T)] {
        &self.0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (KeySpan, &T)> {
        let ends = self.0.iter().skip(1).map(|(from, _)| u32::from(*from)).chain([KeySpan::END]);
        // Starts ascend, so each is below the next.
        self.0
            .iter()
            .zip(ends)
            .filter_map(|((from, value), to)| KeySpan::new(u32::from(*from), to).ok().map(|span| (span, value)))
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn at(&self, key: Key) -> Option<&T> {
        let place = place_of(key);
        let behind = self.0.partition_point(|(from, _)| *from <= place);
        self.0.get(behind.checked_sub(1)?).map(|(_, value)| value)
    }

    /// Gives a span another value.
    #[must_use]
    pub(crate) fn with(&self, span: KeySpan, value: &T) -> Self {
        let mut starts: Vec<(u16, T)> = Vec::with_capacity(self.0.len() + 2);
        let mut add = |from: u32, value: &T| {
            // A piece that would begin at the end is none.
            if let Ok(from) = u16::try_from(from)
                && starts.last().is_none_or(|(_, last)| last != value)
            {
                starts.push((from, value.clone()));
            }
        };
        let mut is_placed = false;
        for (piece, of_piece) in self.iter() {
            if piece.from() < span.from() {
                add(piece.from(), of_piece);
            }
            if !is_placed && piece.to() > span.from() {
                add(span.from(), value);
                is_placed = true;
            }
            if piece.to() > span.to() {
                add(piece.from().max(span.to()), of_piece);
            }
        }
        Self(starts)
    }

    /// Have all keys of a span such a value?
    pub(crate) fn all(&self, span: KeySpan, is_such: impl Fn(&T) -> bool) -> bool {
        self.iter().filter(|(piece, _)| piece.overlaps(span)).all(|(_, value)| is_such(value))
    }

    /// Has any key of a span such a value?
    pub(crate) fn any(&self, span: KeySpan, is_such: impl Fn(&T) -> bool) -> bool {
        !self.all(span, |value| !is_such(value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span() -> impl Strategy<Value = KeySpan> {
        // Coarse, so that spans touch and cover each other often.
        (0_u32..16)
            .prop_flat_map(|from| (Just(from), from + 1..=16))
            .prop_map(|(from, to)| KeySpan::new(from << 12, to << 12).unwrap())
    }

    proptest! {
        #[test]
        fn pieces_are_a_plain_array(sets in prop::collection::vec((span(), 0_u8..4), 0..12)) {
            let mut plain = [0_u8; 16];
            let mut pieces = Pieces::whole(0_u8);
            for (span, value) in &sets {
                (span.from() >> 12..span.to() >> 12).for_each(|at| plain[at as usize] = *value);
                pieces = pieces.with(*span, value);
                prop_assert_eq!(Pieces::from_starts(pieces.starts().to_vec()), Some(pieces.clone()));
            }
            for (at, value) in plain.iter().enumerate() {
                for place in [at << 12, (at << 12) + 0xfff] {
                    let key = Key { hi: (place as u64) << 48, lo: 7 };
                    prop_assert_eq!(pieces.at(key), Some(value));
                }
            }
            for (span, _) in &sets {
                let inside = &plain[(span.from() >> 12) as usize..(span.to() >> 12) as usize];
                prop_assert_eq!(pieces.all(*span, |value| *value == 1), inside.iter().all(|value| *value == 1));
                prop_assert_eq!(pieces.any(*span, |value| *value == 1), inside.contains(&1));
            }
        }
    }

    #[test]
    fn what_is_no_cover_is_refused() {
        for starts in
            [vec![], vec![(1, 0)], vec![(0, 0), (0, 1)], vec![(0, 0), (5, 0)], vec![(0, 0), (5, 1), (4, 2)]]
        {
            assert_eq!(Pieces::from_starts(starts.clone()), None, "{starts:?}");
        }
    }
}
