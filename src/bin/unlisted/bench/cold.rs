//! `unlisted bench lookup --cold`: single batches whose pages are not in memory.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use unlisted::internals::PreparedKeys;
use unlisted::{Index, Purpose};

use super::{median, memory, open_with, population};
use crate::error::CliError;
use crate::output::note;

/// Batches of each kind. Their numbers are drawn anew, so few pages of one were read by another.
const ROUNDS: u64 = 11;
/// The share of hits in a batch of few.
const FEW: f64 = 0.01;

/// Times of single batches, milliseconds; medians.
#[derive(Serialize)]
pub struct Report {
    /// The open, no page of a segment in memory.
    cold_open_ms: f64,
    /// Reading and checking the filters.
    filters_ms: f64,
    /// Memory of the process after that, less what it had before the open.
    resident_bytes_per_listing: Option<f64>,
    /// All found.
    pub cold_batch_ms: f64,
    /// The same without asking for the pages of a batch first.
    pub serial_fault_batch_ms: f64,
    serial_to_asked: f64,
    /// One in a hundred found.
    pub few_hits_cold_batch_ms: f64,
    few_hits_serial_fault_batch_ms: f64,
}

/// Of the index in a folder, which is closed.
pub fn run(dir: &Path, listings: u64, segment_bytes: u64, batch: u64) -> Result<Report, CliError> {
    note(format_args!("cold batches"));
    memory::forget_files(&dir.join("segments"))?;
    let before = memory::rss_bytes();
    let start = Instant::now();
    // As little memory as the segments take is too little for them: only their filters are read ahead.
    let index =
        open_with(dir, batch as usize, |options| options.segment_memory_bytes(segment_bytes.max(1 << 20)))?;
    let cold_open_ms = ms_since(start);
    index.warm()?;
    let filters_ms = ms_since(start) - cold_open_ms;
    let resident = memory::rss_bytes().zip(before).map(|(now, before)| (now - before) / listings as f64);

    let mut times = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        for ((kind, times), (share, asked)) in
            (0..).zip(&mut times).zip([(1.0, true), (1.0, false), (FEW, true), (FEW, false)])
        {
            let questions = population::questions(batch, listings, share, 1 << 40 | round << 8 | kind);
            times.push(timed(&index, &index.prepare(&questions), asked)?);
        }
    }
    let [cold_batch_ms, serial_fault_batch_ms, few_hits_cold_batch_ms, few_hits_serial_fault_batch_ms] =
        times.map(median);
    Ok(Report {
        cold_open_ms,
        filters_ms,
        resident_bytes_per_listing: resident,
        cold_batch_ms,
        serial_fault_batch_ms,
        serial_to_asked: serial_fault_batch_ms / cold_batch_ms,
        few_hits_cold_batch_ms,
        few_hits_serial_fault_batch_ms,
    })
}

fn timed(index: &Index, keys: &PreparedKeys, asked: bool) -> Result<f64, CliError> {
    let start = Instant::now();
    let found = if asked {
        index.raw_probe(Purpose::ContactSync, keys)?
    } else {
        index.raw_probe_unasked(Purpose::ContactSync, keys)?
    };
    std::hint::black_box(found);
    Ok(ms_since(start))
}

pub fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
