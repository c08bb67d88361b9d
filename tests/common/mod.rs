//! What several test files share: indexes in temporary folders, a clock that stands still, numbers to ask for.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use unlisted::{
    AccountId, Caller, Index, ManualClock, Match, OptIns, Options, PhoneHash, Purpose, Quota, QuotaPolicy, Secret,
};

/// A wall-clock time to begin with: November 2026.
pub const START_MS: u64 = 1_795_000_000_000;

pub fn secret() -> Secret {
    Secret::from_bytes([0x5e; 32])
}

/// A clock that only tests move.
pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at_wall_ms(START_MS))
}

/// Options for tests: small files, no background thread, budgets that do not get in the way.
pub fn options(clock: &Arc<ManualClock>) -> Options {
    Options::new(secret())
        .clock(clock.clone())
        .background(false)
        .index_cache_bytes(4 << 20)
        .ledger_cache_bytes(4 << 20)
        .import_memory_bytes(8 << 20)
        .quotas(wide_quotas())
}

pub fn wide_quotas() -> QuotaPolicy {
    QuotaPolicy::of_caller(Quota::per_hour(1_000_000_000, 1_000_000).expect("a valid quota"))
}

pub fn open(dir: &Path, clock: &Arc<ManualClock>) -> Index {
    Index::open(dir, options(clock)).expect("the index opens")
}

/// Words that run one test of a module (`module_path!()`) and nothing else, for a program that runs itself.
pub fn only_test(module_path: &str, test: &str) -> [String; 4] {
    // The harness leaves the crate out of a test's name.
    let name =
        module_path.split_once("::").map_or_else(|| test.to_owned(), |(_, module)| format!("{module}::{test}"));
    [name, "--exact".to_owned(), "--nocapture".to_owned(), "--test-threads=1".to_owned()]
}

/// This program once more, for the test `child` of a module alone.
pub fn child(module_path: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program has a path"));
    command.args(only_test(module_path, "child"));
    command
}

/// The hash of the `i`-th number that tests talk about.
pub fn number(i: u64) -> PhoneHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&i.to_be_bytes());
    bytes[8] = 1;
    PhoneHash::from_bytes(bytes)
}

/// Is a listing shown to a caller that has no number of its own, and so is nobody's contact?
pub fn is_shown(opt_ins: OptIns, purpose: Purpose) -> bool {
    opt_ins.allows(purpose) && !opt_ins.contains(OptIns::MUTUAL)
}

/// Matches of one lookup as (position, account).
pub fn ask(index: &Index, purpose: Purpose, hashes: &[PhoneHash]) -> Vec<(usize, AccountId)> {
    let caller = Caller::new("test");
    let mut found = Vec::new();
    for (i, chunk) in hashes.chunks(10_000).enumerate() {
        let reply = index.lookup(&caller, purpose, chunk).expect("the lookup is answered");
        assert_eq!(reply.deferred().count(), 0, "the test's budget is wide");
        found.extend(reply.matches().map(|Match { position, account }| (i * 10_000 + position, account)));
    }
    found
}
