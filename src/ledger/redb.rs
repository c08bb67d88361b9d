//! The embedded ledger: one redb file, buckets and novelty cached in memory, commits shared by who waits for them.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use redb::{ReadTransaction, WriteTransaction};

use super::activity::{Activity, ActivityOptions};
use super::bucket_log::BucketLog;
use super::bucket_rows::BucketState;
use super::buckets::{Advances, Attempt, Buckets, Loaded, MAX_SCOPES, Want};
use super::group::{Group, Outcome};
use super::known::Known;
use super::memory::Memory;
use super::quotas::Quotas;
use super::standing::{self, Standing};
use super::time::LedgerTime;
use super::{
    FILE_NAME, Grant, Ledger, LedgerState, Scope, ScopeId, ScopeKind, Verdict, bucket_rows, disclosures,
    policy_rows, state,
};
use crate::database::{Db, DbOptions, Snapshot};
use crate::words::{AccountId, Clock, Error, QuotaPolicy, Result};

/// Buckets that a close gives back in one transaction.
const SETTLED_AT_ONCE: usize = 65_536;
/// Numbers that one transaction writes down, or those of one caller: a charge that has to be made durable waits for it, some
/// milliseconds.
const NUMBERS_AT_ONCE: usize = 65_536;

/// Callers whose numbers are forgotten in one transaction.
const ERASED_AT_ONCE: usize = 1_024;

/// How a ledger is opened.
#[derive(Debug, Clone)]
pub(crate) struct LedgerOptions {
    pub(crate) database: DbOptions,
    pub(crate) max_clock_jump: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    /// Buckets kept in memory.
    pub(crate) active_buckets: usize,
    /// Most numbers of a lease.
    pub(crate) max_lease: u64,
    /// How long a number that was paid for stays free.
    pub(crate) novelty_window: Duration,
    /// Memory for what callers paid for.
    pub(crate) novelty_bytes: usize,
    pub(crate) activity: ActivityOptions,
    /// Does a thread call [`RedbLedger::write_novelty`] and [`RedbLedger::write_activity_if_due`] when they are due?
    pub(crate) background: bool,
}

/// The ledger of an embedded index.
pub(crate) struct RedbLedger {
    pub(super) db: Db,
    pub(super) time: LedgerTime,
    /// Held through a transaction. No other lock of the ledger is held while waiting for it.
    committer: Mutex<Committer>,
    /// The first failed commit. From then on nothing is revealed.
    poison: OnceLock<String>,
    /// Replaced as a whole, by whoever holds `changing`; the buckets have them too.
    pub(super) quotas: ArcSwap<Quotas>,
    /// One change of the policy at a time. Locked before the committer.
    pub(super) changing: Mutex<()>,
    /// Scopes that are suspended or have a quota of their own. Only if there are any, one more table is read.
    pub(super) standings: AtomicU64,
    /// Transactions so far, readable while one is under way.
    commits: AtomicU64,
    /// The snapshot version of the index, to be written down with the next transaction.
    index_version: AtomicU64,
    pub(super) buckets: Buckets,
    pub(super) bucket_log: BucketLog,
    pub(super) memory: Memory,
    pub(super) activity: Activity,
    pub(super) known: Arc<Known>,
    group: Group,
}

struct Committer {
    state: LedgerState,
    /// Stays set if a transaction panicked.
    is_at_it: bool,
}

impl fmt::Debug for RedbLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbLedger").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

impl RedbLedger {
    /// Creates the file with its first state; it appears whole or not at all.
    pub(crate) fn create(dir: &Path, options: &DbOptions, first: &LedgerState) -> Result<()> {
        let temporary = dir.join(format!("{FILE_NAME}.tmp"));
        options.disk.remove_file(&temporary)?;
        let db = Db::create(&temporary, options)?;
        db.write(|txn| state::write(&db, txn, first))?;
        drop(db);
        options.disk.rename(&temporary, &dir.join(FILE_NAME))
    }

