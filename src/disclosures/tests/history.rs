//! Any history of lookups, erasures, compactions, restarts and crashes, against a map of what was shown.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::{RETENTION, account, copy, fresh, group, killed, open, record, shown};
use crate::disclosures::{DisclosureLog, FOLDER, Filter, Group, Mark, files, frame};
use crate::words::AccountId;

const MINUTE_MS: u64 = 60_000;

#[derive(Debug, Clone)]
enum Op {
    Show {
        caller: u8,
        origins: u8,
        first: u64,
        count: u64,
    },
    Pause {
        ms: u64,
    },
    Erase {
        account: u64,
    },
    Compact {
        all: bool,
    },
    Settle,
    Reopen,
    /// The process is killed: nothing it wrote is lost.
    Kill,
    /// The power fails: what was not synced may be lost, from some byte on. It is cut off, or zeros of reserved room.
    PowerCut {
        byte: prop::sample::Index,
        zeros: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..3_u8, 0..4_u8, 0..40_u64, 1..12_u64)
            .prop_map(|(caller, origins, first, count)| Op::Show { caller, origins, first, count }),
        2 => prop_oneof![Just(1), Just(70_000), 0..RETENTION.as_millis() as u64 / 3]
            .prop_map(|ms| Op::Pause { ms }),
        1 => (0..50_u64).prop_map(|account| Op::Erase { account }),
        2 => any::<bool>().prop_map(|all| Op::Compact { all }),
        1 => Just(Op::Settle),
        1 => Just(Op::Reopen),
        1 => Just(Op::Kill),
        1 => any::<(prop::sample::Index, bool)>().prop_map(|(byte, zeros)| Op::PowerCut { byte, zeros }),
    ]
}

/// The times at which each disclosure was made, and how often at each.
#[derive(Default)]
struct Model(BTreeMap<(Group, AccountId), BTreeMap<u64, usize>>);

impl Model {
    /// What the log says must be what was recorded, but for rounded last times and what is past the retention.
    fn check(&self, log: &DisclosureLog, now_ms: u64) {
        let cutoff = now_ms.saturating_sub(RETENTION.as_millis() as u64);
        let found = shown(log, Filter::ALL, now_ms).unwrap();
        for (id, times) in &self.0 {
            let (first, last) = (*times.keys().next().unwrap(), *times.keys().next_back().unwrap());
            let Some((found_first, found_last)) = found.get(id) else {
                assert!(last < cutoff, "{id:?} is lost, shown at {times:?}, now {now_ms}");
                continue;
            };
            assert!(last + MINUTE_MS > cutoff, "{id:?} is past its retention");
            assert!(times.contains_key(found_first) && (first < cutoff || *found_first == first), "{id:?}");
            assert!(*found_last >= last && found_last - last < MINUTE_MS, "{id:?}: {found_last} for {last}");
        }
        let extra: Vec<_> = found.keys().filter(|id| !self.0.contains_key(id)).collect();
        assert!(extra.is_empty(), "nobody was shown {extra:?}");
    }
}

struct World {
    dir: TempDir,
    log: DisclosureLog,
    mark: Mark,
    model: Model,
    /// Lookups since the log was last settled: a power cut may lose them, from some on.
    unsynced: Vec<(Group, u64, std::ops::Range<u64>)>,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        let (dir, log) = fresh();
        let mark = Mark { seq: 1, len: 0 };
        Self { dir, log, mark, model: Model::default(), unsynced: Vec::new(), now_ms: 1_795_000_000_000 }
    }

    fn settle(&mut self) {
        self.mark = self.log.settle().unwrap();
        self.unsynced.clear();
    }

    fn show(&mut self, group: Group, at_ms: u64, numbers: std::ops::Range<u64>) {
        for number in numbers {
            *self.model.0.entry((group, account(number))).or_default().entry(at_ms).or_default() += 1;
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Show { caller, origins, first, count } => {
                let (group, numbers) = (group(caller, origins), first..first + count);
                record(&self.log, group, self.now_ms, numbers.clone()).unwrap();
                self.show(group, self.now_ms, numbers.clone());
                self.unsynced.push((group, self.now_ms, numbers));
            }
            Op::Pause { ms } => self.now_ms += ms,
            Op::Erase { account: number } => {
                // It seals, so everything before it is on the device.
                self.log.erase(&[account(number)]).unwrap();
                self.model.0.retain(|(_, of), _| *of != account(number));
                self.settle();
            }
            Op::Compact { all } => {
                self.log.compact(self.now_ms, all).unwrap();
                assert!(!all || self.log.is_compact());
                // What was compacted cannot be cut, and times that became one row could not be told apart.
                self.settle();
            }
            Op::Settle => self.settle(),
            Op::Reopen => {
                self.settle();
                self.reopen(self.dir.path().to_owned());
            }
            Op::Kill => {
                let dir = killed(&self.log, self.dir.path());
                self.reopen(dir.path().to_owned());
                self.dir = dir;
            }
            Op::PowerCut { byte, zeros } => self.cut(byte, zeros),
        }
    }

    fn reopen(&mut self, dir: PathBuf) {
        // The old one first: it retires files.
        let (_spare, spare) = fresh();
        drop(std::mem::replace(&mut self.log, spare));
        self.log = open(&dir, self.mark).unwrap();
    }

    /// Cuts the growing log somewhere behind what was settled, and takes back what is lost.
    fn cut(&mut self, byte: prop::sample::Index, zeros: bool) {
        // At one moment: the thread may seal the log at the next.
        let (seq, dir) = self.log.writer.with(|state| (state.active.seq, copy(self.dir.path())));
        let synced = (seq == self.mark.seq).then_some(self.mark.len);
        let path = dir.path().join(FOLDER).join(files::log_name(seq));
        let len = fs::metadata(&path).unwrap().len();
        let least = synced.unwrap_or(0).max(frame::HEADER_LEN as u64);
        let cut = least + byte.index((len - least) as usize + 1) as u64;
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(cut).unwrap();
        if zeros {
            file.set_len(len).unwrap();
        }
        let before = self.log.usage().rows;
        self.reopen(dir.path().to_owned());
        self.dir = dir;
        let mut lost = before - self.log.usage().rows;
        // Only the last lookups are lost, each of them whole.
        while lost > 0 {
            let (group, at_ms, numbers) = self.unsynced.pop().expect("what was settled is there");
            lost = lost.checked_sub(numbers.end - numbers.start).expect("no part of a lookup is left");
            for number in numbers {
                let times = self.model.0.entry((group, account(number))).or_default();
                let count = times.get_mut(&at_ms).expect("it was shown");
                *count -= 1;
                times.retain(|_, count| *count > 0);
            }
        }
        self.model.0.retain(|_, times| !times.is_empty());
        self.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_was_shown(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            world.model.check(&world.log, world.now_ms);
        }
    }
}
