//! Who behaves like an enumerator: an operator's read of the ledger's counters, and a watch that the background thread keeps.

use std::collections::HashSet;
use std::time::Duration;

use super::Inner;
use super::events::Event;
use super::inspect::{CallerToken, Inspector};
use crate::activity::Evidence;
use crate::ledger::{InWindows, ScopeId};
use crate::words::{Result, check_kind};

/// The window that the watch looks at.
const WATCHED: Duration = Duration::from_secs(86_400);

/// Whose signals an operator asks for: by default callers, in the last 24 hours, the 20 with the highest score.
///
/// ```
/// use std::time::Duration;
/// use unlisted::{Caller, Index, Options, PhoneHash, Purpose, Secret, SignalQuery};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let numbers: Vec<_> = (0..2_000_u32).map(|i| PhoneHash::of_e164(&format!("+1415555{i:04}"))).collect::<Result<_, _>>()?;
/// index.lookup(&Caller::new("user-7"), Purpose::Search, &numbers)?;
/// index.lookup(&Caller::new("user-8"), Purpose::Search, &numbers[..10])?;
///
/// let inspector = index.inspector();
/// let suspicious = inspector.signals(&SignalQuery::new().window(Duration::from_secs(3_600)).min_score(0.3))?;
/// assert_eq!(suspicious.len(), 1);
/// assert_eq!(suspicious[0].token, inspector.token_of(&Caller::new("user-7")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SignalQuery {
    window: Duration,
    origins: Option<String>,
    min_score: f64,
    limit: usize,
}

impl Default for SignalQuery {
    fn default() -> Self {
        Self { window: WATCHED, origins: None, min_score: 0.0, limit: 20 }
    }
}

impl SignalQuery {
    /// Callers of the last 24 hours, at most 20, the highest score first.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How far back from now; the window before is as long. Both go by whole hours of ledger time and reach back at most
    /// [`crate::Options::activity_retention`] together. The hour that goes on belongs to this one.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Origins of a kind, such as `network`, instead of callers. They ask for as much as all callers behind them, so compare
    /// their scores with those of other origins of the kind.
    #[must_use]
    pub fn origins(mut self, kind: impl Into<String>) -> Self {
        self.origins = Some(kind.into());
        self
    }

    /// Only those with at least this score.
    #[must_use]
    pub const fn min_score(mut self, score: f64) -> Self {
        self.min_score = score;
        self
    }

    /// Most rows.
    #[must_use]
    pub const fn limit(mut self, rows: usize) -> Self {
        self.limit = rows;
        self
    }
}

/// What the counters say of a caller or an origin.
///
/// No pattern replaces the budget: a caller with a leaked list of numbers that exist has half of them answered, more than
/// honest callers have, and looks like one of them. `docs/THREAT-MODEL.md` says what each signal is worth.
///
/// ```
/// use unlisted::{AccountId, Caller, Index, OptIns, Options, PhoneHash, Purpose, Secret, SignalQuery};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let (ada, bob) = (PhoneHash::of_e164("+14155550100")?, PhoneHash::of_e164("+14155550101")?);
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// index.lookup(&Caller::new("user-7"), Purpose::Search, &[ada, bob])?;
/// let row = index.inspector().signals(&SignalQuery::new())?[0];
/// assert_eq!((row.novel, row.novel_before, row.tripwires), (2, 0, 0));
/// assert_eq!((row.hit_share, row.growth, row.deferred_share), (0.5, 1.0, 0.0));
/// assert!(row.score < 0.001);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct CallerSignals {
    /// Whose: a caller's token, or an origin's if origins were asked for.
    pub token: CallerToken,
    /// Numbers that were paid for in the window: new for the caller within the novelty window.
    pub novel: u64,
    /// The same of the window before.
    pub novel_before: u64,
    /// Of the novel numbers, the share that showed somebody; 0 if there are none.
    pub hit_share: f64,
    /// Of the novel numbers of both windows, the share of this one: 0.5 if there are as many as before, 1 if there were none
    /// before, 0 if there are none now.
    pub growth: f64,
    /// Of the numbers asked, the share that no budget was left for.
    pub deferred_share: f64,
    /// Of the novel numbers, the ones that are tripwires ([`crate::Index::set_tripwires`]).
    pub tripwires: u32,
    /// 0 to 1: `1 - (1 - t) (1 - v (m + d + g) / 3)`, where t = 1 - 2^-tripwires, v = novel / (novel + 2,000), m = 1 - hit share,
    /// d = deferred share, g = growth. Greater with each of them. It says whom to look at first, and proves nothing.
    pub score: f64,
    /// When it was first and last seen in the window, in milliseconds since 1970.
    pub first_at_ms: u64,
    /// See `first_at_ms`.
    pub last_at_ms: u64,
    /// `novel` may be short by so much, since light scopes are dropped where room runs out.
    pub short_by: u64,
}

impl Inspector {
    /// Who behaves like an enumerator, the highest score first; equal ones by token. The call reads all rows of both windows
    /// and holds the sum of each scope in memory, 400 bytes.
    ///
    /// # Errors
    /// [`crate::Error::Origin`] for what is no kind of origin; [`crate::Error::Database`] or
    /// [`crate::Error::DamagedRow`] if the ledger cannot be read.
    pub fn signals(&self, query: &SignalQuery) -> Result<Vec<CallerSignals>> {
        tracing::info!("an operator asks for suspicious callers");
        query.origins.as_deref().map(check_kind).transpose()?;
        self.inner.signals(query)
    }
}

