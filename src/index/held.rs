//! What the index still holds of an account, and until when.

use super::Inspector;
use crate::activity::TopBy;
use crate::disclosures::Filter;
use crate::ledger::{Scope, ScopeId, ScopeKind, TopOf};
use crate::segment::tombstone;
use crate::words::{AccountId, Caller, Result};

/// So many rows, and until when they stay if nothing happens.
///
/// ```
/// use unlisted::HeldRows;
/// assert!(HeldRows::default().is_empty());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HeldRows {
    /// How many.
    pub rows: u64,
    /// From when on all of them may be forgotten, in milliseconds since 1970: the background thread does so within the
    /// hour, and [`crate::Index::vacuum`] at once. `None` if nothing but the host ends it, or if there are none.
    pub until_ms: Option<u64>,
}

impl HeldRows {
    const fn until(rows: u64, until_ms: u64) -> Self {
        Self { rows, until_ms: if rows == 0 { None } else { Some(until_ms) } }
    }

    /// Is there nothing?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }
}

/// What the index holds of an account. See [`Inspector::held`].
///
/// ```
/// use unlisted::{AccountId, Held, Index, OptIns, Options, PhoneHash, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let (ada, account) = (PhoneHash::of_e164("+14155550100")?, AccountId::from(42));
/// index.update(|batch| batch.put(ada, account, OptIns::SEARCH, 1))?;
/// assert_eq!(index.inspector().held(account)?.listings.rows, 1);
/// index.erase_account(account)?;
/// let held: Held = index.inspector().held(account)?;
/// assert_eq!((held.listings.rows, held.removals.rows), (0, 1)); // a mark, until no late update can come
/// assert!(held.removals.until_ms.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Held {
    /// Its numbers, hidden ones too. They stay until the host removes them.
    pub listings: HeldRows,
    /// Marks of numbers that it had, so that no late update brings them back.
    pub removals: HeldRows,
    /// Disclosures of it to callers.
    pub shown: HeldRows,
    /// What it did itself, if it asks as [`Caller::of_account`].
    pub as_caller: HeldByCaller,
}

impl Held {
    /// Is nothing held at all?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.listings.is_empty() && self.removals.is_empty() && self.shown.is_empty() && self.as_caller.is_empty()
    }
}

/// What the index holds of a caller, under its keyed identity. See [`Inspector::held_by_caller`].
///
/// ```
/// use unlisted::{Caller, HeldByCaller, Index, Options, PhoneHash, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let caller = Caller::new("user-7");
/// assert!(index.inspector().held_by_caller(&caller)?.is_empty());
/// index.lookup(&caller, Purpose::Search, &[PhoneHash::of_e164("+14155550100")?])?;
/// let held: HeldByCaller = index.inspector().held_by_caller(&caller)?;
/// assert_eq!((held.numbers.rows, held.budget.rows, held.activity.rows), (1, 1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HeldByCaller {
    /// Disclosures of others to it. They are those others' right to know, so an erasure of the caller leaves them.
    pub disclosures: HeldRows,
    /// Numbers that it paid for, as fingerprints.
    pub numbers: HeldRows,
    /// Its budget: what it spent and was not given back yet. It outlives an erasure, or that would be a way to a fresh one.
    /// The row goes with the [`crate::Index::vacuum`] that follows its time.
    pub budget: HeldRows,
    /// Lookups that are counted in its activity.
    pub activity: HeldRows,
    /// A suspension or a quota of its own. It stays until an operator ends it.
    pub standing: HeldRows,
}

impl HeldByCaller {
    /// Is nothing held at all?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.disclosures.is_empty()
            && self.numbers.is_empty()
            && self.budget.is_empty()
            && self.activity.is_empty()
            && self.standing.is_empty()
    }
}

impl Inspector {
    /// What do you still hold about this account? It costs a scan of all segments and of the disclosure log.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`], [`crate::Error::Io`] or [`crate::Error::Database`] if something cannot be read.
    pub fn held(&self, account: AccountId) -> Result<Held> {
        tracing::info!("an operator asks what is held of an account");
        let (now_ms, era_s) = (self.inner.clock.wall_ms(), self.inner.era_s());
        let mut held = Held::default();
        let mut until_ms = 0;
        for entry in self.inner.listings_of(account)? {
            let flags = entry.flags();
            if flags.is_removed() {
                held.removals.rows += 1;
                until_ms = until_ms.max(tombstone::forgotten_from_ms(flags.era(), now_ms, era_s));
            } else {
                held.listings.rows += 1;
            }
        }
        held.removals = HeldRows::until(held.removals.rows, until_ms);
        held.shown = self.disclosed(Filter { account: Some(account), ..Filter::ALL })?;
        held.as_caller = self.held_by(self.inner.caller_of(account))?;
        Ok(held)
    }

    /// The same of a caller: for hosts whose callers are not named after accounts.
    ///
    /// # Errors
    /// As [`Inspector::held`].
    pub fn held_by_caller(&self, caller: &Caller) -> Result<HeldByCaller> {
        tracing::info!("an operator asks what is held of a caller");
        self.held_by(self.token_of(caller).id())
    }

    fn held_by(&self, id: ScopeId) -> Result<HeldByCaller> {
        let inner = &self.inner;
        let now_ms = inner.clock.wall_ms();
        let after = |ms: u64| now_ms.saturating_add(ms);
        let of = inner.ledger.held_of(id)?;
        let scope = Scope { id, kind: ScopeKind::Caller };
        let budget = inner.budgets(&[scope])?.into_iter().next();
        let owed_ms =
            budget.as_ref().map_or(0, |budget| u64::try_from(budget.full_in.as_millis()).unwrap_or(u64::MAX));
        let stands = budget.is_some_and(|budget| budget.is_override || budget.suspension.is_some());
        let everything = TopOf { by: TopBy::Charged, window_ns: u64::MAX, kind: None, only: &[id], limit: 1 };
        let activity = inner.ledger.top(&everything)?.scopes.into_iter().next();
        let activity = activity.map_or(HeldRows::default(), |seen| {
            HeldRows::until(seen.counts.lookups, seen.last_ms.saturating_add(of.activity_for_ms))
        });
        Ok(HeldByCaller {
            disclosures: self.disclosed(Filter { caller: Some(id), ..Filter::ALL })?,
            numbers: HeldRows::until(of.numbers, after(of.numbers_for_ms)),
            budget: HeldRows::until(
                u64::from(of.bucket_for_ms.is_some()),
                after(owed_ms.max(of.bucket_for_ms.unwrap_or(0))),
            ),
            activity,
            standing: HeldRows { rows: u64::from(stands), until_ms: None },
        })
    }

    /// Rows of the disclosure log, and when the last of them may go.
    fn disclosed(&self, filter: Filter) -> Result<HeldRows> {
        let log = &self.inner.disclosures;
        let (mut rows, mut last_ms) = (0, 0);
        for row in log.rows(filter, self.inner.clock.wall_ms())? {
            rows += 1;
            last_ms = last_ms.max(row?.last_ms);
        }
        Ok(HeldRows::until(rows, last_ms.saturating_add(log.longest_ms())))
    }
}
