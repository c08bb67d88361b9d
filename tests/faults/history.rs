//! A history that a seed decides: the options of its index, and its steps.

use std::sync::Arc;
use std::time::Duration;

use unlisted::internals::SimDisk;
use unlisted::{
    AccountId, BackupMode, Caller, Clock, DisclosureSync, Error, Index, Listing, ManualClock, OptIns, Options,
    Origin, PhoneHash, Purpose, Quota, QuotaPolicy, Reply, Version,
};

use super::common;

/// Where the index is on its disk. Two folders have to be made for it.
pub const DIR: &str = "/var/index";
/// Where its backups are, and where they are restored to.
pub const BACKUPS: &str = "/var/backups/of-index";
pub const RESTORED: &str = "/var/restored";
pub const STEPS: u64 = 40;
/// Numbers that may be listed.
pub const NUMBERS: u64 = 24;
pub const ACCOUNTS: u64 = 8;
pub const CALLERS: u64 = 3;
pub const NETWORKS: u64 = 2;
/// Rows of a large import: more than one segment has room for.
const BULK_ROWS: u64 = 2_600;

pub fn random(seed: u64, step: u64, what: u64) -> u64 {
    let mut x = seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ what.wrapping_mul(0xd1b5_4a32_d192_ed03);
    for _ in 0..3 {
        x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    x ^ (x >> 29)
}

/// Number, account, opt-ins (none for a removal), version.
pub type Change = (u64, u64, Option<OptIns>, u64);

/// Who asks: a caller, and the network it asks from, if it has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    pub name: String,
    pub network: Option<u64>,
}

impl Asker {
    pub fn caller(&self) -> Caller {
        let caller = Caller::new(&self.name);
        match self.network {
            Some(network) => caller.via(Origin::network([192, 0, 2 + network as u8, 1].into())),
            None => caller,
        }
    }
}

#[derive(Debug, Clone)]
pub enum Step {
    Update(Vec<Change>),
    SetOptIns(Change),
    Import(Vec<Change>),
    Erase(Vec<u64>),
    Fold,
    Compact,
    Vacuum,
    Backup(BackupMode),
    Reopen,
    Wait(Duration),
    Lookup { asker: Asker, purpose: Purpose, numbers: Vec<u64> },
}

/// A history, and how its index is opened.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
}

pub fn account(number: u64) -> AccountId {
    if number % 3 == 2 { AccountId::from_bytes([number as u8 | 0x10; 16]) } else { AccountId::from(number) }
}

pub fn hashes(numbers: &[u64]) -> Vec<PhoneHash> {
    numbers.iter().map(|number| common::number(*number)).collect()
}

impl Plan {
    pub fn policy(self) -> QuotaPolicy {
        let quota = |burst, refill| Quota::per_hour(burst, refill).expect("a sound quota");
        let policy = QuotaPolicy::of_caller(quota(50, 60)).with_origin("network", quota(80, 120)).expect("a kind");
        if self.seed.is_multiple_of(2) { policy } else { policy.with_everyone(quota(300, 3_000)) }
    }

    /// Are disclosures on the device before they are answered?
    pub fn is_synced(self) -> bool {
        !self.seed.is_multiple_of(3)
    }

    /// Does the history have imports that make several segments, on threads whose order no seed decides?
    fn is_large(self) -> bool {
        self.seed % 8 == 7
    }

    pub fn options(self, disk: &SimDisk, clock: &Arc<ManualClock>) -> Options {
        // The thread behind the log never gets to it, so that a seed decides what is synced.
        let written = DisclosureSync::Written { sync_within_ms: 60_000 };
        common::options(clock)
            .disk(disk)
            .index_cache_bytes(1 << 20)
            .ledger_cache_bytes(1 << 20)
            .import_memory_bytes(1 << 20)
            .segment_memory_bytes(1 << 30)
            .segment_listings(1_000)
            .max_unfolded(1_000)
            .max_clock_jump(Duration::from_secs(6 * 3_600))
            .disclosure_sync(if self.is_synced() { DisclosureSync::Synced } else { written })
            // A crash leaves nothing that only the walk over all pages would find: half of the opens go without.
            .check_databases(random(self.seed, clock.wall_ms(), 9).is_multiple_of(2))
            // With as few, the log of buckets goes into the table after a handful of charges.
            .active_callers(if self.seed.is_multiple_of(2) { 64 } else { 1 << 20 })
            .quotas(self.policy())
    }

    pub fn open(self, disk: &SimDisk, clock: &Arc<ManualClock>) -> Result<Index, Error> {
        Index::open(DIR, self.options(disk, clock))
    }

