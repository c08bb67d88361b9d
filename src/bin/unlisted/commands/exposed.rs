//! `unlisted exposed`: the operator's door. After an incident: who was shown to this caller, and when?

use std::path::PathBuf;

use serde::Serialize;
use unlisted::{AccountId, Caller, Disclosure, Error};

use crate::error::CliError;
use crate::output::{Out, grouped, utc};
use crate::session::Session;

#[derive(clap::Args)]
pub struct Args {
    /// The directory of the index.
    dir: PathBuf,
    /// The caller in question.
    #[arg(long, value_name = "ID")]
    caller: String,
    /// Print one JSON object for each disclosure.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    account: AccountId,
    purpose: &'static str,
    first_at_ms: u64,
}

impl From<Disclosure> for Row {
    fn from(disclosure: Disclosure) -> Self {
        let purpose = disclosure.purpose().map_or("unknown", |purpose| purpose.name());
        Self { account: disclosure.account, purpose, first_at_ms: disclosure.first_at_ms }
    }
}

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    if args.caller.is_empty() {
        return Err(Error::EmptyCaller.into());
    }
    let rows = session.open(&args.dir)?.inspector().disclosed_to(&Caller::new(&args.caller))?;
    let mut out = Out::new();
    if !args.json {
        out.line(format_args!("{:<36}  {:<12}  first shown", "account", "purpose"))?;
    }
    let count = rows.len();
    for row in rows.into_iter().map(Row::from) {
        if args.json {
            out.json(&row)?;
        } else {
            let account = row.account.to_string();
            out.line(format_args!("{account:<36}  {:<12}  {}", row.purpose, utc(row.first_at_ms)))?;
        }
    }
    if !args.json {
        out.line(format_args!("{} disclosures", grouped(count as u64)))?;
    }
    out.flush()
}
