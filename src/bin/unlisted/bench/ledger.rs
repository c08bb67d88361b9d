//! `unlisted bench ledger`.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use unlisted::internals::PreparedCaller;
use unlisted::{Caller, Index, Purpose};

use super::lookup::timed;
use super::{Workplace, bare_grants, memory, open_with, population};
use crate::commands::generate::SplitMix;
use crate::error::CliError;
use crate::output::{Out, grouped};

/// Charges that a bench times, of callers in random order.
const CHARGES: usize = 2_000_000;
/// Callers of the lookups inside a lease, and lookups of each.
const LEASED_CALLERS: u64 = 64;
const LEASED_LOOKUPS: u64 = 100;
/// Callers whose remembered numbers are measured on disk, and the numbers of each.
const BOOKS: u64 = 2_000;
const BOOK: u64 = 500;
/// Callers that ask for batches, and batches of each.
const SYNCING: u64 = 64;
const SYNCS: u64 = 16;
/// Numbers of a lookup where it is a batch.
const BATCH: u64 = 512;
/// A redb commit of two phases syncs twice.
const FSYNCS_PER_COMMIT: f64 = 2.0;

#[derive(clap::Args)]
pub struct Args {
    /// Callers that are active at once.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    callers: u64,
    /// Threads that ask for durable grants at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
    /// Lookups that need a durable grant, each by a caller of its own.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    lookups: u64,
    #[command(flatten)]
    common: super::Common,
}

#[derive(Serialize)]
struct Report {
    callers: u64,
    threads: u64,
    /// A charge of a batch inside a lease: buckets alone, callers at random, one thread.
    charge_ns_in_lease: f64,
    /// The ledger's whole part of a lookup of one new number inside a lease, 4,096 callers in turn: fingerprint, novelty,
    /// charge, and what of it is written down meanwhile.
    lookup_of_one_ns: f64,
    /// The same for the first number of each of all callers: the memory of each is made, and all of it is written.
    first_number_ns: f64,
    /// The same for batches of 512 new numbers, by the number.
    ns_per_number: f64,
    /// The same for numbers that were paid for: nothing is charged.
    known_ns_per_number: f64,
    /// Public lookups of one number, each the first of its caller: charged durably before it is answered.
    durable_grants_per_s: f64,
    /// Rows that redb alone makes durable, with as many threads sharing commits, under its default durability.
    bare_redb_grants_per_s: f64,
    /// The same under the two-phase commit that the ledger uses.
    bare_redb_two_phase_grants_per_s: f64,
    fsyncs_per_1000_lookups: f64,
    /// Keys and values; pages, with what is free in them, beside it.
    bytes_per_caller: f64,
    page_bytes_per_caller: f64,
    bytes_per_remembered_number: f64,
    page_bytes_per_remembered_number: f64,
    /// The ledger's part of a lookup by a caller that was never seen, if it is granted nothing: neither budget nor memory of
    /// it is in the file. With the filter of known callers, and as it is until that was made.
    unknown_caller_ns: f64,
    unknown_caller_ns_without_filter: f64,
    known_callers_filter_mb: f64,
    peak_rss_mb: Option<f64>,
}

