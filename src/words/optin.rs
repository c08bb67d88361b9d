//! Purposes a lookup may name, and the set of purposes a listing agreed to.

use std::fmt;
use std::str::FromStr;

use bitflags::bitflags;
use thiserror::Error;

/// Why a caller asks. A listing answers only for the purposes it opted in to.
///
/// Every purpose is charged to the same ledger: purposes differ in what they match, not in what they pay.
///
/// ```
/// use unlisted::{OptIns, Purpose};
/// let purpose: Purpose = "contact-sync".parse()?;
/// assert!(OptIns::CONTACT_SYNC.allows(purpose));
/// assert!(!OptIns::empty().allows(purpose));
/// # Ok::<(), unlisted::UnknownPurpose>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Purpose {
    /// Matching a caller's address book.
    ContactSync = 0,
    /// Looking one number up by hand.
    Search = 1,
    /// "People you may know".
    Suggestions = 2,
    /// Finding whom to pay.
    Payments = 3,
    /// Defined by the host.
    Host1 = 4,
    /// Defined by the host.
    Host2 = 5,
}

/// A text that names no [`Purpose`].
///
/// ```
/// use unlisted::{Purpose, UnknownPurpose};
/// assert_eq!("everything".parse::<Purpose>(), Err(UnknownPurpose { name: "everything".to_owned() }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown purpose {name:?}: expected one of contact-sync, search, suggestions, payments, host-1, host-2")]
pub struct UnknownPurpose {
    /// What was given.
    pub name: String,
}

impl Purpose {
    /// Every purpose, in bit order.
    pub const ALL: [Self; 6] =
        [Self::ContactSync, Self::Search, Self::Suggestions, Self::Payments, Self::Host1, Self::Host2];

    /// The name used in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ContactSync => "contact-sync",
            Self::Search => "search",
            Self::Suggestions => "suggestions",
            Self::Payments => "payments",
            Self::Host1 => "host-1",
            Self::Host2 => "host-2",
        }
    }

    /// Position of this purpose in a set of opt-ins, `0..6`.
    pub(crate) const fn bit(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Purpose {
    type Err = UnknownPurpose;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or_else(|| UnknownPurpose { name: name.chars().take(64).collect() })
    }
}

/// The name of [`OptIns::MUTUAL`] in files.
const MUTUAL: &str = "mutual";

bitflags! {
    /// The purposes a listing agreed to be found for. Defaults to none.
    ///
    /// Text form: names joined by `|`, empty for none.
    ///
    /// [`OptIns::MUTUAL`] is no purpose: it narrows those beside it to callers whose number the account itself asked for.
    /// [`OptIns::all`] has it, as every set of all bits; whoever agrees to everything is [`OptIns::ALL_PURPOSES`].
    ///
    /// ```
    /// use unlisted::{OptIns, Purpose};
    /// let opt_ins = OptIns::CONTACT_SYNC | OptIns::PAYMENTS;
    /// assert!(opt_ins.allows(Purpose::Payments) && !opt_ins.allows(Purpose::Search));
    /// assert_eq!(OptIns::from_names("contact-sync|payments")?, opt_ins);
    /// assert_eq!(OptIns::default(), OptIns::empty());
    /// let contacts = OptIns::CONTACT_SYNC | OptIns::MUTUAL;
    /// assert_eq!(contacts.to_string(), "contact-sync|mutual");
    /// # Ok::<(), unlisted::UnknownPurpose>(())
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
    pub struct OptIns: u8 {
        /// [`Purpose::ContactSync`]
        const CONTACT_SYNC = 1 << 0;
        /// [`Purpose::Search`]
        const SEARCH = 1 << 1;
        /// [`Purpose::Suggestions`]
        const SUGGESTIONS = 1 << 2;
        /// [`Purpose::Payments`]
        const PAYMENTS = 1 << 3;
        /// [`Purpose::Host1`]
        const HOST_1 = 1 << 4;
        /// [`Purpose::Host2`]
        const HOST_2 = 1 << 5;
        /// Only for callers whose own number ([`crate::Caller::own_number`]) the listing's account asked for, and paid
        /// for, within [`crate::Options::novelty_window`], as [`crate::Caller::of_account`]. To all others it is hidden.
        const MUTUAL = 1 << 6;
        /// Every purpose, for everyone.
        const ALL_PURPOSES = (1 << 6) - 1;
    }
}

