//! The embedded ledger: one redb file, one transaction per charge.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bincode::{Decode, Encode};
use parking_lot::Mutex;
use redb::{TableDefinition, TableError, WriteTransaction};

use super::time::{LedgerTime, Mark};
use super::{FILE_NAME, Grant, Ledger, LedgerState, Scope, ScopeId, disclosures, state};
use crate::database::{Db, DbOptions, decode, encode};
use crate::quota;
use crate::words::{AccountId, Clock, Error, QuotaPolicy, Result};

const NAME: &str = "buckets";
/// Identity of a scope to its bucket.
const BUCKETS: TableDefinition<'_, ScopeId, &[u8]> = TableDefinition::new(NAME);

/// A bucket on disk. The policy version says under which refill its state was computed.
#[derive(Encode, Decode)]
enum BucketRow {
    V1 { tat_ns: u64, policy_version: u32 },
}

/// How a ledger is opened.
#[derive(Debug, Clone)]
pub(crate) struct LedgerOptions {
    pub(crate) database: DbOptions,
    pub(crate) max_clock_jump: Duration,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The ledger of an embedded index.
pub(crate) struct RedbLedger {
    db: Db,
    time: LedgerTime,
    state: Mutex<Guarded>,
    /// Apart from the state, so that nobody waits for a commit to read it.
    policy: Arc<QuotaPolicy>,
    /// Transactions so far, readable while one is under way.
    commits: AtomicU64,
    /// The snapshot version of the index, to be written down with the next charge.
    index_version: AtomicU64,
}

struct Guarded {
    state: LedgerState,
    /// The first failed commit. From then on nothing is revealed.
    poison: Option<String>,
}

impl fmt::Debug for RedbLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbLedger").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

impl RedbLedger {
    /// Creates the file with its first state.
    pub(crate) fn create(dir: &Path, options: DbOptions, first: &LedgerState) -> Result<()> {
        let db = Db::create(&dir.join(FILE_NAME), options)?;
        db.write(|txn| state::write(&db, txn, first))
    }

    /// Opens the file. A missing one is an error: a fresh ledger would refill every budget.
    pub(crate) fn open(dir: &Path, options: &LedgerOptions) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        if !path.try_exists().map_err(Error::io("look for", &path))? {
            return Err(Error::LedgerMissing { path });
        }
        let db = Db::open(&path, options.database, "an unlisted ledger")?;
        let state = db.read(|txn| state::read(&db, txn))?;
        let time = LedgerTime::resume(options.clock.clone(), state.mark, options.max_clock_jump);
        let index_version = AtomicU64::new(state.index_version);
        let commits = AtomicU64::new(state.commits);
        let policy = Arc::new(state.policy.clone());
        Ok(Self { db, time, state: Mutex::new(Guarded { state, poison: None }), policy, commits, index_version })
    }

    pub(crate) fn state(&self) -> LedgerState {
        self.state.lock().state.clone()
    }

    pub(crate) fn path(&self) -> &Path {
        self.db.path()
    }

    /// Begins a run of the index.
    pub(crate) fn enter_epoch(&self, epoch: u64) -> Result<()> {
        self.commit(|_, state| {
            state.epoch = epoch;
            Ok(())
        })
    }

    /// Tells the ledger how far the index is; it is written down with the next charge.
    pub(crate) fn note_index_version(&self, version: u64) {
        self.index_version.fetch_max(version, Ordering::Relaxed);
    }

    /// Transactions so far.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// Writes down where the ledger stands, for a clean close.
    pub(crate) fn settle(&self) -> Result<()> {
        self.commit(|_, _| Ok(()))
    }

    /// Visits what a ledger of version 1 recorded: caller, account, the purpose's bit, the time.
    pub(crate) fn old_disclosures(
        &self,
        visit: impl FnMut(ScopeId, AccountId, u8, u64) -> Result<()>,
    ) -> Result<()> {
        self.db.read(|txn| disclosures::for_each(&self.db, txn, visit))
    }

    /// Is there anything that a ledger of version 1 recorded?
    pub(crate) fn has_old_disclosures(&self) -> Result<bool> {
        self.db.read(|txn| disclosures::are_there(&self.db, txn))
    }

    /// Drops them, once they are elsewhere.
    pub(crate) fn drop_old_disclosures(&self) -> Result<()> {
        self.commit(|txn, _| disclosures::drop_all(&self.db, txn))
    }

    fn commit<T>(&self, work: impl FnOnce(&WriteTransaction, &mut LedgerState) -> Result<T>) -> Result<T> {
        let mut guarded = self.state.lock();
        Self::check_poison(&guarded)?;
        self.commit_locked(&mut guarded, self.time.now(), work)
    }

    /// One durable transaction, or a poisoned ledger: after a failed write what is on disk is not known.
    fn commit_locked<T>(
        &self,
        guarded: &mut Guarded,
        now: Mark,
        work: impl FnOnce(&WriteTransaction, &mut LedgerState) -> Result<T>,
    ) -> Result<T> {
        let mut next = guarded.state.clone();
        next.commits += 1;
        next.mark = now;
        next.index_version = next.index_version.max(self.index_version.load(Ordering::Relaxed));
        let result = self.db.write(|txn| {
            let done = work(txn, &mut next)?;
            state::write(&self.db, txn, &next)?;
            Ok(done)
        });
        match result {
            Ok(done) => {
                self.commits.store(next.commits, Ordering::Release);
                guarded.state = next;
                Ok(done)
            }
            Err(error) => {
                guarded.poison = Some(error.with_causes());
                Err(error)
            }
        }
    }

