//! Signals on a real index: who stands out by them, and who does not.

use std::time::Duration;

use unlisted::{
    AccountId, Caller, CallerSignals, Error, Index, Listing, OptIns, Origin, PhoneHash, Purpose, Quota,
    QuotaPolicy, SignalQuery, Version,
};

use crate::common;

const DAY: Duration = Duration::from_secs(86_400);
/// Numbers below this are somebody's who may be found.
const LISTED: u64 = 20_000;
/// Numbers from here on are nobody's.
const ABSENT: u64 = 1_000_000;

struct World {
    index: Index,
    clock: std::sync::Arc<unlisted::ManualClock>,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
        let quotas = QuotaPolicy::of_caller(Quota::per_hour(10_000, 60).unwrap());
        let index = Index::open(dir.path(), common::options(&clock).quotas(quotas)).unwrap();
        let row = |i| Listing {
            hash: common::number(i),
            account: AccountId::from(i),
            opt_ins: OptIns::CONTACT_SYNC,
            version: Version::new(1).unwrap(),
        };
        index.import((0..LISTED).map(row)).unwrap();
        Self { index, clock, dir }
    }

    /// Asks for `found` numbers of people and `missed` of nobody, those from `first` on.
    fn ask(&self, who: &str, first: u64, found: u64, missed: u64) {
        let network = Origin::network("198.51.100.7".parse().unwrap());
        let somebodys = (first..first + found).map(|i| common::number(i % LISTED));
        let nobodys = (first..first + missed).map(|i| common::number(ABSENT + i));
        let hashes: Vec<PhoneHash> = somebodys.chain(nobodys).collect();
        for some in hashes.chunks(10_000) {
            self.index.lookup(&Caller::new(who).via(network.clone()), Purpose::ContactSync, some).unwrap();
        }
    }

    fn of(&self, who: &str) -> CallerSignals {
        let token = self.index.inspector().token_of(&Caller::new(who));
        let rows = self.index.inspector().signals(&SignalQuery::new().limit(1_000)).unwrap();
        *rows.iter().find(|row| row.token == token).unwrap()
    }
}

/// Two days of 30 people who sync each night, a newcomer with a large address book, an enumerator, and one who asks for a
/// leaked list of numbers that exist.
fn two_days() -> World {
    let world = World::new();
    let sync = |night: u64| (0..30_u64).for_each(|i| world.ask(&format!("honest-{i}"), 400 * i + night, 100, 200));
    sync(0);
    world.ask("enumerator", 500_000, 100, 9_000);
    world.clock.advance(DAY + Duration::from_secs(3_600));
    sync(3);
    world.ask("enumerator", 700_000, 100, 20_000);
    world.ask("newcomer", 3_000, 600, 1_400);
    world.ask("leaked-list", 7_000, 1_000, 1_000);
    world
}

#[test]
fn an_enumerator_stands_out_from_people_who_sync() {
    let world = two_days();
    let rows = world.index.inspector().signals(&SignalQuery::new().limit(1_000)).unwrap();
    assert_eq!(rows.len(), 33);
    assert!(rows.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let enumerator = world.of("enumerator");
    assert_eq!(rows[0], enumerator);
    // What the first day left of the burst, and what a day refilled.
    assert_eq!((enumerator.novel, enumerator.novel_before), (900 + 25 * 60, 9_100));
    assert!(enumerator.hit_share < 0.05 && enumerator.deferred_share > 0.8);
    for i in 0..30 {
        let honest = world.of(&format!("honest-{i}"));
        assert_eq!((honest.novel, honest.novel_before), (6, 300));
        assert_eq!((honest.hit_share, honest.deferred_share, honest.tripwires), (0.5, 0.0, 0));
        assert!(honest.score < 0.01 && honest.growth < 0.02, "{honest:?}");
    }
    assert!(enumerator.score > 1.3 * world.of("newcomer").score, "{enumerator:?}");
    // A tripwire is worth more than any pattern.
    world.index.set_tripwires([common::number(ABSENT + 2)]).unwrap();
    world.ask("tripped", 0, 5, 5);
    assert!(world.of("tripped").score > enumerator.score && world.of("tripped").tripwires == 1);
}

#[test]
fn hits_do_not_give_a_leaked_list_away_and_the_budget_bounds_it() {
    let world = two_days();
    let (leaked, newcomer) = (world.of("leaked-list"), world.of("newcomer"));
    // As many numbers, and more of them are somebody's: it is the honest one who looks worse.
    assert_eq!((leaked.novel, leaked.hit_share), (2_000, 0.5));
    assert_eq!((newcomer.novel, newcomer.hit_share), (2_000, 0.3));
    assert!(leaked.score < newcomer.score);
    let without: Vec<_> = {
        let query = SignalQuery::new().limit(1_000).min_score(newcomer.score);
        world.index.inspector().signals(&query).unwrap().iter().map(|row| row.token).collect()
    };
    assert!(!without.contains(&leaked.token) && without.contains(&newcomer.token));
    // What holds: he is answered no more than his burst and its refill, whatever he hits.
    world.ask("leaked-list", 10_000, 5_000, 5_000);
    let leaked = world.of("leaked-list");
    assert_eq!(leaked.novel, 10_000);
    assert!(leaked.deferred_share > 0.1);
}

#[test]
fn origins_windows_and_limits() {
    let world = two_days();
    let inspector = world.index.inspector();
    let networks = inspector.signals(&SignalQuery::new().origins("network")).unwrap();
    let network = Origin::network("198.51.100.7".parse().unwrap());
    assert_eq!((networks.len(), networks[0].token), (1, inspector.token_of_origin(&network)));
    assert_eq!(networks[0].novel, 30 * 6 + 2_400 + 2_000 + 2_000);
    assert_eq!(networks[0].novel_before, 30 * 300 + 9_100);
    assert!(inspector.signals(&SignalQuery::new().origins("device")).unwrap().is_empty());
    assert!(matches!(inspector.signals(&SignalQuery::new().origins("No kind")), Err(Error::Origin(_))));
    assert_eq!(inspector.signals(&SignalQuery::new().limit(2)).unwrap().len(), 2);
    // One window over both days has none before it.
    let both = inspector.signals(&SignalQuery::new().window(3 * DAY)).unwrap();
    assert_eq!((both[0].novel, both[0].novel_before, both[0].growth), (11_500, 0, 1.0));
    // The same from the file.
    let World { index, clock, dir } = world;
    let before = index.inspector().signals(&SignalQuery::new().limit(1_000)).unwrap();
    drop((index, inspector));
    let index = common::open(dir.path(), &clock);
    assert_eq!(index.inspector().signals(&SignalQuery::new().limit(1_000)).unwrap(), before);
}
