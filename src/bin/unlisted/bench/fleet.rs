//! `unlisted bench fleet`: nodes that charge the ledger of a fleet, beside an index that charges its own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use unlisted::{Caller, FleetOptions, Index, Purpose};

use super::{Workplace, median, open_with, population};
use crate::error::CliError;
use crate::output::{Out, grouped};

/// Callers that ask in turn.
const CALLERS: u64 = 64;
/// What each asks for first, twice, so that it is inside a lease as long as that from then on.
const FIRST: u64 = 1 << 16;
/// Lookups in one slice of the comparison, and slices of each side.
const SLICE: u64 = 256;
const SLICES: u64 = 20;

#[derive(clap::Args)]
pub struct Args {
    /// Some servers of the cluster, as HOST:PORT,HOST:PORT.
    #[arg(long, value_delimiter = ',', required = true)]
    fleet: Vec<String>,
    /// Node processes at once, one run for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
    nodes: Vec<u64>,
    /// Listings of every node.
    #[arg(long, default_value_t = 1_000_000)]
    listings: u64,
    /// Numbers of a lookup.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    batch: u64,
    /// How long the nodes of a run ask.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Be a node of this fleet: what the bench starts itself as.
    #[arg(long, hide = true)]
    node_of: Option<String>,
    #[command(flatten)]
    common: super::Common,
}

#[derive(Serialize)]
struct Run {
    nodes: u64,
    lookups_per_s: f64,
    numbers_per_s: f64,
}

#[derive(Serialize)]
struct Report {
    listings: u64,
    batch: u64,
    /// Processes on this machine, which they share with the cluster's servers.
    runs: Vec<Run>,
    /// Lookups of one node whose callers are inside their leases, the thread that follows the fleet included.
    network_calls_per_1000_lookups: f64,
    /// The public lookup, every number new, half of them found, charged to the fleet.
    protected_ns_per_key: f64,
    /// The same charged to a ledger of its own, slice by slice in turn.
    embedded_ns_per_key: f64,
    /// The first by the second.
    ratio: f64,
}

pub fn run(args: &Args) -> Result<(), CliError> {
    let place = Workplace::new(args.common.dir.as_deref())?;
    if let Some(prefix) = &args.node_of {
        return be_a_node(args, place.path(), prefix);
    }
    let prefix = format!("bench-{}", std::process::id());
    let (network_calls_per_1000_lookups, protected_ns_per_key, embedded_ns_per_key) =
        compare(args, place.path(), &prefix)?;
    let runs = args.nodes.iter().map(|nodes| of_nodes(args, place.path(), &prefix, *nodes));
    let report = Report {
        listings: args.listings,
        batch: args.batch,
        runs: runs.collect::<Result<_, _>>()?,
        network_calls_per_1000_lookups,
        protected_ns_per_key,
        embedded_ns_per_key,
        ratio: protected_ns_per_key / embedded_ns_per_key,
    };
    print(args, &report)
}

fn print(args: &Args, report: &Report) -> Result<(), CliError> {
    let mut out = Out::new();
    if args.common.json {
        out.json(report)?;
        return out.flush();
    }
    let runs: Vec<(String, String)> = report
        .runs
        .iter()
        .map(|run| (format!("lookups a second, {} nodes", run.nodes), grouped(run.lookups_per_s as u64)))
        .collect();
    let mut pairs: Vec<(&str, String)> =
        runs.iter().map(|(name, figure)| (name.as_str(), figure.clone())).collect();
    pairs.push(("network calls of 1,000 lookups", format!("{:.2}", report.network_calls_per_1000_lookups)));
    pairs.push(("charged to the fleet", format!("{:.0} ns a number", report.protected_ns_per_key)));
    pairs.push(("charged to its own ledger", format!("{:.0} ns a number", report.embedded_ns_per_key)));
    pairs.push(("ratio", format!("{:.3}", report.ratio)));
    out.pairs(&pairs)?;
    out.flush()
}

fn open(args: &Args, dir: &Path, fleet: Option<FleetOptions>) -> Result<Index, CliError> {
    let largest = usize::try_from(FIRST.max(args.batch)).unwrap_or(usize::MAX);
    let index = open_with(dir, largest, |options| match fleet {
        Some(fleet) => options.fleet(fleet),
        None => options,
    })?;
    population::import(&index, args.listings, population::Accounts::U64)?;
    index.warm()?;
    Ok(index)
}

fn options(args: &Args, prefix: &str) -> FleetOptions {
    FleetOptions::new(&args.fleet).prefix(prefix).call_timeout(Duration::from_secs(5))
}

/// Asks for the numbers of one lookup, all of them new, half of them found.
struct Asker {
    next: u64,
    batch: u64,
    listings: u64,
}

impl Asker {
    fn lookup(&mut self, index: &Index, turn: u64) -> Result<(), CliError> {
        let who = caller(turn % CALLERS);
        self.next += 1;
        let numbers = population::questions(self.batch, self.listings, 0.5, self.next);
        index.lookup(&who, Purpose::ContactSync, &numbers)?;
        Ok(())
    }
}

fn caller(number: u64) -> Caller {
    Caller::new(format!("caller {number}"))
}

