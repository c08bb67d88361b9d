//! What an operator does about a caller, an origin, or everybody: suspend, give, take, look.

use std::time::Duration;

use super::events::Event;
use super::{CallerToken, Index, Inner};
use crate::ledger::{Scope, ScopeBudget as Found, ScopeKind};
use crate::words::{Caller, Error, Origin, Quota, QuotaOverride, QuotaPolicy, Result, Suspension};

/// Whom a lever is for: a caller, an origin, or a caller known by its token only.
///
/// ```
/// use unlisted::{Caller, Origin, Subject};
/// let network = Origin::network("198.51.100.7".parse()?);
/// let (caller, origin) = (Caller::new("user-7"), Subject::from(&network));
/// assert!(matches!(Subject::from(&caller), Subject::Caller(_)));
/// assert!(matches!(origin, Subject::Origin(_)));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Subject<'a> {
    /// A caller; its origins are not meant.
    Caller(&'a Caller),
    /// Everybody who comes through it.
    Origin(&'a Origin),
    /// A caller as the disclosure log and the lists of active callers name it.
    Token(CallerToken),
}

impl<'a> From<&'a Caller> for Subject<'a> {
    fn from(caller: &'a Caller) -> Self {
        Self::Caller(caller)
    }
}

impl<'a> From<&'a Origin> for Subject<'a> {
    fn from(origin: &'a Origin) -> Self {
        Self::Origin(origin)
    }
}

impl From<CallerToken> for Subject<'_> {
    fn from(token: CallerToken) -> Self {
        Self::Token(token)
    }
}

/// What a caller may still ask. See [`Index::budget`].
///
/// ```
/// use unlisted::{Caller, Index, Options, PhoneHash, Purpose, Quota, QuotaPolicy, Secret};
/// let dir = tempfile::tempdir()?;
/// let options = Options::new(Secret::from_hex(&"5e".repeat(32))?)
///     .quotas(QuotaPolicy::of_caller(Quota::per_hour(10, 60)?));
/// let index = Index::open(dir.path(), options)?;
/// let caller = Caller::new("user-7");
/// index.lookup(&caller, Purpose::Search, &[PhoneHash::of_e164("+14155550100")?])?;
/// let budget = index.budget(&caller)?;
/// assert_eq!((budget.remaining, budget.scopes[0].scope.as_str()), (9, "caller"));
/// assert!(budget.scopes[0].full_in.as_secs() <= 60);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Budget {
    /// Distinct new numbers that could be asked at once: what the scope that has least can pay, and 0 if one is
    /// suspended.
    pub remaining: u64,
    /// Each scope that a lookup of this caller is charged to: the caller first, then its origins, then everyone.
    pub scopes: Vec<ScopeBudget>,
}

/// What one scope may still be asked for.
///
/// ```
/// use unlisted::{Caller, Index, Options, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let unspent = &index.budget(&Caller::new("user-7"))?.scopes[0];
/// assert_eq!((unspent.remaining, unspent.burst, unspent.refill_per_hour), (50_000, 50_000, 6));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ScopeBudget {
    /// `caller`, the kind of an origin, or `everyone`.
    pub scope: String,
    /// Distinct numbers that can be asked now.
    pub remaining: u64,
    /// As many at most; as of now, if it still grows.
    pub burst: u64,
    /// Numbers that come back in an hour.
    pub refill_per_hour: u64,
    /// Until one more can be asked; zero if nothing was spent.
    pub next_in: Duration,
    /// Until the whole burst can be asked.
    pub full_in: Duration,
    /// Has it a quota of its own?
    pub is_override: bool,
    /// Since when it may not ask, and why.
    pub suspension: Option<Suspension>,
}

