//! `unlisted exposed`: the operator's door. After an incident: who was shown, to whom, and when?

use std::path::PathBuf;

use serde::Serialize;
use unlisted::{
    AccountId, Caller, CallerToken, Disclosure, DisclosureQuery, Error, Exposure, Inspector, Origin,
    ParseAccountError,
};

use super::subject::any_origin;
use crate::error::CliError;
use crate::output::{Out, grouped, parse_moment, utc};
use crate::session::Session;

#[derive(clap::Args)]
pub struct Args {
    /// The directory of the index.
    dir: PathBuf,
    /// Only what was shown to this caller.
    #[arg(long, value_name = "ID")]
    caller: Option<String>,
    /// Only what was shown through this origin, such as network=198.51.100.0/24 or device=ID.
    #[arg(long, value_name = "KIND=VALUE", value_parser = any_origin)]
    origin: Option<Origin>,
    /// Only to whom this account was shown.
    #[arg(long, value_name = "ACCOUNT", value_parser = account)]
    account: Option<AccountId>,
    /// Only at this moment or later: 2026-11-22, 2026-11-22T10:30:00Z, or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<u64>,
    /// Only before this moment.
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<u64>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The same as --format jsonl.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Columns for people.
    Table,
    /// A header and a line for each disclosure.
    Csv,
    /// A JSON object for each disclosure.
    Jsonl,
}

fn account(text: &str) -> Result<AccountId, ParseAccountError> {
    text.parse()
}

#[derive(Serialize)]
struct Row {
    caller: String,
    account: AccountId,
    purpose: &'static str,
    first_at_ms: u64,
    last_at_ms: u64,
}

impl Row {
    fn new(caller: CallerToken, shown: Disclosure) -> Self {
        Self {
            caller: caller.to_string(),
            account: shown.account,
            purpose: shown.purpose().map_or("unknown", |purpose| purpose.name()),
            first_at_ms: shown.first_at_ms,
            last_at_ms: shown.last_at_ms,
        }
    }
}

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    if args.caller.as_deref() == Some("") {
        return Err(Error::EmptyCaller.into());
    }
    let inspector = session.open(&args.dir)?.inspector();
    let mut printer = Printer { out: Out::new(), format: if args.json { Format::Jsonl } else { args.format } };
    printer.header()?;
    let mut count = 0;
    for_each(&inspector, args, |row| {
        count += 1;
        printer.row(row)
    })?;
    printer.end(count)
}

/// Visits every row asked for. Those of one caller come sorted and once each; any others are streamed.
fn for_each(
    inspector: &Inspector,
    args: &Args,
    mut visit: impl FnMut(&Row) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let caller = args.caller.as_ref().map(Caller::new);
    let one_caller =
        args.origin.is_none() && args.account.is_none() && args.since.is_none() && args.until.is_none();
    if let Some(caller) = caller.as_ref().filter(|_| one_caller) {
        let token = inspector.token_of(caller);
        return inspector.disclosed_to(caller)?.into_iter().try_for_each(|shown| visit(&Row::new(token, shown)));
    }
    let mut query = DisclosureQuery::new();
    query = caller.iter().fold(query, DisclosureQuery::caller);
    query = args.origin.iter().cloned().fold(query, DisclosureQuery::origin);
    query = args.account.into_iter().fold(query, DisclosureQuery::account);
    query = args.since.into_iter().fold(query, DisclosureQuery::since_ms);
    query = args.until.into_iter().fold(query, DisclosureQuery::until_ms);
    for exposure in inspector.disclosures(&query)? {
        let Exposure { caller, shown, .. } = exposure?;
        visit(&Row::new(caller, shown))?;
    }
    Ok(())
}

struct Printer {
    out: Out,
    format: Format,
}

impl Printer {
    fn header(&mut self) -> Result<(), CliError> {
        match self.format {
            Format::Table => self.out.line(format_args!(
                "{:<36}  {:<12}  {:<20}  {:<20}  caller (keyed)",
                "account", "purpose", "first shown", "last shown"
            )),
            Format::Csv => self.out.line("caller,account,purpose,first_at_ms,last_at_ms"),
            Format::Jsonl => Ok(()),
        }
    }

    fn row(&mut self, row: &Row) -> Result<(), CliError> {
        let Row { caller, account, purpose, first_at_ms, last_at_ms } = row;
        match self.format {
            Format::Table => {
                let (account, first, last) = (account.to_string(), utc(*first_at_ms), utc(*last_at_ms));
                self.out.line(format_args!("{account:<36}  {purpose:<12}  {first}  {last}  {caller}"))
            }
            // No field has a comma or a quotation mark.
            Format::Csv => self.out.line(format_args!("{caller},{account},{purpose},{first_at_ms},{last_at_ms}")),
            Format::Jsonl => self.out.json(row),
        }
    }

    fn end(&mut self, count: u64) -> Result<(), CliError> {
        if self.format == Format::Table {
            self.out.line(format_args!("{} disclosures", grouped(count)))?;
        }
        self.out.flush()
    }
}
