//! What the modes linked, unlinked and count tell, what can be worked out from many answers, and what is on record.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use unlisted::{
    AccountId, Caller, DisclosureMode, Error, Index, LookupOptions, NumberState, OptIns, Options, PhoneHash,
    Purpose, Quota, QuotaPolicy, Reply,
};

use DisclosureMode::{CountOnly, Linked, Unlinked};

use crate::common;

const NUMBERS: u64 = 40;
const CHILD_DIR: &str = "UNLISTED_MODES_DIR";
const CHILD_SEED: &str = "UNLISTED_MODES_SEED";

/// For each number, its listings: account, opt-ins.
type Listings = Vec<Vec<(u64, u8)>>;

fn listings() -> impl Strategy<Value = Listings> {
    let of_number = prop::collection::vec((0_u64..30, 0_u8..64), 0..3);
    prop::collection::vec(of_number, NUMBERS as usize)
}

fn batches() -> impl Strategy<Value = Vec<Vec<u64>>> {
    prop::collection::vec(prop::collection::vec(0..NUMBERS, 0..16), 1..12)
}

fn fill(index: &Index, listings: &Listings) {
    let rows = (0_u64..).zip(listings).flat_map(|(number, of)| of.iter().map(move |row| (number, *row)));
    index
        .update(|batch| {
            rows.zip(1..).try_for_each(|((number, (account, opt_ins)), version)| {
                let opt_ins = OptIns::from_bits_truncate(opt_ins);
                batch.put(common::number(number), AccountId::from(account), opt_ins, version)
            })
        })
        .unwrap();
}

fn hashes(numbers: &[u64]) -> Vec<PhoneHash> {
    numbers.iter().map(|number| common::number(*number)).collect()
}

fn ask(index: &Index, caller: &str, purpose: Purpose, mode: DisclosureMode, numbers: &[u64]) -> Reply {
    let options = LookupOptions::default().mode(mode);
    index.lookup_with(&Caller::new(caller), purpose, &hashes(numbers), options).unwrap()
}

fn accounts(reply: &Reply) -> Vec<u64> {
    reply.accounts().iter().filter_map(|account| account.as_u64()).collect()
}

fn states(reply: &Reply) -> Vec<NumberState> {
    (0..).map_while(|position| reply.state(position)).collect()
}

fn recorded(index: &Index, caller: &str) -> BTreeSet<u64> {
    let rows = index.inspector().disclosed_to(&Caller::new(caller)).unwrap();
    rows.iter().filter_map(|row| row.account.as_u64()).collect()
}