pub fn run(args: &Args) -> Result<(), CliError> {
    let place = Workplace::new(args.common.dir.as_deref())?;
    let path = |name| place.path().join(name);
    // First, for it is where all callers are in memory at once.
    let active = active(&path("active"), args.callers)?;
    let peak_rss_mb = memory::peak_rss_mb();
    let flood = flood(&path("active"))?;
    let (ns_per_number, known_ns_per_number, bytes, page_bytes) = books(&path("books"))?;
    let (durable_grants_per_s, bare, two_phase) = durable(&path("durable"), args)?;
    let report = Report {
        callers: args.callers,
        threads: args.threads,
        charge_ns_in_lease: active.charge_ns,
        lookup_of_one_ns: active.lookup_of_one_ns,
        first_number_ns: active.first_number_ns,
        ns_per_number,
        known_ns_per_number,
        durable_grants_per_s,
        bare_redb_grants_per_s: bare,
        bare_redb_two_phase_grants_per_s: two_phase,
        fsyncs_per_1000_lookups: fsyncs(&path("leased"))?,
        bytes_per_caller: active.bytes_per_caller,
        page_bytes_per_caller: active.page_bytes_per_caller,
        bytes_per_remembered_number: bytes,
        page_bytes_per_remembered_number: page_bytes,
        unknown_caller_ns: flood.ns,
        unknown_caller_ns_without_filter: flood.ns_without_filter,
        known_callers_filter_mb: flood.filter_mb,
        peak_rss_mb,
    };
    print(args, &report)
}

fn print(args: &Args, report: &Report) -> Result<(), CliError> {
    let mut out = Out::new();
    if args.common.json {
        out.json(report)?;
        return out.flush();
    }
    let per_s = |figure: f64| grouped(figure as u64);
    out.pairs(&[
        ("a charge inside a lease", format!("{:.0} ns", report.charge_ns_in_lease)),
        ("a lookup's ledger part, one number", format!("{:.0} ns", report.lookup_of_one_ns)),
        ("the same, in a batch of 512", format!("{:.1} ns a number", report.ns_per_number)),
        ("the same, numbers paid before", format!("{:.1} ns a number", report.known_ns_per_number)),
        ("a caller never seen", format!("{:.0} ns", report.unknown_caller_ns)),
        ("the same, without the filter", format!("{:.0} ns", report.unknown_caller_ns_without_filter)),
        ("the filter of known callers", format!("{:.1} MB", report.known_callers_filter_mb)),
        ("durable grants a second", per_s(report.durable_grants_per_s)),
        ("redb alone", per_s(report.bare_redb_grants_per_s)),
        ("redb alone, two-phase", per_s(report.bare_redb_two_phase_grants_per_s)),
        ("fsyncs of 1,000 lookups inside leases", format!("{:.2}", report.fsyncs_per_1000_lookups)),
        ("bytes a caller", format!("{:.1}", report.bytes_per_caller)),
        ("bytes a remembered number", format!("{:.2}", report.bytes_per_remembered_number)),
        ("peak memory", report.peak_rss_mb.map_or_else(|| "-".to_owned(), |mb| format!("{mb:.0} MB"))),
    ])?;
    out.flush()
}

struct Active {
    charge_ns: f64,
    lookup_of_one_ns: f64,
    first_number_ns: f64,
    bytes_per_caller: f64,
    page_bytes_per_caller: f64,
}

fn caller(kind: &str, number: u64) -> Caller {
    Caller::new(format!("{kind}-{number}"))
}

/// Every caller has a lease, and one remembered number at the end.
fn active(dir: &Path, count: u64) -> Result<Active, CliError> {
    const CHUNK: usize = 100_000;
    let count_of = usize::try_from(count).unwrap_or(usize::MAX);
    let index = open_with(dir, 1, |options| options.active_callers(count_of.max(1_000)).background(true))?;
    let mut callers: Vec<PreparedCaller> = (0..count).map(|i| index.prepare_caller(&caller("a", i))).collect();
    // The second charge leases as much ahead as the first one took.
    for numbers in [100, 0] {
        callers.chunks(CHUNK).try_for_each(|chunk| {
            index.raw_charge_all(chunk, numbers.max(numbers * CHARGES as u64 / count).max(1))
        })?;
    }
    // In an order that no table has, made before the time is taken.
    let mut random = SplitMix(1);
    for last in (1..callers.len()).rev() {
        callers.swap(last, random.below(last as u64 + 1) as usize);
    }
    let commits = index.ledger_commits();
    let start = Instant::now();
    for caller in callers.iter().cycle().take(CHARGES) {
        std::hint::black_box(index.raw_pay(*caller, 1)?);
    }
    let charge_ns = start.elapsed().as_secs_f64() * 1e9 / CHARGES as f64;
    if index.ledger_commits() > commits + CHARGES as u64 / 1_000 {
        return Err(CliError::Claim("callers chosen at random stay inside their leases"));
    }
    let (first_number_ns, lookup_of_one_ns) = one_by_one(&index, &callers)?;
    let sizes = index.ledger_sizes()?;
    let each = |bytes: u64| bytes as f64 / sizes.buckets.max(1) as f64;
    Ok(Active {
        charge_ns,
        lookup_of_one_ns,
        first_number_ns,
        bytes_per_caller: each(sizes.bucket_bytes),
        page_bytes_per_caller: each(sizes.bucket_page_bytes),
    })
}

