//! Any history of charges, clock steps, changes of policy, gifts, suspensions, evictions, crashes and reopenings: what
//! was answered stays within what the quotas allow, in every window, and an honest caller is always answered again.
//!
//! The bound is worked out apart from GCRA: in a window no bucket answers more distinct numbers than the largest burst
//! that was in force in it, what the refills of its parts bring, and what was given.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::words::{Clock, QuotaOverride, Suspension};

const CALLERS: u8 = 3;
const HOUR_NS: u64 = 3_600_000_000_000;
const MAX_JUMP: Duration = Duration::from_secs(5 * 3_600);

#[derive(Debug, Clone)]
enum Op {
    /// A caller, through a network or none, asks for numbers from one on.
    Ask {
        caller: u8,
        via: Option<u8>,
        first: u16,
        count: u16,
    },
    Wait {
        minutes: u16,
    },
    StepWall {
        minutes: i16,
    },
    SetPolicy {
        caller: (u8, u16),
        network: Option<(u8, u16)>,
        everyone: Option<(u8, u16)>,
    },
    SetOwn {
        caller: u8,
        own: Option<(u8, u16)>,
        grows_h: u8,
    },
    Forgive {
        caller: u8,
        count: u8,
    },
    Suspend {
        caller: u8,
    },
    Reinstate {
        caller: u8,
    },
    /// So many others ask that every bucket is evicted.
    Crowd,
    WriteNovelty,
    /// The file is written anew, without buckets that owe nothing.
    Vacuum,
    Crash,
    Close,
}

fn quota_parts() -> impl Strategy<Value = (u8, u16)> {
    (1_u8..60, 1_u16..400)
}

fn op() -> impl Strategy<Value = Op> {
    let caller = 0..CALLERS;
    let ask = (caller.clone(), prop::option::of(0_u8..2), 0_u16..300, 1_u16..80)
        .prop_map(|(caller, via, first, count)| Op::Ask { caller, via, first, count });
    let policy = (quota_parts(), prop::option::of(quota_parts()), prop::option::of(quota_parts()))
        .prop_map(|(caller, network, everyone)| Op::SetPolicy { caller, network, everyone });
    let own = (caller.clone(), prop::option::of(quota_parts()), 0_u8..10)
        .prop_map(|(caller, own, grows_h)| Op::SetOwn { caller, own, grows_h });
    prop_oneof![
        8 => ask,
        3 => (0_u16..300).prop_map(|minutes| Op::Wait { minutes }),
        1 => (-600_i16..600).prop_map(|minutes| Op::StepWall { minutes }),
        1 => policy,
        1 => own,
        1 => (caller.clone(), 1_u8..20).prop_map(|(caller, count)| Op::Forgive { caller, count }),
        1 => caller.clone().prop_map(|caller| Op::Suspend { caller }),
        2 => caller.prop_map(|caller| Op::Reinstate { caller }),
        1 => Just(Op::Crowd),
        1 => Just(Op::WriteNovelty),
        2 => Just(Op::Vacuum),
        2 => Just(Op::Crash),
        1 => Just(Op::Close),
    ]
}

fn quota((burst, refill): (u8, u16)) -> Quota {
    Quota::per_hour(u64::from(burst), u64::from(refill)).unwrap()
}

