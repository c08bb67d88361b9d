//! `unlisted bench import`.

use std::time::Instant;

use serde::Serialize;

use super::population::{self, Accounts};
use super::{Workplace, memory, open};
use crate::error::CliError;
use crate::output::{Out, grouped};

/// Bytes of the sequential write that the import is held against.
const WRITE_BYTES: u64 = 1 << 30;

#[derive(clap::Args)]
pub struct Args {
    /// Listings to import.
    #[arg(long, default_value_t = 10_000_000)]
    listings: u64,
    /// Width of account ids.
    #[arg(long, value_enum, default_value_t = Accounts::U64)]
    accounts: Accounts,
    #[command(flatten)]
    common: super::Common,
}

#[derive(Serialize)]
struct Report {
    listings: u64,
    seconds: f64,
    /// From an unsorted source in this process: PRF, build, sync and verification included.
    listings_per_s: f64,
    bytes_per_listing: f64,
    peak_rss_mb: Option<f64>,
    sequential_write_mb_per_s: f64,
}

pub fn run(args: &Args) -> Result<(), CliError> {
    let place = Workplace::new(args.common.dir.as_deref())?;
    let index = open(place.path(), 1)?;
    let start = Instant::now();
    population::import(&index, args.listings, args.accounts)?;
    let seconds = start.elapsed().as_secs_f64();
    let peak_rss_mb = memory::peak_rss_mb();
    let report = Report {
        listings: args.listings,
        seconds,
        listings_per_s: args.listings as f64 / seconds,
        bytes_per_listing: index.stats()?.bytes_per_listing,
        peak_rss_mb,
        sequential_write_mb_per_s: memory::sequential_write_mb_per_s(place.path(), WRITE_BYTES)?,
    };
    let mut out = Out::new();
    if args.common.json {
        out.json(&report)?;
    } else {
        out.pairs(&[
            ("listings", format!("{} in {:.1} s", grouped(report.listings), report.seconds)),
            ("a second", grouped(report.listings_per_s as u64)),
            ("bytes per listing", format!("{:.1}", report.bytes_per_listing)),
            ("peak memory", report.peak_rss_mb.map_or_else(|| "-".to_owned(), |mb| format!("{mb:.0} MB"))),
            ("sequential write", format!("{:.0} MB/s", report.sequential_write_mb_per_s)),
        ])?;
    }
    out.flush()
}
