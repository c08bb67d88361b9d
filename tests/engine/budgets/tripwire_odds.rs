//! The arithmetic of tripwires beside callers of a real index.

use std::collections::BTreeSet;
use std::time::Duration;

use unlisted::{
    AccountId, Caller, Index, Listing, OptIns, Options, PhoneHash, Purpose, Quota, QuotaPolicy, TripwireAction,
    TripwireOdds, TripwirePolicy, Version,
};

use crate::common;

const DAY: Duration = Duration::from_secs(86_400);

/// Found for every purpose, by anybody.
fn open_to_all() -> OptIns {
    Purpose::ALL.map(OptIns::from).into_iter().collect()
}

fn numbers(range: std::ops::Range<u64>) -> Vec<PhoneHash> {
    range.map(common::number).collect()
}

/// Makes the numbers that a caller asks for.
type Book = Box<dyn FnMut(&mut Random) -> BTreeSet<u64>>;

/// A small generator that gives the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * u128::from(limit)) >> 64) as u64
    }

    /// Distinct numbers of a range.
    fn distinct(&mut self, count: usize, range: std::ops::Range<u64>) -> BTreeSet<u64> {
        let mut chosen = BTreeSet::new();
        while chosen.len() < count {
            chosen.insert(range.start + self.below(range.end - range.start));
        }
        chosen
    }
}

#[test]
fn the_arithmetic_is_what_callers_of_a_real_index_meet() {
    const SPACE: u64 = 40_000;
    const CALLERS: u64 = 300;
    const SHARE: f64 = 0.005;
    let dir = tempfile::tempdir().unwrap();
    let policy = TripwirePolicy::none().caller(2, DAY, TripwireAction::Suspend);
    let quotas = QuotaPolicy::of_caller(Quota::per_hour(10_000, 1).unwrap());
    let options = Options::new(common::secret()).clock(common::clock()).background(false).quotas(quotas);
    let index = Index::open(dir.path(), options.tripwires(policy)).unwrap();
    let mut random = Random(7);
    let trapped = random.distinct((SPACE as f64 * SHARE) as usize, 0..SPACE);
    // Contacts that are somebody's are outside the space of those that are nobody's.
    index
        .import(numbers(SPACE..SPACE + 5_000).into_iter().map(|hash| {
            let (account, version) = (AccountId::from(5), Version::new(1).unwrap());
            Listing { hash, account, opt_ins: open_to_all(), version }
        }))
        .unwrap();
    index.set_tripwires(trapped.iter().map(|i| common::number(*i))).unwrap();
    index.fold().unwrap();

    let mut check = |name: &str, expected: f64, mut book: Book| {
        let mut caught = 0_u64;
        for i in 0..CALLERS {
            let caller = Caller::new(format!("{name}-{i}"));
            let hashes: Vec<PhoneHash> = book(&mut random).iter().map(|i| common::number(*i)).collect();
            index.lookup(&caller, Purpose::Search, &hashes).unwrap();
            caught += u64::from(index.lookup(&caller, Purpose::Search, &[]).is_err());
        }
        let (found, deviation) =
            (caught as f64 / CALLERS as f64, (expected * (1.0 - expected) / CALLERS as f64).sqrt());
        println!("{name}: expected {expected:.4}, found {found:.4}");
        assert!((found - expected).abs() < 4.0 * deviation + 0.005, "{name}: expected {expected}, found {found}");
    };
    let odds = TripwireOdds::new(SHARE, 2).unwrap();
    for probability in [0.1, 0.5, 0.99] {
        let count = odds.numbers_until(probability).unwrap();
        let book = move |random: &mut Random| random.distinct(count as usize, 0..SPACE);
        check(&format!("enumerator of {count}"), odds.met_by(count), Box::new(book));
    }
    // A tenth of an honest book of 600 is stale.
    let honest = TripwireOdds::new(0.1 * SHARE, 2).unwrap();
    let book = |random: &mut Random| {
        let stale = (0..600).filter(|_| random.below(10) == 0).count();
        let mut book = random.distinct(600 - stale, SPACE..SPACE + 5_000);
        book.extend(random.distinct(stale, 0..SPACE));
        book
    };
    check("honest book", honest.met_by(600), Box::new(book));
}
