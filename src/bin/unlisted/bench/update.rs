//! `unlisted bench update`.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use serde::Serialize;
use unlisted::{Index, Purpose, UpdateReport};

use super::percentile::Percentiles;
use super::population::{self, Accounts};
use super::{Workplace, bare, fold, open};
use crate::commands::generate::SplitMix;
use crate::error::CliError;
use crate::output::{Out, grouped, note};

#[derive(clap::Args)]
pub struct Args {
    /// Listings in the index.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    listings: u64,
    /// Threads that update at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    threads: u64,
    /// Changes of one update.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    batch: u64,
    /// Changes in all, of random listings.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    changes: u64,
    /// Have one more thread look up meanwhile, 512 prepared keys at a time, and tell how long that took.
    #[arg(long)]
    lookups: bool,
    #[command(flatten)]
    common: super::Common,
}

#[derive(Serialize)]
struct Report {
    listings: u64,
    threads: u64,
    batch: u64,
    changes: u64,
    /// Updates, each durable and visible when it returned.
    updates_per_s: f64,
    changes_per_s: f64,
    /// How long one update took.
    latency: Percentiles,
    commits: u64,
    updates_per_commit: f64,
    /// Syncs of the file in each commit, counted in the database alone.
    syncs_per_commit: f64,
    /// The database alone: rows of the same size, as many in each commit, one commit after the other.
    bare_changes_per_s: f64,
    changes_to_bare: f64,
    /// Lookups meanwhile, if they were asked for.
    lookups: Option<Percentiles>,
}

pub fn run(args: &Args) -> Result<(), CliError> {
    let place = Workplace::new(args.common.dir.as_deref())?;
    let index = open(place.path(), 512)?;
    if index.stats()?.listings != args.listings {
        note(format_args!("importing {} listings", grouped(args.listings)));
        population::import(&index, args.listings, Accounts::U64)?;
    }
    index.warm()?;
    let before = index.snapshot_version();
    let (latencies, seconds, lookups) = update(args, &index)?;
    let commits = index.snapshot_version() - before;
    let updates = latencies.len() as f64;
    let changes = updates * args.batch as f64;
    let bare = bare::run(place.path(), changes as u64, (changes / commits.max(1) as f64).round() as u64)?;
    let report = Report {
        listings: args.listings,
        threads: args.threads,
        batch: args.batch,
        changes: changes as u64,
        updates_per_s: updates / seconds,
        changes_per_s: changes / seconds,
        latency: Percentiles::of(latencies),
        commits,
        updates_per_commit: updates / commits.max(1) as f64,
        syncs_per_commit: bare.syncs_per_commit,
        bare_changes_per_s: bare.rows_per_s,
        changes_to_bare: changes / seconds / bare.rows_per_s,
        lookups,
    };
    print(args, &report)
}

fn print(args: &Args, report: &Report) -> Result<(), CliError> {
    let mut out = Out::new();
    if args.common.json {
        out.json(report)?;
        return out.flush();
    }
    out.pairs(&[
        ("updates a second", grouped(report.updates_per_s as u64)),
        ("changes a second", grouped(report.changes_per_s as u64)),
        ("an update, median / p99 / worst", report.latency.text()),
        ("updates in a commit", format!("{:.1}", report.updates_per_commit)),
        ("syncs in a commit", format!("{:.1}", report.syncs_per_commit)),
        ("the database alone, changes a second", grouped(report.bare_changes_per_s as u64)),
        ("of the database alone", format!("{:.2}", report.changes_to_bare)),
        ("lookups, median / p99 / worst", report.lookups.map_or_else(|| "-".to_owned(), |l| l.text())),
    ])?;
    out.flush()
}

/// Nanoseconds of each update, seconds in all, and lookups meanwhile.
fn update(args: &Args, index: &Index) -> Result<(Vec<u64>, f64, Option<Percentiles>), CliError> {
    let updates = args.changes.div_ceil(args.batch);
    // Later than anything an earlier run over the same directory wrote.
    let version = 1 + index.snapshot_version() * (1 << 24);
    let stop = AtomicBool::new(false);
    let questions = population::questions(1 << 16, args.listings, 0.5, 3);
    let batches: Vec<_> = questions.chunks(512).map(|batch| index.prepare(batch)).collect();
    std::thread::scope(|scope| {
        let looker = args.lookups.then(|| {
            let (batches, stop) = (&batches, &stop);
            scope.spawn(move || {
                fold::look(stop, batches, |batch| Ok(index.raw_probe(Purpose::ContactSync, batch).map(drop)?))
            })
        });
        let start = Instant::now();
        let workers: Vec<_> = (0..args.threads)
            .map(|thread| {
                scope.spawn(move || -> Result<Vec<u64>, CliError> {
                    let mut random = SplitMix(version ^ thread << 48);
                    let own = (thread..updates).step_by(args.threads as usize);
                    own.map(|i| {
                        let start = Instant::now();
                        change(index, args, &mut random, version + i)?;
                        Ok(start.elapsed().as_nanos() as u64)
                    })
                    .collect()
                })
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        let seconds = start.elapsed().as_secs_f64();
        stop.store(true, Relaxed);
        let mut latencies = Vec::new();
        for worker in ended {
            latencies.extend(worker.unwrap_or(Err(CliError::Panicked))?);
        }
        let lookups = looker.map(|looker| looker.join().unwrap_or(Err(CliError::Panicked))).transpose()?;
        Ok((latencies, seconds, lookups.map(Percentiles::of)))
    })
}

/// One update of random listings, each getting the opt-ins of another.
fn change(index: &Index, args: &Args, random: &mut SplitMix, version: u64) -> Result<UpdateReport, CliError> {
    let report = index.update(|batch| {
        (0..args.batch).try_for_each(|_| {
            let row = population::listing(random.below(args.listings), Accounts::U64);
            batch.put(row.hash, row.account, population::opt_ins(random.next()), version)
        })
    })?;
    Ok(report)
}
