//! `unlisted tripwires`: numbers that nobody has, set and removed; chosen; and what they are worth.

mod arithmetic;
mod generate;

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde::Serialize;
use unlisted::PhoneHash;

use crate::error::CliError;
use crate::input::{Lines, Source};
use crate::numbers::Numbers;
use crate::output::{Out, grouped};
use crate::session::Session;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    /// The directory of the index.
    #[arg(required = true)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    numbers: Numbers,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Set these: numbers, one a line, plain or gzip; - is standard input. None may be listed.
    #[arg(long, value_name = "FILE")]
    add: Option<PathBuf>,
    /// Remove these; numbers that are no tripwires stay as they are.
    #[arg(long, value_name = "FILE")]
    remove: Option<PathBuf>,
    /// How many are set.
    #[arg(long)]
    count: bool,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Choose numbers from ranges that nobody was given, and write them to standard output. Keep them secret.
    Generate(generate::Args),
    /// How many numbers until an enumerator is caught, and how often an honest address book is. Prints one JSON object.
    Arithmetic(arithmetic::Args),
}

#[derive(Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<usize>,
    tripwires: u64,
}

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    match (&args.task, &args.dir) {
        (Some(Task::Generate(args)), _) => generate::run(args),
        (Some(Task::Arithmetic(args)), _) => arithmetic::run(args),
        (None, Some(dir)) => change(session, args, dir),
        (None, None) => Err(CliError::BadArguments("no directory was given")),
    }
}

fn change(session: &Session, args: &Args, dir: &Path) -> Result<(), CliError> {
    let hashes = |path: &Option<PathBuf>| path.as_ref().map(|path| read(path, &args.numbers)).transpose();
    // Before the index, so that a bad line is found before anything is changed.
    let (add, remove) = (hashes(&args.what.add)?, hashes(&args.what.remove)?);
    let index = session.open(dir)?;
    let added = add.map(|hashes| index.set_tripwires(hashes)).transpose()?;
    let removed = remove.map(|hashes| index.remove_tripwires(hashes)).transpose()?;
    let report = Report { added, removed, tripwires: index.stats()?.tripwires };
    let mut out = Out::new();
    if args.json {
        out.json(&report)?;
        return out.flush();
    }
    let done = match (added, removed) {
        (Some(added), _) => format!("{} set, ", grouped(added as u64)),
        (_, Some(removed)) => format!("{} removed, ", grouped(removed as u64)),
        _ => String::new(),
    };
    out.line(format_args!("{done}{} tripwires in all", grouped(report.tripwires)))?;
    out.flush()
}

/// The numbers of a file. Empty lines are nothing.
fn read(path: &Path, numbers: &Numbers) -> Result<Vec<PhoneHash>, CliError> {
    let mut hashes = Vec::new();
    each_line(path, |text| {
        hashes.push(numbers.hash(text)?);
        Ok(())
    })?;
    Ok(hashes)
}

/// Gives every line that is not empty to `read`, whose reason becomes an error that says where.
fn each_line(path: &Path, mut read: impl FnMut(&str) -> Result<(), String>) -> Result<(), CliError> {
    let source = Source::of(Some(path));
    let mut lines = Lines::new(source.open(&ProgressBar::hidden())?, &source);
    let (mut bytes, mut line) = (Vec::new(), 0_u64);
    while lines.next_into(&mut bytes)? {
        line += 1;
        let text = match std::str::from_utf8(bytes.trim_ascii()) {
            Ok(text) if bytes.len() <= Lines::MAX_LEN => text,
            _ => "not text",
        };
        if !text.is_empty() {
            read(text).map_err(|reason| CliError::BadLine { name: source.to_string(), line, reason })?;
        }
    }
    Ok(())
}