/// Nanoseconds of a lookup's ledger part for one number: the first of each caller, and new ones of a few callers.
fn one_by_one(index: &Index, callers: &[PreparedCaller]) -> Result<(f64, f64), CliError> {
    const FEW: usize = 4_096;
    const STEPS: u64 = 50;
    let time = |numbers: std::ops::Range<u64>, callers: &[PreparedCaller]| -> Result<f64, CliError> {
        let numbers: Vec<_> = numbers.map(|i| index.prepare(&[population::hash(i)])).collect();
        let start = Instant::now();
        for number in &numbers {
            for caller in callers {
                std::hint::black_box(index.raw_charge(*caller, number)?);
            }
        }
        Ok(start.elapsed().as_secs_f64() * 1e9 / (numbers.len() * callers.len()) as f64)
    };
    let first = time(0..1, callers)?;
    let few = callers.get(..FEW).unwrap_or(callers);
    // A second number goes before, so that none is the first of its caller since it was evicted.
    time(1..2, few)?;
    Ok((first, time(2..2 + STEPS, few)?))
}

struct Flood {
    ns: f64,
    ns_without_filter: f64,
    filter_mb: f64,
}

/// Callers that were never seen, on the ledger that [`active`] filled. They ask for nothing: what is granted to them is a
/// commit, which has a figure of its own.
fn flood(dir: &Path) -> Result<Flood, CliError> {
    const FRESH: u64 = 200_000;
    let index = open_with(dir, 1, |options| options)?;
    let nothing = index.prepare(&[]);
    let time = |kind: &str| -> Result<f64, CliError> {
        let callers: Vec<_> = (0..FRESH).map(|i| index.prepare_caller(&caller(kind, i))).collect();
        let start = Instant::now();
        for caller in &callers {
            std::hint::black_box(index.raw_charge(*caller, &nothing)?);
        }
        Ok(start.elapsed().as_secs_f64() * 1e9 / FRESH as f64)
    };
    let ns_without_filter = time("before")?;
    index.warm()?;
    let before = index.stats()?;
    let ns = time("after")?;
    let after = index.stats()?;
    if after.ledger_reads - before.ledger_reads > FRESH / 20 {
        return Err(CliError::Claim("callers that were never seen are not looked for"));
    }
    Ok(Flood { ns, ns_without_filter, filter_mb: after.known_callers_filter_bytes as f64 / 1e6 })
}

