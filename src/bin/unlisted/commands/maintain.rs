//! `unlisted fold` and `unlisted verify`.

use std::path::PathBuf;

use unlisted::VerifyDepth;

use crate::error::CliError;
use crate::output::{Out, grouped};
use crate::progress;
use crate::session::Session;

#[derive(clap::Args)]
pub struct FoldArgs {
    /// The directory of the index.
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct VerifyArgs {
    /// The directory of the index.
    dir: PathBuf,
    /// Headers and the checksum of every page only, without looking every listing up.
    #[arg(long)]
    fast: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn fold(session: &Session, args: &FoldArgs) -> Result<(), CliError> {
    let index = session.open(&args.dir)?;
    let report = index.fold()?;
    index.compact_disclosures()?;
    let mut out = Out::new();
    if args.json {
        out.json(&report)?;
    } else {
        let [folded, forgotten, ranges, segments] =
            [report.folded, report.forgotten, report.ranges, report.segments].map(|n| grouped(n as u64));
        out.line(format_args!(
            "{folded} changes folded and {forgotten} removals forgotten: {ranges} ranges are now {segments} segments"
        ))?;
    }
    out.flush()
}

pub fn verify(session: &Session, args: &VerifyArgs) -> Result<(), CliError> {
    let index = session.open(&args.dir)?;
    let bar = progress::of_parts("verifying", args.json);
    let depth = if args.fast { VerifyDepth::Fast } else { VerifyDepth::Full };
    let report = index.verify_to(depth, |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let report = report?;
    let mut out = Out::new();
    if args.json {
        out.json(&report)?;
    } else {
        let [segments, delta] = [report.segments, report.delta].map(|n| grouped(n as u64));
        let [listings, pages] = [report.listings, report.pages].map(grouped);
        out.line(format_args!("{segments} segments with {listings} listings and {delta} changes are whole"))?;
        out.line(format_args!("{pages} pages of the databases are whole"))?;
    }
    out.flush()
}