/// Which numbers of a batch an unlinked lookup answers: the new ones, if there are enough.
fn answered(known: &mut BTreeSet<u64>, numbers: &[u64], min: usize) -> BTreeSet<u64> {
    let new: BTreeSet<u64> = numbers.iter().copied().filter(|number| !known.contains(number)).collect();
    if new.len() < min {
        return BTreeSet::new();
    }
    known.extend(&new);
    new
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Each mode's answer can be computed from that of the mode above, from what the caller asked before, and from nothing
    /// else; and what is on record is what was answered.
    #[test]
    fn no_mode_reveals_more_than_the_mode_above(
        listings in listings(), batches in batches(), min in 2_usize..7, reopen: bool,
    ) {
        let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
        let open = || Index::open(dir.path(), common::options(&clock).unlinked_min_novel(min)).unwrap();
        let mut index = open();
        fill(&index, &listings);
        let (mut known, mut shown) = (BTreeSet::new(), [BTreeSet::new(), BTreeSet::new()]);
        for numbers in &batches {
            let [linked, unlinked, count] =
                DisclosureMode::ALL.map(|mode| ask(&index, mode.name(), Purpose::Search, mode, numbers));
            prop_assert_eq!([&linked, &unlinked, &count].map(Reply::mode), DisclosureMode::ALL);

            let new = answered(&mut known, numbers, min);
            let is_answered = |position: usize| new.contains(&numbers[position]);
            let of_new = linked.matches().filter(|found| is_answered(found.position));
            let of_new: BTreeSet<AccountId> = of_new.map(|found| found.account).collect();
            prop_assert_eq!(unlinked.accounts(), of_new.into_iter().collect::<Vec<_>>());
            prop_assert_eq!((unlinked.matches().len(), unlinked.charged()), (0, new.len() as u64));
            let expected: Vec<NumberState> = (0..numbers.len())
                .map(|at| if is_answered(at) { NumberState::Answered } else { NumberState::Withheld })
                .collect();
            prop_assert_eq!(states(&unlinked), expected);

            prop_assert_eq!(count.count(), unlinked.accounts().len() as u64);
            prop_assert_eq!((count.matches().len(), count.accounts()), (0, Vec::new()));
            prop_assert_eq!((states(&count), count.charged()), (states(&unlinked), unlinked.charged()));
            prop_assert_eq!(linked.count(), linked.accounts().len() as u64);

            shown[0].extend(accounts(&linked));
            shown[1].extend(accounts(&unlinked));
            if reopen {
                drop(index);
                index = open();
            }
            prop_assert_eq!(recorded(&index, "linked"), shown[0].clone());
            prop_assert_eq!(recorded(&index, "unlinked"), shown[1].clone());
            prop_assert_eq!(recorded(&index, "count"), BTreeSet::new());
        }
    }

    /// Whatever one caller asks within the window, however it chooses its batches, for whatever purposes and whatever its
    /// budget: all its answers stay the same, byte by byte, if the listings of numbers that were answered together change
    /// places. So it cannot tell whose number is whose among them.
    #[test]
    fn one_caller_cannot_tell_apart_what_was_answered_together(
        listings in listings(),
        asked in prop::collection::vec((prop::collection::vec(0..NUMBERS, 0..16), 0_usize..3), 1..14),
        swaps in prop::collection::vec((any::<Pick>(), any::<Pick>(), any::<Pick>()), 1..30),
        burst in prop::sample::select(vec![9_u64, 25, 1_000]),
    ) {
        const PURPOSES: [Purpose; 3] = [Purpose::ContactSync, Purpose::Search, Purpose::Payments];
        let history = |listings: &Listings| {
            let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
            let options = common::options(&clock)
                .quotas(QuotaPolicy::of_caller(Quota::per_hour(burst, 60).unwrap()))
                .disclosure_mode(PURPOSES[0], Unlinked)
                .disclosure_mode(PURPOSES[1], Unlinked)
                .disclosure_mode(PURPOSES[2], CountOnly)
                .unlinked_min_novel(4);
            let index = Index::open(dir.path(), options).unwrap();
            fill(&index, listings);
            let ask = |(numbers, purpose): &(Vec<u64>, usize)| {
                clock.advance(Duration::from_secs(90));
                index.lookup(&Caller::new("one"), PURPOSES[*purpose], &hashes(numbers)).unwrap()
            };
            asked.iter().map(ask).collect::<Vec<Reply>>()
        };
        let replies = history(&listings);
        let mut groups: Vec<Vec<u64>> = Vec::new();
        for ((numbers, _), reply) in asked.iter().zip(&replies) {
            let is_answered = |at: usize| reply.state(at) == Some(NumberState::Answered);
            let group: BTreeSet<u64> =
                numbers.iter().enumerate().filter(|(at, _)| is_answered(*at)).map(|(_, number)| *number).collect();
            prop_assert!(group.is_empty() || group.len() >= 4);
            prop_assert_eq!(reply.charged(), group.len() as u64);
            groups.extend((!group.is_empty()).then(|| group.into_iter().collect()));
        }
        let distinct: BTreeSet<u64> = groups.iter().flatten().copied().collect();
        prop_assert_eq!(distinct.len(), groups.iter().map(Vec::len).sum::<usize>(), "a number was answered twice");
        if !groups.is_empty() {
            let mut swapped = listings.clone();
            for (group, one, other) in &swaps {
                let group = &groups[group.index(groups.len())];
                let [one, other] = [one, other].map(|pick| group[pick.index(group.len())] as usize);
                swapped.swap(one, other);
            }
            prop_assert_eq!(format!("{:?}", history(&swapped)), format!("{replies:?}"));
        }
    }
}

/// Number `i` is account `100 + i`'s, and shown for every purpose.
fn one_account_each(index: &Index, numbers: std::ops::Range<u64>) {
    let put = |batch: &mut unlisted::UpdateBatch| {
        numbers
            .clone()
            .try_for_each(|i| batch.put(common::number(i), AccountId::from(100 + i), OptIns::ALL_PURPOSES, 1))
    };
    index.update(put).unwrap();
}