/// Nanoseconds a number, novel and known, and bytes on disk a number, of callers with address books.
fn books(dir: &Path) -> Result<(f64, f64, f64, f64), CliError> {
    let index = open_with(dir, 1, |options| options.background(true))?;
    let batch = |caller: u64, first: u64| {
        let numbers: Vec<_> = (first..first + BATCH).map(|i| population::hash(caller << 20 | i)).collect();
        index.prepare(&numbers)
    };
    // Callers inside a lease ask for batch after batch; only the second half is timed.
    let callers: Vec<_> = (0..SYNCING).map(|i| index.prepare_caller(&caller("b", i))).collect();
    for numbers in [SYNCS * BATCH, 1] {
        index.raw_charge_all(&callers, numbers)?;
    }
    let batches: Vec<_> = (0..SYNCS).flat_map(|step| (0..SYNCING).map(move |who| (who, step * BATCH))).collect();
    let prepared: Vec<_> = batches.iter().map(|(who, first)| batch(*who, *first)).collect();
    let ask = |i: usize| -> Result<u64, CliError> {
        match (callers.get(i % callers.len()), prepared.get(i)) {
            (Some(caller), Some(keys)) => Ok(index.raw_charge(*caller, keys)?),
            _ => Ok(0),
        }
    };
    let half = prepared.len() / 2;
    let time = |range: std::ops::Range<usize>| -> Result<f64, CliError> {
        let numbers = (range.len() as u64 * BATCH) as f64;
        let start = Instant::now();
        for i in range.clone() {
            std::hint::black_box(ask(i)?);
        }
        Ok(start.elapsed().as_secs_f64() * 1e9 / numbers)
    };
    time(0..half)?;
    let novel = time(half..prepared.len())?;
    let known = time(half..prepared.len())?;
    drop((prepared, batches));

    let before = index.ledger_sizes()?;
    let mut charged = 0;
    for who in 0..BOOKS {
        let numbers: Vec<_> = (0..BOOK).map(|i| population::hash((1 << 40 | who) << 10 | i)).collect();
        charged += index.raw_charge(index.prepare_caller(&caller("book", who)), &index.prepare(&numbers))?;
    }
    let after = index.ledger_sizes()?;
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / charged.max(1) as f64;
    let pages = each(after.novelty_page_bytes, before.novelty_page_bytes);
    Ok((novel, known, each(after.novelty_bytes, before.novelty_bytes), pages))
}

/// Durable grants a second of the ledger and of redb alone, in turns. The index has its background thread, as it has unless a
/// host says otherwise: who was never seen is known from the filter that it makes.
fn durable(dir: &Path, args: &Args) -> Result<(f64, f64, f64), CliError> {
    let index = open_with(dir, 1, |options| options.background(true))?;
    let number = [population::hash(0)];
    let lookups = usize::try_from(args.lookups).unwrap_or(usize::MAX);
    let (mut ours, mut bare, mut two_phase) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..3 {
        let ns = timed(args.threads, lookups, |i| {
            index.lookup(&Caller::new(format!("d-{round}-{i}")), Purpose::ContactSync, &number)?;
            Ok(())
        })?;
        ours.push(lookups as f64 / (ns / 1e9));
        bare.push(bare_grants::grants_per_s(dir, args.threads, lookups, false)?);
        two_phase.push(bare_grants::grants_per_s(dir, args.threads, lookups, true)?);
    }
    Ok((super::median(ours), super::median(bare), super::median(two_phase)))
}

/// Syncs of a thousand public lookups, by callers inside a lease, every number new.
fn fsyncs(dir: &Path) -> Result<f64, CliError> {
    let index: Index = open_with(dir, 1 << 16, |options| options)?;
    let ask = |who: u64, first: u64, count: u64| {
        let numbers: Vec<_> =
            (first..first + count).map(|i| population::hash((3 << 40 | who) << 20 | i)).collect();
        index.lookup(&caller("leased", who), Purpose::ContactSync, &numbers).map(drop)
    };
    for who in 0..LEASED_CALLERS {
        ask(who, 0, 10_000)?;
        ask(who, 10_000, 1)?;
    }
    let commits = index.ledger_commits();
    for step in 0..LEASED_LOOKUPS {
        (0..LEASED_CALLERS).try_for_each(|who| ask(who, 20_000 + step * 50, 50))?;
    }
    let commits = index.ledger_commits() - commits;
    Ok(commits as f64 * FSYNCS_PER_COMMIT * 1_000.0 / (LEASED_CALLERS * LEASED_LOOKUPS) as f64)
}
