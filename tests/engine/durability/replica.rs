//! A replica that follows a host's feed: how late it may be, and what it is when it begins as a copy of another.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use unlisted::{
    AccountId, BackupMode, Caller, DisclosureMode, DisclosureQuery, Error, Index, LookupOptions, ManualClock,
    OptIns, Options, PhoneHash, Purpose, Quota, QuotaPolicy,
};

use crate::common;

const LIMIT: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_nanos(1);

fn options(clock: &Arc<ManualClock>) -> Options {
    common::options(clock).max_lag(LIMIT)
}

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Index {
    Index::open(dir, options(clock)).unwrap()
}

/// Numbers 0 to 19 are listed, 20 to 39 are nobody's.
fn fill(index: &Index) {
    let all = |batch: &mut unlisted::UpdateBatch| {
        (0..20).try_for_each(|i| batch.put(common::number(i), AccountId::from(i), OptIns::ALL_PURPOSES, 1))
    };
    index.update(all).unwrap();
}

fn listed() -> Vec<PhoneHash> {
    (0..20).map(common::number).collect()
}

fn absent() -> Vec<PhoneHash> {
    (20..40).map(common::number).collect()
}

/// What a refusal says, or how many were found.
fn outcome(reply: unlisted::Result<unlisted::Reply>) -> Result<u64, Option<Duration>> {
    match reply {
        Ok(reply) => Ok(reply.count()),
        Err(Error::Lagging { found, limit }) => {
            assert_eq!(limit, LIMIT);
            Err(found)
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_index_answers_up_to_its_lag_and_not_a_nanosecond_further() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
    let index = open(dir.path(), &clock);
    fill(&index);
    let ask = || outcome(index.lookup(&Caller::new("ada"), Purpose::Search, &listed()));
    assert_eq!((ask(), index.lag()), (Err(None), None));
    index.followed_until(index.feed_moment()).unwrap();
    assert_eq!((ask(), index.lag()), (Ok(20), Some(Duration::ZERO)));
    clock.advance(LIMIT);
    assert_eq!(ask(), Ok(20));
    clock.advance(TICK);
    assert_eq!(ask(), Err(Some(LIMIT + TICK)));
    // A report of how it was a second ago.
    index.followed_until(index.feed_moment().earlier_by(Duration::from_secs(1))).unwrap();
    assert_eq!((ask(), index.lag()), (Ok(20), Some(Duration::from_secs(1))));
}

#[test]
fn refusals_are_alike_in_every_mode_for_every_number_and_cost_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
    let index = open(dir.path(), &clock);
    fill(&index);
    let (caller, discovery) = (Caller::new("ada"), index.discovery());
    let before = index.budget(&caller).unwrap().remaining;
    let modes = DisclosureMode::ALL.map(|mode| LookupOptions::default().mode(mode));
    let refused = |found: Option<Duration>| {
        for (numbers, purpose) in [listed(), absent(), Vec::new()].iter().zip(Purpose::ALL) {
            for mode in modes {
                assert_eq!(outcome(index.lookup_with(&caller, purpose, numbers, mode)), Err(found));
                assert_eq!(outcome(discovery.lookup_with(&caller, purpose, numbers, mode)), Err(found));
            }
            assert_eq!(outcome(index.lookup(&caller, purpose, numbers)), Err(found));
            assert_eq!(outcome(discovery.lookup(&caller, purpose, numbers)), Err(found));
        }
        assert!(matches!(index.health(), Err(Error::Lagging { .. })));
    };
    refused(None);
    index.followed_until(index.feed_moment()).unwrap();
    index.health().unwrap();
    clock.advance(LIMIT + TICK);
    refused(Some(LIMIT + TICK));
    assert_eq!(index.budget(&caller).unwrap().remaining, before);
    assert_eq!(index.stats().unwrap().looked_up, 0);
    assert_eq!(index.inspector().disclosures(&DisclosureQuery::default()).unwrap().count(), 0);
    // In the mode of the first refusals: had they been charged, all of it would be withheld now.
    index.followed_until(index.feed_moment()).unwrap();
    assert_eq!(outcome(discovery.lookup_with(&caller, Purpose::Search, &listed(), modes[1])), Ok(20));
}

#[test]
fn nothing_is_known_after_an_open_and_no_older_moment_says_otherwise() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
    let first = open(dir.path(), &clock);
    let moment = first.feed_moment();
    first.followed_until(moment).unwrap();
    drop(first);
    let second = open(dir.path(), &clock);
    assert_eq!(second.lag(), None);
    assert!(matches!(second.followed_until(moment), Err(Error::ForeignMoment)));
    let ask = || outcome(second.lookup(&Caller::new("ada"), Purpose::Search, &listed()));
    assert_eq!(ask(), Err(None));
    second.followed_until(second.feed_moment()).unwrap();
    assert_eq!(ask(), Ok(0));
}

