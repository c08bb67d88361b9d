//! `unlisted bench lookup`.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;
use unlisted::{Caller, Index, Memory, Options, PhoneHash, Purpose};

use super::cold::{self, ms_since};
use super::pace::{self, Pace};
use super::population::{self, Accounts};
use super::{Workplace, median, memory, open, open_with, parts};
use crate::error::CliError;
use crate::output::{Out, grouped, note};

/// Numbers asked in each pass of the public lookup, whose charges reach the disk.
const PROTECTED_NUMBERS: u64 = 512 << 10;
const PASSES: u64 = 5;
/// Callers of the public lookups, who ask 8,192 numbers each in a pass. Nearly every number is new to the one that asks,
/// and all are inside their budgets.
pub(super) const CALLERS: u64 = 64;

#[derive(clap::Args)]
pub struct Args {
    /// Listings in the index.
    #[arg(long, default_value_t = 10_000_000)]
    listings: u64,
    /// Share of the numbers asked that are found.
    #[arg(long, default_value_t = 0.5)]
    hit_ratio: f64,
    /// Numbers of one lookup.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    batch: u64,
    /// Threads that look up at once. With more of them than cores, read the means: a median slice does not see a thread wait for its turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
    /// Width of account ids.
    #[arg(long, value_enum, default_value_t = Accounts::U64)]
    accounts: Accounts,
    /// Numbers asked in each pass of the raw probe: by default more lines than any cache holds. No pass asks those of
    /// another.
    #[arg(long, default_value_t = 4 << 20, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    numbers: u64,
    /// Where the segments are.
    #[arg(long, value_enum, default_value_t = Where::Mapped)]
    memory: Where,
    /// Measure single batches whose pages are not in memory too.
    #[arg(long)]
    cold: bool,
    #[command(flatten)]
    common: super::Common,
}

/// [`Memory`], as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Where {
    /// Files in the page cache, read ahead if they fit.
    Mapped,
    /// Memory of the process.
    Resident,
}

impl From<Where> for Memory {
    fn from(place: Where) -> Self {
        match place {
            Where::Mapped => Self::Mapped,
            Where::Resident => Self::Resident,
        }
    }
}

#[derive(Serialize)]
struct Report {
    listings: u64,
    hit_ratio: f64,
    batch: u64,
    threads: u64,
    memory: Where,
    /// The open, with the page cache as it was.
    open_ms: f64,
    /// From the beginning of the open to the first answer of a public lookup.
    first_answer_ms: f64,
    /// From the beginning of the open until everything that fits is in memory and checked.
    full_speed_ms: f64,
    /// Filter, overlay, table and mask, from prepared keys.
    raw_ns_per_key: f64,
    /// The public lookup from phone hashes, every number novel, every caller inside its budget.
    protected_ns_per_key: f64,
    /// The same as means instead of medians of slices, with whatever else the machine did meanwhile.
    raw_mean_ns_per_key: f64,
    protected_mean_ns_per_key: f64,
    /// Independent random cache lines over as much memory as the segments take, if both fit.
    random_line_ns: f64,
    raw_to_random_line: f64,
    hits: u64,
    filter_false_positive_rate: f64,
    #[serde(flatten)]
    parts: parts::Report,
    #[serde(flatten)]
    cold: Option<cold::Report>,
}

/// When an open was how far, milliseconds.
struct Opened {
    open_ms: f64,
    first_answer_ms: f64,
    full_speed_ms: f64,
}

pub fn run(args: &Args) -> Result<(), CliError> {
    let place = Workplace::new(args.common.dir.as_deref())?;
    let segment_bytes = prepare(args, place.path())?;
    let cold = args.cold.then(|| cold::run(place.path(), args.listings, segment_bytes, args.batch)).transpose()?;
    if args.cold {
        // The open that is timed finds the page cache as a read from begin to end leaves it, not as cold batches do.
        memory::forget_files(&place.path().join("segments"))?;
        open(place.path(), args.batch as usize)?.warm()?;
    }
    let (index, opened) = open_timed(args, place.path())?;
    let lines = memory::RandomLines::beside(segment_bytes)?;
    let (raw, random_line_ns, hits) = raw(args, &index, &lines)?;
    let protected = protected(args, &index)?;
    let parts = parts::run(&index, args.batch as usize, PROTECTED_NUMBERS)?;
    let report = Report {
        listings: args.listings,
        hit_ratio: args.hit_ratio,
        batch: args.batch,
        threads: args.threads,
        memory: args.memory,
        open_ms: opened.open_ms,
        first_answer_ms: opened.first_answer_ms,
        full_speed_ms: opened.full_speed_ms,
        raw_ns_per_key: raw.median_ns,
        protected_ns_per_key: protected.median_ns,
        raw_mean_ns_per_key: raw.mean_ns,
        protected_mean_ns_per_key: protected.mean_ns,
        random_line_ns,
        raw_to_random_line: raw.median_ns / random_line_ns,
        hits,
        filter_false_positive_rate: index.stats()?.filter_false_positive_rate,
        parts,
        cold,
    };
    print(args, &report)
}

/// Imports what is missing, and closes the index again. Returns the bytes of its segments.
fn prepare(args: &Args, dir: &Path) -> Result<u64, CliError> {
    let mut index = open(dir, args.batch as usize)?;
    if index.stats()?.listings != args.listings {
        note(format_args!("importing {} listings", grouped(args.listings)));
        population::import(&index, args.listings, args.accounts)?;
        // An import passes the page cache by, and the open that is timed is one of files that were read before.
        drop(index);
        index = open(dir, args.batch as usize)?;
        index.warm()?;
    }
    Ok(index.stats()?.segment_bytes)
}

