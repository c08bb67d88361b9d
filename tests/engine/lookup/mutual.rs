//! Listings with a mutual audience, against a plain model: they answer those whose number their account asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use unlisted::{
    AccountId, Caller, DisclosureMode, Error, Index, Listing, LookupOptions, ManualClock, OptIns, Purpose, Quota,
    QuotaPolicy, Version,
};

use crate::common;

/// Account `a` has the number `a`.
const ACCOUNTS: u64 = 6;
/// Longer than what is paid for is remembered: a window and a quarter of it.
const FORGOTTEN: Duration = Duration::from_secs(76 * 86_400);

#[derive(Debug, Clone)]
enum Op {
    Put { account: u64, opt_ins: u8 },
    Import { account: u64, opt_ins: u8 },
    Remove { account: u64 },
    Ask { by: By, numbers: BTreeSet<u64>, purpose: usize },
    Forget { account: u64 },
    Fold,
    Reopen,
    PassLong,
}

#[derive(Debug, Clone, Copy)]
enum By {
    /// The account as itself, with its number.
    Account(u64),
    /// Somebody by another name, with the number of this account.
    OtherName(u64),
    /// The account as itself; the host does not say what its number is.
    NoNumber(u64),
}

impl By {
    fn caller(self) -> Caller {
        match self {
            Self::Account(a) => Caller::of_account(AccountId::from(a)).own_number(common::number(a)),
            Self::OtherName(a) => Caller::new(format!("name-{a}")).own_number(common::number(a)),
            Self::NoNumber(a) => Caller::of_account(AccountId::from(a)),
        }
    }

    fn number(self) -> Option<u64> {
        match self {
            Self::Account(a) | Self::OtherName(a) => Some(a),
            Self::NoNumber(_) => None,
        }
    }