impl OptIns {
    /// Did the listing agree to be found for this purpose?
    #[must_use]
    pub const fn allows(self, purpose: Purpose) -> bool {
        self.bits() >> purpose.bit() & 1 == 1
    }

    /// Is it any purpose's?
    pub(crate) const fn has_purpose(self) -> bool {
        self.intersects(Self::ALL_PURPOSES)
    }

    /// Is everything that these agree to, and for whom, agreed to by `other` too?
    pub(crate) const fn is_within(self, other: Self) -> bool {
        let for_more = other.contains(Self::MUTUAL) && !self.contains(Self::MUTUAL);
        !self.has_purpose() || other.contains(self.difference(Self::MUTUAL)) && !for_more
    }

    /// Reads names joined by `|`, of purposes and `mutual`; an empty text is the empty set.
    ///
    /// # Errors
    /// [`UnknownPurpose`] names the first name that is none.
    pub fn from_names(names: &str) -> Result<Self, UnknownPurpose> {
        if names.is_empty() {
            return Ok(Self::empty());
        }
        let read = |name| if name == MUTUAL { Ok(Self::MUTUAL) } else { Purpose::from_str(name).map(Self::from) };
        names.split('|').map(read).collect()
    }

    /// The purposes in the set, in bit order.
    pub fn purposes(self) -> impl Iterator<Item = Purpose> {
        // From set bit to set bit: a look at each purpose is a branch that nobody can foresee.
        let mut bits = self.bits();
        std::iter::from_fn(move || {
            let purpose = Purpose::ALL.get(bits.trailing_zeros() as usize).copied();
            bits &= bits.wrapping_sub(1);
            purpose
        })
    }
}

impl From<Purpose> for OptIns {
    fn from(purpose: Purpose) -> Self {
        Self::from_bits_truncate(1 << purpose.bit())
    }
}

impl fmt::Display for OptIns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, purpose) in self.purposes().enumerate() {
            if i > 0 {
                f.write_str("|")?;
            }
            f.write_str(purpose.name())?;
        }
        if self.contains(Self::MUTUAL) {
            f.write_str(if self.has_purpose() { "|" } else { "" })?;
            f.write_str(MUTUAL)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_agree() {
        for bits in 0..128 {
            let set = OptIns::from_bits(bits).unwrap();
            assert_eq!(OptIns::from_names(&set.to_string()).unwrap(), set);
            for purpose in Purpose::ALL {
                assert_eq!(set.allows(purpose), set.contains(OptIns::from(purpose)));
            }
            assert_eq!(set.has_purpose(), set.purposes().next().is_some());
        }
        assert_eq!(OptIns::from_names("mutual|search"), Ok(OptIns::SEARCH | OptIns::MUTUAL));
        assert!("mutual".parse::<Purpose>().is_err());
        assert!(OptIns::from_names("contact-sync|").is_err());
        assert!(OptIns::from_names("everything").is_err());
    }

    #[test]
    fn a_mutual_audience_is_within_everyone_and_not_the_other_way_round() {
        let (mutual, open) = (OptIns::SEARCH | OptIns::MUTUAL, OptIns::SEARCH);
        assert!(mutual.is_within(open) && mutual.is_within(mutual) && open.is_within(open));
        assert!(!open.is_within(mutual) && !(mutual | OptIns::PAYMENTS).is_within(open));
        assert!(OptIns::empty().is_within(OptIns::MUTUAL) && OptIns::MUTUAL.is_within(OptIns::empty()));
        assert!(!mutual.is_within(OptIns::empty()));
    }
}