fn unlinked(dir: &Path, min: usize) -> (Index, std::sync::Arc<unlisted::ManualClock>) {
    let clock = common::clock();
    let mut options = common::options(&clock).unlinked_min_novel(min);
    for purpose in Purpose::ALL {
        options = options.disclosure_mode(purpose, Unlinked);
    }
    (Index::open(dir, options).unwrap(), clock)
}

fn set(index: &Index, caller: &str, numbers: &[u64]) -> (Vec<u64>, u64) {
    let reply = index.lookup(&Caller::new(caller), Purpose::Search, &hashes(numbers)).unwrap();
    (accounts(&reply), reply.charged())
}

#[test]
fn subtracting_batches_isolates_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _clock) = unlinked(dir.path(), 4);
    one_account_each(&index, 0..20);
    let nothing = (Vec::new(), 0);
    assert_eq!(set(&index, "a", &[0, 1, 2]), nothing, "fewer than four");
    assert_eq!(set(&index, "a", &[3, 2, 1, 0, 0]), (vec![100, 101, 102, 103], 4));
    // The same and one more, the same and one less, and each alone, for another purpose too.
    assert_eq!(set(&index, "a", &[0, 1, 2, 3, 4]), nothing);
    assert_eq!(set(&index, "a", &[0, 1, 2]), nothing);
    for purpose in Purpose::ALL {
        let reply = index.lookup(&Caller::new("a"), purpose, &hashes(&[2])).unwrap();
        assert_eq!((reply.count(), reply.charged(), states(&reply)), (0, 0, vec![NumberState::Withheld]));
    }
    // With enough new ones, the new ones and nothing else.
    assert_eq!(set(&index, "a", &[0, 1, 7, 6, 5, 4]), (vec![104, 105, 106, 107], 4));
    // Numbers that were refused cost nothing and may be asked later.
    assert_eq!(set(&index, "a", &[8, 9]), nothing);
    assert_eq!(set(&index, "a", &[11, 10, 9, 8]), (vec![108, 109, 110, 111], 4));
    // Nor does a restart help.
    drop(index);
    let (index, _clock) = unlinked(dir.path(), 4);
    assert_eq!(set(&index, "a", &[0, 1, 2, 3]), nothing);
}

/// The limits that `docs/THREAT-MODEL.md` states: if one of these fails, the mode hides more than is said there.
#[test]
fn what_unlinked_answers_do_not_hide() {
    let dir = tempfile::tempdir().unwrap();
    let (index, clock) = unlinked(dir.path(), 4);
    one_account_each(&index, 0..16);
    // Filling up with numbers that are nobody's isolates one, at the price of four.
    assert_eq!(set(&index, "filler", &[5, 9_001, 9_002, 9_003]), (vec![105], 4));
    // Two callers link everything at the price of two each: one asks the rows of a square, the other its columns.
    let line = |first: u64, step: u64| (0..4).map(|i| first + i * step).collect::<Vec<u64>>();
    let rows: Vec<Vec<u64>> = (0..4).map(|row| set(&index, "rows", &line(row * 4, 1)).0).collect();
    let columns: Vec<Vec<u64>> = (0..4).map(|column| set(&index, "columns", &line(column, 4)).0).collect();
    let meeting = |number: usize| {
        let (row, column) = (&rows[number / 4], &columns[number % 4]);
        row.iter().copied().filter(|account| column.contains(account)).collect::<Vec<u64>>()
    };
    assert!((0..16).all(|number| meeting(number) == [100 + number as u64]));
    // So does one caller that waits until the first answers are forgotten.
    assert_eq!(set(&index, "rows", &line(0, 4)), (Vec::new(), 0));
    clock.advance(Duration::from_secs(80 * 86_400));
    assert_eq!(set(&index, "rows", &line(0, 4)), (vec![100, 104, 108, 112], 4));
}

