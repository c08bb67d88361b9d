//! What a lookup answers.

use std::time::Duration;

use super::modes::distinct;
use crate::words::{AccountId, DisclosureMode};

/// The answer to one lookup.
///
/// Its size depends on what was asked and on who may be shown; absent, removed and not-opted-in numbers look
/// the same in it.
///
/// ```
/// use unlisted::{Caller, Index, NumberState, Options, PhoneHash, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let nobody = PhoneHash::of_e164("+14155550100")?;
/// let reply = index.lookup(&Caller::new("user-7"), Purpose::Search, &[nobody, nobody])?;
/// assert_eq!(reply.matches().count(), 0);
/// assert_eq!(reply.state(0), Some(NumberState::Answered));
/// assert_eq!(reply.charged(), 1); // the duplicate is free
/// assert_eq!(reply.remaining(), 49_999);
/// assert_eq!(reply.retry_after(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Reply {
    pub(super) shown: Shown,
    /// One flag for each number asked: was it left out for want of budget?
    pub(super) is_deferred: Vec<bool>,
    /// Likewise, was it left out because of the mode? Empty if none was.
    pub(super) is_withheld: Vec<bool>,
    /// Likewise, did its node not answer? Empty if all did, and in an index of one part.
    pub(super) is_unavailable: Vec<bool>,
    pub(super) charged: u64,
    pub(super) remaining: u64,
    pub(super) retry_after: Option<Duration>,
}

/// What a mode tells. What it does not tell is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub(super) enum Shown {
    Linked(Vec<Match>),
    /// Each once, in the order of their ids.
    Unlinked(Vec<AccountId>),
    /// Of accounts.
    Count(u64),
}

/// A listing that agreed to be found.
///
/// ```
/// use unlisted::{AccountId, Caller, Index, Match, OptIns, Options, PhoneHash, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// let reply = index.lookup(&Caller::new("user-7"), Purpose::Search, &[ada])?;
/// assert_eq!(reply.matches().next(), Some(Match { position: 0, account: AccountId::from(42) }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Match {
    /// Position in the batch of the number it was found by.
    pub position: usize,
    /// Whose number it is.
    pub account: AccountId,
}

/// What became of one number of a batch.
///
/// ```
/// use unlisted::{Caller, Index, NumberState, Options, PhoneHash, Purpose, Quota, QuotaPolicy, Secret};
/// let dir = tempfile::tempdir()?;
/// let options = Options::new(Secret::from_hex(&"5e".repeat(32))?);
/// let index = Index::open(dir.path(), options.quotas(QuotaPolicy::of_caller(Quota::per_hour(1, 1)?)))?;
/// let numbers = [PhoneHash::of_e164("+14155550100")?, PhoneHash::of_e164("+14155550101")?];
/// let reply = index.lookup(&Caller::new("user-7"), Purpose::Search, &numbers)?;
/// assert_eq!(reply.state(0), Some(NumberState::Answered));
/// assert_eq!(reply.state(1), Some(NumberState::Deferred));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum NumberState {
    /// It was charged and answered, by a match or by none.
    Answered,
    /// The budget did not reach: nothing was charged for it and nothing was looked up.
    Deferred,
    /// Only in the modes unlinked and count: this caller paid for it earlier, too few new numbers came with it
    /// ([`crate::Options::unlinked_min_novel`]), or the caller paid for more than is remembered. Nothing was looked up, and
    /// nothing charged, unless another lookup of the same caller paid for it at the same moment.
    Withheld,
    /// Only of a lookup with tickets ([`crate::Index::issue`]): it was paid for, and the node that has it did not answer. The
    /// caller pays nothing for asking again within [`crate::Options::novelty_window`].
    Unavailable,
}

impl Reply {
    /// Every match, in the order of positions. A number may match several accounts, an account several numbers. None
    /// unless the mode is [`DisclosureMode::Linked`].
    pub fn matches(&self) -> impl ExactSizeIterator<Item = Match> {
        let matches: &[Match] = match &self.shown {
            Shown::Linked(matches) => matches,
            Shown::Unlinked(_) | Shown::Count(_) => &[],
        };
        matches.iter().copied()
    }

    /// The accounts that were found, each once, in the order of their ids, which says nothing about the numbers. None if
    /// the mode is [`DisclosureMode::CountOnly`].
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountId> {
        match &self.shown {
            Shown::Linked(matches) => distinct(matches.iter().map(|found| found.account)),
            Shown::Unlinked(accounts) => accounts.clone(),
            Shown::Count(_) => Vec::new(),
        }
    }

    /// How many accounts were found, each counted once, in every mode.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.shown {
            Shown::Linked(_) | Shown::Unlinked(_) => self.accounts().len() as u64,
            Shown::Count(accounts) => *accounts,
        }
    }

    /// How much this reply tells.
    #[must_use]
    pub const fn mode(&self) -> DisclosureMode {
        match &self.shown {
            Shown::Linked(_) => DisclosureMode::Linked,
            Shown::Unlinked(_) => DisclosureMode::Unlinked,
            Shown::Count(_) => DisclosureMode::CountOnly,
        }
    }

    /// Positions that were left out for want of budget, in order.
    pub fn deferred(&self) -> impl Iterator<Item = usize> {
        self.is_deferred.iter().enumerate().filter_map(|(position, deferred)| deferred.then_some(position))
    }

    /// Positions whose node did not answer, in order: [`NumberState::Unavailable`].
    pub fn unavailable(&self) -> impl Iterator<Item = usize> {
        self.is_unavailable
            .iter()
            .enumerate()
            .filter_map(|(position, is_unavailable)| is_unavailable.then_some(position))
    }

    /// What became of the number at a position; `None` past the end of the batch.
    #[must_use]
    pub fn state(&self, position: usize) -> Option<NumberState> {
        let is = |flags: &[bool]| flags.get(position).copied().unwrap_or_default();
        Some(match *self.is_deferred.get(position)? {
            true => NumberState::Deferred,
            false if is(&self.is_withheld) => NumberState::Withheld,
            false if is(&self.is_unavailable) => NumberState::Unavailable,
            false => NumberState::Answered,
        })
    }

    /// How long until the deferred numbers (or a full burst of them) can be asked; `None` if none was deferred.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Distinct numbers charged to the caller, each of its origins and everyone.
    #[must_use]
    pub const fn charged(&self) -> u64 {
        self.charged
    }

    /// Distinct numbers that the caller could ask at once after this, by whichever quota has least left.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }
}
