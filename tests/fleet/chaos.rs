//! Nodes that share callers while servers and nodes are killed and cut off: what was answered never exceeds the quota.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use unlisted::{Caller, Error, FleetOptions, Index, Purpose, Quota, QuotaPolicy};

use crate::cluster::{numbers, options, script, until};
use crate::trouble::own_cluster;

const CHILD_DIR: &str = "UNLISTED_CHAOS_DIR";
const CHILD_ADDRESSES: &str = "UNLISTED_CHAOS_ADDRESSES";
const CHILD_LIFE: &str = "UNLISTED_CHAOS_LIFE";
const PREFIX: &str = "chaos";
const NODES: usize = 4;
const CALLERS: usize = 6;
const BURST: u64 = 4_000;
const REFILL_PER_HOUR: u64 = 36_000;
const BATCH: u64 = 16;

fn policy() -> QuotaPolicy {
    QuotaPolicy::of_caller(Quota::per_hour(BURST, REFILL_PER_HOUR).expect("a quota"))
}

fn node(dir: &Path, fleet: FleetOptions) -> unlisted::Result<Index> {
    let fleet = fleet.prefix(PREFIX).call_timeout(Duration::from_secs(2)).max_silence(Duration::from_secs(2));
    Index::open(dir, options(policy()).fleet(fleet))
}

/// The child: a node that asks for all callers in turn, numbers that nobody asked for before, and prints what was answered. Not
/// a test of its own.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let addresses = std::env::var(CHILD_ADDRESSES).unwrap();
    let life: u64 = std::env::var(CHILD_LIFE).unwrap().parse().unwrap();
    let node = loop {
        // Servers may be down just now.
        match node(Path::new(&dir), FleetOptions::new(addresses.split(','))) {
            Ok(node) => break node,
            Err(Error::Fleet(_)) => std::thread::sleep(Duration::from_millis(50)),
            Err(other) => panic!("{other}"),
        }
    };
    let mut next = life << 32;
    loop {
        for caller in 0..CALLERS {
            let asked = numbers(next..next + BATCH);
            next += BATCH;
            match node.lookup(&Caller::new(format!("caller {caller}")), Purpose::Search, &asked) {
                Ok(reply) => println!("\nanswered {caller} {}", asked.len() - reply.deferred().count()),
                Err(Error::Fleet(_)) => println!("\nrefused {caller} 0"),
                Err(other) => panic!("{other}"),
            }
            std::io::stdout().flush().unwrap();
            // Budgets last for the whole test that way.
            std::thread::sleep(Duration::from_millis(4));
        }
    }
}

#[derive(Default)]
struct Tally {
    answered: [u64; CALLERS],
    lookups: u64,
    refused: u64,
}

struct Node {
    dir: PathBuf,
    child: Child,
    reader: JoinHandle<()>,
}

impl Node {
    fn start(dir: &Path, addresses: &str, life: u64, tally: &Arc<Mutex<Tally>>) -> Self {
        let mut child = crate::common::child(module_path!())
            .env(CHILD_DIR, dir)
            .env(CHILD_ADDRESSES, addresses)
            .env(CHILD_LIFE, life.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let tally = tally.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let words: Vec<&str> = line.split(' ').collect();
                let [what @ ("answered" | "refused"), caller, numbers] = words.as_slice() else { continue };
                let mut tally = tally.lock().unwrap();
                tally.lookups += 1;
                tally.refused += u64::from(*what == "refused");
                let caller: usize = caller.parse().unwrap();
                tally.answered[caller] += numbers.parse::<u64>().unwrap_or(0);
            }
        });
        Self { dir: dir.to_owned(), child, reader }
    }

    fn kill(mut self) -> PathBuf {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.join().unwrap();
        self.dir
    }
}

#[test]
fn nothing_above_the_quota_while_servers_and_nodes_die() {
    let Some(own) = own_cluster() else { return };
    let seconds = std::env::var("UNLISTED_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let first = tempfile::tempdir().unwrap();
    let fleet = FleetOptions::new(own.addresses.split(',')).create();
    until("the fleet is made", || node(first.path(), fleet.clone()).is_ok());

    let tally = Arc::new(Mutex::new(Tally::default()));
    let start = Instant::now();
    let dirs: Vec<_> = (0..NODES).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut lives = 0;
    let mut begin = |dir: &Path| {
        lives += 1;
        Node::start(dir, &own.addresses, lives, &tally)
    };
    let mut nodes: Vec<Node> = dirs.iter().map(|dir| begin(dir.path())).collect();
    let ports = own.ports();
    let (mut kills, mut pauses, mut restarts) = (0, 0, 0);
    for round in 0.. {
        if start.elapsed() > Duration::from_secs(seconds) {
            break;
        }
        std::thread::sleep(Duration::from_millis(700));
        let port = ports[round * 5 % ports.len()].clone();
        match round % 3 {
            // A server, primary or replica by now; another one takes over.
            0 => {
                own.to("kill", &[port]);
                kills += 1;
                std::thread::sleep(Duration::from_secs(4));
                script("start", own.path(), &[]);
            }
            1 => {
                let dir = nodes.remove(0).kill();
                nodes.push(begin(&dir));
                restarts += 1;
            }
            // Cut off, and back with what it thought before.
            _ => {
                own.to("pause", std::slice::from_ref(&port));
                pauses += 1;
                std::thread::sleep(Duration::from_millis(3_500));
                own.to("resume", &[port]);
            }
        }
    }
    nodes.into_iter().for_each(|node| drop(node.kill()));
    let elapsed = start.elapsed();
    let tally = tally.lock().unwrap();
    let refill = elapsed.as_secs_f64() * REFILL_PER_HOUR as f64 / 3_600.0;
    let quota = BURST + refill.ceil() as u64;
    let most = tally.answered.iter().max().unwrap();
    println!(
        "{kills} servers killed, {pauses} cut off, {restarts} nodes killed in {elapsed:.1?}: {} lookups, {} refused, at most \
         {most} numbers of a caller answered, quota {quota}",
        tally.lookups, tally.refused
    );
    for (caller, answered) in tally.answered.iter().enumerate() {
        assert!(*answered <= quota, "caller {caller}: {answered} answered, quota {quota}");
        assert!(*answered > BURST / 10, "caller {caller}: only {answered} answered");
    }
}
