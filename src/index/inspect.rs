//! The operator's door: apart from lookups, clearly named, and every use of it logged.

use std::fmt;
use std::sync::Arc;

use super::{Index, Inner};
use crate::disclosures::{Filter, Row, Rows, Token};
use crate::ledger::StandingOf;
use crate::words::{AccountId, Caller, Origin, Purpose, QuotaOverride, Result, Suspension};

/// Answers questions that no caller may ask. Every use is logged at level INFO, without naming the caller.
///
/// It cannot name an account for a phone number: only a lookup can, which is charged.
///
/// ```
/// use unlisted::{AccountId, Caller, Index, OptIns, Options, PhoneHash, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// let caller = Caller::new("user-7");
/// index.lookup(&caller, Purpose::Search, &[ada])?;
/// let exposed = index.inspector().disclosed_to(&caller)?;
/// assert_eq!((exposed.len(), exposed[0].account), (1, AccountId::from(42)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Inspector {
    pub(super) inner: Arc<Inner>,
}

/// An account that was shown to a caller.
///
/// ```
/// use unlisted::{AccountId, Caller, Index, OptIns, Options, PhoneHash, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// index.lookup(&Caller::new("user-7"), Purpose::Search, &[ada])?;
/// let disclosure = index.inspector().disclosed_to(&Caller::new("user-7"))?[0];
/// assert_eq!(disclosure.purpose(), Some(Purpose::Search));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Disclosure {
    /// Who was shown.
    pub account: AccountId,
    /// The bit of the purpose, as [`Purpose::ALL`] orders them.
    pub purpose_bit: u8,
    /// When first, in milliseconds since 1970 by the wall clock.
    pub first_at_ms: u64,
    /// When last; rounded up to a minute if it is not the first time.
    pub last_at_ms: u64,
}

impl Disclosure {
    /// What for; `None` for a purpose that this build does not know.
    #[must_use]
    pub fn purpose(&self) -> Option<Purpose> {
        Purpose::ALL.get(usize::from(self.purpose_bit)).copied()
    }
}

/// A caller as the disclosure log and the ledger know it: the keyed identity, which says nothing without the secret. The
/// host finds out whose it is by comparing [`Inspector::token_of`] the callers that it has. An origin has such a token
/// too, [`Inspector::token_of_origin`].
///
/// `Display` prints 32 hexadecimal digits, `Debug` nothing.
///
/// ```
/// use unlisted::{Caller, Index, Options, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let token = index.inspector().token_of(&Caller::new("user-7"));
/// assert_eq!(token.to_string().len(), 32);
/// assert_eq!(format!("{token:?}"), "CallerToken(..)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerToken(pub(super) Token);

impl CallerToken {
    pub(super) const fn id(self) -> Token {
        self.0
    }

    /// Reads the 32 hexadecimal digits that `Display` prints.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut token = Token::default();
        hex::decode_to_slice(text, &mut token).ok().map(|()| Self(token))
    }
}

impl fmt::Display for CallerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for CallerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerToken(..)")
    }
}

/// Which disclosures an operator asks for. Whatever is not named matches.
///
/// ```
/// use unlisted::{AccountId, Caller, DisclosureQuery, Index, OptIns, Options, Origin, PhoneHash, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// let network = Origin::network("198.51.100.7".parse()?);
/// index.lookup(&Caller::new("user-7").via(network.clone()), Purpose::Search, &[ada])?;
///
/// let who_saw_ada = DisclosureQuery::new().account(AccountId::from(42));
/// let row = index.inspector().disclosures(&who_saw_ada)?.next().expect("one lookup")?;
/// assert_eq!(row.caller, index.inspector().token_of(&Caller::new("user-7")));
/// let from_there = DisclosureQuery::new().origin(network).since_ms(row.shown.first_at_ms);
/// assert_eq!(index.inspector().disclosures(&from_there)?.count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct DisclosureQuery {
    caller: Option<Caller>,
    origin: Option<Origin>,
    account: Option<AccountId>,
    since_ms: Option<u64>,
    until_ms: Option<u64>,
}

impl DisclosureQuery {
    /// Every disclosure within the retention.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only to this caller, whatever origins it came through.
    #[must_use]
    pub fn caller(mut self, caller: &Caller) -> Self {
        self.caller = Some(caller.clone());
        self
    }

    /// Only to callers that came through this origin.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Only of this account.
    #[must_use]
    pub const fn account(mut self, account: AccountId) -> Self {
        self.account = Some(account);
        self
    }

    /// Only at this moment or later, in milliseconds since 1970.
    ///
    /// What was shown several times is kept with its first and its last time, so that a disclosure made before and
    /// after a window counts as made in it: a window may give too many, never too few.
    #[must_use]
    pub const fn since_ms(mut self, since_ms: u64) -> Self {
        self.since_ms = Some(since_ms);
        self
    }

    /// Only before this moment, in milliseconds since 1970.
    #[must_use]
    pub const fn until_ms(mut self, until_ms: u64) -> Self {
        self.until_ms = Some(until_ms);
        self
    }
}

