//! `unlisted init`: a new index.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use serde::Serialize;
use unlisted::{Index, ParseQuotaError, QuotaPolicy};

use crate::error::CliError;
use crate::output::Out;
use crate::session::Session;

#[derive(clap::Args)]
pub struct Args {
    /// Where to make it. The folder is created if it is missing.
    dir: PathBuf,
    /// The budgets of a kind of service; --quota changes single ones of them.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = PossibleValuesParser::new(QuotaPolicy::PRESETS))]
    preset: String,
    /// A budget of distinct numbers, as SCOPE=BURST/REFILL with the refill per hour; SCOPE is caller, everyone or
    /// a kind of origin such as network. Repeatable.
    #[arg(long, value_name = "SCOPE=BURST/REFILL", value_parser = checked)]
    quota: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Checks one quota before anything is made.
pub fn checked(text: &str) -> Result<String, ParseQuotaError> {
    QuotaPolicy::default().with_text(text).map(|_| text.to_owned())
}

#[derive(Serialize)]
struct Report {
    dir: String,
    quotas: BTreeMap<String, String>,
}

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    // The parser let no other name through.
    let preset = QuotaPolicy::preset(&args.preset).unwrap_or_default();
    let policy = args.quota.iter().try_fold(preset, |policy, text| policy.with_text(text));
    let policy = policy.map_err(unlisted::Error::from)?;
    let index = Index::open(&args.dir, session.options()?.must_create().quotas(policy))?;
    let quotas = by_scope(&index.quotas());
    let mut out = Out::new();
    if args.json {
        out.json(&Report { dir: args.dir.display().to_string(), quotas })?;
    } else {
        out.line(format_args!("made an empty index in {}", args.dir.display()))?;
        for (scope, quota) in &quotas {
            out.line(format_args!("quota {scope}: {quota}"))?;
        }
    }
    out.flush()
}

/// Every quota as the command line takes it, by its scope.
pub fn by_scope(policy: &QuotaPolicy) -> BTreeMap<String, String> {
    let mut quotas = BTreeMap::from([("caller".to_owned(), policy.caller().to_string())]);
    quotas.extend(policy.origins().map(|(kind, quota)| (kind.to_owned(), quota.to_string())));
    quotas.extend(policy.everyone().map(|quota| ("everyone".to_owned(), quota.to_string())));
    quotas
}
