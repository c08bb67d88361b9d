//! Three nodes and one whole index live the same history: every reply, count and record is the same.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use unlisted::{
    AccountId, Caller, DisclosureMode, Index, Listing, LookupOptions, OptIns, Options, Origin, Purpose, Quota,
    QuotaPolicy, TopBy, TopQuery, Version,
};

use super::common::number;
use super::fleet::{Change, Fleet, ask, open_whole, span, update};

const NUMBERS: u64 = 30;
const ACCOUNTS: u64 = 8;
const CALLERS: u64 = 3;
const NODES: [&str; 3] = ["a", "b", "c"];
/// Numbers that only tripwires have.
const NOBODYS: std::ops::Range<u64> = 100..104;

#[derive(Debug, Clone)]
enum Op {
    Update(Vec<Change>),
    Import(Vec<Change>),
    Erase { accounts: Vec<u64>, version: u64 },
    Tripwires(bool),
    Fold(usize),
    Reopen(usize),
    Pass { minutes: u64 },
    Move { from: u32, len: u32, to: usize, meanwhile: Vec<Change> },
    Lookup { caller: u64, purpose: usize, mode: DisclosureMode, numbers: Vec<u64> },
}

fn change(removals: bool) -> impl Strategy<Value = Change> {
    let opt_ins =
        if removals { prop::option::weighted(0.8, 0_u8..128).boxed() } else { (0_u8..128).prop_map(Some).boxed() };
    (0..NUMBERS, 0..ACCOUNTS, opt_ins, 0_u64..12)
}

fn lookup() -> impl Strategy<Value = Op> {
    let numbers = prop_oneof![9 => 0..NUMBERS, 1 => NOBODYS];
    let mode = prop::sample::select(DisclosureMode::ALL.to_vec());
    (0..CALLERS, 0..6_usize, mode, prop::collection::vec(numbers, 0..20))
        .prop_map(|(caller, purpose, mode, numbers)| Op::Lookup { caller, purpose, mode, numbers })
}

fn erasure() -> impl Strategy<Value = Op> {
    (prop::collection::vec(0..ACCOUNTS, 1..3), 0_u64..12)
        .prop_map(|(accounts, version)| Op::Erase { accounts, version })
}

fn op() -> impl Strategy<Value = Op> {
    let changes = |len| prop::collection::vec(change(true), len);
    let moved = (0..16_u32, 1..8_u32, 0..3_usize, changes(0..6));
    prop_oneof![
        5 => changes(1..10).prop_map(Op::Update),
        2 => prop::collection::vec(change(false), 1..30).prop_map(Op::Import),
        1 => erasure(),
        1 => any::<bool>().prop_map(Op::Tripwires),
        1 => (0..3_usize).prop_map(Op::Fold),
        1 => (0..3_usize).prop_map(Op::Reopen),
        1 => (1..3_000_u64).prop_map(|minutes| Op::Pass { minutes }),
        3 => moved.prop_map(|(from, len, to, meanwhile)| Op::Move { from, len, to, meanwhile }),
        8 => lookup(),
    ]
}

/// Budgets that run short now and then.
fn tune(options: Options) -> Options {
    let quotas = QuotaPolicy::of_caller(Quota::per_hour(40, 5).unwrap())
        .with_origin("network", Quota::per_hour(60, 9).unwrap())
        .unwrap();
    options
        .quotas(quotas)
        .unlinked_min_novel(3)
        .novelty_window(Duration::from_secs(86_400))
        // Removals outlive every test, so that the model need not date them.
        .removal_retention(Duration::from_secs(100 * 365 * 86_400))
}

struct Pair {
    fleet: Fleet,
    whole: Index,
}

fn caller(number: u64) -> Caller {
    // Two of the three come from one network.
    let network = Origin::network([198, 51, (number / 2) as u8, 7].into());
    Caller::new(format!("caller-{number}")).via(network)
}

