//! The command-line program: one subcommand for each path of the library.
//!
//! `main` reads the arguments and turns the outcome into an exit code: 0 for success, 1 for a failure with one line
//! on standard error, 2 for arguments that make no sense. A reader that goes away (`| head`) is no failure.

#![forbid(unsafe_code)]

#[cfg(feature = "internals")]
mod bench;
mod commands;
mod csv_blocks;
mod csv_rows;
mod demo;
mod error;
mod input;
mod logs;
mod numbers;
mod output;
mod progress;
mod replay;
mod session;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{
    backup, budget, callers, erase, exposed, generate, held, import, init, lookup, maintain, quota, stats,
    suspend, tripwires, update,
};
use error::CliError;

/// An embedded contact-discovery index: who of these numbers agreed to be found, and may this caller still ask?
///
/// The secret of the index is read from the environment variable UNLISTED_SECRET (64 hexadecimal digits) or from
/// --secret-file. It is never stored with the index. `unlisted demo` needs neither and shows what the index does.
#[derive(Parser)]
#[command(name = "unlisted", version, max_term_width = 100)]
struct Cli {
    /// Read the secret from this file instead of UNLISTED_SECRET.
    #[arg(long, global = true, value_name = "PATH")]
    secret_file: Option<PathBuf>,
    /// A small file outside the index and its backups that says how far the ledger was: a restored one is found out by it.
    /// Otherwise what UNLISTED_EPOCH_FILE names, if it is set.
    #[arg(long, global = true, value_name = "PATH")]
    epoch_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new, empty index in a directory.
    Init(init::Args),
    /// Bring listings in from a CSV file, all at once or not at all.
    Import(import::Args),
    /// Write a synthetic population of listings as CSV to standard output.
    Generate(generate::Args),
    /// Ask for numbers on behalf of a caller, charged to the caller's budget.
    Lookup(lookup::Args),
    /// Apply a feed of changes from a CSV file.
    Update(update::Args),
    /// Remove every listing of accounts.
    Erase(erase::Args),
    /// The operator's door: what does the index still hold of an account, and until when?
    Held(held::HeldArgs),
    /// Forget what is past its retention and write the databases anew, so that nothing of it stays in their free pages.
    Vacuum(held::VacuumArgs),
    /// Show what the index holds and what it takes.
    Stats(stats::Args),
    /// Fold all changes into segments, and forget removals whose retention has passed.
    Fold(maintain::FoldArgs),
    /// Read every page and look every listing up; changes nothing.
    Verify(maintain::VerifyArgs),
    /// Copy the index as it is into a folder, only what changed since the last time, or as one stream.
    Backup(backup::BackupArgs),
    /// Make an index of a backup, in a new directory. All budgets begin at nothing.
    Restore(backup::RestoreArgs),
    /// Put damaged segments aside and replace them; also of an index that does not open.
    Repair(backup::RepairArgs),
    /// What a caller may still ask, and when it is refilled.
    Budget(budget::Args),
    /// Refuse every lookup of a caller, or of whoever comes through an origin.
    Suspend(suspend::SuspendArgs),
    /// End a suspension.
    Reinstate(suspend::ReinstateArgs),
    /// Give a caller or an origin back some of what it spent.
    Grant(suspend::GrantArgs),
    /// After a restore: empty all budgets, so that nobody gets back what was asked since the copy was made.
    Exhaust(suspend::ExhaustArgs),
    /// Show or change quotas.
    #[command(subcommand)]
    Quota(quota::Args),
    /// The operator's door: who was shown, to whom, and when?
    Exposed(exposed::Args),
    /// The operator's door: who is charged, misses or is deferred most, and who behaves like an enumerator?
    Callers(callers::Args),
    /// Set tripwires, numbers that nobody has, so that asking for them is evidence; choose them; what they are worth.
    Tripwires(tripwires::Args),
    /// Measure lookups, imports and the ledger on this machine.
    #[cfg(feature = "internals")]
    Bench(bench::Args),
    /// Show the whole life of an index on a shipped sample, checking every claim. Needs no secret.
    Demo(demo::Args),
    /// Replay an attack under a simulated clock: what it learns without protection and under each preset. Needs no secret.
    Replay(replay::Args),
}

fn main() -> ExitCode {
    logs::install();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed there is nobody to tell; the exit code still does.
            let _ = writeln!(std::io::stderr(), "unlisted: {}", error.in_one_line());
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), CliError> {
    let session = session::Session::new(cli.secret_file.as_deref(), cli.epoch_file.as_deref());
    match &cli.command {
        Command::Init(args) => init::run(&session, args),
        Command::Import(args) => import::run(&session, args),
        Command::Generate(args) => generate::run(args),
        Command::Lookup(args) => lookup::run(&session, args),
        Command::Update(args) => update::run(&session, args),
        Command::Erase(args) => erase::run(&session, args),
        Command::Held(args) => held::held(&session, args),
        Command::Vacuum(args) => held::vacuum(&session, args),
        Command::Stats(args) => stats::run(&session, args),
        Command::Fold(args) => maintain::fold(&session, args),
        Command::Verify(args) => maintain::verify(&session, args),
        Command::Backup(args) => backup::backup(&session, args),
        Command::Restore(args) => backup::restore(&session, args),
        Command::Repair(args) => backup::repair(&session, args),
        Command::Budget(args) => budget::run(&session, args),
        Command::Suspend(args) => suspend::suspend(&session, args),
        Command::Reinstate(args) => suspend::reinstate(&session, args),
        Command::Grant(args) => suspend::grant(&session, args),
        Command::Exhaust(args) => suspend::exhaust(&session, args),
        Command::Quota(args) => quota::run(&session, args),
        Command::Exposed(args) => exposed::run(&session, args),
        Command::Callers(args) => callers::run(&session, args),
        Command::Tripwires(args) => tripwires::run(&session, args),
        #[cfg(feature = "internals")]
        Command::Bench(args) => bench::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Replay(args) => replay::run(args),
    }
}
