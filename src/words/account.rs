//! Account identifiers as the host knows them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The host's identifier of an account: 16 bytes, either a UUID or a `u64`.
///
/// A `u64` is stored in the low eight bytes, big-endian. A UUID of any RFC 9562 version has bits set in its
/// high half, so the two never collide. `Display` prints a `u64` as decimal digits and a UUID hyphenated;
/// `FromStr` reads both back.
///
/// ```
/// use unlisted::AccountId;
/// let number = AccountId::from(42_u64);
/// assert_eq!(number.to_string(), "42");
/// assert_eq!("42".parse::<AccountId>()?, number);
///
/// let uuid: AccountId = "0190b8d4-7a3c-7def-8123-456789abcdef".parse()?;
/// assert_eq!(uuid.to_string(), "0190b8d4-7a3c-7def-8123-456789abcdef");
/// assert!("18446744073709551616".parse::<AccountId>().is_err()); // one past u64::MAX
/// # Ok::<(), unlisted::ParseAccountError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccountId([u8; 16]);

/// Why a text is not an account id.
///
/// ```
/// use unlisted::{AccountId, ParseAccountError};
/// assert_eq!("18446744073709551616".parse::<AccountId>(), Err(ParseAccountError::OutOfRange));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseAccountError {
    /// Nothing was there.
    #[error("an account id is empty: expected a u64 in decimal or a UUID")]
    Empty,
    /// Decimal digits, but more than a `u64` holds.
    #[error("account id is out of range: a numeric id is at most 18446744073709551615")]
    OutOfRange,
    /// Neither decimal digits nor a UUID.
    #[error("account id is neither a u64 in decimal nor a UUID")]
    Malformed,
}

impl AccountId {
    /// The one id that no account may have, 2^64 - 1: the index lists tripwires under it (see
    /// [`crate::Index::set_tripwires`]). Updates, imports and erasures refuse it.
    pub const RESERVED: Self = Self((u64::MAX as u128).to_be_bytes());

    /// An id from its 16 bytes, for example those of a UUID.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The id as a `u64`, if it is one.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        u64::try_from(u128::from_be_bytes(self.0)).ok()
    }
}

/// As the bytes are ordered, but compared as a number: sorting millions of accounts calls no function for it.
impl Ord for AccountId {
    fn cmp(&self, other: &Self) -> Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl PartialOrd for AccountId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<u64> for AccountId {
    fn from(id: u64) -> Self {
        Self(u128::from(id).to_be_bytes())
    }
}

impl From<uuid::Uuid> for AccountId {
    fn from(id: uuid::Uuid) -> Self {
        Self(id.into_bytes())
    }
}

impl FromStr for AccountId {
    type Err = ParseAccountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ParseAccountError::Empty);
        }
        // A UUID without hyphens is 32 hex digits, which may all be decimal; no u64 is that long.
        if text.len() < 32 && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse::<u64>().map(Self::from).map_err(|_| ParseAccountError::OutOfRange);
        }
        uuid::Uuid::try_parse(text).map(Self::from).map_err(|_| ParseAccountError::Malformed)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_u64() {
            Some(id) => write!(f, "{id}"),
            None => uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f),
        }
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountId({self})")
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for AccountId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        for text in ["0", "1", "18446744073709551615", "0190b8d4-7a3c-7def-8123-456789abcdef"] {
            let id: AccountId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn bad_text_is_a_typed_error() {
        assert_eq!("".parse::<AccountId>(), Err(ParseAccountError::Empty));
        assert_eq!("18446744073709551616".parse::<AccountId>(), Err(ParseAccountError::OutOfRange));
        assert_eq!("-1".parse::<AccountId>(), Err(ParseAccountError::Malformed));
        assert_eq!("nobody".parse::<AccountId>(), Err(ParseAccountError::Malformed));
    }
}