/// Which bucket: a caller, a network, everyone.
type Name = (&'static str, u8);

/// What happened to a bucket at a moment of ledger time.
#[derive(Debug, Clone, Copy)]
enum Fact {
    Answered(u64),
    Given(u64),
    /// `None`: not limited from now on.
    Quota(Option<Quota>),
}

/// Everything that an auditor would have to know.
#[derive(Default)]
struct Audit {
    facts: BTreeMap<Name, Vec<(u64, Fact)>>,
    known: BTreeMap<u8, BTreeSet<u32>>,
}

impl Audit {
    fn note(&mut self, name: Name, now_ns: u64, fact: Fact) {
        self.facts.entry(name).or_default().push((now_ns, fact));
    }

    /// Every window that begins and ends with an answer.
    fn check(&self) -> Result<(), TestCaseError> {
        for (name, facts) in &self.facts {
            for start in 0..facts.len() {
                check_from(name, facts, start)?;
            }
        }
        Ok(())
    }
}

/// Windows that begin with the fact at `start`.
fn check_from(name: &Name, facts: &[(u64, Fact)], start: usize) -> Result<(), TestCaseError> {
    let before = facts[..start].iter().rev();
    let mut quota = before.filter_map(|(_, fact)| if let Fact::Quota(quota) = fact { Some(*quota) } else { None });
    let mut quota = quota.next().unwrap_or_default();
    let mut burst = quota.map_or(0, Quota::burst);
    let (mut refill, mut given, mut answered, mut changes) = (0.0, 0, 0, 0);
    let mut is_limited = quota.is_some();
    let mut last_ns = facts[start].0;
    for (now_ns, fact) in &facts[start..] {
        // After a crash ledger time begins again at the last commit: nothing comes back twice.
        let passed_ns = now_ns.saturating_sub(last_ns);
        refill += quota.map_or(0.0, |quota| passed_ns as f64 / quota.interval_ns() as f64);
        last_ns = last_ns.max(*now_ns);
        match fact {
            Fact::Answered(count) => answered += count,
            Fact::Given(count) => given += count,
            Fact::Quota(next) => {
                quota = *next;
                burst = burst.max(next.map_or(0, Quota::burst));
                is_limited &= next.is_some();
                changes += 1;
            }
        }
        if is_limited {
            // One for the part of a number that had come back already, and for what each change rounds.
            let allowed = burst + given + refill as u64 + 1 + changes;
            prop_assert!(
                answered <= allowed,
                "{name:?} answered {answered} of {allowed} up to {now_ns}: {facts:?}"
            );
        }
    }
    Ok(())
}

struct World {
    dir: tempfile::TempDir,
    options: LedgerOptions,
    clock: Arc<ManualClock>,
    ledger: Option<RedbLedger>,
    crashes: u64,
    policy: QuotaPolicy,
    own: BTreeMap<u8, QuotaOverride>,
    audit: Audit,
}

/// The simulated one, which loses in a crash what was not synced; without it, the real one.
fn disk() -> Disk {
    #[cfg(feature = "internals")]
    return Disk::Sim(crate::internals::SimDisk::new(1));
    #[cfg(not(feature = "internals"))]
    Disk::Real
}

fn crashed(disk: &Disk, seed: u64) -> Disk {
    #[cfg(feature = "internals")]
    if let Disk::Sim(disk) = disk {
        return Disk::Sim(disk.crash(seed));
    }
    let _ = seed;
    disk.clone()
}

fn caller(number: u8) -> Scope<'static> {
    Scope { id: [0x10 + number; 16], kind: ScopeKind::Caller }
}

fn network(number: u8) -> Scope<'static> {
    Scope { id: [0x80 + number; 16], kind: ScopeKind::Origin("network") }
}

