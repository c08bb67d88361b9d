//! The unit of the index: a listing, as hosts write it and as the index keeps it.

use thiserror::Error;

use super::{AccountId, Key, OptIns, PhoneHash};

/// The host's order of updates to one *(phone, account)*: 56 bits, for example milliseconds since 1970.
///
/// An update whose version is not greater than the stored one changes nothing.
///
/// ```
/// use unlisted::Version;
/// assert!(Version::new(7)? < Version::new(8)?);
/// assert!(Version::new(1 << 56).is_err());
/// # Ok::<(), unlisted::VersionError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(transparent))]
pub struct Version(u64);

/// A version that does not fit into 56 bits.
///
/// ```
/// use unlisted::{Version, VersionError};
/// assert_eq!(Version::new(u64::MAX), Err(VersionError { found: u64::MAX }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("version {found} is out of range: the largest is {}", Version::MAX.get())]
pub struct VersionError {
    /// What was given.
    pub found: u64,
}

impl Version {
    /// The largest version.
    pub const MAX: Self = Self((1 << 56) - 1);

    /// Checks the range.
    ///
    /// # Errors
    /// [`VersionError`] above [`Version::MAX`].
    pub const fn new(version: u64) -> Result<Self, VersionError> {
        if version > Self::MAX.0 { Err(VersionError { found: version }) } else { Ok(Self(version)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Version {
    type Error = VersionError;

    fn try_from(version: u64) -> Result<Self, Self::Error> {
        Self::new(version)
    }
}

/// One row of a host's export: a phone, an account that has it, and what the account agreed to.
///
/// ```
/// use unlisted::{AccountId, Listing, OptIns, PhoneHash, Version};
/// let listing = Listing {
///     hash: PhoneHash::of_e164("+14155550100")?,
///     account: AccountId::from(42),
///     opt_ins: OptIns::CONTACT_SYNC,
///     version: Version::new(1)?,
/// };
/// assert_eq!(listing.account.to_string(), "42");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// Hash of the phone number or e-mail address.
    pub hash: PhoneHash,
    /// Whose it is.
    pub account: AccountId,
    /// What the account agreed to be found for.
    pub opt_ins: OptIns,
    /// The host's order of updates.
    pub version: Version,
}

/// What a stored listing says besides key, account and version: the opt-ins, or that it was removed.
///
/// One byte. Bits 0-5 are the purposes opted in to, bit 6 their mutual audience. Bit 7 marks a removed listing, whose bits
/// 0-5 then hold the coarse time of removal (see `segment::tombstone`), and whose bit 6 must be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flags(u8);

impl Flags {
    const REMOVED: u8 = 0x80;
    const OPT_INS: u8 = 0x7f;
    const ERA: u8 = 0x3f;

    pub(crate) const fn live(opt_ins: OptIns) -> Self {
        Self(opt_ins.bits() & Self::OPT_INS)
    }

    pub(crate) const fn removed(era: u8) -> Self {
        Self(Self::REMOVED | era & Self::ERA)
    }

    pub(crate) const fn is_removed(self) -> bool {
        self.0 & Self::REMOVED != 0
    }

    /// The opt-ins: none at all for a removed listing.
    pub(crate) const fn opt_ins(self) -> OptIns {
        // All ones for a live listing, zero for a removed one, without a branch.
        let live = (self.0 >> 7).wrapping_sub(1);
        OptIns::from_bits_truncate(self.0 & live & Self::OPT_INS)
    }

    /// The coarse time of removal, `0..64`.
    pub(crate) const fn era(self) -> u8 {
        self.0 & Self::ERA
    }
}

/// Version and flags in one word, as every file stores them: the version above, the flags in the low byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

impl Stamp {
    pub(crate) const fn new(version: Version, flags: Flags) -> Self {
        Self(version.0 << 8 | flags.0 as u64)
    }

    /// Reads a stored word; `None` if its flags have bits that no writer sets.
    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        if word & 0xc0 == 0xc0 { None } else { Some(Self(word)) }
    }

    pub(crate) const fn word(self) -> u64 {
        self.0
    }

    pub(crate) const fn version(self) -> Version {
        Version(self.0 >> 8)
    }

    pub(crate) const fn flags(self) -> Flags {
        Flags(self.0.to_le_bytes()[0])
    }
}

/// A listing as the index keeps it: the phone only as its keyed [`Key`]. 40 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) account: AccountId,
    pub(crate) stamp: Stamp,
}

impl Entry {
    pub(crate) const fn new(key: Key, account: AccountId, version: Version, flags: Flags) -> Self {
        Self { key, account, stamp: Stamp::new(version, flags) }
    }

    /// What identifies a listing.
    pub(crate) const fn id(&self) -> (Key, AccountId) {
        (self.key, self.account)
    }

    pub(crate) const fn version(&self) -> Version {
        self.stamp.version()
    }

    pub(crate) const fn flags(&self) -> Flags {
        self.stamp.flags()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_listing_has_no_opt_ins() {
        for era in 0..64 {
            let flags = Flags::removed(era);
            assert!(flags.is_removed() && flags.opt_ins().is_empty());
            assert_eq!(flags.era(), era);
            let stamp = Stamp::new(Version::MAX, flags);
            assert_eq!((stamp.version(), stamp.flags()), (Version::MAX, flags));
            assert_eq!(Stamp::from_word(stamp.word()), Some(stamp));
        }
        for bits in 0..128 {
            let opt_ins = OptIns::from_bits(bits).unwrap();
            assert_eq!(Flags::live(opt_ins).opt_ins(), opt_ins);
            assert!(!Flags::live(opt_ins).is_removed());
        }
        for era in 0..64 {
            assert_eq!(Stamp::from_word(0xc0 | era), None);
        }
        let mutual = Flags::live(OptIns::SEARCH | OptIns::MUTUAL);
        assert_eq!(Stamp::from_word(Stamp::new(Version::MAX, mutual).word()).map(Stamp::flags), Some(mutual));
    }

    #[test]
    fn versions_are_bounded() {
        assert_eq!(Version::new(1 << 56), Err(VersionError { found: 1 << 56 }));
        assert_eq!(Version::new((1 << 56) - 1), Ok(Version::MAX));
    }
}