/// One row of the disclosure log: what was shown, and to whom.
///
/// ```
/// use unlisted::{Caller, DisclosureQuery, Exposure, Index, Options, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let rows: Result<Vec<Exposure>, _> = index.inspector().disclosures(&DisclosureQuery::new())?.collect();
/// assert!(rows?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// Who saw it.
    pub caller: CallerToken,
    /// What was seen, what for and when.
    pub shown: Disclosure,
}

/// A stream of rows; memory does not grow with their number. After an error there is no more.
///
/// ```
/// use unlisted::{Disclosures, DisclosureQuery, Index, Options, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let mut rows: Disclosures = index.inspector().disclosures(&DisclosureQuery::new())?;
/// assert!(rows.next().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Disclosures(Rows);

impl Iterator for Disclosures {
    type Item = Result<Exposure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|row| row.map(exposure))
    }
}

impl fmt::Debug for Disclosures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disclosures(..)")
    }
}

const fn exposure(row: Row) -> Exposure {
    let Row { group, account, first_ms: first_at_ms, last_ms: last_at_ms } = row;
    let shown = Disclosure { account, purpose_bit: group.purpose, first_at_ms, last_at_ms };
    Exposure { caller: CallerToken(group.caller), shown }
}

/// A caller or an origin that is suspended or has a quota of its own.
///
/// ```
/// use unlisted::{Caller, Index, Options, Secret, Standing};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// index.suspend(&Caller::new("user-7"), "shuffled lists")?;
/// let standings: Vec<Standing> = index.inspector().standings(None, 100)?;
/// assert_eq!((standings.len(), standings[0].scope.as_str()), (1, "caller"));
/// assert_eq!(standings[0].token, index.inspector().token_of(&Caller::new("user-7")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The keyed identity, of origins too.
    pub token: CallerToken,
    /// `caller`, or the kind of the origin.
    pub scope: String,
    /// Since when it may not ask, and why.
    pub suspension: Option<Suspension>,
    /// The quota of its own.
    pub quota: Option<QuotaOverride>,
}

impl Index {
    /// The operator's door. Keep it away from whatever answers callers.
    #[must_use]
    pub fn inspector(&self) -> Inspector {
        Inspector { inner: self.inner.clone() }
    }
}

impl Inspector {
    /// Every account that was disclosed to a caller within the retention, by account and purpose, each once.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] or [`crate::Error::Io`] if the disclosure log cannot be read.
    pub fn disclosed_to(&self, caller: &Caller) -> Result<Vec<Disclosure>> {
        tracing::info!("an operator asks who was disclosed to a caller");
        let shown = self.inner.disclosures.shown_to(self.token_of(caller).0, self.inner.clock.wall_ms())?;
        let disclosure = |((account, purpose_bit), (first_at_ms, last_at_ms))| Disclosure {
            account,
            purpose_bit,
            first_at_ms,
            last_at_ms,
        };
        Ok(shown.into_iter().map(disclosure).collect())
    }

    /// Disclosures within the retention that match, file by file, in no useful order. What was repeated since the last
    /// compaction comes as often as it was (see [`Index::compact_disclosures`]).
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the log cannot be opened. Damage is met on the way: what is before it is given.
    pub fn disclosures(&self, query: &DisclosureQuery) -> Result<Disclosures> {
        tracing::info!("an operator asks for disclosures");
        let filter = Filter {
            caller: query.caller.as_ref().map(|caller| self.token_of(caller).0),
            origin: query.origin.as_ref().map(|origin| self.inner.origin_identity(origin)),
            account: query.account,
            since_ms: query.since_ms.unwrap_or(0),
            until_ms: query.until_ms.unwrap_or(u64::MAX),
        };
        self.inner.disclosures.rows(filter, self.inner.clock.wall_ms()).map(Disclosures)
    }

    /// Callers and origins that are suspended or have a quota of their own, at most `limit` in the order of their tokens,
    /// those after `after`.
    ///
    /// # Errors
    /// [`crate::Error::Database`] if the ledger cannot be read.
    pub fn standings(&self, after: Option<CallerToken>, limit: usize) -> Result<Vec<Standing>> {
        tracing::info!("an operator asks who is suspended");
        let found = self.inner.ledger.standings(after.map(CallerToken::id), limit)?;
        let standing = |StandingOf { id, scope, suspension, own: quota }| Standing {
            token: CallerToken(id),
            scope,
            suspension,
            quota,
        };
        Ok(found.into_iter().map(standing).collect())
    }

    /// How the disclosure log knows a caller.
    #[must_use]
    pub fn token_of(&self, caller: &Caller) -> CallerToken {
        CallerToken(self.inner.ring.caller(caller.id()).id)
    }

    /// How the ledger knows an origin.
    #[must_use]
    pub fn token_of_origin(&self, origin: &Origin) -> CallerToken {
        CallerToken(self.inner.origin_identity(origin))
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inspector(..)")
    }
}
