//! `unlisted callers --suspicious`: who behaves like an enumerator.

use std::time::Duration;

use serde::Serialize;
use unlisted::{CallerSignals, Inspector, SignalQuery};

use crate::error::CliError;
use crate::output::{Out, grouped, utc};

#[derive(Serialize)]
struct Report<'a> {
    window_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    origins: Option<&'a str>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    /// The keyed identity of the caller or origin.
    token: String,
    score: f64,
    tripwires: u32,
    novel: u64,
    novel_before: u64,
    growth: f64,
    hit_share: f64,
    deferred_share: f64,
    first_at_ms: u64,
    last_at_ms: u64,
    short_by: u64,
}

impl From<&CallerSignals> for Row {
    fn from(of: &CallerSignals) -> Self {
        Self {
            token: of.token.to_string(),
            score: of.score,
            tripwires: of.tripwires,
            novel: of.novel,
            novel_before: of.novel_before,
            growth: of.growth,
            hit_share: of.hit_share,
            deferred_share: of.deferred_share,
            first_at_ms: of.first_at_ms,
            last_at_ms: of.last_at_ms,
            short_by: of.short_by,
        }
    }
}

pub fn run(
    inspector: &Inspector,
    window: Duration,
    origins: Option<&str>,
    limit: usize,
    json: bool,
) -> Result<(), CliError> {
    let query = origins.into_iter().fold(SignalQuery::new().window(window).limit(limit), SignalQuery::origins);
    let rows = inspector.signals(&query)?.iter().map(Row::from).collect();
    let report = Report { window_s: window.as_secs(), origins, rows };
    let mut out = Out::new();
    if json {
        out.json(&report)?;
    } else {
        table(&mut out, &report)?;
    }
    out.flush()
}

fn table(out: &mut Out, report: &Report<'_>) -> Result<(), CliError> {
    let what = if report.origins.is_some() { "origin (keyed)" } else { "caller (keyed)" };
    out.line(format_args!(
        "{:>5}  {:>9}  {:>12}  {:>12}  {:>6}  {:>6}  {:>8}  {:<20}  {:<20}  {what}",
        "score", "tripwires", "novel", "before", "growth", "hits", "deferred", "first seen", "last seen"
    ))?;
    for row in &report.rows {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let [novel, before, tripwires] = [row.novel, row.novel_before, u64::from(row.tripwires)].map(grouped);
        let [growth, hits, deferred] = [row.growth, row.hit_share, row.deferred_share].map(percent);
        let (first, last, token) = (utc(row.first_at_ms), utc(row.last_at_ms), &row.token);
        out.line(format_args!(
            "{:>5.2}  {tripwires:>9}  {novel:>12}  {before:>12}  {growth:>6}  {hits:>6}  {deferred:>8}  {first}  {last}  \
             {token}",
            row.score
        ))?;
    }
    let who = report.origins.map_or_else(|| "callers".to_owned(), |kind| format!("origins of kind {kind}"));
    out.line(format_args!("{} {who} by score", grouped(report.rows.len() as u64)))
}