    fn check_poison(guarded: &Guarded) -> Result<()> {
        match &guarded.poison {
            Some(cause) => Err(Error::Poisoned { what: "ledger", cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn read_buckets(&self, scopes: &[Scope]) -> Result<Vec<u64>> {
        self.db.read(|txn| {
            let table = match txn.open_table(BUCKETS) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(vec![0; scopes.len()]),
                other => other.map_err(self.db.error("open the buckets"))?,
            };
            let mut tats = Vec::with_capacity(scopes.len());
            for scope in scopes {
                let row = table.get(scope.id).map_err(self.db.error("read a bucket"))?;
                let row = row.map(|row| decode(row.value(), NAME, self.db.path())).transpose()?;
                tats.push(row.map_or(0, |BucketRow::V1 { tat_ns, .. }| tat_ns));
            }
            Ok(tats)
        })
    }

    fn write_buckets(
        &self,
        txn: &WriteTransaction,
        state: &LedgerState,
        buckets: &[(ScopeId, u64)],
    ) -> Result<()> {
        let mut table = txn.open_table(BUCKETS).map_err(self.db.error("open the buckets"))?;
        for (id, tat_ns) in buckets {
            let row = BucketRow::V1 { tat_ns: *tat_ns, policy_version: state.policy_version };
            let bytes = encode(&row, NAME, self.db.path())?;
            table.insert(id, bytes.as_slice()).map_err(self.db.error("write a bucket"))?;
        }
        Ok(())
    }
}

impl Ledger for RedbLedger {
    fn charge(&self, scopes: &[Scope], want: u64) -> Result<Grant> {
        // Held from reading the buckets to committing them: two charges cannot spend the same unit.
        let mut guarded = self.state.lock();
        Self::check_poison(&guarded)?;
        let now = self.time.now();
        let tats = self.read_buckets(scopes)?;
        let grant = decide(scopes, &tats, now.ledger_ns, want);
        if grant.granted > 0 {
            let spend = |(scope, tat): (&Scope, &u64)| {
                (scope.id, quota::spend(*tat, now.ledger_ns, grant.granted, scope.quota))
            };
            let spent: Vec<_> = scopes.iter().zip(&tats).map(spend).collect();
            self.commit_locked(&mut guarded, now, |txn, state| self.write_buckets(txn, state, &spent))?;
        }
        Ok(grant)
    }

    fn policy(&self) -> Arc<QuotaPolicy> {
        self.policy.clone()
    }
}

/// The largest prefix that every scope can pay, what is left after it, and how long the rest takes.
fn decide(scopes: &[Scope], tats: &[u64], now: u64, want: u64) -> Grant {
    let buckets = || scopes.iter().zip(tats);
    let least = |spent| {
        let left = |(scope, tat): (&Scope, &u64)| {
            quota::available(quota::spend(*tat, now, spent, scope.quota), now, scope.quota)
        };
        buckets().map(left).min().unwrap_or(0)
    };
    let granted = least(0).min(want);
    let rest = want - granted;
    let wait_ns = buckets()
        .map(|(scope, tat)| quota::wait_ns(quota::spend(*tat, now, granted, scope.quota), now, rest, scope.quota))
        .max();
    Grant {
        granted,
        remaining: least(granted),
        retry_after: if rest == 0 { None } else { wait_ns.map(Duration::from_nanos) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{ManualClock, Quota};

    const DATABASE: DbOptions = DbOptions { cache_bytes: 1 << 20, check: true };

    fn scope(id: u8, burst: u64) -> Scope {
        Scope { id: [id; 16], quota: Quota::per_hour(burst, 60).unwrap() }
    }

    fn open(dir: &Path, clock: &Arc<ManualClock>) -> RedbLedger {
        let options = LedgerOptions {
            database: DATABASE,
            max_clock_jump: Duration::from_secs(86_400),
            clock: clock.clone(),
        };
        RedbLedger::open(dir, &options).unwrap()
    }

    fn fresh() -> (tempfile::TempDir, Arc<ManualClock>, RedbLedger) {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at_wall_ms(1_000));
        let first = LedgerState::new([1; 16], [2; 16], QuotaPolicy::default(), clock.wall_ms());
        RedbLedger::create(dir.path(), DATABASE, &first).unwrap();
        let ledger = open(dir.path(), &clock);
        (dir, clock, ledger)
    }

    #[test]
    fn the_shortest_scope_decides_and_all_pay_the_same() {
        let (_dir, clock, ledger) = fresh();
        let scopes = [scope(1, 100), scope(2, 30)];
        let grant = ledger.charge(&scopes, 50).unwrap();
        assert_eq!((grant.granted, grant.remaining), (30, 0));
        assert_eq!(grant.retry_after, Some(Duration::from_secs(20 * 60)));
        // The first scope paid 30, not 50.
        assert_eq!(ledger.charge(&scopes[..1], 100).unwrap().granted, 70);
        clock.advance(Duration::from_secs(20 * 60));
        assert_eq!(ledger.charge(&scopes, 50).unwrap().granted, 20);
    }

    #[test]
    fn a_reopened_ledger_remembers() {
        let (dir, clock, ledger) = fresh();
        assert_eq!(ledger.charge(&[scope(1, 10)], 10).unwrap().granted, 10);
        drop(ledger);
        clock.set_wall_ms(0);
        assert_eq!(open(dir.path(), &clock).charge(&[scope(1, 10)], 10).unwrap().granted, 0);
        clock.set_wall_ms(2 * 60_000 + 1_000);
        assert_eq!(open(dir.path(), &clock).charge(&[scope(1, 10)], 10).unwrap().granted, 2);
    }

    #[test]
    fn a_missing_ledger_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let options = LedgerOptions { database: DATABASE, max_clock_jump: Duration::ZERO, clock };
        assert!(matches!(RedbLedger::open(dir.path(), &options), Err(Error::LedgerMissing { .. })));
    }
}
