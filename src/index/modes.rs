//! How much a lookup tells: modes by purpose, and stricter ones by lookup.

use super::reply::Shown;
use super::{Index, Match, Options, Reply};
use crate::words::{AccountId, Caller, DisclosureMode, Error, PhoneHash, Purpose, Result};

/// What one lookup asks for beyond the defaults.
///
/// ```
/// use unlisted::{Caller, DisclosureMode, Error, Index, LookupOptions, Options, PhoneHash, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let options = Options::new(Secret::from_hex(&"5e".repeat(32))?);
/// let index = Index::open(dir.path(), options.disclosure_mode(Purpose::ContactSync, DisclosureMode::Unlinked))?;
/// let (caller, numbers) = (Caller::new("user-7"), [PhoneHash::of_e164("+14155550100")?]);
/// let ask = |mode| index.lookup_with(&caller, Purpose::ContactSync, &numbers, LookupOptions::default().mode(mode));
/// assert_eq!(ask(DisclosureMode::CountOnly)?.count(), 0);
/// assert!(matches!(ask(DisclosureMode::Linked), Err(Error::LaxerMode { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LookupOptions {
    mode: Option<DisclosureMode>,
}

impl LookupOptions {
    /// Tells no more than this mode: the purpose's own ([`Options::disclosure_mode`]) or a stricter one. By default the
    /// purpose's own.
    #[must_use]
    pub const fn mode(mut self, mode: DisclosureMode) -> Self {
        self.mode = Some(mode);
        self
    }
}

impl Index {
    /// As [`Index::lookup`], with options of this lookup.
    ///
    /// Unlinked and counted, a number is looked up by the lookup that pays for it and, within
    /// [`Options::novelty_window`], by no other of this caller, for whatever purpose; and only if at least
    /// [`Options::unlinked_min_novel`] numbers are paid for together. All others are [`crate::NumberState::Withheld`], without a
    /// charge.
    ///
    /// # Errors
    /// [`Error::LaxerMode`] before anything is charged, and as [`Index::lookup`].
    pub fn lookup_with(
        &self,
        caller: &Caller,
        purpose: Purpose,
        hashes: &[PhoneHash],
        options: LookupOptions,
    ) -> Result<Reply> {
        self.inner.lookup(caller, purpose, hashes, options)
    }
}

impl Options {
    /// The mode that a lookup is answered in.
    pub(super) fn mode_of(&self, purpose: Purpose, asked: LookupOptions) -> Result<DisclosureMode> {
        let configured = self.disclosure_modes.get(purpose.bit() as usize).copied().unwrap_or_default();
        match asked.mode {
            Some(asked) if asked < configured => Err(Error::LaxerMode { purpose, configured, asked }),
            Some(stricter) => Ok(stricter),
            None => Ok(configured),
        }
    }
}

/// What a mode tells of what was found; `linked` says which position found whom.
pub(super) fn shape(
    mode: DisclosureMode,
    found: &[(u32, AccountId)],
    linked: impl FnOnce() -> Vec<Match>,
) -> Shown {
    match mode {
        DisclosureMode::Linked => Shown::Linked(linked()),
        DisclosureMode::Unlinked => Shown::Unlinked(distinct(found.iter().map(|(_, account)| *account))),
        DisclosureMode::CountOnly => {
            Shown::Count(distinct(found.iter().map(|(_, account)| *account)).len() as u64)
        }
    }
}

/// The set of these accounts, in the order of their ids: it depends on the set alone, and on no number, position or
/// earlier answer.
pub(super) fn distinct(accounts: impl Iterator<Item = AccountId>) -> Vec<AccountId> {
    let mut accounts: Vec<AccountId> = accounts.collect();
    accounts.sort_unstable();
    accounts.dedup();
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Secret;

    #[test]
    fn a_lookup_gets_its_mode_or_a_stricter_one() {
        for configured in DisclosureMode::ALL {
            let options = Options::new(Secret::from_bytes([7; 32])).disclosure_mode(Purpose::Payments, configured);
            let mode_of = |purpose, asked| options.mode_of(purpose, asked);
            assert_eq!(mode_of(Purpose::Payments, LookupOptions::default()).unwrap(), configured);
            assert_eq!(mode_of(Purpose::Search, LookupOptions::default()).unwrap(), DisclosureMode::Linked);
            for asked in DisclosureMode::ALL {
                let found = mode_of(Purpose::Payments, LookupOptions::default().mode(asked));
                if asked < configured {
                    assert!(matches!(found, Err(Error::LaxerMode { purpose: Purpose::Payments, .. })));
                } else {
                    assert_eq!(found.unwrap(), asked);
                }
            }
        }
    }

    #[test]
    fn a_shape_depends_on_the_set_of_accounts_alone() {
        let found = |of: &[(u32, u64)]| -> Vec<(u32, AccountId)> {
            of.iter().map(|(number, account)| (*number, AccountId::from(*account))).collect()
        };
        let (one, other) = (found(&[(0, 9), (1, 2), (1, 5), (3, 9)]), found(&[(2, 5), (4, 9), (5, 2)]));
        for mode in [DisclosureMode::Unlinked, DisclosureMode::CountOnly] {
            assert_eq!(shape(mode, &one, Vec::new), shape(mode, &other, Vec::new));
        }
        assert_eq!(shape(DisclosureMode::CountOnly, &one, Vec::new), Shown::Count(3));
    }
}