fn open_timed(args: &Args, dir: &Path) -> Result<(Index, Opened), CliError> {
    let start = Instant::now();
    // With the background thread, as hosts have it: what it takes over is not a lookup's to pay.
    let change = |options: Options| options.memory(args.memory.into()).background(true);
    let index = open_with(dir, args.batch as usize, change)?;
    let open_ms = ms_since(start);
    index.lookup(&Caller::new("first"), Purpose::ContactSync, &population::questions(1, args.listings, 1.0, 0))?;
    let first_answer_ms = ms_since(start);
    index.warm()?;
    Ok((index, Opened { open_ms, first_answer_ms, full_speed_ms: ms_since(start) }))
}

fn print(args: &Args, report: &Report) -> Result<(), CliError> {
    let mut out = Out::new();
    if args.common.json {
        out.json(report)?;
    } else {
        out.pairs(&[
            ("open", format!("{:.1} ms", report.open_ms)),
            ("first answer", format!("{:.1} ms", report.first_answer_ms)),
            ("full speed", format!("{:.1} ms", report.full_speed_ms)),
            ("raw probe", format!("{:.1} ns a number", report.raw_ns_per_key)),
            ("public lookup", format!("{:.1} ns a number", report.protected_ns_per_key)),
            ("random cache line", format!("{:.1} ns", report.random_line_ns)),
            ("raw probe in random lines", format!("{:.2}", report.raw_to_random_line)),
            ("found in a pass", grouped(report.hits)),
        ])?;
        if let Some(cold) = &report.cold {
            out.pairs(&[
                ("cold batch", format!("{:.2} ms", cold.cold_batch_ms)),
                ("without asking", format!("{:.2} ms", cold.serial_fault_batch_ms)),
                ("cold batch, 1 % found", format!("{:.2} ms", cold.few_hits_cold_batch_ms)),
            ])?;
        }
    }
    out.flush()
}

/// The pace of numbers, nanoseconds a random line, pass by pass in turn, and the listings found in one pass.
fn raw(args: &Args, index: &Index, lines: &memory::RandomLines) -> Result<(Pace, f64, u64), CliError> {
    let batch = args.batch as usize;
    let (mut probes, mut random) = (Vec::new(), Vec::new());
    let hits = AtomicU64::new(0);
    // The first pass touches what was never touched and is not counted.
    for pass in 0..=PASSES {
        hits.store(0, Ordering::Relaxed);
        let questions = population::questions(args.numbers, args.listings, args.hit_ratio, 1 << 32 | pass);
        let batches: Vec<_> = questions.chunks(args.batch as usize).map(|batch| index.prepare(batch)).collect();
        drop(questions);
        let probe = pace::ns_per_unit(args.threads, batches.len(), batch, pace::SLICE_UNITS, |i| {
            let found = batches.get(i).map(|batch| index.raw_probe(Purpose::ContactSync, batch)).transpose()?;
            hits.fetch_add(found.unwrap_or(0) as u64, Ordering::Relaxed);
            Ok(())
        })?;
        let line_ns = lines.ns(args.threads, pass)?;
        if pass > 0 {
            probes.push(probe);
            random.push(line_ns);
        }
    }
    Ok((middle(&probes), median(random), hits.into_inner()))
}

fn protected(args: &Args, index: &Index) -> Result<Pace, CliError> {
    let run = std::process::id();
    // Where the raw probe is asked few, each of them may be a read of the disk.
    let numbers = PROTECTED_NUMBERS.min(args.numbers);
    let mut figures = Vec::new();
    for pass in 0..PASSES {
        // Callers that have a lease, so that what is timed is a lookup and not a wait for the disk.
        let names: Vec<Caller> = (0..CALLERS).map(|i| Caller::new(format!("{run}-{pass}-{i}"))).collect();
        let prepared: Vec<_> = names.iter().map(|caller| index.prepare_caller(caller)).collect();
        for lease in [numbers, 1] {
            index.raw_charge_all(&prepared, lease)?;
        }
        let questions = population::questions(numbers, args.listings, args.hit_ratio, 2 + pass);
        let batches: Vec<&[PhoneHash]> = questions.chunks(args.batch as usize).collect();
        // One lookup a slice: its median is what a caller waits for.
        figures.push(pace::ns_per_unit(args.threads, batches.len(), args.batch as usize, 1, |i| {
            if let (Some(caller), Some(batch)) = (names.get(i % names.len()), batches.get(i)) {
                std::hint::black_box(index.lookup(caller, Purpose::ContactSync, batch)?);
            }
            Ok(())
        })?);
    }
    Ok(middle(&figures))
}

/// The median pass, by its median slice and by its mean.
fn middle(passes: &[Pace]) -> Pace {
    let of = |figure: fn(&Pace) -> f64| median(passes.iter().map(figure).collect());
    Pace { median_ns: of(|pace| pace.median_ns), mean_ns: of(|pace| pace.mean_ns) }
}

/// Does `work` for each number below `count` on so many threads; returns the nanoseconds it took altogether.
pub(super) fn timed(
    threads: u64,
    count: usize,
    work: impl Fn(usize) -> Result<(), CliError> + Sync,
) -> Result<f64, CliError> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let work = &work;
        let share = move |thread: usize| (thread..count).step_by(threads as usize).try_for_each(work);
        let workers: Vec<_> = (0..threads as usize).map(|thread| scope.spawn(move || share(thread))).collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        ended.into_iter().try_for_each(|ended| ended.unwrap_or(Err(CliError::Panicked)))
    })?;
    Ok(start.elapsed().as_secs_f64() * 1e9)
}
