//! What an index must hold: its listings, what was shown, and what every budget has left at most.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use unlisted::{DisclosureQuery, Index, OptIns, Purpose, Quota, QuotaPolicy, Reply};

use super::history::{ACCOUNTS, Asker, CALLERS, Change, NETWORKS, NUMBERS, Plan, Step, account, hashes};

/// Number and account to opt-ins (none if removed) and version, and the watermark.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listings {
    rows: BTreeMap<(u64, u64), (Option<OptIns>, u64)>,
    pub watermark: Option<Vec<u8>>,
}

impl Listings {
    /// Takes a change if it is newer; says whether it did.
    fn take(&mut self, (number, account, opt_ins, version): Change) -> bool {
        let newer = self.rows.get(&(number, account)).is_none_or(|(_, stored)| version > *stored);
        if newer {
            self.rows.insert((number, account), (opt_ins, version));
        }
        newer
    }

    /// What a step makes of the listings; how many changes were newer.
    pub fn apply(&mut self, step: &Step, mark: &[u8]) -> usize {
        let unhidden = |change: Change| (change.0, change.1, Some(change.2.unwrap_or(OptIns::empty())), change.3);
        match step {
            Step::Update(changes) => {
                self.watermark = Some(mark.to_vec());
                changes.iter().filter(|change| self.take(**change)).count()
            }
            Step::SetOptIns(change) => usize::from(self.take(unhidden(*change))),
            Step::Import(changes) => changes.iter().filter(|change| self.take(unhidden(**change))).count(),
            Step::Erase(accounts) => self.erase(accounts),
            Step::Fold
            | Step::Compact
            | Step::Vacuum
            | Step::Backup(_)
            | Step::Reopen
            | Step::Wait(_)
            | Step::Lookup { .. } => 0,
        }
    }

    fn erase(&mut self, accounts: &[u64]) -> usize {
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for ((_, of), (_, version)) in &self.rows {
            let most = newest.entry(*of).or_default();
            *most = (*most).max(*version);
        }
        let mut removed = 0;
        for ((_, of), state) in &mut self.rows {
            if accounts.contains(of) && state.0.is_some() {
                *state = (None, newest[of]);
                removed += 1;
            }
        }
        removed
    }

    /// Accounts that a number shows for a purpose.
    fn shown(&self, number: u64, purpose: Purpose) -> impl Iterator<Item = u64> {
        let rows = self.rows.range((number, 0)..=(number, u64::MAX));
        rows.filter(move |(_, (opt_ins, _))| {
            opt_ins.is_some_and(|opt_ins| crate::common::is_shown(opt_ins, purpose))
        })
        .map(|((_, of), _)| *of)
    }

    /// Is this what a lookup of these numbers must say?
    fn agrees(&self, reply: &Reply, purpose: Purpose, numbers: &[u64]) -> bool {
        let deferred: BTreeSet<usize> = reply.deferred().collect();
        let mut expected = Vec::new();
        for (position, number) in numbers.iter().enumerate().filter(|(at, _)| !deferred.contains(at)) {
            expected.extend(self.shown(*number, purpose).map(|of| (position, account(of))));
        }
        let mut found: Vec<_> = reply.matches().map(|found| (found.position, found.account)).collect();
        expected.sort_unstable();
        found.sort_unstable();
        found == expected
    }

    pub fn live(&self) -> u64 {
        self.rows.values().filter(|(opt_ins, _)| opt_ins.is_some()).count() as u64
    }
}

/// One scope's bucket: full at first, never above its burst, refilled by time alone.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    quota: Quota,
    credit_ns: u64,
    at_ns: u64,
}

/// What was answered: who saw whom, and what it cost.
#[derive(Debug, Clone)]
pub struct Books {
    policy: QuotaPolicy,
    buckets: BTreeMap<String, Bucket>,
    answered: BTreeMap<String, BTreeSet<u64>>,
    now_ns: u64,
    /// Name of the caller, account, purpose; `false` if it is not known whether the log has it.
    shown: BTreeMap<(String, u64, Purpose), bool>,
}

impl Books {
    pub fn new(plan: Plan) -> Self {
        let policy = plan.policy();
        let (buckets, answered) = (BTreeMap::new(), BTreeMap::new());
        Self { policy, buckets, answered, now_ns: 0, shown: BTreeMap::new() }
    }

    pub fn wait(&mut self, time: Duration) {
        self.now_ns += time.as_nanos() as u64;
    }

    fn scopes(&self, asker: &Asker) -> Vec<(String, Quota)> {
        let mut scopes = vec![(asker.name.clone(), self.policy.caller())];
        let network = asker.network.and_then(|at| Some((format!("network {at}"), self.policy.origin("network")?)));
        scopes.extend(network);
        scopes.extend(self.policy.everyone().map(|quota| ("everyone".to_owned(), quota)));
        scopes
    }

