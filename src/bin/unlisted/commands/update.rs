//! `unlisted update`: a feed of changes, in batches that each take effect as a whole.

use std::path::PathBuf;

use indicatif::ProgressBar;
use serde::Serialize;
use unlisted::{Index, Listing};

use crate::csv_blocks::{Blocks, RowReader};
use crate::csv_rows::{Columns, Flaw, Op};
use crate::error::CliError;
use crate::input::{Input, Source};
use crate::numbers::Numbers;
use crate::output::{Out, grouped};
use crate::session::{BATCH, Session};

#[derive(clap::Args)]
pub struct Args {
    /// The directory of the index.
    dir: PathBuf,
    /// CSV with the columns op (put, remove or set-opt-ins), phone or phone_hash, account, opt_ins and version, in
    /// any order, plain or gzip; standard input if it is - or left out.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Store this as where the feed stands, together with the last batch.
    #[arg(long, value_name = "TEXT")]
    watermark: Option<String>,
    #[command(flatten)]
    numbers: Numbers,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize, Default)]
struct Report {
    applied: usize,
    stale: usize,
    batches: usize,
}

type Change = (Op, Listing);

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    let source = Source::of(args.file.as_deref());
    let mut blocks = Blocks::new(source.open(&ProgressBar::hidden())?, source.to_string());
    let mut reader = RowReader::new();
    let columns = Columns::of_changes(blocks.header(&mut reader)?, blocks.name(), args.numbers.clone())?;
    // A long feed outgrows the delta: folding goes on beside it.
    let index = Index::open(&args.dir, session.options()?.must_exist().background(true))?;
    let mut feed = Feed { index, batch: Vec::with_capacity(BATCH), report: Report::default() };
    feed.apply_all(&mut blocks, &mut reader, &columns)?;
    feed.apply(args.watermark.as_deref())?;

    let report = feed.report;
    let mut out = Out::new();
    if args.json {
        out.json(&report)?;
    } else {
        let [applied, stale, batches] = [report.applied, report.stale, report.batches].map(|n| grouped(n as u64));
        out.line(format_args!("{applied} changes applied, {stale} stale, in {batches} batches"))?;
    }
    out.flush()
}

struct Feed {
    index: Index,
    batch: Vec<Change>,
    report: Report,
}

impl Feed {
    /// Applies every batch but the last, which is left for the watermark.
    fn apply_all(
        &mut self,
        blocks: &mut Blocks<Input>,
        reader: &mut RowReader,
        columns: &Columns,
    ) -> Result<(), CliError> {
        let name = blocks.name().to_owned();
        while let Some(block) = blocks.next_block()? {
            reader.rows(&block, |row, place| match columns.change(row) {
                Ok(change) => self.add(change),
                Err(flaw) => Err(self.stop(name.clone(), place.line(), flaw)),
            })?;
        }
        Ok(())
    }

    fn add(&mut self, change: Change) -> Result<(), CliError> {
        // Only now it is known that the full batch is not the last.
        if self.batch.len() == BATCH {
            self.apply(None)?;
        }
        self.batch.push(change);
        Ok(())
    }

    /// The error for a bad row. A full batch before it is applied, the batch that the row would be in is not.
    fn stop(&mut self, name: String, line: u64, flaw: Flaw) -> CliError {
        if self.batch.len() == BATCH
            && let Err(error) = self.apply(None)
        {
            return error;
        }
        let done = self.report.applied + self.report.stale;
        let consequence = match done {
            0 => "nothing was applied".to_owned(),
            _ => format!("the first {} changes were applied, none after them", grouped(done as u64)),
        };
        CliError::BadRow { name, line, flaw, consequence }
    }

    /// Applies the batch at hand, in one transaction with the watermark.
    fn apply(&mut self, watermark: Option<&str>) -> Result<(), CliError> {
        if self.batch.is_empty() && watermark.is_none() {
            return Ok(());
        }
        let done = self.index.update(|batch| {
            if let Some(watermark) = watermark {
                batch.watermark(watermark)?;
            }
            self.batch.iter().try_for_each(|(op, row)| match op {
                Op::Put => batch.put(row.hash, row.account, row.opt_ins, row.version.get()),
                Op::Remove => batch.remove(row.hash, row.account, row.version.get()),
                Op::SetOptIns => batch.set_opt_ins(row.hash, row.account, row.opt_ins, row.version.get()),
            })
        })?;
        self.batch.clear();
        self.report.applied += done.applied;
        self.report.stale += done.stale;
        self.report.batches += 1;
        Ok(())
    }
}
