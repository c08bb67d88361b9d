//! `unlisted backup`, `unlisted restore` and `unlisted repair`.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use unlisted::{BackupMode, BackupReport, Index, RangeOutcome, RepairReport};

use crate::error::CliError;
use crate::output::{self, Out, grouped};
use crate::session::Session;

#[derive(clap::Args)]
pub struct BackupArgs {
    /// The directory of the index.
    dir: PathBuf,
    /// The folder of the backup; - writes a tar archive to standard output, and the report to standard error.
    to: PathBuf,
    /// Copy files that never change too; by default they are linked where the file system can.
    #[arg(long)]
    copy: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct RestoreArgs {
    /// The folder of the backup; - reads a tar archive from standard input.
    from: PathBuf,
    /// Where the index is to be: a directory that does not exist or is empty.
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct RepairArgs {
    /// The directory of the index. Nobody may have it open.
    dir: PathBuf,
    /// A backup to take from what cannot be read.
    #[arg(long, value_name = "BACKUP")]
    from: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Restored {
    snapshot_version: u64,
    watermark: Option<String>,
    exhausted: bool,
}

#[derive(Serialize)]
struct Repaired<'a> {
    segments: usize,
    ranges: Vec<Range<'a>>,
    backup_version: Option<u64>,
    is_replay_needed: bool,
    watermark: Option<String>,
    watermark_before: Option<String>,
}

#[derive(Serialize)]
struct Range<'a> {
    file: &'a str,
    cause: &'a str,
    outcome: RangeOutcome,
    /// The first eight bytes of the first and the last key of each span, in hexadecimal.
    affected: Vec<[String; 2]>,
    listings_before: u64,
    listings_read: u64,
    listings: u64,
}

pub fn backup(session: &Session, args: &BackupArgs) -> Result<(), CliError> {
    let index = session.open(&args.dir)?;
    if args.to == Path::new("-") {
        let report = index.backup_to(io::stdout().lock())?;
        output::note(match args.json {
            true => serde_json::to_string(&report).map_err(CliError::Json)?,
            false => told(&report),
        });
        return Ok(());
    }
    let mode = if args.copy { BackupMode::Copied } else { BackupMode::Linked };
    let report = index.backup(&args.to, mode)?;
    print(args.json, &report, &told(&report))
}

fn told(report: &BackupReport) -> String {
    let part = |files, bytes| format!("{} files with {}", grouped(files), output::bytes(bytes));
    format!(
        "version {} is backed up: {} copied, {} linked, {} unchanged",
        grouped(report.snapshot_version),
        part(report.copied_files, report.copied_bytes),
        part(report.linked_files, report.linked_bytes),
        part(report.unchanged_files, report.unchanged_bytes),
    )
}

pub fn restore(session: &Session, args: &RestoreArgs) -> Result<(), CliError> {
    let options = session.options()?;
    let index = if args.from == Path::new("-") {
        Index::restore_from(io::stdin().lock(), &args.dir, options)?
    } else {
        Index::restore(&args.from, &args.dir, options)?
    };
    let version = index.snapshot_version();
    let restored =
        Restored { snapshot_version: version, watermark: text_of(index.watermark().as_deref()), exhausted: true };
    let watermark = restored.watermark.clone().unwrap_or_else(|| "its beginning".to_owned());
    let version = grouped(version);
    let text =
        format!("version {version} is restored; all budgets begin at nothing; replay the feed from {watermark}");
    print(args.json, &restored, &text)
}

pub fn repair(session: &Session, args: &RepairArgs) -> Result<(), CliError> {
    let report = Index::repair(&args.dir, session.options()?, args.from.as_deref())?;
    if args.json {
        return print(true, &repaired(&report), "");
    }
    let mut out = Out::new();
    for range in &report.ranges {
        out.line(&range.cause)?;
        let outcome = match range.outcome {
            RangeOutcome::Whole => "everything is there again".to_owned(),
            RangeOutcome::FromBackup => {
                let version = grouped(report.backup_version.unwrap_or(0));
                format!(
                    "what could not be read is as in version {version} of the backup, and changes since are lost"
                )
            }
            _ => "what could not be read is gone".to_owned(),
        };
        let [before, read, now] = [range.listings_before, range.listings_read, range.listings].map(grouped);
        out.line(format_args!("  {read} of {before} listings could be read, {now} are stored now: {outcome}"))?;
        if let (Some((first, _)), Some((_, last))) = (range.affected.first(), range.affected.last()) {
            let spans = grouped(range.affected.len() as u64);
            out.line(format_args!("  affected: {spans} spans of keys between {first:016x} and {last:016x}"))?;
        }
    }
    let [segments, damaged] = [report.segments, report.ranges.len()].map(|count| grouped(count as u64));
    out.line(format_args!("{damaged} of {segments} segments were damaged"))?;
    if report.is_replay_needed {
        let from = text_of(report.watermark.as_deref()).unwrap_or_else(|| "its beginning".to_owned());
        out.line(format_args!(
            "before you serve lookups, replay the feed from {from}: until then opt-outs since are undone"
        ))?;
    }
    out.flush()
}

fn repaired(report: &RepairReport) -> Repaired<'_> {
    let hex = |(first, last): &(u64, u64)| [format!("{first:016x}"), format!("{last:016x}")];
    let ranges = report.ranges.iter().map(|range| Range {
        file: &range.file,
        cause: &range.cause,
        outcome: range.outcome,
        affected: range.affected.iter().map(hex).collect(),
        listings_before: range.listings_before,
        listings_read: range.listings_read,
        listings: range.listings,
    });
    Repaired {
        segments: report.segments,
        ranges: ranges.collect(),
        backup_version: report.backup_version,
        is_replay_needed: report.is_replay_needed,
        watermark: text_of(report.watermark.as_deref()),
        watermark_before: text_of(report.watermark_before.as_deref()),
    }
}

fn text_of(watermark: Option<&[u8]>) -> Option<String> {
    watermark.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn print(json: bool, object: &impl Serialize, text: &str) -> Result<(), CliError> {
    let mut out = Out::new();
    if json {
        out.json(object)?
    } else {
        out.line(text)?
    }
    out.flush()
}
