//! `unlisted replay`: attacks that happened, and some that will, against an index of this crate under a simulated clock.
//!
//! What is asked goes through the engine: keys, ledger, files. Only the size is smaller, by factors that are printed.
//! Everything follows from the seed, so two runs print the same bytes.

mod crowd;
mod engine;
mod honest;
mod numbers;
mod plan;
mod plot;
mod report;
mod scenario;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::builder::PossibleValuesParser;
use indicatif::ProgressBar;

use crate::error::CliError;
use crate::input::shown;
use crate::output::Out;
use crate::progress;

use engine::Run;
use plan::{PROTECTIONS, Plan, Size};
use report::Report;
use scenario::Scenario;

#[derive(clap::Args)]
pub struct Args {
    /// The attack.
    #[arg(value_name = "SCENARIO", value_parser = PossibleValuesParser::new(scenario::names()))]
    scenario: String,
    /// Replay it under these only. Repeatable; otherwise without protection, and under every preset.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PROTECTIONS))]
    protection: Vec<String>,
    /// The same seed gives the same figures.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Simulate one in so many accounts and networks, each with its whole quota; a divisor of both.
    #[arg(long, value_name = "N")]
    scale: Option<u64>,
    /// Without protection, ask about so many numbers, each of which stands for several.
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    sample: u64,
    /// Honest users to simulate, at most 100,000. A third of them are behind one network.
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u64).range(..=100_000))]
    users: u64,
    /// Write a plot of accounts disclosed over time to this file, which ends in .svg or .html.
    #[arg(long, value_name = "FILE", value_parser = plot_file)]
    plot: Option<PathBuf>,
    /// Print one JSON object for each protection.
    #[arg(long)]
    json: bool,
}

fn plot_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg" | "html") => Ok(path),
        _ => Err("expected a file that ends in .svg or .html".to_owned()),
    }
}

pub fn run(args: &Args) -> Result<(), CliError> {
    // The parser let no other name through.
    let Some(scenario) = scenario::by_name(&args.scenario) else { return Ok(()) };
    let scale = args.scale.unwrap_or(scenario.scale);
    let size = Size { scale, sample: args.sample, users: args.users, seed: args.seed };
    let is_wanted = |name: &&str| args.protection.is_empty() || args.protection.iter().any(|one| one == name);
    let plans: Result<Vec<Plan>, CliError> = PROTECTIONS
        .into_iter()
        .filter(is_wanted)
        .map(|protection| Plan::new(scenario, protection, size))
        .collect();
    let runs = run_all(plans?, args.json)?;

    let report = Report { scenario, size, runs: &runs };
    if let Some(path) = &args.plot {
        write_plot(path, scenario, &runs, &report)?;
    }
    let mut out = Out::new();
    if args.json {
        report.json(&mut out)?;
    } else {
        report.text().iter().try_for_each(|line| out.line(line))?;
    }
    out.flush()
}

/// Every plan, some at the same time: each has an index and a clock of its own.
fn run_all(plans: Vec<Plan>, json: bool) -> Result<Vec<Run>, CliError> {
    let bar = progress::of_parts("replaying", json);
    bar.set_length(plans.iter().map(engine::steps).sum());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(plans.len());
    let jobs: Vec<Job> = plans.into_iter().map(|plan| Mutex::new((Some(plan), None))).collect();
    let next = AtomicUsize::new(0);
    let panicked = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&jobs, &next, &bar))).collect();
        workers.into_iter().filter_map(|worker| worker.join().err()).count()
    });
    bar.finish_and_clear();
    if panicked > 0 {
        return Err(CliError::Panicked);
    }
    let done = jobs.into_iter().map(|job| job.into_inner().ok().and_then(|(_, run)| run));
    done.map(|run| run.unwrap_or(Err(CliError::Panicked))).collect()
}

/// A plan until somebody takes it, and then what came of it.
type Job = Mutex<(Option<Plan>, Option<Result<Run, CliError>>)>;

fn work(jobs: &[Job], next: &AtomicUsize, bar: &ProgressBar) {
    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
        // Nobody else locks this one.
        let Ok(mut job) = job.lock() else { return };
        if let Some(plan) = job.0.take() {
            job.1 = Some(engine::run(plan, bar));
        }
    }
}

fn write_plot(path: &Path, scenario: &Scenario, runs: &[Run], report: &Report<'_>) -> Result<(), CliError> {
    let is_page = path.extension().is_some_and(|extension| extension == "html");
    let plot = if is_page { plot::html(scenario, runs, &report.text()) } else { plot::svg(scenario, runs) };
    std::fs::write(path, plot).map_err(CliError::file("write", &shown(path)))
}
