//! Any history of operations on an index, and power failures at any call of them, against a plain map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use unlisted::internals::SimDisk;
use unlisted::{
    AccountId, Caller, Domain, Index, Listing, ManualClock, OptIns, PhoneHash, Purpose, Quota, QuotaPolicy,
    Version,
};

use super::input::Input;
use super::scratch;

const NUMBERS: u64 = 32;
const ACCOUNTS: u64 = 12;
const MAX_OPS: usize = 48;

/// Number and account to opt-ins (none if removed) and version.
type Model = BTreeMap<(u64, u64), (Option<OptIns>, u64)>;

/// Number, account, opt-ins (none for a removal), version.
type Change = (u64, u64, Option<OptIns>, u64);

/// Half of the numbers are e-mail addresses with the bytes of a phone hash.
fn hash(number: u64) -> PhoneHash {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&(number / 2).to_be_bytes());
    let hash = PhoneHash::from_bytes(bytes);
    if number.is_multiple_of(2) { hash } else { hash.in_domain(Domain::Email) }
}

/// A third of the accounts are UUIDs, so that segments of both account lengths come up.
fn account(number: u64) -> AccountId {
    if number % 3 == 2 { AccountId::from_bytes([number as u8 | 0x10; 16]) } else { AccountId::from(number) }
}

fn change(input: &mut Input<'_>) -> Change {
    let (number, account, flags, version) =
        (input.below(NUMBERS), input.below(ACCOUNTS), input.u8(), input.below(16));
    let opt_ins = (flags < 0xc0).then(|| OptIns::from_bits_truncate(flags));
    (number, account, opt_ins, version)
}

struct Pair {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    index: Option<Index>,
    model: Model,
    watermark: Option<Vec<u8>>,
}

/// Applies a history and compares every answer.
pub fn index_ops(data: &[u8]) {
    let mut input = Input::new(data);
    let disk = scratch::disk();
    let clock = scratch::clock();
    let index = Some(scratch::open(&disk, options(&clock)));
    let mut pair = Pair { disk, clock, index, model: Model::new(), watermark: None };
    for _ in 0..MAX_OPS {
        if input.is_empty() {
            break;
        }
        pair.step(&mut input);
    }
    pair.check_all();
    pair.reopen();
    pair.check_all();
}

fn options(clock: &Arc<ManualClock>) -> unlisted::Options {
    let quota = Quota::per_hour(1_000_000_000, 1_000_000).expect("a sound quota");
    // Removals outlive every input, so that the model need not date them.
    scratch::options(clock, QuotaPolicy::of_caller(quota))
        .removal_retention(Duration::from_secs(100 * 365 * 86_400))
}

impl Pair {
    fn index(&self) -> &Index {
        self.index.as_ref().expect("it is open between steps")
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(12) {
            0..=3 => self.update(input),
            4 | 5 => self.import(input),
            6 => self.erase(input),
            7 => {
                self.index().fold().expect("the fold ends");
                assert_eq!(self.index().stats().expect("figures").delta, 0);
            }
            8 => match input.below(4) {
                0 => self.reopen(),
                1 => self.crash(self.disk.crash(u64::from(input.u8()))),
                _ => self.crash_within(input),
            },
            9 => self.clock.advance(Duration::from_secs(3_600 * (1 + u64::from(input.u8())))),
            10 => self.set_opt_ins(input),
            _ => self.lookup(input),
        }
    }

    /// Takes a change if it is newer; says whether it did.
    fn take(&mut self, (number, account, opt_ins, version): Change) -> bool {
        let newer = self.model.get(&(number, account)).is_none_or(|(_, stored)| version > *stored);
        if newer {
            self.model.insert((number, account), (opt_ins, version));
        }
        newer
    }

    fn update(&mut self, input: &mut Input<'_>) {
        let changes: Vec<Change> = (0..input.below(9)).map(|_| change(input)).collect();
        let mark = (input.u8().is_multiple_of(4)).then(|| vec![input.u8(); 3]);
        let filled = self.index().update(|batch| {
            if let Some(mark) = &mark {
                batch.watermark(mark)?;
            }
            changes.iter().try_for_each(|(number, of, opt_ins, version)| match opt_ins {
                Some(opt_ins) => batch.put(hash(*number), account(*of), *opt_ins, *version),
                None => batch.remove(hash(*number), account(*of), *version),
            })
        });
        let report = filled.expect("the update is taken");
        let applied = changes.iter().filter(|change| self.take(**change)).count();
        assert_eq!((report.applied, report.stale), (applied, changes.len() - applied));
        self.watermark = mark.or(self.watermark.take());
    }

    fn set_opt_ins(&mut self, input: &mut Input<'_>) {
        let (number, of, opt_ins, version) = change(input);
        let opt_ins = opt_ins.unwrap_or(OptIns::empty());
        let report = self.index().set_opt_ins(hash(number), account(of), opt_ins, version).expect("it is taken");
        assert_eq!(report.applied, usize::from(self.take((number, of, Some(opt_ins), version))));
    }