    /// Takes an answer to the books. Nobody may have got more than every budget had.
    pub fn note(
        &mut self,
        listings: &[Listings],
        (asker, purpose, numbers): (&Asker, Purpose, &[u64]),
        reply: &Reply,
    ) {
        let agrees = listings.iter().any(|listings| listings.agrees(reply, purpose, numbers));
        assert!(
            agrees,
            "{asker:?} asks {numbers:?} for {purpose}: {reply:?} is the answer of none of {listings:#?}"
        );
        let deferred: BTreeSet<usize> = reply.deferred().collect();
        let known = self.answered.entry(asker.name.clone()).or_default();
        let answered = numbers.iter().enumerate().filter(|(at, _)| !deferred.contains(at));
        let novel = answered.filter(|(_, number)| known.insert(**number)).count() as u64;
        for (scope, quota) in self.scopes(asker) {
            let (now_ns, full_ns) = (self.now_ns, quota.burst() * quota.interval_ns());
            let bucket = Bucket { quota, credit_ns: full_ns, at_ns: now_ns };
            let bucket = self.buckets.entry(scope.clone()).or_insert(bucket);
            bucket.credit_ns = (bucket.credit_ns + now_ns - bucket.at_ns).min(full_ns);
            bucket.at_ns = now_ns;
            let cost_ns = novel * bucket.quota.interval_ns();
            let left = bucket.credit_ns / bucket.quota.interval_ns();
            assert!(cost_ns <= bucket.credit_ns, "{scope} got {novel} new numbers and had {left}");
            bucket.credit_ns -= cost_ns;
        }
        for found in reply.matches() {
            let of = (0..ACCOUNTS).find(|of| account(*of) == found.account).expect("an account of the history");
            self.shown.insert((asker.name.clone(), of, purpose), true);
        }
    }

    /// A lookup failed or was under way: what it was to show may be on record.
    pub fn may_show(&mut self, listings: &[Listings], asker: &Asker, purpose: Purpose, numbers: &[u64]) {
        for of in listings.iter().flat_map(|listings| numbers.iter().flat_map(|at| listings.shown(*at, purpose))) {
            self.shown.entry((asker.name.clone(), of, purpose)).or_insert(false);
        }
    }

    /// An erasure ended, or may have.
    pub fn erase(&mut self, accounts: &[u64], is_done: bool) {
        if is_done {
            self.shown.retain(|(_, of, _), _| !accounts.contains(of));
        }
        let of_them = self.shown.iter_mut().filter(|((_, of, _), _)| accounts.contains(of));
        of_them.for_each(|(_, is_sure)| *is_sure = false);
    }

    /// The power went: what was written and not synced may be lost.
    pub fn lose_unsynced(&mut self) {
        self.shown.values_mut().for_each(|is_sure| *is_sure = false);
    }

    /// Is on record what was shown, and nothing else?
    pub fn check_shown(&self, index: &Index) {
        let inspector = index.inspector();
        let names: BTreeMap<_, _> = self
            .shown
            .keys()
            .map(|(name, _, _)| {
                let asker = Asker { name: name.clone(), network: None };
                (inspector.token_of(&asker.caller()), name)
            })
            .collect();
        let mut found = BTreeSet::new();
        for row in inspector.disclosures(&DisclosureQuery::new()).expect("the log is read") {
            let row = row.expect("a row of the log");
            let name = names.get(&row.caller).expect("somebody else was shown something");
            let of = (0..ACCOUNTS).find(|of| account(*of) == row.shown.account).expect("a known account");
            found.insert(((*name).clone(), of, row.shown.purpose().expect("a known purpose")));
        }
        let missing: Vec<_> = self.shown.iter().filter(|(row, sure)| **sure && !found.contains(*row)).collect();
        assert!(missing.is_empty(), "shown and not on record: {missing:?}");
        let more: Vec<_> = found.iter().filter(|row| !self.shown.contains_key(*row)).collect();
        assert!(more.is_empty(), "on record and not shown: {more:?}");
    }

    /// Every caller asks for more than it may have, or every network, by the life.
    pub fn drain(&mut self, index: &Index, listings: &[Listings], life: u64) {
        let callers = (0..CALLERS).map(|i| Asker { name: format!("caller {i}"), network: None });
        let via = (0..NETWORKS).flat_map(|network| {
            (0..2).map(move |i| Asker { name: format!("drain {life} {network} {i}"), network: Some(network) })
        });
        let askers: Vec<Asker> = if life.is_multiple_of(2) { callers.collect() } else { via.collect() };
        for asker in askers {
            let numbers: Vec<u64> = (10_000 * (life + 1)..).take(100).collect();
            let reply = index.lookup(&asker.caller(), Purpose::Payments, &hashes(&numbers));
            self.note(listings, (&asker, Purpose::Payments, &numbers), &reply.expect("the drain is answered"));
        }
    }
}

/// Right after a restore nobody has any budget.
pub fn check_is_spent(index: &Index) {
    for name in (0..CALLERS).map(|i| format!("caller {i}")).chain(["somebody new".to_owned()]) {
        let asker = Asker { name, network: Some(0) };
        let numbers: Vec<u64> = (500_000..500_010).collect();
        let reply = index.lookup(&asker.caller(), Purpose::Payments, &hashes(&numbers));
        assert_eq!(reply.expect("the lookup is answered").charged(), 0, "a restore gave {asker:?} budget");
    }
}

/// Looks at every listing; returns those of the candidates that the index may hold.
pub fn audit(index: &Index, books: &mut Books, candidates: &[Listings], life: u64) -> Vec<Listings> {
    let numbers: Vec<u64> = (0..NUMBERS).collect();
    let asker = Asker { name: format!("auditor {life}"), network: None };
    let mut left = candidates.to_vec();
    left.retain(|listings| listings.watermark == index.watermark());
    assert!(!left.is_empty(), "the watermark is {:?}, and none of {candidates:#?}", index.watermark());
    for purpose in Purpose::ALL {
        let reply = index.lookup(&asker.caller(), purpose, &hashes(&numbers)).expect("the audit is answered");
        assert_eq!(reply.deferred().count(), 0, "the auditor's budget is wide");
        books.note(&left, (&asker, purpose, &numbers), &reply);
        left.retain(|listings| listings.agrees(&reply, purpose, &numbers));
    }
    let count = index.stats().expect("figures").listings;
    let counts: Vec<u64> = left.iter().map(Listings::live).collect();
    assert!(counts.contains(&count), "{count} listings, and not one of {counts:?}");
    left.retain(|listings| listings.live() == count);
    left
}