    pub fn steps(self) -> Vec<Step> {
        (0..STEPS).map(|at| self.step(at)).collect()
    }

    fn step(self, at: u64) -> Step {
        let random = |what| random(self.seed, at, what);
        let change = |i: u64| {
            let flags = random(4 * i + 103) % 256;
            let opt_ins = (flags < 0xc0).then(|| OptIns::from_bits_truncate(flags as u8));
            // Some are older than what is there.
            let version = 4 * at + random(4 * i + 102) % 24;
            (random(4 * i + 100) % NUMBERS, random(4 * i + 101) % ACCOUNTS, opt_ins, version)
        };
        let changes = |most: u64| (0..1 + random(1) % most).map(change).collect();
        match random(0) % 20 {
            0..=4 => Step::Update(changes(6)),
            5 => Step::SetOptIns(change(0)),
            6 if self.is_large() => {
                let row = |i: u64| (1_000_000 * (at + 1) + i, i % ACCOUNTS, Some(OptIns::SEARCH), at);
                Step::Import((0..BULK_ROWS).map(row).chain((0..4).map(change)).collect())
            }
            6 | 7 => Step::Import(changes(16)),
            8 => Step::Erase((0..1 + random(1) % 2).map(|i| random(2 + i) % ACCOUNTS).collect()),
            9 | 10 => Step::Fold,
            11 if random(1).is_multiple_of(2) => Step::Vacuum,
            11 => Step::Compact,
            12 => Step::Reopen,
            14 if random(1).is_multiple_of(2) => Step::Backup(BackupMode::Linked),
            14 => Step::Backup(BackupMode::Copied),
            13 => Step::Wait(Duration::from_secs(random(1) % 1_200)),
            _ => {
                let name = format!("caller {}", random(1) % CALLERS);
                let network = Some(random(2) % (NETWORKS + 1)).filter(|network| *network < NETWORKS);
                let purpose = Purpose::ALL[random(3) as usize % 6];
                // Some may be listed; most cost the more.
                let of =
                    |i: u64| if i.is_multiple_of(2) { random(10 + i) % NUMBERS } else { random(10 + i) % 4_000 };
                let numbers = (0..random(4) % 24).map(of).collect();
                Step::Lookup { asker: Asker { name, network }, purpose, numbers }
            }
        }
    }
}

/// What a step returned.
#[derive(Debug)]
pub enum Done {
    /// How many changes were newer than what was there.
    Changed {
        applied: usize,
    },
    Answered(Reply),
    Other,
}

/// Runs a step that is neither a reopening nor a wait.
pub fn run(index: &Index, step: &Step, mark: &[u8]) -> Result<Done, Error> {
    match step {
        Step::Update(changes) => {
            let report = index.update(|batch| {
                batch.watermark(mark)?;
                changes.iter().try_for_each(|(number, of, opt_ins, version)| match opt_ins {
                    Some(opt_ins) => batch.put(common::number(*number), account(*of), *opt_ins, *version),
                    None => batch.remove(common::number(*number), account(*of), *version),
                })
            })?;
            assert_eq!(report.applied + report.stale, changes.len());
            Ok(Done::Changed { applied: report.applied })
        }
        Step::SetOptIns((number, of, opt_ins, version)) => {
            let opt_ins = opt_ins.unwrap_or(OptIns::empty());
            let report = index.set_opt_ins(common::number(*number), account(*of), opt_ins, *version)?;
            Ok(Done::Changed { applied: report.applied })
        }
        Step::Import(changes) => {
            let listing = |(number, of, opt_ins, version): &Change| Listing {
                hash: common::number(*number),
                account: account(*of),
                opt_ins: opt_ins.unwrap_or(OptIns::empty()),
                version: Version::new(*version).expect("a small version"),
            };
            index.import(changes.iter().map(listing)).map(|_| Done::Other)
        }
        Step::Erase(accounts) => {
            let ids: Vec<AccountId> = accounts.iter().map(|of| account(*of)).collect();
            index.erase_accounts(&ids).map(|_| Done::Other)
        }
        Step::Fold => index.fold().map(|_| Done::Other),
        Step::Compact => index.compact_disclosures().map(|_| Done::Other),
        Step::Vacuum => index.vacuum().map(|_| Done::Other),
        Step::Backup(mode) => index.backup(BACKUPS, *mode).map(|_| Done::Other),
        Step::Lookup { asker, purpose, numbers } => {
            index.lookup(&asker.caller(), *purpose, &hashes(numbers)).map(Done::Answered)
        }
        Step::Reopen | Step::Wait(_) => Ok(Done::Other),
    }
}
