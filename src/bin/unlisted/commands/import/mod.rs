//! `unlisted import`: listings from CSV, all at once or not at all.

mod pipeline;
mod rejects;

use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::ProgressBar;
use serde::Serialize;
use unlisted::{ImportReport, Importer};

use crate::csv_blocks::{Blocks, RowReader};
use crate::csv_rows::Columns;
use crate::error::CliError;
use crate::input::{Source, shown};
use crate::numbers::Numbers;
use crate::output::{Out, grouped, note};
use crate::progress;
use crate::session::Session;

use pipeline::Pipeline;
use rejects::{Rejects, Summary};

#[derive(clap::Args)]
pub struct Args {
    /// The directory of the index.
    dir: PathBuf,
    /// CSV with the columns phone (E.164) or phone_hash (64 hexadecimal digits), account (u64 or UUID), opt_ins
    /// (names joined by '|', or nothing) and version, in any order; other columns are ignored. Plain or gzip;
    /// standard input if it is - or left out.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where rows that are not listings go, with line and reason. By default FILE.rejects.csv, or rejects.csv in
    /// the current folder for standard input. Made only if there are any.
    #[arg(long, value_name = "PATH")]
    rejects: Option<PathBuf>,
    /// Stop at the first bad row and import nothing.
    #[arg(long, conflicts_with = "rejects")]
    strict: bool,
    #[command(flatten)]
    numbers: Numbers,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    imported: u64,
    stale: u64,
    rejected: u64,
    seconds: f64,
}

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    let start = Instant::now();
    let source = Source::of(args.file.as_deref());
    let rejects_path = rejects_path(args);
    if let Source::File(path) = &source {
        check_different(path, &rejects_path)?;
    }
    let bar = progress::of_bytes("reading", source.file_len(), args.json);
    let mut blocks = Blocks::new(source.open(&bar)?, source.to_string());
    let columns =
        Columns::of_listings(blocks.header(&mut RowReader::new())?, blocks.name(), args.numbers.clone())?;
    let index = session.open(&args.dir)?;

    let importer = index.importer()?;
    let rejects = if args.strict {
        Rejects::strict(blocks.name())
    } else {
        Rejects::to_file(rejects_path.clone(), columns.header())
    };
    let pipeline = Pipeline::new(&columns, &importer, rejects);
    let rejected = pipeline.run(&mut blocks)?;
    bar.finish_and_clear();
    let done = build(importer, args.json)?;
    let seconds = start.elapsed().as_secs_f64();
    report(args, &rejects_path, done, &rejected, seconds)
}

/// Builds the segments, telling how far it is.
fn build(importer: Importer, json: bool) -> Result<ImportReport, CliError> {
    let bar: ProgressBar = progress::of_parts("building", json);
    let done = importer.finish_with(|progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    });
    bar.finish_and_clear();
    Ok(done?)
}

fn report(
    args: &Args,
    rejects_path: &Path,
    done: ImportReport,
    rejected: &Summary,
    seconds: f64,
) -> Result<(), CliError> {
    if let Some((line, flaw)) = &rejected.first {
        let path = shown(rejects_path);
        note(format_args!(
            "unlisted: {} rows rejected, see {path}; the first is on line {line}: {flaw}",
            grouped(rejected.count)
        ));
    }
    let report = Report { imported: done.rows, stale: done.stale, rejected: rejected.count, seconds };
    let mut out = Out::new();
    if args.json {
        out.json(&report)?;
    } else {
        let [imported, stale, rejected] = [report.imported, report.stale, report.rejected].map(grouped);
        out.line(format_args!(
            "{imported} listings imported ({stale} of them stale), {rejected} rejected, in {seconds:.1} s"
        ))?;
    }
    out.flush()
}

fn rejects_path(args: &Args) -> PathBuf {
    if let Some(path) = &args.rejects {
        return path.clone();
    }
    match Source::of(args.file.as_deref()) {
        Source::Stdin => PathBuf::from("rejects.csv"),
        Source::File(path) => {
            let mut name = path.into_os_string();
            name.push(".rejects.csv");
            PathBuf::from(name)
        }
    }
}

/// The rejects must not overwrite what is being read.
fn check_different(input: &Path, rejects: &Path) -> Result<(), CliError> {
    match (input.canonicalize(), rejects.canonicalize()) {
        (Ok(input), Ok(rejects)) if input == rejects => Err(CliError::RejectsOverInput),
        _ => Ok(()),
    }
}
