//! `unlisted stats`: what the index holds and what it takes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use unlisted::Stats;

use super::init::by_scope;
use crate::error::CliError;
use crate::output::{Out, bytes, grouped};
use crate::session::Session;

#[derive(clap::Args)]
pub struct Args {
    /// The directory of the index.
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    stats: Stats,
    quotas: BTreeMap<String, String>,
    /// As text; bytes that are none are replaced.
    watermark: Option<String>,
}

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    let index = session.open(&args.dir)?;
    let watermark = index.watermark().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let report = Report { stats: index.stats()?, quotas: by_scope(&index.quotas()), watermark };
    let mut out = Out::new();
    if args.json {
        out.json(&report)?;
    } else {
        out.pairs(&pairs(&report))?;
    }
    out.flush()
}

fn pairs(report: &Report) -> Vec<(&'static str, String)> {
    let stats = &report.stats;
    let share = |rate: f64| format!("{:.3} %", rate * 100.0);
    let quotas: Vec<String> = report.quotas.iter().map(|(scope, quota)| format!("{scope}={quota}")).collect();
    vec![
        ("listings", grouped(stats.listings)),
        ("with an opt-in", grouped(stats.opted_in)),
        ("removals remembered", grouped(stats.removed)),
        ("tripwires", grouped(stats.tripwires)),
        ("segments", grouped(stats.segments as u64)),
        ("changes not folded", grouped(stats.delta as u64)),
        ("segment files", bytes(stats.segment_bytes)),
        ("index.redb", bytes(stats.index_bytes)),
        ("ledger.redb", bytes(stats.ledger_bytes)),
        ("disclosure log", format!("{}, {} rows", bytes(stats.disclosure_bytes), grouped(stats.disclosures))),
        ("bytes per listing", format!("{:.1}", stats.bytes_per_listing)),
        ("looked up since opened", grouped(stats.looked_up)),
        ("filter passes", grouped(stats.filter_passes)),
        ("filter false positives", share(stats.filter_false_positive_rate)),
        ("snapshot version", grouped(stats.snapshot_version)),
        ("quotas", quotas.join(" ")),
        ("watermark", report.watermark.clone().unwrap_or_else(|| "-".to_owned())),
    ]
}