/// What the watch saw at the last end of an hour.
#[derive(Debug, Default)]
pub(super) struct Watch {
    hour: Option<u32>,
    /// Who was above the threshold.
    above: HashSet<ScopeId>,
}

impl Inner {
    fn signals(&self, query: &SignalQuery) -> Result<Vec<CallerSignals>> {
        let window_ns = u64::try_from(query.window.as_nanos()).unwrap_or(u64::MAX);
        let found = self.ledger.in_windows(query.origins.as_deref(), window_ns)?;
        let mut rows: Vec<CallerSignals> = found.into_iter().map(row).collect();
        rows.retain(|row| row.score >= query.min_score);
        rows.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.token.cmp(&b.token)));
        rows.truncate(query.limit);
        Ok(rows)
    }

    /// At the end of an hour, tells the host whose score has come above its threshold since the last one. For the background
    /// thread: a lookup never waits for it.
    pub(super) fn watch_signals(&self) -> Result<()> {
        let Some(percent) = self.options.suspicious_from_percent else { return Ok(()) };
        let mut watch = self.watch.lock();
        let hour = self.ledger.activity_hour();
        if watch.hour.replace(hour).is_none_or(|last| last == hour) {
            return Ok(());
        }
        let mut above = HashSet::new();
        let kinds = self.ledger.origin_kinds();
        for kind in std::iter::once(None).chain(kinds.iter().map(|kind| Some(&**kind))) {
            let query =
                SignalQuery { min_score: f64::from(percent) / 100.0, limit: usize::MAX, ..SignalQuery::new() };
            let query = kind.into_iter().fold(query, SignalQuery::origins);
            for CallerSignals { token, score, .. } in self.signals(&query)? {
                above.insert(token.id());
                if !watch.above.contains(&token.id()) {
                    let scope = kind.unwrap_or("caller");
                    self.options.events.tell(&Event::Suspicious { scope, token, score });
                }
            }
        }
        watch.above = above;
        Ok(())
    }
}

fn row(of: InWindows) -> CallerSignals {
    let InWindows { id, counts, charged_before, first_ms, last_ms, short_by } = of;
    let evidence = Evidence {
        asked: counts.asked,
        deferred: counts.deferred,
        novel: counts.charged,
        missed: counts.missed,
        novel_before: charged_before,
        tripwires: u64::from(counts.tripwires),
    };
    CallerSignals {
        token: CallerToken(id),
        novel: counts.charged,
        novel_before: charged_before,
        hit_share: evidence.hit_share(),
        growth: evidence.growth(),
        deferred_share: evidence.deferred_share(),
        tripwires: counts.tripwires,
        score: evidence.score(),
        first_at_ms: first_ms,
        last_at_ms: last_ms,
        short_by,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::Index;
    use crate::words::{Caller, ManualClock, Origin, PhoneHash, Purpose, Secret};

    #[test]
    fn the_watch_tells_once_of_each_who_comes_above_the_threshold_and_only_at_the_end_of_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at_wall_ms(1_795_000_000_000));
        let told = Arc::new(Mutex::new(Vec::new()));
        let to = told.clone();
        let options = crate::Options::new(Secret::from_bytes([1; 32]))
            .clock(clock.clone())
            .background(false)
            .suspicious_from_percent(50)
            .on_event(move |event| {
                if let Event::Suspicious { scope, token, score } = event {
                    assert!(*score >= 0.5);
                    to.lock().push(((*scope).to_owned(), *token));
                }
            });
        let index = Index::open(dir.path(), options).unwrap();
        let ask = |caller: &str, numbers: std::ops::Range<u32>| {
            let number = |i: u32| PhoneHash::from_bytes(*blake3::hash(&i.to_le_bytes()).as_bytes());
            let hashes: Vec<_> = numbers.map(number).collect();
            let network = Origin::network("198.51.100.7".parse().unwrap());
            index.lookup(&Caller::new(caller).via(network), Purpose::Search, &hashes).unwrap();
        };
        let hour = || clock.advance(Duration::from_secs(3_600));
        index.inner.watch_signals().unwrap();
        ask("enumerator", 0..10_000);
        ask("newcomer", 0..300);
        index.inner.watch_signals().unwrap();
        assert!(told.lock().is_empty(), "the hour goes on");
        hour();
        index.inner.watch_signals().unwrap();
        let inspector = index.inspector();
        let token = inspector.token_of(&Caller::new("enumerator"));
        let network = inspector.token_of_origin(&Origin::network("198.51.100.7".parse().unwrap()));
        let expected = [("caller".to_owned(), token), ("network".to_owned(), network)];
        assert_eq!(*told.lock(), expected);
        hour();
        index.inner.watch_signals().unwrap();
        assert_eq!(told.lock().len(), 2, "still above: nothing new");
        // Days later it is below, also in the window before, and comes again.
        clock.advance(Duration::from_secs(60 * 3_600));
        index.inner.watch_signals().unwrap();
        ask("enumerator", 10_000..20_000);
        hour();
        index.inner.watch_signals().unwrap();
        assert_eq!(told.lock()[2..], expected);
    }
}