    fn account(self) -> Option<u64> {
        match self {
            Self::Account(a) | Self::NoNumber(a) => Some(a),
            Self::OtherName(_) => None,
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let account = || 0..ACCOUNTS;
    // Most are mutual for the two purposes that are asked about.
    let opt_ins = || prop_oneof![3 => 0x40_u8..0x44, 1 => 0_u8..4, 1 => 0_u8..128];
    let by = prop_oneof![
        5 => account().prop_map(By::Account),
        1 => account().prop_map(By::OtherName),
        1 => account().prop_map(By::NoNumber),
    ];
    let numbers = prop::collection::btree_set(0..ACCOUNTS + 2, 0..6);
    prop_oneof![
        4 => (account(), opt_ins()).prop_map(|(account, opt_ins)| Op::Put { account, opt_ins }),
        1 => (account(), opt_ins()).prop_map(|(account, opt_ins)| Op::Import { account, opt_ins }),
        1 => account().prop_map(|account| Op::Remove { account }),
        12 => (by, numbers, 0_usize..2).prop_map(|(by, numbers, purpose)| Op::Ask { by, numbers, purpose }),
        1 => account().prop_map(|account| Op::Forget { account }),
        1 => Just(Op::Fold),
        1 => Just(Op::Reopen),
        1 => Just(Op::PassLong),
    ]
}

#[derive(Default)]
struct Model {
    listings: BTreeMap<u64, OptIns>,
    /// Which account asked for which number.
    asked: BTreeSet<(u64, u64)>,
}

impl Model {
    fn is_shown(&self, number: u64, by: By, purpose: Purpose) -> bool {
        let Some(opt_ins) = self.listings.get(&number) else { return false };
        let has_asked = || by.number().is_some_and(|own| self.asked.contains(&(number, own)));
        opt_ins.allows(purpose) && (!opt_ins.contains(OptIns::MUTUAL) || has_asked())
    }
}

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Index {
    common::open(dir, clock)
}

fn apply(index: &Index, model: &mut Model, op: &Op, version: u64) {
    match op {
        Op::Put { account, opt_ins } => {
            let opt_ins = OptIns::from_bits_truncate(*opt_ins);
            index.set_opt_ins(common::number(*account), AccountId::from(*account), opt_ins, version).unwrap();
            model.listings.insert(*account, opt_ins);
        }
        Op::Import { account, opt_ins } => {
            let (hash, opt_ins) = (common::number(*account), OptIns::from_bits_truncate(*opt_ins));
            let version = Version::new(version).unwrap();
            index.import([Listing { hash, account: AccountId::from(*account), opt_ins, version }]).unwrap();
            model.listings.insert(*account, opt_ins);
        }
        Op::Remove { account } => {
            let (hash, of) = (common::number(*account), AccountId::from(*account));
            index.update(|batch| batch.remove(hash, of, version)).unwrap();
            model.listings.remove(account);
        }
        Op::Ask { by, numbers, purpose } => {
            let purpose = Purpose::ALL[*purpose];
            let numbers: Vec<u64> = numbers.iter().copied().collect();
            let hashes: Vec<_> = numbers.iter().map(|number| common::number(*number)).collect();
            model.asked.extend(by.account().iter().flat_map(|a| numbers.iter().map(|number| (*a, *number))));
            let expected: Vec<u64> =
                numbers.iter().copied().filter(|number| model.is_shown(*number, *by, purpose)).collect();
            let reply = index.lookup(&by.caller(), purpose, &hashes).unwrap();
            let found: Vec<u64> = reply.matches().map(|found| found.account.as_u64().unwrap()).collect();
            assert_eq!(found, expected, "{by:?} asks for {numbers:?}");
            assert!(reply.matches().all(|found| AccountId::from(numbers[found.position]) == found.account));
        }
        Op::Forget { account } => {
            index.forget_caller(&Caller::of_account(AccountId::from(*account))).unwrap();
            model.asked.retain(|(by, _)| by != account);
        }
        Op::Fold => drop(index.fold().unwrap()),
        Op::Reopen | Op::PassLong => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_listing_answers_for_its_purposes_whoever_its_audience_is(ops in prop::collection::vec(op(), 1..60)) {
        let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
        let mut index = open(dir.path(), &clock);
        let mut model = Model::default();
        for (version, op) in (1..).zip(&ops) {
            apply(&index, &mut model, op, version);
            match op {
                Op::Reopen => {
                    drop(index);
                    index = open(dir.path(), &clock);
                }
                Op::PassLong => {
                    clock.advance(FORGOTTEN);
                    model.asked.clear();
                }
                _ => {}
            }
        }
        let opted_in = model.listings.values().filter(|opt_ins| opt_ins.purposes().next().is_some());
        prop_assert_eq!(index.stats().unwrap().opted_in, opted_in.count() as u64);
        index.verify(|_, _| ()).unwrap();
    }
}

fn account(a: u64) -> Caller {
    By::Account(a).caller()
}

/// Accounts 0 to 3, of which 1 and 2 are for contacts only.
fn fill(index: &Index) {
    let contacts = OptIns::SEARCH | OptIns::MUTUAL;
    index
        .update(|batch| {
            (0..4).try_for_each(|a| {
                let opt_ins = if a == 1 || a == 2 { contacts } else { OptIns::SEARCH };
                batch.put(common::number(a), AccountId::from(a), opt_ins, 1)
            })
        })
        .unwrap();
}

fn shown(index: &Index, caller: &Caller, numbers: &[u64]) -> Vec<u64> {
    let hashes: Vec<_> = numbers.iter().map(|number| common::number(*number)).collect();
    let reply = index.lookup(caller, Purpose::Search, &hashes).unwrap();
    reply.accounts().iter().filter_map(|account| account.as_u64()).collect()
}

#[test]
fn contacts_find_each_other_once_one_asked_for_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let index = open(dir.path(), &clock);
    fill(&index);
    assert_eq!(shown(&index, &account(0), &[0, 1, 2, 3]), [0, 3]);
    // One asks for zero: from now on zero finds it, without a new charge.
    assert_eq!(shown(&index, &account(1), &[0]), [0]);
    assert_eq!(shown(&index, &account(0), &[0, 1, 2, 3]), [0, 1, 3]);
    // Not so whoever is not zero, or does not say that it is.
    assert_eq!(shown(&index, &account(3), &[1, 2]), [0_u64; 0]);
    assert_eq!(shown(&index, &By::NoNumber(0).caller(), &[1]), [0_u64; 0]);
    // A second number of its own counts as well.
    let both = account(3).own_number(common::number(0));
    assert_eq!(shown(&index, &both, &[1, 2]), [1]);
    // Who is shown is on record, and who is not is not.
    let record = |caller| index.inspector().disclosed_to(&caller).unwrap().len();
    assert_eq!((record(account(0)), record(account(1))), (3, 1));
    // Unlinked and counted likewise.
    let ask = |caller: &Caller, mode| {
        let numbers: Vec<_> = (0..16).map(common::number).collect();
        let options = LookupOptions::default().mode(mode);
        index.lookup_with(caller, Purpose::Search, &numbers, options).unwrap().count()
    };
    let other = |name: &str| Caller::new(name).own_number(common::number(0));
    assert_eq!(ask(&other("x"), DisclosureMode::Unlinked), 3);
    assert_eq!(ask(&other("y"), DisclosureMode::CountOnly), 3);
    // It ends with the window.
    clock.advance(FORGOTTEN);
    assert_eq!(shown(&index, &account(0), &[0, 1, 2, 3]), [0, 3]);
}

#[test]
fn what_was_deferred_was_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let quotas = QuotaPolicy::of_caller(Quota::per_hour(2, 1).unwrap());
    let index = Index::open(dir.path(), common::options(&common::clock()).quotas(quotas)).unwrap();
    fill(&index);
    // One can pay for 8 and 9, and not for 0.
    let asked = [8, 9, 0].map(common::number);
    let reply = index.lookup(&account(1), Purpose::Search, &asked).unwrap();
    assert_eq!(reply.deferred().collect::<Vec<_>>(), [2]);
    assert_eq!(shown(&index, &account(0), &[1]), [0_u64; 0]);
}

#[test]
fn nobody_is_a_contact_where_nothing_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let options = common::options(&common::clock()).novelty_window(Duration::ZERO);
    let index = Index::open(dir.path(), options).unwrap();
    fill(&index);
    shown(&index, &account(1), &[0]);
    assert_eq!(shown(&index, &account(0), &[0, 1]), [0]);
}

#[test]
fn too_many_numbers_of_ones_own_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path(), &common::clock());
    fill(&index);
    let with = |numbers: u64| (0..numbers).map(common::number).fold(Caller::new("x"), Caller::own_number);
    assert_eq!(shown(&index, &with(Caller::MAX_OWN_NUMBERS as u64), &[0]), [0]);
    let refused = index.lookup(&with(9), Purpose::Search, &[common::number(0)]);
    assert!(matches!(refused, Err(Error::TooManyOwnNumbers { found: 9 })));
    assert!(!format!("{:?}", with(9)).contains("PhoneHash"));
}