/// Has every caller inside a long lease.
fn lease(index: &Index, seed: u64) -> Result<(), CliError> {
    for who in 0..CALLERS {
        for part in 0..2 {
            let first = 1 << 45 | seed << 36 | (who * 2 + part) << 20;
            let numbers: Vec<_> = (first..first + FIRST).map(population::hash).collect();
            index.lookup(&caller(who), Purpose::ContactSync, &numbers)?;
        }
    }
    Ok(())
}

/// Network calls of a thousand lookups, and nanoseconds a number of a node and of an index that stands alone.
fn compare(args: &Args, dir: &Path, prefix: &str) -> Result<(f64, f64, f64), CliError> {
    let node = open(args, &dir.join("node"), Some(options(args, prefix).create()))?;
    let alone = open(args, &dir.join("alone"), None)?;
    let mut times = [Vec::new(), Vec::new()];
    let mut calls = 0;
    for (index, times) in [&node, &alone].into_iter().zip(&mut times) {
        lease(index, 1)?;
        times.clear();
    }
    let mut askers = [0; 2].map(|_| Asker { next: 1 << 32, batch: args.batch, listings: args.listings });
    for _ in 0..SLICES {
        for ((index, asker), times) in [&node, &alone].into_iter().zip(&mut askers).zip(&mut times) {
            let before = calls_of(index);
            let mut asked = Vec::new();
            for turn in 0..SLICE {
                asker.next += 1;
                let numbers = population::questions(args.batch, args.listings, 0.5, asker.next);
                asked.push((caller(turn % CALLERS), numbers));
            }
            let start = Instant::now();
            for (who, numbers) in &asked {
                std::hint::black_box(index.lookup(who, Purpose::ContactSync, numbers)?);
            }
            times.push(start.elapsed().as_secs_f64() * 1e9 / (SLICE * args.batch) as f64);
            calls += calls_of(index) - before;
        }
    }
    let [fleet, own] = times.map(median);
    Ok((calls as f64 * 1_000.0 / (SLICES * SLICE) as f64, fleet, own))
}

fn calls_of(index: &Index) -> u64 {
    index.fleet_health().map_or(0, |health| health.network_calls)
}

/// So many processes at once.
fn of_nodes(args: &Args, dir: &Path, prefix: &str, nodes: u64) -> Result<Run, CliError> {
    let mut children = Vec::new();
    for number in 0..nodes {
        children.push(start(args, &dir.join(format!("node-{nodes}-{number}")), prefix)?);
    }
    let failed = |source| CliError::File { action: "talk to", name: "a node".to_owned(), source };
    let mut readers: Vec<_> =
        children.iter_mut().filter_map(|child| child.stdout.take().map(BufReader::new)).collect();
    let mut line = String::new();
    // All are ready before one begins.
    for reader in &mut readers {
        line.clear();
        reader.read_line(&mut line).map_err(failed)?;
    }
    for child in &mut children {
        if let Some(mut stdin) = child.stdin.take() {
            writeln!(stdin, "go").map_err(failed)?;
        }
    }
    let mut lookups = 0;
    for reader in &mut readers {
        line.clear();
        reader.read_line(&mut line).map_err(failed)?;
        lookups += line.trim().parse::<u64>().map_err(|_| CliError::Claim("a node says how much it asked"))?;
    }
    for mut child in children {
        child.wait().map_err(failed)?;
    }
    let lookups_per_s = lookups as f64 / args.seconds.max(1) as f64;
    Ok(Run { nodes, lookups_per_s, numbers_per_s: lookups_per_s * args.batch as f64 })
}

fn start(args: &Args, dir: &Path, prefix: &str) -> Result<Child, CliError> {
    let failed = |source| CliError::File { action: "start", name: "a node".to_owned(), source };
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["bench", "fleet", "--node-of", prefix, "--fleet"]).arg(args.fleet.join(","));
    for (name, value) in [("--listings", args.listings), ("--batch", args.batch), ("--seconds", args.seconds)] {
        command.arg(name).arg(value.to_string());
    }
    command.arg("--dir").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)
}

/// A node: ready, then asks until its time is over, then says how often.
fn be_a_node(args: &Args, dir: &Path, prefix: &str) -> Result<(), CliError> {
    let index = open(args, dir, Some(options(args, prefix)))?;
    let seed = u64::from(std::process::id());
    lease(&index, seed & 0xff)?;
    let say = |text: &str| -> Result<(), CliError> {
        let mut out = std::io::stdout().lock();
        let said = writeln!(out, "{text}").and_then(|()| out.flush());
        said.map_err(|source| CliError::File { action: "write to", name: "the bench".to_owned(), source })
    };
    say("ready")?;
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|source| CliError::File { action: "read from", name: "the bench".to_owned(), source })?;
    let mut asker = Asker { next: seed << 32, batch: args.batch, listings: args.listings };
    let end = Instant::now() + Duration::from_secs(args.seconds.max(1));
    let mut lookups = 0;
    while Instant::now() < end {
        asker.lookup(&index, lookups)?;
        lookups += 1;
    }
    say(&lookups.to_string())
}
