//! What the host is told while it happens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::CallerToken;
use crate::ledger::{Scope, ScopeKind};
use crate::words::{Caller, Origin};

/// Something that the host may want to act on. See [`crate::Options::on_event`].
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use unlisted::{Caller, Event, Index, Options, PhoneHash, Purpose, Quota, QuotaPolicy, Secret};
/// let dir = tempfile::tempdir()?;
/// let seen = Arc::new(Mutex::new(Vec::new()));
/// let tell = seen.clone();
/// let options = Options::new(Secret::from_hex(&"5e".repeat(32))?)
///     .quotas(QuotaPolicy::of_caller(Quota::per_hour(1, 1)?))
///     .on_event(move |event| tell.lock().unwrap().push(event.to_string()));
/// let index = Index::open(dir.path(), options)?;
/// let numbers = [PhoneHash::of_e164("+14155550100")?, PhoneHash::of_e164("+14155550101")?];
/// index.lookup(&Caller::new("user-7"), Purpose::Search, &numbers)?;
/// index.lookup(&Caller::new("user-7"), Purpose::Search, &numbers)?; // short still: no second event
/// assert_eq!(*seen.lock().unwrap(), ["a caller has exhausted its budget"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A caller's budget did not cover a lookup, and covered the one before.
    CallerExhausted {
        /// Who.
        caller: &'a Caller,
        /// When the rest can be asked.
        retry_after: Duration,
    },
    /// The budget of something that callers share did not cover a lookup, and covered the one before.
    OriginExhausted {
        /// What.
        origin: &'a Origin,
        /// Who asked.
        caller: &'a Caller,
        /// When the rest can be asked.
        retry_after: Duration,
    },
    /// The budget of everyone together did not cover a lookup, and covered the one before.
    EveryoneExhausted {
        /// Who asked.
        caller: &'a Caller,
        /// When the rest can be asked.
        retry_after: Duration,
    },
    /// A caller or an origin was suspended.
    Suspended {
        /// Why.
        reason: &'a str,
    },
    /// A lookup met a tripwire, and the caller, or an origin that it comes through, has met as many as a rule of
    /// [`crate::Options::tripwires`] says.
    TripwireHit {
        /// Who asked.
        caller: &'a Caller,
        /// Whose tripwires are counted, if not the caller's own.
        origin: Option<&'a Origin>,
        /// How many in the window of the rule.
        count: u64,
    },
    /// The score of a caller or an origin was below [`crate::Options::suspicious_from_percent`] an hour ago and is not any
    /// more. Told by the background thread.
    Suspicious {
        /// `caller`, or the kind of the origin.
        scope: &'a str,
        /// Whose.
        token: CallerToken,
        /// See [`crate::CallerSignals::score`].
        score: f64,
    },
    /// A suspended caller, or one that comes through a suspended origin, asked and was refused.
    Refused {
        /// Who asked.
        caller: &'a Caller,
    },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CallerExhausted { .. } => f.write_str("a caller has exhausted its budget"),
            Self::OriginExhausted { origin, .. } => write!(f, "a {} has exhausted its budget", origin.kind()),
            Self::EveryoneExhausted { .. } => f.write_str("everyone together has exhausted the budget"),
            Self::Suspended { reason } => write!(f, "suspended: {reason}"),
            Self::TripwireHit { origin: None, count, .. } => write!(f, "a caller has met tripwires: {count}"),
            Self::TripwireHit { origin: Some(origin), count, .. } => {
                write!(f, "callers of one {} have met tripwires: {count}", origin.kind())
            }
            Self::Suspicious { scope, score, .. } => write!(f, "a {scope} has a score of {score:.2}"),
            Self::Refused { .. } => f.write_str("a suspended caller was refused"),
        }
    }
}

/// The host's callback, if it gave one.
#[derive(Clone, Default)]
pub(crate) struct Events(Option<Arc<Callback>>);

type Callback = dyn Fn(&Event<'_>) + Send + Sync;

impl Events {
    pub(crate) fn to(callback: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(callback)))
    }

    pub(super) fn tell(&self, event: &Event<'_>) {
        if let Some(callback) = &self.0 {
            callback(event);
        }
    }

    /// Tells of every scope that came short just now: a bit for each, by its position.
    #[cold]
    pub(super) fn tell_exhausted(&self, caller: &Caller, scopes: &[Scope<'_>], short: u16, retry_after: Duration) {
        let mut origins = caller.origins().iter();
        for (i, scope) in scopes.iter().enumerate() {
            // Origins pay in the order they were given.
            let origin = match scope.kind {
                ScopeKind::Origin(_) => origins.next(),
                _ => None,
            };
            if short >> i & 1 == 0 {
                continue;
            }
            self.tell(&match (scope.kind, origin) {
                (ScopeKind::Origin(_), Some(origin)) => Event::OriginExhausted { origin, caller, retry_after },
                (ScopeKind::Everyone, _) => Event::EveryoneExhausted { caller, retry_after },
                _ => Event::CallerExhausted { caller, retry_after },
            });
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Events(to a callback)" } else { "Events(to nobody)" })
    }
}
