//! One slot: key bytes, account, stamp.

use super::keys::KeyShape;
use crate::words::{AccountId, Key, Stamp};

/// How the slots of a bucket are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotShape {
    /// Bytes of a slot.
    pub(super) len: usize,
    /// Sixteen bytes of the key, not eight.
    pub(super) wide: bool,
}

impl SlotShape {
    /// The words by which a slot of this shape holds a key.
    #[inline(always)]
    pub(super) const fn words_of(self, keys: KeyShape, key: Key) -> [u64; 2] {
        if self.wide {
            let known = keys.mask(key);
            [known.hi, known.lo]
        } else {
            [keys.stored(key), 0]
        }
    }

    /// What follows the key in a slot, if it is this key's.
    #[inline(always)]
    pub(super) fn rest_of(self, slot: &[u8], words: [u64; 2]) -> Option<&[u8]> {
        let (high, rest) = slot.split_first_chunk::<8>()?;
        if u64::from_be_bytes(*high) != words[0] {
            return None;
        }
        if !self.wide {
            return Some(rest);
        }
        let (low, rest) = rest.split_first_chunk::<8>()?;
        (u64::from_be_bytes(*low) == words[1]).then_some(rest)
    }

    /// The words of the key in a slot, and what follows them.
    pub(super) fn split(self, slot: &[u8]) -> Option<([u64; 2], &[u8])> {
        let (high, rest) = slot.split_first_chunk::<8>()?;
        let (low, rest) = if self.wide { rest.split_first_chunk::<8>()? } else { (&[0; 8], rest) };
        Some(([u64::from_be_bytes(*high), u64::from_be_bytes(*low)], rest))
    }

    /// Account and stamp from what follows the key, or what is wrong with them.
    #[inline(always)]
    pub(super) fn decode_rest(self, rest: &[u8]) -> Result<(AccountId, Stamp), &'static str> {
        let (account, stamp) = match rest.as_chunks::<8>().0 {
            [low, stamp] => (u128::from(u64::from_be_bytes(*low)), stamp),
            [high, low, stamp] => {
                (u128::from(u64::from_be_bytes(*high)) << 64 | u128::from(u64::from_be_bytes(*low)), stamp)
            }
            _ => return Err("its length is not that of its shape"),
        };
        let stamp =
            Stamp::from_word(u64::from_le_bytes(*stamp)).ok_or("its flags have a bit that no writer sets")?;
        Ok((AccountId::from_bytes(account.to_be_bytes()), stamp))
    }
}