#[test]
fn clock_steps_make_an_index_later_or_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
    let index = open(dir.path(), &clock);
    let ask = || outcome(index.lookup(&Caller::new("ada"), Purpose::Search, &listed()));
    index.followed_until(index.feed_moment()).unwrap();
    // A machine that slept: its monotonic clock stood still.
    clock.set_wall_ms(common::START_MS + 3_600_000);
    assert_eq!(ask(), Err(Some(Duration::from_secs(3_600))));
    index.followed_until(index.feed_moment()).unwrap();
    assert_eq!(ask(), Ok(0));
    // A wall clock that is set back, by however much, hides nothing that the monotonic one saw.
    clock.set_wall_ms(0);
    assert_eq!(ask(), Ok(0));
    clock.advance(LIMIT + TICK);
    assert_eq!(ask(), Err(Some(LIMIT + TICK)));
}

#[test]
fn the_limit_is_checked_and_without_one_nothing_is_refused() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
    let none = Index::open(dir.path(), common::options(&clock).max_lag(Duration::from_micros(999)));
    assert!(matches!(none, Err(Error::BadOption { name: "max_lag", .. })));
    let index = common::open(dir.path(), &clock);
    fill(&index);
    assert_eq!(common::ask(&index, Purpose::Search, &listed()).len(), 20);
    index.followed_until(index.feed_moment()).unwrap();
    clock.advance(1_000 * LIMIT);
    assert_eq!(index.lag(), Some(1_000 * LIMIT));
    assert_eq!(common::ask(&index, Purpose::Search, &listed()).len(), 20);
    index.health().unwrap();
}

/// The host's callback runs in the thread of a lookup, after its charge: as if the charge had taken that long.
#[test]
fn what_falls_behind_while_it_is_charged_is_refused_and_stays_charged() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
    let during = Arc::new(Mutex::new(None::<Box<dyn FnMut() + Send>>));
    let called = during.clone();
    let options = options(&clock)
        .quotas(QuotaPolicy::of_caller(Quota::per_hour(10, 1).unwrap()))
        .on_event(move |_| called.lock().unwrap().iter_mut().for_each(|during| during()));
    let index = Index::open(dir.path(), options).unwrap();
    fill(&index);
    index.followed_until(index.feed_moment()).unwrap();
    let ask = |who: &str| outcome(index.lookup(&Caller::new(who), Purpose::Search, &listed()));
    let left = |who: &str| index.budget(&Caller::new(who)).unwrap().remaining;

    let time = clock.clone();
    *during.lock().unwrap() = Some(Box::new(move || time.advance(LIMIT + TICK)));
    assert_eq!((ask("ada"), left("ada")), (Err(Some(LIMIT + TICK)), 0));
    assert_eq!(index.inspector().disclosures(&DisclosureQuery::default()).unwrap().count(), 0);

    // It caught up while the lookup waited, and the lookup sees what it caught up with.
    index.followed_until(index.feed_moment()).unwrap();
    let (time, node) = (clock.clone(), index.clone());
    *during.lock().unwrap() = Some(Box::new(move || {
        time.advance(LIMIT + TICK);
        node.set_opt_ins(common::number(0), AccountId::from(0), OptIns::empty(), 2).unwrap();
        node.followed_until(node.feed_moment()).unwrap();
    }));
    assert_eq!((ask("bob"), left("bob")), (Ok(9), 0));
    *during.lock().unwrap() = None;
}

/// What happens to a feed and to the node that follows it.
#[derive(Debug, Clone)]
enum Step {
    /// Somebody's choice is published.
    Publish { phone: u64, is_findable: bool },
    /// The node reads some entries; only when there are fewer than it asked for does it know that it is at the end.
    Follow { most: usize },
    /// Time passes.
    Wait { ms: u64 },
    /// The node is killed and opened again.
    Restart,
    /// The wall clock is set.
    SetWall { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u64, any::<bool>()).prop_map(|(phone, is_findable)| Step::Publish { phone, is_findable }),
        4 => (1..6_usize).prop_map(|most| Step::Follow { most }),
        4 => (0..4_000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Restart),
        1 => (0..u64::from(u32::MAX)).prop_map(|ms| Step::SetWall { ms }),
    ]
}

/// A feed, entry by entry with the time at which each was published, and a node behind it.
struct World {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    node: Option<Index>,
    feed: Vec<(Duration, u64, bool)>,
    now: Duration,
    answered: u32,
}

