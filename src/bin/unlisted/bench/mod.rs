//! `unlisted bench`: figures about this machine. Built with the feature `internals`, whose raw probe it measures.
//!
//! Lookups are timed in short slices whose median counts. A shared machine is noisy all the same: quote ratios of
//! figures from one run.

mod bare;
mod bare_grants;
mod cold;
mod disclosures;
#[cfg(feature = "valkey")]
mod fleet;
mod fold;
mod import;
mod ledger;
mod lookup;
mod memory;
mod pace;
mod parts;
mod percentile;
mod population;
mod update;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use unlisted::{Index, Options, Quota, QuotaPolicy, Secret};

use crate::error::CliError;

/// Measure lookups, imports or the ledger.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The raw probe, the public lookup, and independent random cache lines beside them.
    Lookup(lookup::Args),
    /// A bulk import from an unsorted source in this process, and sequential writes beside it.
    Import(import::Args),
    /// Charges, each durable before it counts.
    Ledger(ledger::Args),
    /// Durable updates by threads that share commits, and the database alone on the same rows beside them.
    Update(update::Args),
    /// Lookups without and during a fold.
    Fold(fold::Args),
    /// The disclosure log: appends, compaction, scans.
    Disclosures(disclosures::Args),
    /// Nodes of a fleet on a cluster that runs, and an index that stands alone beside them.
    #[cfg(feature = "valkey")]
    Fleet(fleet::Args),
}

/// What every bench takes.
#[derive(clap::Args)]
struct Common {
    /// Keep the index here. Lookups use one that is here already if it has as many listings.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<(), CliError> {
    match &args.what {
        What::Lookup(args) => lookup::run(args),
        What::Import(args) => import::run(args),
        What::Ledger(args) => ledger::run(args),
        What::Update(args) => update::run(args),
        What::Fold(args) => fold::run(args),
        What::Disclosures(args) => disclosures::run(args),
        #[cfg(feature = "valkey")]
        What::Fleet(args) => fleet::run(args),
    }
}

/// Where a bench works: a folder that stays, or one that goes with it.
enum Workplace {
    Kept(PathBuf),
    Temporary(Temporary),
}

/// A folder below the system's temporary one that goes when it is dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nobody is left to hear that it cannot be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Workplace {
    fn new(dir: Option<&Path>) -> Result<Self, CliError> {
        if let Some(dir) = dir {
            return Ok(Self::Kept(dir.to_owned()));
        }
        let path = std::env::temp_dir().join(format!("unlisted-bench-{}", std::process::id()));
        let failed = |source| CliError::File { action: "create", name: path.display().to_string(), source };
        std::fs::create_dir_all(&path).map_err(failed)?;
        Ok(Self::Temporary(Temporary(path)))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) | Self::Temporary(Temporary(path)) => path,
        }
    }
}

/// Opens the index of a bench. Its secret is no secret: nothing but made-up numbers is in it.
fn open(dir: &Path, max_batch: usize) -> Result<Index, CliError> {
    open_with(dir, max_batch, |options| options)
}

/// The same with other options. Every caller has a wide budget that refills slowly, so that a lease lasts.
fn open_with(dir: &Path, max_batch: usize, change: impl FnOnce(Options) -> Options) -> Result<Index, CliError> {
    let wide = Quota::per_hour(50_000_000, 60).map_err(unlisted::Error::from)?;
    let options = Options::new(Secret::from_bytes([0xbe; 32]))
        .quotas(QuotaPolicy::of_caller(wide))
        .max_batch(max_batch.max(1))
        .background(false);
    Ok(Index::open(dir, change(options))?)
}

/// The middle of some figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