#[test]
fn a_laxer_mode_than_the_purpose_has_is_refused_before_the_charge() {
    let dir = tempfile::tempdir().unwrap();
    let options = common::options(&common::clock())
        .disclosure_mode(Purpose::Search, Unlinked)
        .disclosure_mode(Purpose::Payments, CountOnly);
    let index = Index::open(dir.path(), options).unwrap();
    one_account_each(&index, 0..20);
    let numbers = hashes(&(0..20).collect::<Vec<_>>());
    let caller = Caller::new("a");
    let lax = [(Purpose::Search, Linked), (Purpose::Payments, Linked), (Purpose::Payments, Unlinked)];
    for (purpose, mode) in lax {
        let options = LookupOptions::default().mode(mode);
        let discovery = index.discovery();
        let refused = [
            index.lookup_with(&caller, purpose, &numbers, options),
            discovery.lookup_with(&caller, purpose, &numbers, options),
        ];
        for refused in refused {
            let error = refused.unwrap_err();
            assert!(
                matches!(&error, Error::LaxerMode { purpose: of, asked, .. } if (*of, *asked) == (purpose, mode))
            );
        }
    }
    let error = Error::LaxerMode { purpose: Purpose::Payments, configured: CountOnly, asked: Unlinked };
    assert_eq!(error.to_string(), "payments is answered count or stricter, and the lookup asks for unlinked");
    assert_eq!(recorded(&index, "a"), BTreeSet::new());
    // Nobody was charged, and the stricter modes work, for purposes that have none too.
    assert_eq!(ask(&index, "a", Purpose::Search, CountOnly, &(0..10).collect::<Vec<_>>()).count(), 10);
    let reply = ask(&index, "a", Purpose::Suggestions, Unlinked, &(5..20).collect::<Vec<_>>());
    assert_eq!((reply.accounts().len(), reply.charged()), (10, 10));
    assert!(matches!("everything".parse::<DisclosureMode>().map_err(Error::from), Err(Error::Mode(_))));
}

#[test]
fn options_that_cannot_hide_anything_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = || common::options(&common::clock()).novelty_window(Duration::ZERO);
    let strict = Index::open(dir.path(), options().disclosure_mode(Purpose::Search, Unlinked));
    assert!(matches!(strict, Err(Error::BadOption { name: "novelty_window", found: 0, .. })));
    for numbers in [0, 1, 1_000_001] {
        let opened = Index::open(dir.path(), options().unlinked_min_novel(numbers));
        assert!(matches!(opened, Err(Error::BadOption { name: "unlinked_min_novel", .. })));
    }
    // Where whose number it is may be told anyway, a lookup may still ask for less.
    let index = Index::open(dir.path(), options().unlinked_min_novel(2)).unwrap();
    one_account_each(&index, 0..4);
    for _ in 0..2 {
        assert_eq!(accounts(&ask(&index, "a", Purpose::Search, Unlinked, &[0, 1, 2])), [100, 101, 102]);
    }
    assert_eq!(ask(&index, "a", Purpose::Search, Unlinked, &[0]).charged(), 0);
}

#[test]
fn a_budget_that_does_not_reach_for_enough_pays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let quota = QuotaPolicy::of_caller(Quota::per_hour(12, 4).unwrap());
    let options = || common::options(&clock).quotas(quota.clone()).unlinked_min_novel(10);
    let index = Index::open(dir.path(), options().disclosure_mode(Purpose::Search, Unlinked)).unwrap();
    one_account_each(&index, 0..40);
    let all: Vec<u64> = (0..25).collect();
    let ask = |numbers: &[u64]| index.lookup(&Caller::new("a"), Purpose::Search, &hashes(numbers)).unwrap();
    let first = ask(&all);
    assert_eq!((first.charged(), first.accounts().len(), first.deferred().count()), (12, 12, 13));
    clock.advance(Duration::from_secs(2 * 3_600));
    let short = ask(&all);
    assert_eq!((short.charged(), short.count(), short.remaining()), (0, 0, 8));
    assert_eq!(
        (short.deferred().collect::<Vec<_>>(), states(&short)[0]),
        ((12..25).collect(), NumberState::Withheld)
    );
    assert!(short.retry_after().is_some_and(|wait| wait > Duration::from_secs(1_800)));
    clock.advance(short.retry_after().unwrap());
    let later = ask(&all);
    assert_eq!((later.charged(), later.deferred().count()), (12, 1));
    // What is left alone is too little at any price.
    assert_eq!(states(&ask(&all)), [NumberState::Withheld; 25]);
}