impl World {
    fn new() -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
        let node = Some(open(dir.path(), &clock));
        Self { dir, clock, node, feed: Vec::new(), now: Duration::ZERO, answered: 0 }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Publish { phone, is_findable } => self.feed.push((self.now, *phone, *is_findable)),
            Step::Follow { most } => self.follow(*most),
            Step::Wait { ms } => {
                self.now += Duration::from_millis(*ms);
                self.clock.advance(Duration::from_millis(*ms));
            }
            Step::Restart => {
                self.node = None;
                self.node = Some(open(self.dir.path(), &self.clock));
            }
            Step::SetWall { ms } => self.clock.set_wall_ms(*ms),
        }
    }

    /// As a host does it: the moment, what comes, the watermark with it, the report if that was all.
    fn follow(&self, most: usize) {
        let node = self.node.as_ref().unwrap();
        let moment = node.feed_moment();
        let at = node.watermark().map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap())) as usize;
        let entries = &self.feed[at..self.feed.len().min(at + most)];
        let update = |batch: &mut unlisted::UpdateBatch| {
            for (version, (_, phone, is_findable)) in (at as u64 + 1..).zip(entries) {
                let opt_ins = if *is_findable { OptIns::SEARCH } else { OptIns::empty() };
                batch.set_opt_ins(common::number(*phone), AccountId::from(*phone), opt_ins, version)?;
            }
            batch.watermark(((at + entries.len()) as u64).to_le_bytes())
        };
        node.update(update).unwrap();
        if entries.len() < most {
            node.followed_until(moment).unwrap();
        }
    }

    /// Who opted out longer ago than the lag, and did not opt in again since, is not in any answer.
    fn check(&mut self) {
        let numbers: Vec<PhoneHash> = (0..6).map(common::number).collect();
        let reply = self.node.as_ref().unwrap().lookup(&Caller::new("ada"), Purpose::Search, &numbers);
        let Ok(reply) = reply else {
            assert!(matches!(reply, Err(Error::Lagging { .. })), "{reply:?}");
            return;
        };
        self.answered += 1;
        let mut may_be_shown = BTreeMap::new();
        for (when, phone, is_findable) in &self.feed {
            // What is older than the lag has taken the place of what was before it; the node may know the rest or not.
            let is_in = *when + LIMIT < self.now;
            let shown = may_be_shown.entry(*phone).or_insert(false);
            *shown = *is_findable || (*shown && !is_in);
        }
        for found in reply.matches() {
            let may = may_be_shown.get(&(found.position as u64));
            assert_eq!(may, Some(&true), "{:?} at {:?}", self.feed, self.now);
        }
    }
}

/// Every step may wait for the disk, so a few; `UNLISTED_MODEL_CASES=n` runs more.
fn cases() -> u32 {
    std::env::var("UNLISTED_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn an_opt_out_that_is_older_than_the_lag_is_never_answered(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
            world.check();
        }
        // It comes back: a restart, the whole feed, and it answers as the feed says.
        world.apply(&Step::Restart);
        world.check();
        world.apply(&Step::Follow { most: 1_000 });
        let before = world.answered;
        world.check();
        prop_assert_eq!(world.answered, before + 1);
    }
}

#[test]
fn a_replica_from_a_backup_goes_on_from_its_watermark_with_empty_budgets() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
    let quotas = QuotaPolicy::of_caller(Quota::per_hour(100, 60).unwrap());
    let options = || options(&clock).quotas(quotas.clone());
    let first = Index::open(dir.path().join("first"), options()).unwrap();
    fill(&first);
    first.update(|batch| batch.watermark("1-0")).unwrap();
    first.followed_until(first.feed_moment()).unwrap();
    let caller = Caller::new("ada");
    first.lookup(&caller, Purpose::Search, &listed()[..10]).unwrap();
    first.backup(dir.path().join("backup"), BackupMode::Linked).unwrap();

    let second = Index::restore(dir.path().join("backup"), dir.path().join("second"), options()).unwrap();
    assert_eq!(second.watermark().as_deref(), Some(&b"1-0"[..]));
    // The other's reports are not its own.
    assert_eq!((second.lag(), outcome(second.lookup(&caller, Purpose::Search, &listed()))), (None, Err(None)));
    let opt_out = |index: &Index| {
        let number = common::number(3);
        let update = |batch: &mut unlisted::UpdateBatch| {
            batch.set_opt_ins(number, AccountId::from(3), OptIns::empty(), 2)?;
            batch.watermark("2-0")
        };
        index.update(update).unwrap();
        index.followed_until(index.feed_moment()).unwrap();
    };
    [&first, &second].into_iter().for_each(opt_out);
    // Its own ledger knows what was paid for and owes everything; the other's is as it was. They are two budgets.
    assert_eq!((first.budget(&caller).unwrap().remaining, second.budget(&caller).unwrap().remaining), (90, 0));
    let reply = second.lookup(&caller, Purpose::Search, &listed()).unwrap();
    assert_eq!((reply.count(), reply.charged(), reply.deferred().count()), (9, 0, 10));
    clock.advance(Duration::from_secs(120));
    second.followed_until(second.feed_moment()).unwrap();
    assert_eq!(second.lookup(&caller, Purpose::Search, &listed()).unwrap().charged(), 2);
}
