//! `unlisted bench ledger`.

use serde::Serialize;
use unlisted::{Caller, Purpose};

use super::lookup::timed;
use super::{Workplace, open, population};
use crate::error::CliError;
use crate::output::Out;

#[derive(clap::Args)]
pub struct Args {
    /// Lookups to charge, each by a caller of its own.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    lookups: u64,
    /// Threads that look up at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
    #[command(flatten)]
    common: super::Common,
}

#[derive(Serialize)]
struct Report {
    threads: u64,
    lookups: u64,
    /// Lookups of one number, each charged durably before it is answered.
    durable_grants_per_s: f64,
}

pub fn run(args: &Args) -> Result<(), CliError> {
    let place = Workplace::new(args.common.dir.as_deref())?;
    let index = open(place.path(), 1)?;
    let (run, number) = (std::process::id(), [population::hash(0)]);
    let ns = timed(args.threads, usize::try_from(args.lookups).unwrap_or(usize::MAX), |i| {
        index.lookup(&Caller::new(format!("{run}-{i}")), Purpose::ContactSync, &number)?;
        Ok(())
    })?;
    let report = Report {
        threads: args.threads,
        lookups: args.lookups,
        durable_grants_per_s: args.lookups as f64 / (ns / 1e9),
    };
    let mut out = Out::new();
    if args.common.json {
        out.json(&report)?;
    } else {
        out.pairs(&[("durable grants a second", format!("{:.0}", report.durable_grants_per_s))])?;
    }
    out.flush()
}
