//! How much of what a lookup finds is told to its caller.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// How much a lookup tells of what it found. Ordered from the laxest to the strictest.
///
/// In the two stricter modes a number is looked up once for each caller within the novelty window, by the lookup that pays
/// for it, and only together with at least [`crate::Options::unlinked_min_novel`] others that are paid for in the same
/// lookup. `docs/THREAT-MODEL.md` says what that hides and what it does not.
///
/// ```
/// use unlisted::DisclosureMode;
/// assert!(DisclosureMode::Linked < DisclosureMode::Unlinked && DisclosureMode::Unlinked < DisclosureMode::CountOnly);
/// assert_eq!("count".parse::<DisclosureMode>()?, DisclosureMode::CountOnly);
/// assert_eq!(DisclosureMode::Unlinked.to_string(), "unlinked");
/// # Ok::<(), unlisted::UnknownMode>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum DisclosureMode {
    /// Which number belongs to which account.
    #[default]
    Linked,
    /// The set of accounts, in an order that says nothing about the numbers.
    Unlinked,
    /// How many accounts.
    CountOnly,
}

/// A text that names no [`DisclosureMode`].
///
/// ```
/// use unlisted::{DisclosureMode, UnknownMode};
/// assert_eq!("all".parse::<DisclosureMode>(), Err(UnknownMode { name: "all".to_owned() }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown disclosure mode {name:?}: expected one of linked, unlinked, count")]
pub struct UnknownMode {
    /// What was given.
    pub name: String,
}

impl DisclosureMode {
    /// Every mode, the laxest first.
    pub const ALL: [Self; 3] = [Self::Linked, Self::Unlinked, Self::CountOnly];

    /// The name used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Unlinked => "unlinked",
            Self::CountOnly => "count",
        }
    }
}

impl fmt::Display for DisclosureMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DisclosureMode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownMode { name: name.chars().take(64).collect() };
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_modes_are_in_order() {
        for mode in DisclosureMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!(DisclosureMode::ALL.is_sorted());
        let long = "x".repeat(1_000);
        assert_eq!(long.parse::<DisclosureMode>(), Err(UnknownMode { name: "x".repeat(64) }));
    }
}
