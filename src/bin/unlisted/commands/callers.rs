//! `unlisted callers`: the operator's door. Who is charged, misses or is deferred most, and who behaves like an enumerator?

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use unlisted::{Caller, CallerToken, Error, TopBy, TopCaller, TopQuery};

use super::suspicious;
use crate::error::CliError;
use crate::output::{Out, grouped, parse_window, utc};
use crate::session::Session;

#[derive(clap::Args)]
pub struct Args {
    /// The directory of the index.
    dir: PathBuf,
    /// Which counter orders them.
    #[arg(long, value_enum, default_value_t = By::Charged)]
    by: By,
    /// Order them by how much they behave like an enumerator: the score of tripwires met, and of novel numbers, their growth,
    /// misses and deferred share. A caller with a leaked list of real numbers does not stand out by it.
    #[arg(long, conflicts_with_all = ["by", "caller"])]
    suspicious: bool,
    /// How far back, by whole hours: 90m, 24h or 7d.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_window)]
    window: Duration,
    /// Origins of this kind, such as network, instead of callers.
    #[arg(long, value_name = "KIND", conflicts_with = "caller")]
    origins: Option<String>,
    /// Only this caller. May be repeated.
    #[arg(long, value_name = "ID")]
    caller: Vec<String>,
    /// Most rows.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// Numbers that were paid for.
    Charged,
    /// Numbers that were paid for and showed nobody.
    Missed,
    /// Numbers that no budget was left for.
    Deferred,
}

impl From<By> for TopBy {
    fn from(by: By) -> Self {
        match by {
            By::Charged => Self::Charged,
            By::Missed => Self::Missed,
            By::Deferred => Self::Deferred,
        }
    }
}

#[derive(Serialize)]
struct Report {
    by: &'static str,
    window_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    origins: Option<String>,
    rows: Vec<Row>,
    /// What callers that are not counted at all had at most.
    short_by: u64,
}

#[derive(Serialize)]
struct Row {
    /// The keyed identity of the caller or origin.
    token: String,
    /// The caller's id, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    lookups: u64,
    asked: u64,
    charged: u64,
    found: u64,
    missed: u64,
    deferred: u64,
    tripwires: u32,
    first_at_ms: u64,
    last_at_ms: u64,
    short_by: u64,
}

impl Row {
    fn new(row: &TopCaller, asked_for: &[(CallerToken, String)]) -> Self {
        let id = asked_for.iter().find(|(token, _)| *token == row.token).map(|(_, id)| id.clone());
        let TopCaller { token, lookups, asked, charged, found, missed, deferred, tripwires, .. } = *row;
        Self {
            token: token.to_string(),
            id,
            lookups,
            asked,
            charged,
            found,
            missed,
            deferred,
            tripwires,
            first_at_ms: row.first_at_ms,
            last_at_ms: row.last_at_ms,
            short_by: row.short_by,
        }
    }
}

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    if args.caller.iter().any(String::is_empty) {
        return Err(Error::EmptyCaller.into());
    }
    if args.suspicious {
        let inspector = session.open(&args.dir)?.inspector();
        return suspicious::run(&inspector, args.window, args.origins.as_deref(), args.limit, args.json);
    }
    let by = TopBy::from(args.by);
    let mut query = TopQuery::new(by).window(args.window).limit(args.limit);
    query = args.origins.iter().fold(query, |query, kind| query.origins(kind));
    query = args.caller.iter().fold(query, |query, id| query.caller(&Caller::new(id)));
    let inspector = session.open(&args.dir)?.inspector();
    let top = inspector.top_callers(&query)?;
    let token = |id: &String| (inspector.token_of(&Caller::new(id)), id.clone());
    let asked_for: Vec<_> = args.caller.iter().map(token).collect();
    let report = Report {
        by: by.name(),
        window_s: args.window.as_secs(),
        origins: args.origins.clone(),
        rows: top.rows.iter().map(|row| Row::new(row, &asked_for)).collect(),
        short_by: top.short_by,
    };
    let mut out = Out::new();
    if args.json {
        out.json(&report)?
    } else {
        table(&mut out, &report)?
    }
    out.flush()
}

fn table(out: &mut Out, report: &Report) -> Result<(), CliError> {
    let what = if report.origins.is_some() { "origin (keyed)" } else { "caller (keyed)" };
    out.line(format_args!(
        "{:>12}  {:>12}  {:>12}  {:>12}  {:>12}  {:>10}  {:<20}  {:<20}  {what}",
        "charged", "missed", "deferred", "asked", "found", "lookups", "first seen", "last seen"
    ))?;
    for row in &report.rows {
        let [charged, missed, deferred, asked, found, lookups] =
            [row.charged, row.missed, row.deferred, row.asked, row.found, row.lookups].map(grouped);
        let (first, last, token) = (utc(row.first_at_ms), utc(row.last_at_ms), &row.token);
        let id = row.id.as_ref().map(|id| format!("  {id}")).unwrap_or_default();
        out.line(format_args!(
            "{charged:>12}  {missed:>12}  {deferred:>12}  {asked:>12}  {found:>12}  {lookups:>10}  {first}  {last}  \
             {token}{id}"
        ))?;
    }
    let most = report.rows.iter().map(|row| row.short_by).fold(report.short_by, u64::max);
    let short = if most == 0 { String::new() } else { format!("; any figure may be {} short", grouped(most)) };
    let who =
        report.origins.as_ref().map_or_else(|| "callers".to_owned(), |kind| format!("origins of kind {kind}"));
    out.line(format_args!("{} {who} by {}{short}", grouped(report.rows.len() as u64), report.by))
}
