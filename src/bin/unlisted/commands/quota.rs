//! `unlisted quota show` and `quota set`: the quotas of everybody, and those of single callers and origins.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use unlisted::{Index, ParseQuotaError, Quota, QuotaOverride, Standing};

use super::init::{by_scope, checked};
use super::subject::SubjectArgs;
use crate::error::CliError;
use crate::output::{Out, parse_span, span, utc};
use crate::session::Session;

/// Standings that are read at a time.
const PAGE: usize = 1_000;

#[derive(Subcommand)]
pub enum Args {
    /// The quotas in force, and who is suspended or has a quota of its own.
    Show(ShowArgs),
    /// Change quotas. What was spent stays spent, in numbers.
    Set(SetArgs),
    /// Give one caller or origin a quota of its own, or with no quota that of the policy again.
    SetOne(SetOneArgs),
}

#[derive(clap::Args)]
pub struct ShowArgs {
    /// The directory of the index.
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct SetArgs {
    /// The directory of the index.
    dir: PathBuf,
    /// A budget of distinct numbers, as SCOPE=BURST/REFILL with the refill per hour; SCOPE is caller, everyone or
    /// a kind of origin such as network. Repeatable. Others stay as they are.
    #[arg(long, value_name = "SCOPE=BURST/REFILL", value_parser = checked, required = true)]
    quota: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct SetOneArgs {
    /// The directory of the index.
    dir: PathBuf,
    #[command(flatten)]
    subject: SubjectArgs,
    /// Its quota, with the refill per hour.
    #[arg(long, value_name = "BURST/REFILL", value_parser = quota)]
    quota: Option<Quota>,
    /// The burst that it begins with, where it grows.
    #[arg(long, value_name = "BURST", requires_all = ["quota", "grows_for"])]
    start: Option<u64>,
    /// How long the burst grows, such as 30d or 12h.
    #[arg(long, value_name = "TIME", requires = "start", value_parser = parse_span)]
    grows_for: Option<Duration>,
    /// How old the account is already.
    #[arg(long, value_name = "TIME", requires = "start", value_parser = parse_span)]
    age: Option<Duration>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn quota(text: &str) -> Result<Quota, ParseQuotaError> {
    text.parse()
}

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    match args {
        Args::Show(args) => show(&session.open(&args.dir)?, args.json),
        Args::Set(args) => {
            let index = session.open(&args.dir)?;
            let policy = args.quota.iter().try_fold(index.quotas(), |policy, text| policy.with_text(text));
            index.set_quotas(policy.map_err(unlisted::Error::from)?)?;
            show(&index, args.json)
        }
        Args::SetOne(args) => set_one(&session.open(&args.dir)?, args),
    }
}

fn set_one(index: &Index, args: &SetOneArgs) -> Result<(), CliError> {
    let own = match (args.quota, args.start, args.grows_for) {
        (Some(quota), Some(start), Some(grows_for)) => {
            Some(QuotaOverride::growing(start, quota, grows_for).map_err(unlisted::Error::from)?)
        }
        (Some(quota), ..) => Some(QuotaOverride::fixed(quota)),
        _ => None,
    };
    args.subject
        .with(|subject| index.set_quota_of(subject, own.map(|own| (own, args.age.unwrap_or_default()))))?;
    show(index, args.json)
}

#[derive(Serialize)]
struct Report {
    quotas: BTreeMap<String, String>,
    standings: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    token: String,
    scope: String,
    suspended_since_ms: Option<u64>,
    reason: Option<String>,
    quota: Option<String>,
    start_burst: Option<u64>,
    grows_for_s: Option<u64>,
}

impl From<Standing> for Row {
    fn from(standing: Standing) -> Self {
        let growing = standing.quota.filter(|quota| !quota.grows_for().is_zero());
        Self {
            token: standing.token.to_string(),
            scope: standing.scope,
            suspended_since_ms: standing.suspension.as_ref().map(|suspension| suspension.since_ms),
            reason: standing.suspension.map(|suspension| suspension.reason),
            quota: standing.quota.map(|quota| quota.quota().to_string()),
            start_burst: growing.map(|quota| quota.start_burst()),
            grows_for_s: growing.map(|quota| quota.grows_for().as_secs()),
        }
    }
}

fn show(index: &Index, json: bool) -> Result<(), CliError> {
    let standings = standings(index)?;
    let quotas = by_scope(&index.quotas());
    let mut out = Out::new();
    if json {
        out.json(&Report { quotas, standings })?;
        return out.flush();
    }
    for (scope, quota) in &quotas {
        out.line(format_args!("quota {scope}: {quota}"))?;
    }
    for row in &standings {
        out.line(format_args!("{} {}{}", row.scope, row.token, words(row)))?;
    }
    out.flush()
}

fn words(row: &Row) -> String {
    let mut words = String::new();
    if let Some(quota) = &row.quota {
        words.push_str(&format!(": quota {quota}"));
    }
    if let (Some(start), Some(grows_for_s)) = (row.start_burst, row.grows_for_s) {
        words.push_str(&format!(", from {start} within {}", span(Duration::from_secs(grows_for_s))));
    }
    if let (Some(since_ms), Some(reason)) = (row.suspended_since_ms, &row.reason) {
        words.push_str(&format!(": suspended since {}: {reason}", utc(since_ms)));
    }
    words
}

fn standings(index: &Index) -> Result<Vec<Row>, CliError> {
    let inspector = index.inspector();
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = inspector.standings(after, PAGE)?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|standing| standing.token);
        rows.extend(page.into_iter().map(Row::from));
        if is_last {
            return Ok(rows);
        }
    }
}
