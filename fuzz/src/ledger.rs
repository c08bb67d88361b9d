//! Any history of lookups, clock steps and reopenings, against a model of the budgets.
//!
//! The model holds each scope to a bucket in nanoseconds: full at first, never above its burst, refilled by ledger
//! time alone. An index may give less than that (what a crash forfeits) and never more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use unlisted::{Caller, Clock, Index, ManualClock, NumberState, Origin, PhoneHash, Purpose, Quota, QuotaPolicy};

use super::input::Input;
use super::scratch;

const MAX_OPS: usize = 64;
const MAX_JUMP: Duration = Duration::from_secs(6 * 3_600);

/// One scope's bucket.
struct Bucket {
    quota: Quota,
    credit_ns: u64,
    at_ns: u64,
}

impl Bucket {
    fn full_ns(quota: Quota) -> u64 {
        quota.burst() * quota.interval_ns()
    }

    fn refill(&mut self, now_ns: u64) {
        let gained = now_ns - self.at_ns;
        self.credit_ns = self.credit_ns.saturating_add(gained).min(Self::full_ns(self.quota));
        self.at_ns = now_ns;
    }
}

struct Model {
    policy: QuotaPolicy,
    buckets: BTreeMap<String, Bucket>,
    /// What each caller was ever answered.
    answered: BTreeMap<u64, BTreeSet<u64>>,
    /// Ledger time.
    now_ns: u64,
}

impl Model {
    fn bucket(&mut self, scope: &str, quota: Quota) -> &mut Bucket {
        let (full, now) = (Bucket::full_ns(quota), self.now_ns);
        let bucket =
            self.buckets.entry(scope.to_owned()).or_insert_with(|| Bucket { quota, credit_ns: full, at_ns: now });
        bucket.refill(now);
        bucket
    }

    /// The scopes that a lookup of this caller pays from.
    fn scopes(&self, caller: u64, origins: u8) -> Vec<(String, Quota)> {
        let mut scopes = vec![(format!("caller {caller}"), self.policy.caller())];
        for (bit, kind) in ["network", "device"].into_iter().enumerate() {
            if let (1, Some(quota)) = (origins >> bit & 1, self.policy.origin(kind)) {
                scopes.push((format!("{kind} {}", origins >> 2 & 1), quota));
            }
        }
        scopes.extend(self.policy.everyone().map(|quota| ("everyone".to_owned(), quota)));
        scopes
    }
}

