//! `unlisted bench disclosures`.

use std::time::Instant;

use serde::Serialize;
use unlisted::internals::RawDisclosures;
use unlisted::{AccountId, DisclosureSync, Purpose};

use super::lookup::timed;
use super::population::{Accounts, listing};
use super::{Workplace, median};
use crate::commands::generate::SplitMix;
use crate::error::CliError;
use crate::output::Out;

/// Listings that accounts are drawn from: it decides how far sorted neighbours are apart.
const POPULATION: u64 = 100_000_000;
/// A time to begin with, and over how long lookups are spread: 30 days.
const START_MS: u64 = 1_795_000_000_000;
const SPREAD_MS: u64 = 30 * 86_400_000;
const SYNCED_LOOKUPS: u64 = 1_000;
const PASSES: usize = 3;

#[derive(clap::Args)]
pub struct Args {
    /// Disclosures to record.
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    rows: u64,
    /// Accounts that each of the large lookups shows.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    book: u64,
    /// Lookups of each caller, a few days apart. Every one after the first repeats half of what it showed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    syncs: u64,
    /// Threads that record at once where each waits for the device.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
    /// Width of account ids.
    #[arg(long, value_enum, default_value_t = Accounts::U64)]
    accounts: Accounts,
    #[command(flatten)]
    common: super::Common,
}

#[derive(Serialize)]
struct Report {
    rows: u64,
    book: u64,
    syncs: u64,
    /// Written to the operating system, in the time of a lookup: of one account, of a book.
    append_one_ns: f64,
    append_book_ns: f64,
    /// The same on average: now and then a lookup seals a full log and begins the next.
    append_book_mean_ns: f64,
    append_book_ns_per_row: f64,
    log_bytes_per_row: f64,
    /// Disclosures that are left when repeated ones are one.
    compacted_rows: u64,
    compacted_bytes_per_row: f64,
    compaction_rows_per_s: f64,
    scan_log_rows_per_s: f64,
    scan_rows_per_s: f64,
    /// Lookups a second where each is on the device before its answer.
    synced_per_s_one_thread: f64,
    threads: u64,
    synced_per_s: f64,
}

fn token(i: u64) -> [u8; 16] {
    let mut random = SplitMix(i);
    (u128::from(random.next()) << 64 | u128::from(random.next())).to_le_bytes()
}

/// What lookup `i` shows.
fn book(i: u64, args: &Args) -> Vec<AccountId> {
    let (caller, sync) = (i / args.syncs, i % args.syncs);
    let account = |n: u64| {
        let of_sync = if n.is_multiple_of(2) { 0 } else { sync };
        let mut random = SplitMix(caller << 32 ^ of_sync << 24 ^ n);
        listing(random.below(POPULATION), args.accounts).account
    };
    (0..args.book).map(account).collect()
}

fn record(log: &RawDisclosures, caller: u64, at_ms: u64, accounts: &[AccountId]) -> Result<(), CliError> {
    let origins = [token((caller % 5_000) | (1 << 40))];
    Ok(log.record((token(caller), &origins), Purpose::ContactSync, at_ms, accounts)?)
}

pub fn run(args: &Args) -> Result<(), CliError> {
    let place = Workplace::new(args.common.dir.as_deref())?;
    let log = |name: &str, sync| -> Result<RawDisclosures, CliError> {
        let dir = place.path().join(name);
        std::fs::create_dir_all(&dir).map_err(CliError::file("create", name))?;
        Ok(RawDisclosures::create(&dir, token(0), sync)?)
    };
    let written = DisclosureSync::default();

    let small = log("one", written)?;
    let ones = (args.rows / 16).max(1_000);
    let account = [AccountId::from(7)];
    let append_one_ns = timed(1, ones as usize, |i| record(&small, i as u64, START_MS, &account))? / ones as f64;
    drop(small);

    let large = log("books", written)?;
    let lookups = (args.rows / args.book).max(1);
    let now_ms = START_MS + SPREAD_MS;
    let mut ns = Vec::new();
    let mut random = SplitMix(1);
    for i in 0..lookups {
        let (accounts, at_ms) = (book(i, args), START_MS + random.below(SPREAD_MS));
        let start = Instant::now();
        record(&large, i / args.syncs, at_ms, &accounts)?;
        ns.push(start.elapsed().as_secs_f64() * 1e9);
    }
    let append_book_mean_ns = ns.iter().sum::<f64>() / ns.len() as f64;
    let append_book_ns = median(ns);
    let rows = lookups * args.book;
    let log_bytes = large.bytes();
    let (_, scan_log_rows_per_s) = scan(&large, now_ms)?;
    let start = Instant::now();
    large.compact(now_ms)?;
    let compaction_s = start.elapsed().as_secs_f64();
    let (compacted_rows, scan_rows_per_s) = scan(&large, now_ms)?;

    let report = Report {
        rows,
        book: args.book,
        syncs: args.syncs,
        append_one_ns,
        append_book_ns,
        append_book_mean_ns,
        append_book_ns_per_row: append_book_ns / args.book as f64,
        log_bytes_per_row: log_bytes as f64 / rows as f64,
        compacted_rows,
        compacted_bytes_per_row: large.bytes() as f64 / compacted_rows as f64,
        compaction_rows_per_s: rows as f64 / compaction_s,
        scan_log_rows_per_s,
        scan_rows_per_s,
        synced_per_s_one_thread: synced(&log("synced", DisclosureSync::Synced)?, 1)?,
        threads: args.threads,
        synced_per_s: synced(&log("shared", DisclosureSync::Synced)?, args.threads)?,
    };
    print(&report, args.common.json)
}

/// Rows, and rows a second.
fn scan(log: &RawDisclosures, now_ms: u64) -> Result<(u64, f64), CliError> {
    let mut rates = Vec::new();
    let mut rows = 0;
    for _ in 0..PASSES {
        let start = Instant::now();
        rows = log.scan(now_ms)?.0;
        rates.push(rows as f64 / start.elapsed().as_secs_f64());
    }
    Ok((rows, median(rates)))
}

/// Lookups a second where each waits for the device.
fn synced(log: &RawDisclosures, threads: u64) -> Result<f64, CliError> {
    let account = [AccountId::from(7)];
    let count = SYNCED_LOOKUPS * threads.min(16);
    let ns = timed(threads, count as usize, |i| record(log, i as u64, START_MS, &account))?;
    Ok(count as f64 / (ns / 1e9))
}

fn print(report: &Report, json: bool) -> Result<(), CliError> {
    let mut out = Out::new();
    if json {
        out.json(report)?;
        return out.flush();
    }
    let ns = |ns: f64| format!("{ns:.0} ns");
    let rate = |rows: f64| format!("{:.1} M rows/s", rows / 1e6);
    let bytes = |bytes: f64| format!("{bytes:.1} bytes a row");
    out.pairs(&[
        ("append, one account", ns(report.append_one_ns)),
        ("append, a book", ns(report.append_book_ns)),
        ("log", bytes(report.log_bytes_per_row)),
        ("compacted", bytes(report.compacted_bytes_per_row)),
        ("compaction", rate(report.compaction_rows_per_s)),
        ("scan of the log", rate(report.scan_log_rows_per_s)),
        ("scan, compacted", rate(report.scan_rows_per_s)),
        ("synced lookups, one thread", format!("{:.0} a second", report.synced_per_s_one_thread)),
        ("synced lookups, shared", format!("{:.0} a second", report.synced_per_s)),
    ])?;
    out.flush()
}
