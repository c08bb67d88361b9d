//! A fleet in one process: nodes, the record that all read, and the host that carries bytes between them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use unlisted::{
    AccountId, Caller, Index, KeySpan, LookupOptions, ManualClock, OptIns, Options, Ownership, PhoneHash, Purpose,
    Reply, UpdateReport,
};

use super::common;

/// Number, account, opt-ins (none means removal), version.
pub type Change = (u64, u64, Option<u8>, u64);

/// Where the record is: it changes by compare-and-set alone.
pub struct Records(Mutex<(u64, Vec<u8>)>);

impl Records {
    pub fn new(first: &Ownership) -> Self {
        Self(Mutex::new((first.version(), first.encode())))
    }

    pub fn get(&self) -> Ownership {
        Ownership::decode(&self.0.lock().unwrap().1).unwrap()
    }

    /// Sets the record if its version is still the expected one.
    pub fn compare_and_set(&self, expected: u64, next: &Ownership) -> bool {
        let mut now = self.0.lock().unwrap();
        let is_expected = now.0 == expected;
        if is_expected {
            *now = (next.version(), next.encode());
        }
        is_expected
    }
}

pub struct Fleet {
    pub dir: tempfile::TempDir,
    pub clock: Arc<ManualClock>,
    pub nodes: BTreeMap<String, Index>,
    pub records: Records,
    tune: fn(Options) -> Options,
    exports: u64,
}

impl Fleet {
    pub fn new(names: &[&str], tune: fn(Options) -> Options) -> Self {
        Self::with_record(&Ownership::of_equals(names.iter().copied()).unwrap(), names, tune)
    }

    /// The nodes of a record, and more that own nothing yet.
    pub fn with_record(record: &Ownership, names: &[&str], tune: fn(Options) -> Options) -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
        let records = Records::new(record);
        let mut fleet = Self { dir, clock, nodes: BTreeMap::new(), records, tune, exports: 0 };
        for name in names {
            fleet.open(name);
            fleet.nodes[*name].begin_ownership(record).unwrap();
        }
        fleet
    }

    pub fn options(&self) -> Options {
        (self.tune)(common::options(&self.clock))
    }

    pub fn open(&mut self, name: &str) {
        self.nodes.remove(name);
        let index = Index::open(self.dir.path().join(name), self.options().node(name)).unwrap();
        self.nodes.insert(name.to_owned(), index);
    }

    pub fn node(&self, name: &str) -> &Index {
        &self.nodes[name]
    }

    /// The change feed: every node gets all of it.
    pub fn update(&self, changes: &[Change]) -> Vec<UpdateReport> {
        self.nodes.values().map(|node| update(node, changes, None)).collect()
    }

    /// A lookup at a front, answered by all owners.
    pub fn ask(&self, front: &str, caller: &Caller, purpose: Purpose, numbers: &[PhoneHash]) -> Reply {
        ask(self.node(front), &self.nodes, caller, purpose, numbers, LookupOptions::default()).unwrap()
    }

    pub fn folder(&mut self) -> std::path::PathBuf {
        self.exports += 1;
        self.dir.path().join(format!("export-{}", self.exports))
    }

    /// Moves what others own of a span. `between` runs between the steps.
    pub fn move_range(&mut self, span: KeySpan, to: &str, mut between: impl FnMut(&Self)) {
        let record = self.records.get();
        let pieces: Vec<(KeySpan, String)> = record
            .spans()
            .filter(|(_, owner)| *owner != to)
            .filter_map(|(piece, owner)| {
                let both = KeySpan::new(piece.from().max(span.from()), piece.to().min(span.to()));
                both.ok().map(|both| (both, owner.to_owned()))
            })
            .collect();
        for (piece, from) in pieces {
            let folder = self.folder();
            self.node(to).expect_range(piece).unwrap();
            between(self);
            self.node(&from).export_range(piece, &folder, |_| true).unwrap();
            between(self);
            self.node(to).import_range(&folder).unwrap();
            between(self);
            let now = self.records.get();
            let next = now.moved(piece, to).unwrap();
            assert!(self.records.compare_and_set(now.version(), &next));
            between(self);
            self.nodes.values().for_each(|node| node.follow_ownership(&next).unwrap());
            between(self);
            self.node(&from).drop_range(piece).unwrap();
        }
    }
}

/// Brings tickets to their owners and answers back.
pub fn ask(
    front: &Index,
    nodes: &BTreeMap<String, Index>,
    caller: &Caller,
    purpose: Purpose,
    numbers: &[PhoneHash],
    options: LookupOptions,
) -> unlisted::Result<Reply> {
    let mut pending = front.issue(caller, purpose, numbers, options)?;
    let tickets: Vec<(String, Vec<u8>)> =
        pending.tickets().map(|(node, ticket)| (node.to_owned(), ticket.to_vec())).collect();
    for (node, ticket) in tickets {
        pending.accept(&nodes[&node].redeem(&ticket)?)?;
    }
    pending.finish()
}

pub fn update(index: &Index, changes: &[Change], watermark: Option<u64>) -> UpdateReport {
    let filled = index.update(|batch| {
        changes.iter().try_for_each(|(number, account, opt_ins, version)| {
            let (hash, account) = (common::number(*number), AccountId::from(*account));
            match opt_ins {
                Some(bits) => batch.put(hash, account, OptIns::from_bits_truncate(*bits), *version),
                None => batch.remove(hash, account, *version),
            }
        })?;
        watermark.map_or(Ok(()), |mark| batch.watermark(mark.to_be_bytes()))
    });
    filled.unwrap()
}

/// Matches as plain numbers.
pub fn found(reply: &Reply) -> Vec<(usize, u64)> {
    reply.matches().map(|found| (found.position, found.account.as_u64().unwrap())).collect()
}

pub fn span(from: u32, to: u32) -> KeySpan {
    KeySpan::new(from, to).unwrap()
}

pub fn open_whole(dir: &Path, options: Options) -> Index {
    Index::open(dir, options).unwrap()
}