const EVERYONE: Scope<'static> = Scope { id: [0xff; 16], kind: ScopeKind::Everyone };

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at_wall_ms(1_000_000_000));
        let options = LedgerOptions {
            active_buckets: 64,
            max_clock_jump: MAX_JUMP,
            novelty_window: DAY * 3,
            novelty_bytes: 1 << 12,
            database: DbOptions { disk: disk(), ..DATABASE },
            ..options(&clock)
        };
        let policy = QuotaPolicy::of_caller(quota((30, 60)));
        let dir = tempfile::tempdir().unwrap();
        options.database.disk.create_dir_all(dir.path()).unwrap();
        let first = LedgerState::new([1; 16], [2; 16], policy.clone(), clock.wall_ms());
        RedbLedger::create(dir.path(), &options.database, &first).unwrap();
        let ledger = RedbLedger::open(dir.path(), &options).unwrap();
        let mut world = Self {
            dir,
            options,
            clock,
            ledger: Some(ledger),
            crashes: 0,
            policy,
            own: BTreeMap::new(),
            audit: Audit::default(),
        };
        world.note_quotas();
        world
    }

    fn ledger(&self) -> &RedbLedger {
        self.ledger.as_ref().unwrap()
    }

    fn now_ns(&self) -> u64 {
        self.ledger().time.ledger_ns()
    }

    fn note_quotas(&mut self) {
        let now_ns = self.now_ns();
        for number in 0..CALLERS {
            let quota = self.own.get(&number).map_or(self.policy.caller(), QuotaOverride::quota);
            self.audit.note(("caller", number), now_ns, Fact::Quota(Some(quota)));
        }
        for number in 0..2 {
            self.audit.note(("network", number), now_ns, Fact::Quota(self.policy.origin("network")));
        }
        self.audit.note(("everyone", 0), now_ns, Fact::Quota(self.policy.everyone()));
    }

    fn ask(&mut self, number: u8, via: Option<u8>, numbers: std::ops::Range<u32>) -> Option<u64> {
        let mut scopes = vec![caller(number)];
        scopes.extend(via.map(network));
        if self.ledger().limits_everyone() {
            scopes.push(EVERYONE);
        }
        // Fingerprints of real numbers are spread.
        let fingerprints: Vec<u32> = numbers.clone().map(|i| i.wrapping_mul(0x9e37_79b9) >> 1).collect();
        let verdict = match self.ledger().charge(&scopes, &fingerprints) {
            Ok(verdict) => verdict,
            Err(Error::Suspended { .. }) => return None,
            Err(error) => panic!("{error}"),
        };
        let deferred: BTreeSet<u32> = verdict.deferred.iter().copied().collect();
        let known = self.audit.known.entry(number).or_default();
        let answered = (0_u32..).zip(numbers).filter(|(at, _)| !deferred.contains(at));
        let fresh = answered.filter(|(_, number)| known.insert(*number)).count() as u64;
        let now_ns = self.now_ns();
        for (name, is_in) in [
            (("caller", number), true),
            (("network", via.unwrap_or_default()), via.is_some()),
            (("everyone", 0), true),
        ] {
            if is_in {
                self.audit.note(name, now_ns, Fact::Answered(fresh));
            }
        }
        Some(fresh)
    }

    fn reopen(&mut self, is_clean: bool) {
        let before_ns = self.now_ns();
        let ledger = self.ledger.take().unwrap();
        if is_clean {
            ledger.settle().unwrap();
        } else {
            self.crashes += 1;
            self.options.database.disk = crashed(&self.options.database.disk, self.crashes);
        }
        drop(ledger);
        self.ledger = Some(RedbLedger::open(self.dir.path(), &self.options).unwrap());
        let jumped_ns = self.now_ns().saturating_sub(before_ns);
        assert!(u128::from(jumped_ns) <= MAX_JUMP.as_nanos(), "ledger time went on by {jumped_ns} ns");
    }

    fn crowd(&self) {
        for i in 0..200_u64 {
            let id = *blake3::hash(&i.to_le_bytes()).as_bytes().first_chunk().unwrap();
            // Of a kind without a quota: it takes room, and pays nothing.
            self.ledger().charge(&[Scope { id, kind: ScopeKind::Origin("cohort") }], &[]).unwrap();
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Ask { caller, via, first, count } => {
                let first = u32::from(*first);
                self.ask(*caller, *via, first..first + u32::from(*count));
            }
            Op::Wait { minutes } => self.clock.advance(Duration::from_secs(u64::from(*minutes) * 60)),
            Op::StepWall { minutes } => {
                let by_ms = i64::from(*minutes) * 60_000;
                self.clock.set_wall_ms(self.clock.wall_ms().saturating_add_signed(by_ms));
            }
            Op::SetPolicy { caller, network, everyone } => {
                let mut policy = QuotaPolicy::of_caller(quota(*caller));
                if let Some(parts) = network {
                    policy = policy.with_origin("network", quota(*parts)).unwrap();
                }
                self.policy = everyone.iter().fold(policy, |policy, parts| policy.with_everyone(quota(*parts)));
                self.ledger().set_policy(self.policy.clone()).unwrap();
                self.note_quotas();
            }
            Op::SetOwn { caller: number, own, grows_h } => self.set_own(*number, *own, *grows_h),
            Op::Forgive { caller: number, count } => {
                self.ledger().forgive(caller(*number), u64::from(*count)).unwrap();
                let now_ns = self.now_ns();
                self.audit.note(("caller", *number), now_ns, Fact::Given(u64::from(*count)));
            }
            Op::Suspend { caller: number } => {
                let suspension = Suspension { since_ms: 0, reason: String::new() };
                self.ledger().suspend(caller(*number), suspension).unwrap();
                assert_eq!(self.ask(*number, None, 0..1), None);
            }
            Op::Reinstate { caller: number } => drop(self.ledger().reinstate(caller(*number)).unwrap()),
            Op::Crowd => self.crowd(),
            Op::Vacuum => {
                self.ledger().vacuum().unwrap();
            }
            Op::WriteNovelty => self.ledger().write_novelty().unwrap(),
            Op::Crash => self.reopen(false),
            Op::Close => self.reopen(true),
        }
    }

    fn set_own(&mut self, number: u8, own: Option<(u8, u16)>, grows_h: u8) {
        let grows_for = Duration::from_nanos(u64::from(grows_h) * HOUR_NS);
        let own = own.map(|parts| QuotaOverride::growing(1, quota(parts), grows_for).unwrap());
        self.ledger().set_override(caller(number), own.map(|own| (own, Duration::ZERO))).unwrap();
        match own {
            Some(own) => self.own.insert(number, own),
            None => self.own.remove(&number),
        };
        self.note_quotas();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_answers_more_than_its_quotas_allow(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.audit.check()?;
        // Liveness: whoever may ask and waits is answered. A debt is at most 60 numbers at one an hour, stretched by changes.
        for number in 0..CALLERS {
            world.ledger().reinstate(caller(number)).unwrap();
        }
        world.clock.advance(DAY * 365);
        for number in 0..CALLERS {
            let first = 10_000 + u32::from(number) * 10;
            // Everyone's budget may be one number an hour.
            world.clock.advance(Duration::from_secs(7_200));
            let fresh = world.ask(number, Some(0), first..first + 1);
            prop_assert!(fresh == Some(1), "caller {number} waits for ever");
        }
        world.audit.check()?;
    }
}
