//! `unlisted bench fold`.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use unlisted::{Caller, FoldReport, Index, PhoneHash, Purpose};

use super::percentile::Percentiles;
use super::population::{self, Accounts};
use super::{Workplace, open};
use crate::commands::generate::SplitMix;
use crate::error::CliError;
use crate::output::{Out, grouped, note};

/// Numbers asked, over and over: more lines than any cache holds.
const NUMBERS: u64 = 4 << 20;
const BATCH: usize = 512;
/// How long lookups are timed without a fold.
const CALM: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub struct Args {
    /// Listings in the index.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    listings: u64,
    /// Changes to fold, of random listings.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    changes: u64,
    /// Public lookups, which charge, instead of the raw probe.
    #[arg(long)]
    public: bool,
    #[command(flatten)]
    common: super::Common,
}

#[derive(Serialize)]
struct Report {
    listings: u64,
    ranges: usize,
    folded: usize,
    fold_s: f64,
    /// Lookups of 512 numbers, half of them found, without a fold, with the changes in memory.
    without: Percentiles,
    /// The same from the start of the fold to its end.
    during: Percentiles,
    /// The same once everything is folded.
    after: Percentiles,
    p50_ratio: f64,
    p99_ratio: f64,
}

pub fn run(args: &Args) -> Result<(), CliError> {
    let place = Workplace::new(args.common.dir.as_deref())?;
    let index = open(place.path(), BATCH)?;
    if index.stats()?.listings != args.listings {
        note(format_args!("importing {} listings", grouped(args.listings)));
        population::import(&index, args.listings, Accounts::U64)?;
    }
    change(&index, args)?;
    index.warm()?;
    let questions = population::questions(NUMBERS, args.listings, 0.5, 1);
    let measured = if args.public {
        let batches: Vec<&[PhoneHash]> = questions.chunks(BATCH).collect();
        let caller = Caller::new(format!("fold-{}", std::process::id()));
        measure(&index, &batches, |batch| Ok(index.lookup(&caller, Purpose::ContactSync, batch).map(drop)?))?
    } else {
        let batches: Vec<_> = questions.chunks(BATCH).map(|batch| index.prepare(batch)).collect();
        measure(&index, &batches, |batch| Ok(index.raw_probe(Purpose::ContactSync, batch).map(drop)?))?
    };
    let Measured { without, during, after, fold, fold_s } = measured;
    let report = Report {
        listings: args.listings,
        ranges: fold.ranges,
        folded: fold.folded,
        fold_s,
        without,
        during,
        after,
        p50_ratio: during.p50_us / without.p50_us,
        p99_ratio: during.p99_us / without.p99_us,
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
        ("folded", format!("{} in {:.1} s", grouped(report.folded as u64), report.fold_s)),
        ("a lookup without, median / p99 / worst", report.without.text()),
        ("during", report.during.text()),
        ("after", report.after.text()),
        ("p99 during, of that without", format!("{:.2}", report.p99_ratio)),
    ])?;
    out.flush()
}

/// Changes random listings, a thousand in each update.
fn change(index: &Index, args: &Args) -> Result<(), CliError> {
    let version = 1 + index.snapshot_version();
    let mut random = SplitMix(version);
    let mut left = args.changes;
    while left > 0 {
        let count = left.min(1_000);
        left -= count;
        index.update(|batch| {
            (0..count).try_for_each(|_| {
                let row = population::listing(random.below(args.listings), Accounts::U64);
                batch.put(row.hash, row.account, row.opt_ins, version + index.snapshot_version())
            })
        })?;
    }
    Ok(())
}

struct Measured {
    without: Percentiles,
    during: Percentiles,
    after: Percentiles,
    fold: FoldReport,
    fold_s: f64,
}

/// One thread looks up all the time; the fold is this thread's.
fn measure<B: Sync>(
    index: &Index,
    batches: &[B],
    lookup: impl Fn(&B) -> Result<(), CliError> + Sync,
) -> Result<Measured, CliError> {
    let timed = |work: &mut dyn FnMut() -> Result<(), CliError>| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let looker = scope.spawn(|| look(&stop, batches, &lookup));
            let worked = work();
            stop.store(true, Relaxed);
            let latencies = looker.join().unwrap_or(Err(CliError::Panicked))?;
            worked.map(|()| Percentiles::of(latencies))
        })
    };
    let mut calm = || {
        thread::sleep(CALM);
        Ok(())
    };
    // The first touch is not what is measured.
    timed(&mut calm)?;
    let without = timed(&mut calm)?;
    let (mut fold, mut fold_s) = (FoldReport::default(), 0.0);
    let during = timed(&mut || {
        let start = Instant::now();
        fold = index.fold()?;
        fold_s = start.elapsed().as_secs_f64();
        Ok(())
    })?;
    let after = timed(&mut calm)?;
    Ok(Measured { without, during, after, fold, fold_s })
}

/// Nanoseconds of each lookup until told to stop.
pub(super) fn look<B>(
    stop: &AtomicBool,
    batches: &[B],
    lookup: impl Fn(&B) -> Result<(), CliError>,
) -> Result<Vec<u64>, CliError> {
    let mut latencies = Vec::new();
    for batch in batches.iter().cycle() {
        if stop.load(Relaxed) {
            break;
        }
        let start = Instant::now();
        lookup(batch)?;
        latencies.push(start.elapsed().as_nanos() as u64);
    }
    Ok(latencies)
}