impl Pair {
    fn new() -> Self {
        let fleet = Fleet::new(&NODES, tune);
        let whole = open_whole(&fleet.dir.path().join("whole"), fleet.options());
        Self { fleet, whole }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Update(changes) => self.update(changes),
            Op::Import(changes) => self.import(changes),
            Op::Erase { accounts, version } => {
                let ids: Vec<AccountId> = accounts.iter().map(|account| AccountId::from(*account)).collect();
                let removed = self.whole.erase_accounts_at(&ids, *version).unwrap().removed;
                let erase = |node: &Index| node.erase_accounts_at(&ids, *version).unwrap().removed;
                assert_eq!(self.fleet.nodes.values().map(erase).sum::<usize>(), removed);
            }
            Op::Tripwires(is_set) => {
                let set = |index: &Index| match is_set {
                    true => index.set_tripwires(NOBODYS.map(number)).unwrap(),
                    false => index.remove_tripwires(NOBODYS.map(number)).unwrap(),
                };
                assert_eq!(self.fleet.nodes.values().map(set).sum::<usize>(), set(&self.whole));
            }
            Op::Fold(node) => {
                self.fleet.node(NODES[*node]).fold().unwrap();
            }
            Op::Reopen(node) => self.fleet.open(NODES[*node]),
            Op::Pass { minutes } => self.fleet.clock.advance(Duration::from_secs(minutes * 60)),
            Op::Move { from, len, to, meanwhile } => {
                let moved = span(from << 12, (from + len).min(16) << 12);
                let mut rest = meanwhile.chunks(2);
                let whole = &self.whole;
                self.fleet.move_range(moved, NODES[*to], |fleet| {
                    let some = rest.next().unwrap_or_default();
                    fleet.update(some);
                    update(whole, some, None);
                });
            }
            Op::Lookup { caller, purpose, mode, numbers } => self.compare(*caller, *purpose, *mode, numbers),
        }
    }

    fn update(&self, changes: &[Change]) {
        let expected = update(&self.whole, changes, None);
        let reports = self.fleet.update(changes);
        assert_eq!(reports.iter().map(|report| report.applied).sum::<usize>(), expected.applied);
        assert_eq!(reports.iter().map(|report| report.stale).sum::<usize>(), expected.stale);
        let elsewhere = reports.iter().map(|report| report.elsewhere).sum::<usize>();
        assert_eq!(elsewhere, (NODES.len() - 1) * changes.len());
    }

    fn import(&self, changes: &[Change]) {
        let rows = || {
            changes.iter().map(|(of, account, opt_ins, version)| Listing {
                hash: number(*of),
                account: AccountId::from(*account),
                opt_ins: OptIns::from_bits_truncate(opt_ins.unwrap_or(0)),
                version: Version::new(*version).unwrap(),
            })
        };
        let expected = self.whole.import(rows()).unwrap();
        let reports = self.fleet.nodes.values().map(|node| node.import(rows()).unwrap());
        // How many are stale depends on what is folded, which moves do.
        let kept = reports.map(|report| {
            assert_eq!(report.rows + report.elsewhere, changes.len() as u64);
            report.rows
        });
        assert_eq!(kept.sum::<u64>(), expected.rows);
    }

    fn compare(&self, of: u64, purpose: usize, mode: DisclosureMode, numbers: &[u64]) {
        let (purpose, caller) = (Purpose::ALL[purpose], caller(of));
        let hashes: Vec<_> = numbers.iter().map(|i| number(*i)).collect();
        let options = LookupOptions::default().mode(mode);
        let expected = self.whole.lookup_with(&caller, purpose, &hashes, options).unwrap();
        let reply = ask(self.fleet.node("a"), &self.fleet.nodes, &caller, purpose, &hashes, options).unwrap();
        assert_eq!(reply, expected);
        let shown = |index: &Index| -> BTreeSet<(AccountId, u8)> {
            let rows = index.inspector().disclosed_to(&caller).unwrap();
            rows.iter().map(|row| (row.account, row.purpose_bit)).collect()
        };
        let of_nodes: BTreeSet<_> = self.fleet.nodes.values().flat_map(shown).collect();
        assert_eq!(of_nodes, shown(&self.whole), "who was shown is on record");
        let activity = |index: &Index| {
            let query = TopQuery::new(TopBy::Charged).caller(&caller);
            format!("{:?}", index.inspector().top_callers(&query).unwrap().rows)
        };
        assert_eq!(activity(self.fleet.node("a")), activity(&self.whole));
    }

    fn check(&self) {
        let stats = |index: &Index| {
            let stats = index.stats().unwrap();
            (stats.listings, stats.opted_in, stats.tripwires)
        };
        let sum = self
            .fleet
            .nodes
            .values()
            .map(stats)
            .fold((0, 0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1, sum.2 + of.2));
        assert_eq!(sum, stats(&self.whole));
        for node in self.fleet.nodes.values() {
            node.verify(|_, _| ()).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: super::setting("UNLISTED_SHARD_CASES", 10),
        ..ProptestConfig::default()
    })]

    #[test]
    fn parts_answer_as_one_index_does(ops in prop::collection::vec(op(), 1..24)) {
        let mut pair = Pair::new();
        for op in &ops {
            pair.apply(op);
        }
        pair.check();
        NODES.iter().for_each(|node| pair.fleet.open(node));
        pair.check();
        let everything: Vec<u64> = (0..NUMBERS).chain(NOBODYS).collect();
        for (of, mode) in DisclosureMode::ALL.into_iter().enumerate() {
            pair.fleet.clock.advance(Duration::from_secs(40 * 86_400));
            pair.compare(of as u64 % CALLERS, of, mode, &everything);
        }
    }
}