impl Index {
    /// Refuses every lookup of a caller, or of whoever comes through an origin, from the next one on. Durable when it
    /// returns. What it spent stays spent. A suspended subject gets the new reason.
    ///
    /// # Errors
    /// [`Error::ReasonTooLong`]; [`Error::Database`] or [`Error::Poisoned`] if the ledger cannot commit.
    ///
    /// ```
    /// use unlisted::{Caller, Error, Index, Options, Origin, Purpose, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
    /// let network = Origin::network("198.51.100.7".parse()?);
    /// index.suspend(&network, "2,000 fresh accounts in an hour")?;
    /// let caller = Caller::new("user-7").via(network.clone());
    /// let refused = index.lookup(&caller, Purpose::Search, &[]).unwrap_err();
    /// assert!(matches!(refused, Error::Suspended { scope } if scope == "network"));
    /// assert!(index.reinstate(&network)?);
    /// assert!(index.lookup(&caller, Purpose::Search, &[]).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn suspend<'a>(&self, subject: impl Into<Subject<'a>>, reason: &str) -> Result<()> {
        tracing::info!("an operator suspends a caller or an origin");
        self.inner.suspend(self.inner.scope_of(subject.into()), reason)
    }

    /// Ends a suspension; false if there was none. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Database`] or [`Error::Poisoned`] if the ledger cannot commit.
    pub fn reinstate<'a>(&self, subject: impl Into<Subject<'a>>) -> Result<bool> {
        tracing::info!("an operator ends a suspension");
        self.inner.reinstate_scope(self.inner.scope_of(subject.into()))
    }

    /// Gives back up to `numbers` of what a caller or an origin spent: a budget never holds more than its burst. Durable
    /// when it returns. To give more than that, set a quota of its own ([`Index::set_quota_of`]).
    ///
    /// # Errors
    /// [`Error::Database`] or [`Error::Poisoned`] if the ledger cannot commit.
    ///
    /// ```
    /// use unlisted::{Caller, Index, Options, PhoneHash, Purpose, Quota, QuotaPolicy, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let options = Options::new(Secret::from_hex(&"5e".repeat(32))?)
    ///     .quotas(QuotaPolicy::of_caller(Quota::per_hour(10, 1)?));
    /// let index = Index::open(dir.path(), options)?;
    /// let caller = Caller::new("user-7");
    /// let numbers: Vec<_> = (0..10).map(|i| PhoneHash::from_bytes([i; 32])).collect();
    /// index.lookup(&caller, Purpose::Search, &numbers)?;
    /// index.grant(&caller, 4)?;
    /// assert_eq!(index.budget(&caller)?.remaining, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn grant<'a>(&self, subject: impl Into<Subject<'a>>, numbers: u64) -> Result<()> {
        tracing::info!(numbers, "an operator gives budget back");
        self.inner.forgive(self.inner.scope_of(subject.into()), numbers)
    }

    /// Gives a caller or an origin a quota of its own, or with `None` that of the policy again. `age` says how old the
    /// account is already, where the quota grows. What it spent, in numbers, stays spent. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Database`] or [`Error::Poisoned`] if the ledger cannot commit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use unlisted::{Caller, Index, Options, Quota, QuotaOverride, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
    /// let (day, signup) = (Duration::from_secs(86_400), Caller::new("user-7"));
    /// let growing = QuotaOverride::growing(500, Quota::per_hour(50_000, 6)?, 30 * day)?;
    /// index.set_quota_of(&signup, Some((growing, Duration::from_secs(7_200))))?;
    /// let remaining = index.budget(&signup)?.remaining;
    /// assert!((637..640).contains(&remaining), "{remaining}"); // after two hours
    /// index.set_quota_of(&signup, None)?;
    /// assert_eq!(index.budget(&signup)?.remaining, 50_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_quota_of<'a>(
        &self,
        subject: impl Into<Subject<'a>>,
        quota: Option<(QuotaOverride, Duration)>,
    ) -> Result<()> {
        tracing::info!(ends = quota.is_none(), "an operator sets the quota of a caller or an origin");
        self.inner.set_override(self.inner.scope_of(subject.into()), quota)
    }

    /// Replaces the quotas of the index; every caller and origin keeps what it spent, in numbers. Durable when it returns,
    /// and so is what the quotas were before. Returns the version of the new ones.
    ///
    /// # Errors
    /// [`Error::Database`] or [`Error::Poisoned`] if the ledger cannot commit.
    ///
    /// ```
    /// use unlisted::{Caller, Index, Options, PhoneHash, Purpose, Quota, QuotaPolicy, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let policy = |burst, refill| Ok::<_, unlisted::Error>(QuotaPolicy::of_caller(Quota::per_hour(burst, refill)?));
    /// let options = Options::new(Secret::from_hex(&"5e".repeat(32))?).quotas(policy(10, 1)?);
    /// let index = Index::open(dir.path(), options)?;
    /// let caller = Caller::new("user-7");
    /// let numbers: Vec<_> = (0..10).map(|i| PhoneHash::from_bytes([i; 32])).collect();
    /// index.lookup(&caller, Purpose::Search, &numbers)?;
    /// index.set_quotas(policy(25, 1_000)?)?;
    /// assert_eq!(index.budget(&caller)?.remaining, 15);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_quotas(&self, policy: QuotaPolicy) -> Result<u32> {
        tracing::info!("an operator replaces the quotas");
        self.inner.set_policy(policy)
    }

    /// Takes everything that could be asked at once from everybody: all budgets begin again at nothing and fill at their
    /// refill. For an index of which it is not known what was asked since it was copied. Numbers that a caller paid for
    /// stay free for it. Durable when it returns; [`Index::grant`] gives back to single callers.
    ///
    /// # Errors
    /// [`Error::Database`] or [`Error::Poisoned`] if the ledger cannot commit.
    pub fn exhaust_budgets(&self) -> Result<()> {
        tracing::info!("an operator empties all budgets");
        self.inner.exhaust()
    }

    /// What a caller, through its origins, could ask now, and when it is refilled. Nothing is charged.
    ///
    /// # Errors
    /// [`Error::EmptyCaller`], [`Error::CallerIdTooLong`], [`Error::TooManyOrigins`]; [`Error::Database`] if the ledger
    /// cannot be read.
    pub fn budget(&self, caller: &Caller) -> Result<Budget> {
        super::lookup::check_caller(caller)?;
        let inner = &self.inner;
        let scopes = inner.scopes(caller, inner.ring.caller(caller.id()).id);
        let found = inner.budgets(&scopes)?;
        // What is not limited is listed only if it is suspended.
        let listed = scopes.iter().zip(found).filter(|(_, of)| of.quota.is_some() || of.suspension.is_some());
        let scopes: Vec<ScopeBudget> = listed.map(|(scope, found)| scope_budget(*scope, found)).collect();
        let suspended = scopes.iter().any(|scope| scope.suspension.is_some());
        let least = scopes.iter().map(|scope| scope.remaining).min().unwrap_or(0);
        Ok(Budget { remaining: if suspended { 0 } else { least }, scopes })
    }
}