    fn import(&mut self, input: &mut Input<'_>) {
        let changes: Vec<Change> = (0..input.below(24)).map(|_| change(input)).collect();
        let rows: Vec<Listing> = changes
            .iter()
            .map(|(number, of, opt_ins, version)| Listing {
                hash: hash(*number),
                account: account(*of),
                opt_ins: opt_ins.unwrap_or(OptIns::empty()),
                version: Version::new(*version).expect("a small version"),
            })
            .collect();
        let report = self.index().import(rows).expect("the import ends");
        assert_eq!(report.rows, changes.len() as u64);
        for (number, of, opt_ins, version) in changes {
            self.take((number, of, Some(opt_ins.unwrap_or(OptIns::empty())), version));
        }
    }

    fn erase(&mut self, input: &mut Input<'_>) {
        let gone: Vec<u64> = (0..=input.below(3)).map(|_| input.below(ACCOUNTS)).collect();
        let ids: Vec<AccountId> = gone.iter().map(|of| account(*of)).collect();
        let report = self.index().erase_accounts(&ids).expect("the erasure ends");
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for ((_, of), (_, version)) in &self.model {
            let most = newest.entry(*of).or_default();
            *most = (*most).max(*version);
        }
        let mut removed = 0;
        for ((_, of), state) in &mut self.model {
            if gone.contains(of) && state.0.is_some() {
                *state = (None, newest[of]);
                removed += 1;
            }
        }
        assert_eq!(report.removed, removed);
    }

    fn reopen(&mut self) {
        self.index = None;
        self.index = Some(scratch::open(&self.disk, options(&self.clock)));
    }

    /// What was acknowledged is there.
    fn crash(&mut self, left: SimDisk) {
        self.index = None;
        self.disk = left;
        self.reopen();
        self.check_all();
    }

    /// The power fails at one of the next calls, in the middle of a change: all of it is there, or nothing.
    fn crash_within(&mut self, input: &mut Input<'_>) {
        let (at, seed) = (self.disk.changes() + 1 + u64::from(input.u8()), u64::from(input.u8()));
        let left = Arc::new(Mutex::new(None));
        let keep = left.clone();
        self.disk.watch(Arc::new(move |call, moment| {
            if call == at {
                *keep.lock().expect("nobody panics with it") = Some(moment.crash(seed));
            }
        }));
        let (model, watermark) = (self.model.clone(), self.watermark.clone());
        let version = self.index().snapshot_version();
        match input.below(5) {
            0 | 1 => self.update(input),
            2 => self.import(input),
            3 => self.erase(input),
            _ => {
                self.index().fold().expect("the fold ends");
            }
        }
        self.disk.watch(Arc::new(|_, _| ()));
        let version_after = self.index().snapshot_version();
        let left = left.lock().expect("nobody panics with it").take();
        // There may have been fewer calls.
        let Some(left) = left else { return };
        self.index = None;
        self.disk = left;
        self.reopen();
        let found = self.index().snapshot_version();
        if found != version_after {
            assert_eq!(found, version, "a change is there in part");
            (self.model, self.watermark) = (model, watermark);
        } else if version_after == version && self.index().watermark() == watermark {
            // A batch without effect moves the watermark alone.
            self.watermark = watermark;
        }
        self.check_all();
    }

    fn lookup(&self, input: &mut Input<'_>) {
        let purpose = Purpose::ALL[input.below(6) as usize];
        let numbers: Vec<u64> = (0..input.below(12)).map(|_| input.below(NUMBERS)).collect();
        self.check(purpose, &numbers);
    }

    fn check(&self, purpose: Purpose, numbers: &[u64]) {
        let hashes: Vec<PhoneHash> = numbers.iter().map(|number| hash(*number)).collect();
        let reply = self.index().lookup(&Caller::new("fuzz"), purpose, &hashes).expect("the lookup is answered");
        assert_eq!(reply.deferred().count(), 0);
        let mut found: Vec<_> = reply.matches().map(|found| (found.position, found.account)).collect();
        found.sort_unstable();
        let mut expected = Vec::new();
        for (position, number) in numbers.iter().enumerate() {
            for ((_, of), (opt_ins, _)) in self.model.range((*number, 0)..=(*number, u64::MAX)) {
                // Who asks here has no number of its own.
                if opt_ins.is_some_and(|of| of.allows(purpose) && !of.contains(OptIns::MUTUAL)) {
                    expected.push((position, account(*of)));
                }
            }
        }
        expected.sort_unstable();
        assert_eq!(found, expected, "the answer for {purpose} is not the map's");
    }

    fn check_all(&self) {
        let numbers: Vec<u64> = (0..NUMBERS).collect();
        Purpose::ALL.into_iter().for_each(|purpose| self.check(purpose, &numbers));
        let stats = self.index().stats().expect("figures");
        let live = self.model.values().filter_map(|(opt_ins, _)| *opt_ins);
        assert_eq!(stats.listings, live.clone().count() as u64);
        assert_eq!(stats.opted_in, live.filter(|opt_ins| opt_ins.purposes().next().is_some()).count() as u64);
        assert_eq!(self.index().watermark(), self.watermark);
        self.index().verify(|_, _| ()).expect("the index is whole");
    }
}
