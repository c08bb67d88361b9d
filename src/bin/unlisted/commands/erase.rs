//! `unlisted erase`: accounts that go, with every listing they have.

use std::path::PathBuf;

use indicatif::ProgressBar;
use unlisted::{AccountId, ParseAccountError};

use crate::error::CliError;
use crate::input::{Lines, Source};
use crate::output::{Out, grouped};
use crate::session::Session;

#[derive(clap::Args)]
pub struct Args {
    /// The directory of the index.
    dir: PathBuf,
    /// Accounts, as a u64 in decimal or a UUID; - reads one a line from standard input.
    #[arg(value_name = "ACCOUNT", required = true)]
    accounts: Vec<String>,
    /// A version of the host's: no update up to it brings a listing back. The newest of the account's listings, if not given.
    #[arg(long, value_name = "VERSION")]
    at: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    let mut accounts = Vec::new();
    for (i, text) in args.accounts.iter().enumerate() {
        if text == "-" {
            read_lines(&mut accounts)?;
        } else {
            accounts.push(parse(text, || format!("account {} on the command line", i + 1))?);
        }
    }
    let index = session.open(&args.dir)?;
    let report = match args.at {
        Some(version) => index.erase_accounts_at(&accounts, version),
        None => index.erase_accounts(&accounts),
    }?;
    // Nothing runs in the background here: the rows of the disclosure log go now.
    index.compact_disclosures()?;
    let mut out = Out::new();
    if args.json {
        out.json(&report)?;
    } else {
        let [accounts, removed] = [report.accounts, report.removed].map(|n| grouped(n as u64));
        out.line(format_args!("{removed} listings of {accounts} accounts removed"))?;
    }
    out.flush()
}

/// Reads one account a line. Empty lines are nothing.
fn read_lines(accounts: &mut Vec<AccountId>) -> Result<(), CliError> {
    let source = Source::Stdin;
    let mut lines = Lines::new(source.open(&ProgressBar::hidden())?, &source);
    let (mut line, mut number) = (Vec::new(), 0_u64);
    while lines.next_into(&mut line)? {
        number += 1;
        let text = std::str::from_utf8(line.trim_ascii()).unwrap_or("not text");
        if !text.is_empty() {
            accounts.push(parse(text, || format!("line {number} of {source}"))?);
        }
    }
    Ok(())
}

pub(super) fn parse(text: &str, place: impl FnOnce() -> String) -> Result<AccountId, CliError> {
    text.parse().map_err(|reason: ParseAccountError| CliError::BadAccount { place: place(), reason })
}