fn hash(number: u64) -> PhoneHash {
    let mut bytes = [3; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    PhoneHash::from_bytes(bytes)
}

fn caller(number: u64, origins: u8) -> Caller {
    let mut caller = Caller::new(number.to_string());
    let which = origins >> 2 & 1;
    if origins & 1 == 1 {
        caller = caller.via(Origin::network([192, 0, 2 + which, 1].into()));
    }
    if origins & 2 == 2 {
        caller = caller.via(Origin::named("device", [which]).expect("a sound origin"));
    }
    caller
}

fn quota(input: &mut Input<'_>) -> Quota {
    let (burst, refill) = (1 + input.below(40), 1 + u64::from(input.u16()) % 8_000);
    Quota::per_hour(burst, refill).expect("a sound quota")
}

fn policy(input: &mut Input<'_>) -> QuotaPolicy {
    let kinds = input.u8();
    let mut policy = QuotaPolicy::of_caller(quota(input));
    for (bit, kind) in ["network", "device"].into_iter().enumerate() {
        if kinds >> bit & 1 == 1 {
            policy = policy.with_origin(kind, quota(input)).expect("a sound kind");
        }
    }
    if kinds & 4 == 4 { policy.with_everyone(quota(input)) } else { policy }
}

/// Runs a history and holds every answer to the model.
pub fn ledger_ops(data: &[u8]) {
    let mut input = Input::new(data);
    let policy = policy(&mut input);
    let mut disk = scratch::disk();
    let clock = scratch::clock();
    let options = || scratch::options(&clock, policy.clone()).max_clock_jump(MAX_JUMP);
    let mut index = scratch::open(&disk, options());
    let mut model =
        Model { policy: policy.clone(), buckets: BTreeMap::new(), answered: BTreeMap::new(), now_ns: 0 };
    for _ in 0..MAX_OPS {
        if input.is_empty() {
            break;
        }
        match input.below(8) {
            0..=3 => lookup(&index, &mut model, &clock, &mut input),
            4 | 5 => {
                let pause = Duration::from_millis(u64::from(input.u16()) * 500);
                clock.advance(pause);
                model.now_ns += pause.as_nanos() as u64;
            }
            6 => step(&clock, &mut input),
            _ if input.u8() & 1 == 1 => {
                let crashed = disk.crash(u64::from(input.u8()));
                drop(index);
                disk = crashed;
                step(&clock, &mut input);
                index = scratch::open(&disk, options());
                // The wall clock counts from the last thing that was written, forwards and up to the jump.
                model.now_ns += MAX_JUMP.as_nanos() as u64;
            }
            _ => {
                drop(index);
                let closed_ms = clock.wall_ms();
                step(&clock, &mut input);
                index = scratch::open(&disk, options());
                // Between two runs the wall clock counts, forwards and up to the jump.
                let gap = Duration::from_millis(clock.wall_ms().saturating_sub(closed_ms)).min(MAX_JUMP);
                model.now_ns += gap.as_nanos() as u64;
            }
        }
    }
}

/// Sets the wall clock forward or back by up to 23 days.
fn step(clock: &ManualClock, input: &mut Input<'_>) {
    let by_ms = u64::from(input.u16()) * 30_000;
    let now = clock.wall_ms();
    clock.set_wall_ms(if input.u8() & 1 == 0 { now + by_ms } else { now.saturating_sub(by_ms) });
}

fn lookup(index: &Index, model: &mut Model, clock: &Arc<ManualClock>, input: &mut Input<'_>) {
    let (number, origins) = (input.below(4), input.u8());
    let first = u64::from(input.u8());
    let asked: Vec<u64> = (0..input.below(48)).map(|i| first + i % 40).collect();
    let who = caller(number, origins);
    let hashes: Vec<PhoneHash> = asked.iter().map(|i| hash(*i)).collect();
    let charged = ask(index, model, (&who, number, origins), &asked);

    let reply = index.lookup(&who, Purpose::Search, &hashes).expect("the second lookup is answered");
    let again = account_for(model, number, origins, &asked, &reply);
    if let Some(wait) = reply.retry_after() {
        assert!(charged + again <= 2 * asked.len() as u64);
        // Waiting as told is enough for at least one more.
        clock.advance(wait);
        model.now_ns += wait.as_nanos() as u64;
        let deferred: Vec<u64> = reply.deferred().map(|position| asked[position]).collect();
        assert!(ask(index, model, (&who, number, origins), &deferred) > 0, "the wait was too short");
    }
}

/// One lookup, held to the model. Returns what it charged.
fn ask(index: &Index, model: &mut Model, (who, number, origins): (&Caller, u64, u8), asked: &[u64]) -> u64 {
    let hashes: Vec<PhoneHash> = asked.iter().map(|i| hash(*i)).collect();
    let reply = index.lookup(who, Purpose::Search, &hashes).expect("the lookup is answered");
    account_for(model, number, origins, asked, &reply)
}

fn account_for(model: &mut Model, number: u64, origins: u8, asked: &[u64], reply: &unlisted::Reply) -> u64 {
    let mut fresh = 0;
    for (position, asked) in asked.iter().enumerate() {
        if reply.state(position) == Some(NumberState::Answered) {
            fresh += u64::from(model.answered.entry(number).or_default().insert(*asked));
        }
    }
    assert!(fresh <= reply.charged(), "{fresh} new numbers answered, {} charged", reply.charged());
    assert_eq!(reply.retry_after().is_some(), reply.deferred().next().is_some());
    assert_eq!(reply.matches().count(), 0);
    for (scope, quota) in model.scopes(number, origins) {
        let bucket = model.bucket(&scope, quota);
        let cost = reply.charged() * quota.interval_ns();
        assert!(cost <= bucket.credit_ns, "{scope} of {quota} paid {} and had no more", reply.charged());
        bucket.credit_ns -= cost;
        assert!(reply.remaining() <= bucket.credit_ns / quota.interval_ns(), "{scope} promises more than it has");
    }
    reply.charged()
}