impl Inner {
    pub(super) fn suspend(&self, scope: Scope<'_>, reason: &str) -> Result<()> {
        if reason.len() > Suspension::MAX_REASON_LEN {
            return Err(Error::ReasonTooLong { len: reason.len() });
        }
        let suspension = Suspension { since_ms: self.clock.wall_ms(), reason: reason.to_owned() };
        self.suspend_scope(scope, suspension)?;
        self.options.events.tell(&Event::Suspended { reason });
        Ok(())
    }

    fn scope_of<'a>(&self, subject: Subject<'a>) -> Scope<'a> {
        match subject {
            Subject::Caller(caller) => Scope { id: self.ring.caller(caller.id()).id, kind: ScopeKind::Caller },
            Subject::Token(token) => Scope { id: token.id(), kind: ScopeKind::Caller },
            Subject::Origin(origin) => {
                Scope { id: self.origin_identity(origin), kind: ScopeKind::Origin(origin.kind()) }
            }
        }
    }
}

fn scope_budget(scope: Scope<'_>, found: Found) -> ScopeBudget {
    ScopeBudget {
        scope: scope.kind.name().to_owned(),
        remaining: found.remaining,
        burst: found.quota.map_or(u64::MAX, Quota::burst),
        refill_per_hour: found.quota.map_or(u64::MAX, Quota::refill_per_hour),
        next_in: found.next_in,
        full_in: found.full_in,
        is_override: found.is_override,
        suspension: found.suspension,
    }
}
