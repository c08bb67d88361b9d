//! `unlisted budget`: what a caller may still ask.

use std::path::PathBuf;

use serde::Serialize;
use unlisted::{Caller, Origin, ScopeBudget};

use super::subject::any_origin;
use crate::error::CliError;
use crate::output::{Out, grouped, span, utc};
use crate::session::Session;

#[derive(clap::Args)]
pub struct Args {
    /// The directory of the index.
    dir: PathBuf,
    /// The caller, by the host's id for it.
    #[arg(long, value_name = "ID")]
    caller: String,
    /// An origin that it comes through, such as network=198.51.100.0/24 or device=ID. Repeatable.
    #[arg(long, value_name = "KIND=VALUE", value_parser = any_origin)]
    origin: Vec<Origin>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    remaining: u64,
    scopes: Vec<Scope>,
}

/// Times in milliseconds.
#[derive(Serialize)]
struct Scope {
    scope: String,
    remaining: u64,
    burst: u64,
    refill_per_hour: u64,
    next_in_ms: u64,
    full_in_ms: u64,
    is_override: bool,
    suspended_since_ms: Option<u64>,
    reason: Option<String>,
}

impl From<ScopeBudget> for Scope {
    fn from(of: ScopeBudget) -> Self {
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            remaining: of.remaining,
            burst: of.burst,
            refill_per_hour: of.refill_per_hour,
            next_in_ms: ms(of.next_in),
            full_in_ms: ms(of.full_in),
            is_override: of.is_override,
            suspended_since_ms: of.suspension.as_ref().map(|suspension| suspension.since_ms),
            reason: of.suspension.map(|suspension| suspension.reason),
            scope: of.scope,
        }
    }
}

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    let caller = args.origin.iter().cloned().fold(Caller::new(&args.caller), Caller::via);
    let budget = session.open(&args.dir)?.budget(&caller)?;
    let mut out = Out::new();
    if args.json {
        let scopes = budget.scopes.into_iter().map(Scope::from).collect();
        out.json(&Report { remaining: budget.remaining, scopes })?;
        return out.flush();
    }
    out.line(format_args!(
        "{:<12}  {:>13}  {:>13}  {:>11}  full again in",
        "scope", "remaining", "burst", "an hour"
    ))?;
    for scope in &budget.scopes {
        let own = if scope.is_override { " (its own quota)" } else { "" };
        let full_in = if scope.full_in.is_zero() { "now".to_owned() } else { span(scope.full_in) };
        out.line(format_args!(
            "{:<12}  {:>13}  {:>13}  {:>11}  {full_in}{own}",
            scope.scope,
            grouped(scope.remaining),
            grouped(scope.burst),
            grouped(scope.refill_per_hour),
        ))?;
        if let Some(suspension) = &scope.suspension {
            out.line(format_args!(
                "{:<12}  suspended since {}: {}",
                "",
                utc(suspension.since_ms),
                suspension.reason
            ))?;
        }
    }
    out.line(format_args!("{} new numbers can be asked now", grouped(budget.remaining)))?;
    out.flush()
}