#[test]
fn two_lookups_at_the_same_moment_answer_a_number_once() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _clock) = unlinked(dir.path(), 4);
    one_account_each(&index, 0..2_000);
    let seen = std::sync::Mutex::new(BTreeMap::<u64, usize>::new());
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (index, seen) = (&index, &seen);
            scope.spawn(move || {
                for first in (0..1_980_u64).step_by(5) {
                    // All threads walk the same numbers, in batches that differ by a few.
                    let numbers: Vec<u64> = (first..first + 8 + thread).collect();
                    for account in set(index, "same", &numbers).0 {
                        *seen.lock().unwrap().entry(account).or_default() += 1;
                    }
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    assert!(seen.len() > 1_000 && seen.values().all(|times| *times == 1), "{}", seen.len());
}

/// The child of the crash test: it does nothing unless a parent asks.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let seed: u64 = std::env::var(CHILD_SEED).unwrap().parse().unwrap();
    let index = Index::open(Path::new(&dir), crash_options()).unwrap();
    for step in 0.. {
        let (mode, caller, numbers) = step_of(seed, step);
        let shown = accounts(&ask(&index, &caller, Purpose::Search, mode, &numbers));
        let shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
        println!("\nstep {step} {} .", shown.join(" "));
        std::io::stdout().flush().unwrap();
    }
}

const CRASH_NUMBERS: u64 = 3_000;

fn crash_options() -> Options {
    common::options(&common::clock()).unlinked_min_novel(5)
}

/// What a child asks: mode, caller, twelve numbers.
fn step_of(seed: u64, step: u64) -> (DisclosureMode, String, Vec<u64>) {
    let mode = DisclosureMode::ALL[(step % 3) as usize];
    let first = (seed * 7_919 + step * 137) % (CRASH_NUMBERS - 36);
    (mode, format!("{mode}-{}", step % 7), (0..12).map(|i| first + i * 3).collect())
}

/// What a killed child answered, by its whole lines, and the step that may have been under way.
fn run_and_kill(dir: &Path, seed: u64) -> (Vec<(u64, Vec<u64>)>, u64) {
    let mut child = common::child(module_path!())
        .env(CHILD_DIR, dir)
        .env(CHILD_SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.filter(|line| line.starts_with("step ") && line.ends_with(" .")).collect::<Vec<String>>()
    });
    std::thread::sleep(Duration::from_millis(80 + 41 * seed));
    child.kill().unwrap();
    child.wait().unwrap();
    let numbers = |line: &String| line.split(' ').filter_map(|word| word.parse().ok()).collect::<Vec<u64>>();
    let steps: Vec<(u64, Vec<u64>)> =
        reader.join().unwrap().iter().map(|line| (numbers(line)[0], numbers(line)[1..].to_vec())).collect();
    let next = steps.last().map_or(0, |(step, _)| step + 1);
    (steps, next)
}

#[test]
fn what_is_on_record_is_what_lookups_returned_under_kills() {
    let dir = tempfile::tempdir().unwrap();
    one_account_each(&Index::open(dir.path(), crash_options()).unwrap(), 0..CRASH_NUMBERS);
    let mut returned: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let (mut steps_seen, mut unlinked_seen) = (0, 0);
    for seed in 0..8 {
        let (steps, next) = run_and_kill(dir.path(), seed);
        steps_seen += steps.len();
        for (step, shown) in steps {
            let (mode, caller, numbers) = step_of(seed, step);
            assert!(shown.iter().all(|account| numbers.contains(&(account - 100))));
            assert!(mode != CountOnly || shown.is_empty());
            unlinked_seen += if mode == Unlinked { shown.len() } else { 0 };
            returned.entry(caller).or_default().extend(shown);
        }
        let index = Index::open(dir.path(), crash_options()).unwrap();
        let (mode, in_flight, numbers) = step_of(seed, next);
        for caller in (0..21).map(|i| step_of(seed, i).1).collect::<BTreeSet<_>>() {
            let (found, known) = (recorded(&index, &caller), returned.entry(caller.clone()).or_default());
            assert!(found.is_superset(known), "seed {seed}, {caller}: {:?} lost", known.difference(&found));
            // A lookup that was recorded and not returned any more: the one under way, and nothing but what it asked.
            let more: Vec<u64> = found.difference(known).copied().collect();
            let may_be = |account: &u64| caller == in_flight && numbers.contains(&(account - 100));
            assert!(
                more.iter().all(may_be) && (mode != CountOnly || more.is_empty()),
                "seed {seed}, {caller}: {more:?}"
            );
            known.extend(more);
            assert!(!caller.starts_with("count") || found.is_empty());
        }
        index.verify(|_, _| ()).unwrap();
    }
    assert!(steps_seen > 0 && unlinked_seen > 0, "no child lived long enough: {steps_seen} steps");
}
