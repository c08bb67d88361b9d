//! `unlisted suspend`, `reinstate` and `grant`: what an operator does about a caller or an origin.

use std::path::PathBuf;

use serde::Serialize;
use unlisted::Index;

use super::subject::SubjectArgs;
use crate::error::CliError;
use crate::output::{Out, grouped};
use crate::session::Session;

#[derive(clap::Args)]
pub struct SuspendArgs {
    /// The directory of the index.
    dir: PathBuf,
    #[command(flatten)]
    subject: SubjectArgs,
    /// Why, for whoever looks at it later.
    #[arg(long)]
    reason: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct ReinstateArgs {
    /// The directory of the index.
    dir: PathBuf,
    #[command(flatten)]
    subject: SubjectArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct GrantArgs {
    /// The directory of the index.
    dir: PathBuf,
    #[command(flatten)]
    subject: SubjectArgs,
    /// Numbers to give back of what was spent; a budget never holds more than its burst.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    numbers: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct ExhaustArgs {
    /// The directory of the index.
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Exhausted {
    exhausted: bool,
}

#[derive(Serialize)]
struct Suspended {
    suspended: bool,
}

#[derive(Serialize)]
struct Reinstated {
    was_suspended: bool,
}

#[derive(Serialize)]
struct Granted {
    granted: u64,
}

pub fn suspend(session: &Session, args: &SuspendArgs) -> Result<(), CliError> {
    let index = session.open(&args.dir)?;
    args.subject.with(|subject| index.suspend(subject, &args.reason))?;
    report(args.json, &Suspended { suspended: true }, format_args!("{} is suspended", args.subject.name()))
}

pub fn reinstate(session: &Session, args: &ReinstateArgs) -> Result<(), CliError> {
    let index = session.open(&args.dir)?;
    let was_suspended = args.subject.with(|subject| index.reinstate(subject))?;
    let outcome = if was_suspended { "may ask again" } else { "was not suspended" };
    report(args.json, &Reinstated { was_suspended }, format_args!("{} {outcome}", args.subject.name()))
}

pub fn grant(session: &Session, args: &GrantArgs) -> Result<(), CliError> {
    let index = session.open(&args.dir)?;
    args.subject.with(|subject| index.grant(subject, args.numbers))?;
    let text = format_args!("{} got back up to {} numbers", args.subject.name(), grouped(args.numbers));
    report(args.json, &Granted { granted: args.numbers }, text)
}

/// With an epoch file that finds a restored ledger out, the opening empties the budgets; without one, this does.
pub fn exhaust(session: &Session, args: &ExhaustArgs) -> Result<(), CliError> {
    let options = session.options()?.must_exist().exhaust_if_restored().create_epoch_file();
    Index::open(&args.dir, options)?.exhaust_budgets()?;
    report(args.json, &Exhausted { exhausted: true }, format_args!("all budgets begin at nothing"))
}

fn report(json: bool, object: &impl Serialize, text: std::fmt::Arguments<'_>) -> Result<(), CliError> {
    let mut out = Out::new();
    if json {
        out.json(object)?
    } else {
        out.line(text)?
    }
    out.flush()
}