    /// Opens the file. A missing one is an error: a fresh ledger would refill every budget.
    pub(crate) fn open(dir: &Path, options: &LedgerOptions) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        if !options.database.disk.exists(&path)? {
            return Err(Error::LedgerMissing { path });
        }
        let db = Db::open(&path, &options.database, "an unlisted ledger")?;
        let (state, eras, standings) =
            db.read(|txn| Ok((state::read(&db, txn)?, policy_rows::read(&db, txn)?, standing::count(&db, txn)?)))?;
        let bucket_log = db.read(|txn| BucketLog::open(&db, txn, options.active_buckets))?;
        let time = LedgerTime::resume(options.clock.clone(), state.mark, options.max_clock_jump);
        let known = Arc::new(Known::default());
        let quotas = Arc::new(Quotas::new(state.policy_version, state.policy.clone(), eras));
        Ok(Self {
            activity: Activity::open(&db, options.activity, &time, options.background)?,
            time,
            poison: OnceLock::new(),
            changing: Mutex::new(()),
            standings: AtomicU64::new(standings),
            commits: AtomicU64::new(state.commits),
            index_version: AtomicU64::new(state.index_version),
            committer: Mutex::new(Committer { state, is_at_it: false }),
            buckets: Buckets::new(options.active_buckets, options.max_lease, &quotas),
            bucket_log,
            quotas: ArcSwap::new(quotas),
            memory: Memory::open(
                &db,
                known.clone(),
                options.novelty_window,
                options.novelty_bytes,
                options.background,
            )?,
            known,
            group: Group::default(),
            db,
        })
    }

    pub(crate) fn state(&self) -> LedgerState {
        self.committer.lock().state.clone()
    }

    /// Reads every page of the file; returns how many were right.
    pub(crate) fn verify(&self) -> Result<u64> {
        self.db.verify()
    }

    pub(crate) fn path(&self) -> &Path {
        self.db.path()
    }

    /// The file as it is now, and where it stands.
    pub(crate) fn snapshot(&self) -> Result<(Snapshot, LedgerState)> {
        let committer = self.committer.lock();
        self.check_poison()?;
        Ok((self.db.snapshot()?, committer.state.clone()))
    }

    /// Begins a run of the index.
    pub(crate) fn enter_epoch(&self, epoch: u64) -> Result<()> {
        self.commit(|_, state| {
            state.epoch = epoch;
            Ok(())
        })
    }

    /// Goes on from at least these counts, those of the ledger that this one is an older copy of.
    pub(crate) fn skip_to(&self, epoch: u64, commits: u64) -> Result<()> {
        self.commit(|_, state| {
            state.epoch = state.epoch.max(epoch);
            state.commits = state.commits.max(commits);
            Ok(())
        })
    }

    /// Tells the ledger how far the index is; it is written down with the next transaction.
    pub(crate) fn note_index_version(&self, version: u64) {
        self.index_version.fetch_max(version, Ordering::Relaxed);
    }

    /// Asks the memory for what a charge of these scopes will read, while the caller does something else.
    pub(crate) fn ask_for(&self, scopes: &[Scope<'_>]) {
        self.buckets.ask_for(scopes);
    }

    /// Is there a quota for everyone together?
    pub(crate) fn limits_everyone(&self) -> bool {
        self.quotas.load().policy().everyone().is_some()
    }

    /// Transactions so far.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// For a clean close, when no charge is under way: writes down where the ledger stands and what callers paid for,
    /// and gives back what was leased and not spent.
    pub(crate) fn settle(&self) -> Result<()> {
        let mut spent = self.buckets.unspent(self.time.ledger_ns());
        spent.sort_unstable();
        self.commit_table(|_| Ok(()))?;
        for part in spent.chunks(SETTLED_AT_ONCE) {
            self.commit_table(|txn| bucket_rows::write(&self.db, txn, part))?;
        }
        self.write_novelty()?;
        self.write_activity()?;
        self.commit(|_, _| Ok(()))
    }

    /// Is it time to write down what callers paid for, or to learn anew who has rows?
    pub(crate) fn is_work_due(&self) -> bool {
        self.memory.is_due() || self.known.is_outgrown()
    }

    /// Runs `work` while no transaction is under way.
    pub(super) fn between_commits(&self, work: impl FnOnce()) {
        let _committer = self.committer.lock();
        work();
    }

    /// Writes down what callers paid for since the last time, and how far the index is.
    pub(crate) fn write_novelty(&self) -> Result<()> {
        let mut is_behind = self.committer.lock().state.index_version < self.index_version.load(Ordering::Relaxed);
        // Those that wait now. Lookups queue the same callers again meanwhile, with a few numbers each.
        let mut waiting = self.memory.take(usize::MAX);
        while std::mem::take(&mut is_behind) || !waiting.is_empty() {
            self.commit(|txn, _| self.memory.write(&self.db, txn, &mut waiting, NUMBERS_AT_ONCE))?;
        }
        Ok(())
    }

    pub(super) fn write_some_novelty(&self) -> Result<()> {
        let mut waiting = self.memory.take_some();
        // A thread that is writing just now may have taken everybody who waits: then there is nothing to commit.
        if waiting.is_empty() {
            return Ok(());
        }
        self.commit(|txn, _| self.memory.write(&self.db, txn, &mut waiting, usize::MAX))
    }

    /// Forgets what was paid for before the window.
    pub(crate) fn forget_novelty(&self) -> Result<()> {
        let now_ns = self.time.ledger_ns();
        while self.memory.has_expired(now_ns) {
            self.commit(|txn, _| self.memory.forget(&self.db, txn, now_ns))?;
        }
        Ok(())
    }

    /// Forgets which numbers callers paid for. Their debt stays.
    pub(crate) fn erase_novelty(&self, callers: &[ScopeId]) -> Result<()> {
        callers.iter().for_each(|caller| self.memory.clear(*caller));
        // Most accounts that are erased never asked, and have no rows.
        let known: Vec<ScopeId> = callers.iter().copied().filter(|caller| self.known.may_have(*caller)).collect();
        for some in known.chunks(ERASED_AT_ONCE) {
            self.commit(|txn, _| {
                some.iter().try_for_each(|caller| {
                    // Before the rows go, so that nothing puts them back, and after, so that nothing read them meanwhile.
                    self.memory.clear(*caller);
                    self.memory.erase(&self.db, txn, *caller)
                })
            })?;
            some.iter().for_each(|caller| self.memory.clear(*caller));
        }
        Ok(())
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

    /// One durable transaction, or a poisoned ledger: after a failed write what is on disk is not known.
    pub(super) fn commit<T>(
        &self,
        work: impl FnOnce(&WriteTransaction, &mut LedgerState) -> Result<T>,
    ) -> Result<T> {
        let mut committer = self.committer.lock();
        self.check_poison()?;
        if std::mem::replace(&mut committer.is_at_it, true) {
            self.poison.get_or_init(|| "a thread panicked in a transaction".to_owned());
            return self.check_poison().and(Err(Error::Panicked { during: "commit to the ledger" }));
        }
        let mut next = committer.state.clone();
        next.commits += 1;
        next.mark = self.time.now();
        next.index_version = next.index_version.max(self.index_version.load(Ordering::Relaxed));
        let result = self.db.write(|txn| {
            let done = work(txn, &mut next)?;
            state::write(&self.db, txn, &next)?;
            Ok(done)
        });
        committer.is_at_it = false;
        if result.is_ok() {
            self.commits.store(next.commits, Ordering::Release);
            committer.state = next;
        }
        self.or_poison(result)
    }

    /// Runs `work` while no transaction is under way and none begins.
    pub(super) fn with_committer<T>(&self, work: impl FnOnce(&LedgerState) -> Result<T>) -> Result<T> {
        let committer = self.committer.lock();
        self.check_poison()?;
        work(&committer.state)
    }

    /// An error after which it is not known what is on disk.
    pub(super) fn or_poison<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.poison.get_or_init(|| error.with_causes());
        }
        result
    }

    pub(crate) fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            Some(cause) => Err(Error::Poisoned { what: "ledger", cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// The charge of a lookup, paid by `pay`, which is told the moment and how many numbers are novel, and whose grant is
    /// durable when it returns.
    #[inline]
    pub(super) fn charge_by(
        &self,
        scopes: &[Scope<'_>],
        fingerprints: &[u32],
        pay: impl FnOnce(u64, u64) -> Result<Grant>,
    ) -> Result<Verdict> {
        self.check_poison()?;
        let now_ns = self.time.ledger_ns();
        let caller = scopes.first().map(|scope| scope.id).unwrap_or_default();
        let remembered = self.memory.recall(&self.db, caller, now_ns)?;

        let mut novel = match &remembered {
            Some(remembered) => remembered.lock().novel(fingerprints),
            None => (0..fingerprints.len() as u32).collect(),
        };
        let grant = pay(now_ns, novel.len() as u64)?;
        let granted = usize::try_from(grant.granted).unwrap_or(usize::MAX).min(novel.len());
        let deferred = novel.split_off(granted);
        // Only now: what is remembered is free, so it must be paid for good.
        if let Some(remembered) = remembered.filter(|_| granted > 0) {
            self.memory.remember(caller, &remembered, now_ns, &at_positions(fingerprints, &novel), |_| ());
            if self.memory.must_write(now_ns) {
                self.write_some_novelty()?;
            }
        }
        Ok(Verdict { grant, charged: novel, deferred, withheld: Vec::new() })
    }

    /// Charges as many numbers as are wanted, or fewer, to all scopes alike; durable when it returns.
    pub(super) fn pay(&self, scopes: &[Scope<'_>], now_ns: u64, want: impl Into<Want>) -> Result<Grant> {
        let want = want.into();
        let mut loaded = Loaded::default();
        let (grant, advances) = loop {
            match self.buckets.charge(scopes, now_ns, want, std::mem::take(&mut loaded)) {
                Attempt::Decided(grant, advances) => break (grant, advances),
                Attempt::Missing(missing) => loaded = self.load(scopes, missing)?,
                Attempt::Stale => {}
                Attempt::Suspended(at) => return Err(suspended(scopes, at)),
            }
        };
        if !advances.is_empty() {
            let outcome = self.group.commit(advances, |advances| self.advance(advances))?;
            self.check_poison()?;
            if outcome == Outcome::Failed {
                return Err(Error::Panicked { during: "commit to the ledger" });
            }
        }
        Ok(grant)
    }

    /// Refuses a bucket of a policy that was never set: a charge would wait for that policy for ever.
    fn check_policy_of(&self, txn: &ReadTransaction, bucket: &BucketState) -> Result<()> {
        let is_known = bucket.version <= self.quotas.load().version;
        // Or it came just now.
        if is_known || bucket.version <= state::read(&self.db, txn)?.policy_version {
            return Ok(());
        }
        let reason = "it is of a policy that was never set";
        Err(Error::DamagedRow { path: self.path().to_owned(), table: bucket_rows::NAME, reason })
    }

    /// Reads what the file says of scopes that are not in memory.
    pub(super) fn load(&self, scopes: &[Scope<'_>], mut missing: Loaded) -> Result<Loaded> {
        let wanted: Vec<usize> = missing.missing().collect();
        let ids = wanted.into_iter().filter_map(|at| scopes.get(at).map(|scope| (at, scope.id)));
        // Asked after the evictions were counted, as the file is, so that both answers are held to the count.
        let (known, unknown): (Vec<_>, Vec<_>) = ids.partition(|(_, id)| self.known.may_have(*id));
        for (at, id) in unknown {
            missing.fill(at, BucketState::unknown(id), Standing::default());
        }
        if known.is_empty() {
            return Ok(missing);
        }
        let has_standings = self.standings.load(Ordering::Acquire) > 0;
        let (mut found, mut rest) = (Vec::with_capacity(known.len()), Vec::new());
        for (at, id) in known {
            match self.bucket_log.get(id) {
                Some(state) => found.push((at, state)),
                None => rest.push((at, id)),
            }
        }
        self.db.read(|txn| {
            bucket_rows::read(&self.db, txn, rest.into_iter(), |at, state| found.push((at, state)))?;
            for (at, state) in found {
                self.check_policy_of(txn, &state)?;
                let standing = match has_standings {
                    true => standing::read(&self.db, txn, state.id)?,
                    false => Standing::default(),
                };
                missing.fill(at, state, standing);
            }
            Ok(())
        })?;
        Ok(missing)
    }

    /// Makes the states of many charges durable together.
    pub(super) fn advance(&self, mut advances: Advances) -> Result<()> {
        advances.sort_unstable();
        advances.dedup();
        let states = self.commit(|txn, _| {
            self.known.add(advances.iter().copied());
            // Only now: no other transaction is under way, and what an earlier one wrote was wanted earlier.
            let states = self.buckets.wanted(&advances);
            self.bucket_log.write(&self.db, txn, &states)?;
            // What waits long enough goes along.
            if self.memory.must_write(self.time.ledger_ns()) {
                self.memory.write(&self.db, txn, &mut self.memory.take_some(), usize::MAX)?;
            }
            Ok(states)
        })?;
        self.buckets.advanced(&states);
        Ok(())
    }
}

/// The fingerprints at these positions.
pub(super) fn at_positions(fingerprints: &[u32], positions: &[u32]) -> Vec<u32> {
    if positions.len() == fingerprints.len() {
        return fingerprints.to_vec();
    }
    positions.iter().map(|at| fingerprints.get(*at as usize).copied().unwrap_or_default()).collect()
}

#[cold]
fn suspended(scopes: &[Scope<'_>], at: usize) -> Error {
    let scope = scopes.get(at).map_or(ScopeKind::Caller, |scope| scope.kind).name();
    Error::Suspended { scope: scope.to_owned() }
}

impl Ledger for RedbLedger {
    fn charge(&self, scopes: &[Scope<'_>], fingerprints: &[u32]) -> Result<Verdict> {
        debug_assert!(scopes.len() <= MAX_SCOPES);
        self.charge_by(scopes, fingerprints, |now_ns, want| self.pay(scopes, now_ns, want))
    }

    fn policy(&self) -> Arc<QuotaPolicy> {
        self.quotas.load().policy().clone()
    }
}
