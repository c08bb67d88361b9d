//! `unlisted held`: what the index still holds of an account. `unlisted vacuum`: forgetting what it need not.

use std::path::PathBuf;

use unlisted::HeldRows;

use super::erase;
use crate::error::CliError;
use crate::output::{Out, bytes, grouped, utc};
use crate::session::Session;

#[derive(clap::Args)]
pub struct HeldArgs {
    /// The directory of the index.
    dir: PathBuf,
    /// The account, as a u64 in decimal or a UUID.
    #[arg(value_name = "ACCOUNT")]
    account: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct VacuumArgs {
    /// The directory of the index.
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn held(session: &Session, args: &HeldArgs) -> Result<(), CliError> {
    let account = erase::parse(&args.account, || "the account on the command line".to_owned())?;
    let held = session.open(&args.dir)?.inspector().held(account)?;
    let mut out = Out::new();
    if args.json {
        out.json(&held)?;
        return out.flush();
    }
    let caller = held.as_caller;
    let named = [
        ("listings", held.listings, "until the host removes them"),
        ("marks of removal", held.removals, ""),
        ("disclosures of it", held.shown, ""),
        ("disclosures to it", caller.disclosures, ""),
        ("numbers it paid for", caller.numbers, ""),
        ("its budget", caller.budget, ""),
        ("lookups counted", caller.activity, ""),
        ("suspension or own quota", caller.standing, "until it is ended"),
    ];
    let row = |(name, rows, otherwise): &(&'static str, HeldRows, &str)| {
        let until = match rows.until_ms {
            _ if rows.is_empty() => String::new(),
            Some(until_ms) => format!(", until {}", utc(until_ms)),
            None => format!(", {otherwise}"),
        };
        (*name, format!("{}{until}", grouped(rows.rows)))
    };
    out.pairs(&named.iter().map(row).collect::<Vec<_>>())?;
    out.flush()
}

pub fn vacuum(session: &Session, args: &VacuumArgs) -> Result<(), CliError> {
    let report = session.open(&args.dir)?.vacuum()?;
    let mut out = Out::new();
    if args.json {
        out.json(&report)?;
    } else {
        let [removals, disclosures, buckets] =
            [report.removals as u64, report.disclosures, report.buckets].map(grouped);
        let [before, after] = [report.bytes_before, report.bytes_after].map(bytes);
        out.line(format_args!(
            "{removals} removals, {disclosures} disclosures and {buckets} buckets forgotten; databases of {before} are {after} now"
        ))?;
    }
    out.flush()
}
