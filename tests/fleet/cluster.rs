//! The cluster that tests run on, and nodes on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use unlisted::{Caller, FleetOptions, Index, Options, PhoneHash, Purpose, Quota, QuotaPolicy};

use crate::common;

/// Long enough for what a node hears within its longest silence, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The script that starts, hurts and stops clusters.
pub fn script(command: &str, dir: &Path, more: &[&str]) -> String {
    let done = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet/cluster"))
        .arg(command)
        .arg(dir)
        .args(more)
        .output()
        .expect("python3 runs the script");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "cluster {command} {more:?}: {errors}");
    String::from_utf8(done.stdout).expect("text")
}

/// Addresses of a cluster, and a prefix of its own for one test.
pub struct Fleet {
    pub addresses: Vec<String>,
    pub prefix: String,
    dirs: Vec<TempDir>,
}

/// The fleet of a test, or none if there is no cluster to have it on.
pub fn fleet(test: &str) -> Option<Fleet> {
    let Some(dir) = std::env::var_os("UNLISTED_FLEET_DIR").map(PathBuf::from) else {
        println!("skipped: no cluster; see the top of tests/fleet.rs");
        return None;
    };
    // Starts what does not run, and says where all of it is.
    Some(Fleet::on(&script("start", &dir, &[]), test))
}

impl Fleet {
    pub fn on(addresses: &str, test: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let unique = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let addresses = addresses.trim().split(',').map(str::to_owned).collect();
        Self { addresses, prefix: format!("{test}-{unique}"), dirs: Vec::new() }
    }

    pub fn options(&self) -> FleetOptions {
        FleetOptions::new(&self.addresses).prefix(&self.prefix).call_timeout(Duration::from_secs(5))
    }

    /// A node with a directory of its own. The first one makes the fleet.
    pub fn node(&mut self, quotas: QuotaPolicy) -> Index {
        let dir = tempfile::tempdir().expect("a folder");
        let mut fleet = self.options();
        if self.dirs.is_empty() {
            fleet = fleet.create();
        }
        let node = Index::open(dir.path(), options(quotas).fleet(fleet)).expect("the node joins");
        self.dirs.push(dir);
        node
    }

    /// One more node, however it turns out.
    pub fn join(&self, dir: &Path, fleet: FleetOptions) -> unlisted::Result<Index> {
        Index::open(dir, options(quota(100)).fleet(fleet))
    }
}

pub fn options(quotas: QuotaPolicy) -> Options {
    Options::new(common::secret())
        .background(false)
        .index_cache_bytes(4 << 20)
        .ledger_cache_bytes(4 << 20)
        .quotas(quotas)
}

pub fn quota(burst: u64) -> QuotaPolicy {
    QuotaPolicy::of_caller(Quota::per_hour(burst, 1).expect("a quota"))
}

pub fn numbers(range: std::ops::Range<u64>) -> Vec<PhoneHash> {
    range.map(common::number).collect()
}

/// How many of these numbers a node answers, and how many of them it charged for.
pub fn ask(node: &Index, caller: &Caller, range: std::ops::Range<u64>) -> (usize, u64) {
    let numbers = numbers(range);
    let reply = node.lookup(caller, Purpose::Search, &numbers).expect("an answer");
    (numbers.len() - reply.deferred().count(), reply.charged())
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// Talks to the primary that has a key, past the library: to damage what is there.
pub fn tamper(fleet: &Fleet, key: &str, words: &[&str]) {
    for address in &fleet.addresses {
        let client = redis::Client::open(format!("redis://{address}/")).expect("an address");
        let Ok(mut connection) = client.get_connection() else { continue };
        let mut command = redis::cmd(words[0]);
        command.arg(key).arg(&words[1..]);
        if command.query::<redis::Value>(&mut connection).is_ok() {
            return;
        }
    }
    panic!("no server took {words:?} {key}");
}

/// Removes every key of the fleet.
pub fn remove_all(fleet: &Fleet) {
    let all = keys(fleet);
    for address in &fleet.addresses {
        let client = redis::Client::open(format!("redis://{address}/")).expect("an address");
        let mut connection = client.get_connection().expect("a connection");
        let mut commands = redis::pipe();
        for key in &all {
            commands.cmd("DEL").arg(key);
        }
        // Each key is removed by the one server that has it.
        let _: Vec<redis::RedisResult<i64>> = commands.ignore_errors().query(&mut connection).expect("answers");
    }
    assert_eq!(keys(fleet), [""; 0]);
}

/// Every key of the fleet on any server.
pub fn keys(fleet: &Fleet) -> Vec<String> {
    let mut all = Vec::new();
    for address in &fleet.addresses {
        let client = redis::Client::open(format!("redis://{address}/")).expect("an address");
        let mut connection = client.get_connection().expect("a connection");
        let found: Vec<String> =
            redis::cmd("KEYS").arg(format!("{}:*", fleet.prefix)).query(&mut connection).expect("keys");
        all.extend(found);
    }
    all.sort();
    all.dedup();
    all
}
