//! Who asks most, misses most, is deferred most: an operator's read of the ledger's counters.

use std::time::Duration;

use super::inspect::{CallerToken, Inspector};
use crate::activity::TopBy;
use crate::ledger::{ScopeId, TopOf, TopScope};
use crate::words::{Caller, Result, check_kind};

/// Which callers or origins an operator asks for: by default callers, in the last 24 hours, the first 20.
///
/// ```
/// use std::time::Duration;
/// use unlisted::{Caller, Index, Options, Origin, PhoneHash, Purpose, Secret, TopBy, TopQuery};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let network = Origin::network("198.51.100.7".parse()?);
/// let (ada, bob) = (PhoneHash::of_e164("+14155550100")?, PhoneHash::of_e164("+14155550101")?);
/// index.lookup(&Caller::new("user-7").via(network.clone()), Purpose::Search, &[ada, bob])?;
/// index.lookup(&Caller::new("user-8").via(network.clone()), Purpose::Search, &[ada])?;
///
/// let inspector = index.inspector();
/// let top = inspector.top_callers(&TopQuery::new(TopBy::Missed).window(Duration::from_secs(3_600)).limit(1))?;
/// assert_eq!(top.rows[0].token, inspector.token_of(&Caller::new("user-7")));
/// assert_eq!((top.rows[0].missed, top.rows[0].short_by), (2, 0));
/// let origins = inspector.top_callers(&TopQuery::new(TopBy::Charged).origins("network"))?;
/// assert_eq!(origins.rows[0].token, inspector.token_of_origin(&network));
/// assert_eq!((origins.rows[0].lookups, origins.rows[0].charged), (2, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct TopQuery {
    by: TopBy,
    window: Duration,
    origins: Option<String>,
    callers: Vec<Caller>,
    limit: usize,
}

impl TopQuery {
    /// Callers of the last 24 hours, at most 20, the heaviest by this counter first.
    #[must_use]
    pub const fn new(by: TopBy) -> Self {
        let window = Duration::from_secs(86_400);
        Self { by, window, origins: None, callers: Vec::new(), limit: 20 }
    }

    /// How far back from now, at most [`crate::Options::activity_retention`]. Activity is kept by hours of ledger time,
    /// so the window begins with the hour that the moment is in. Ledger time goes on by at most
    /// [`crate::Options::max_clock_jump`] while an index is closed: after a longer break the window reaches further back.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Origins of a kind, such as `network`, instead of callers; whether or not the kind has a quota.
    #[must_use]
    pub fn origins(mut self, kind: impl Into<String>) -> Self {
        self.origins = Some(kind.into());
        self
    }

    /// Only this caller, whatever it did. May be repeated. Has no effect on a query for origins.
    #[must_use]
    pub fn caller(mut self, caller: &Caller) -> Self {
        self.callers.push(caller.clone());
        self
    }

    /// Most rows.
    #[must_use]
    pub const fn limit(mut self, rows: usize) -> Self {
        self.limit = rows;
        self
    }
}

/// What a caller or an origin did in a window. A number counts once in each lookup that asks for it.
///
/// Only lookups that were answered count. What a crash lost of the last hour is missing: this is a statistic, and
/// never what a budget is decided by.
///
/// ```
/// use unlisted::{AccountId, Caller, Index, OptIns, Options, PhoneHash, Purpose, Secret, TopBy, TopQuery};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let (ada, bob) = (PhoneHash::of_e164("+14155550100")?, PhoneHash::of_e164("+14155550101")?);
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// let caller = Caller::new("user-7");
/// index.lookup(&caller, Purpose::Search, &[ada, bob, bob])?;
/// index.lookup(&caller, Purpose::Search, &[ada, bob])?; // both are free now
/// let top = index.inspector().top_callers(&TopQuery::new(TopBy::Charged).caller(&caller))?;
/// let row = top.rows[0];
/// assert_eq!((row.lookups, row.asked, row.charged, row.found, row.missed), (2, 4, 2, 2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopCaller {
    /// Whose counters: a caller's token, or an origin's if origins were asked for.
    pub token: CallerToken,
    /// Lookups that were answered.
    pub lookups: u64,
    /// Distinct numbers of each lookup.
    pub asked: u64,
    /// Of those asked, the ones that were paid for: new for the caller within the novelty window.
    pub charged: u64,
    /// Of those asked, the ones that showed somebody, paid for now or earlier.
    pub found: u64,
    /// Of those charged, the ones that showed nobody.
    pub missed: u64,
    /// Of those asked, the ones that could not be paid.
    pub deferred: u64,
    /// Of those charged, the ones that are tripwires ([`crate::Index::set_tripwires`]).
    pub tripwires: u32,
    /// When it was first and last seen in the window, in milliseconds since 1970. The wall clock of its run counts.
    pub first_at_ms: u64,
    /// See `first_at_ms`.
    pub last_at_ms: u64,
    /// The counter that was asked by may be short by so much, since light scopes are dropped where room runs out.
    pub short_by: u64,
}

/// The answer to a [`TopQuery`].
///
/// ```
/// use unlisted::{Index, Options, Secret, TopBy, TopQuery};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let top = index.inspector().top_callers(&TopQuery::new(TopBy::Deferred))?;
/// assert_eq!((top.rows.len(), top.short_by), (0, 0)); // nobody, and nobody is left out
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopCallers {
    /// The heaviest first; equal ones by token.
    pub rows: Vec<TopCaller>,
    /// Who was not counted at all, for lack of room, had at most so much.
    pub short_by: u64,
}

impl Inspector {
    /// Who was charged most, missed most or was deferred most in a window.
    ///
    /// Callers count, and origins. Every hour keeps the 4,096 callers and the 4,096 origins
    /// that are heaviest by each counter; how much others may have had is in `short_by`. The call reads all rows of its
    /// window and holds the sum of each scope in memory, 200 bytes.
    ///
    /// # Errors
    /// [`crate::Error::Origin`] for what is no kind of origin; [`crate::Error::Database`] or
    /// [`crate::Error::DamagedRow`] if the ledger cannot be read.
    pub fn top_callers(&self, query: &TopQuery) -> Result<TopCallers> {
        tracing::info!(by = query.by.name(), "an operator asks for the heaviest callers");
        query.origins.as_deref().map(check_kind).transpose()?;
        let callers: &[Caller] = if query.origins.is_some() { &[] } else { &query.callers };
        let only: Vec<ScopeId> = callers.iter().map(|caller| self.token_of(caller).0).collect();
        let top = self.inner.ledger.top(&TopOf {
            by: query.by,
            window_ns: u64::try_from(query.window.as_nanos()).unwrap_or(u64::MAX),
            kind: query.origins.as_deref(),
            only: &only,
            limit: query.limit,
        })?;
        Ok(TopCallers { rows: top.scopes.into_iter().map(row).collect(), short_by: top.short_by })
    }
}

fn row(scope: TopScope) -> TopCaller {
    let TopScope { id, counts, first_ms: first_at_ms, last_ms: last_at_ms, short_by } = scope;
    TopCaller {
        token: CallerToken(id),
        lookups: counts.lookups,
        asked: counts.asked,
        charged: counts.charged,
        found: counts.found,
        missed: counts.missed,
        deferred: counts.deferred,
        tripwires: counts.tripwires,
        first_at_ms,
        last_at_ms,
        short_by,
    }
}
