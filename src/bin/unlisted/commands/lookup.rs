//! `unlisted lookup`: numbers, one a line, asked for on behalf of a caller.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use unlisted::{
    AccountId, Caller, DisclosureMode, Error, Index, LookupOptions, NumberState, Options, Origin, PhoneHash,
    Purpose, Reply, UnknownMode, UnknownPurpose,
};

use crate::error::CliError;
use crate::input::{Lines, Source};
use crate::numbers::Numbers;
use crate::output::{Out, grouped, note, span};
use crate::session::{BATCH, Session};

#[derive(clap::Args)]
pub struct Args {
    /// The directory of the index.
    dir: PathBuf,
    /// Numbers, one a line, plain or gzip; standard input if it is - or left out.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Who asks. The budget of this caller pays.
    #[arg(long, value_name = "ID")]
    caller: String,
    /// The caller's network, as an address or a prefix. Its budget pays as well.
    #[arg(long, value_name = "NET", value_parser = Origin::parse_network)]
    network: Option<Origin>,
    /// Something else the caller shares with others, such as device=ID or cohort=NAME. Repeatable.
    #[arg(long, value_name = "KIND=VALUE", value_parser = origin)]
    origin: Vec<Origin>,
    /// What the numbers are asked for.
    #[arg(long, value_name = "NAME", default_value = "contact-sync", value_parser = purpose)]
    purpose: Purpose,
    /// What is told of what is found: linked (whose number each is), unlinked (the accounts of a batch), or count.
    #[arg(long, value_name = "NAME", default_value = "linked", value_parser = mode)]
    mode: DisclosureMode,
    /// Fewest new numbers that are answered together, unlinked or counted.
    #[arg(long, value_name = "N")]
    min_novel: Option<usize>,
    /// A number of the caller's own, whose id is then its account: listings with a mutual audience answer if their account
    /// asked for it. Repeatable.
    #[arg(long, value_name = "NUMBER")]
    own_number: Vec<String>,
    #[command(flatten)]
    numbers: Numbers,
    /// Print one JSON object for each input line, and the summary on standard error.
    #[arg(long)]
    json: bool,
}

/// An origin of a kind that the host defines.
pub fn origin(text: &str) -> Result<Origin, String> {
    let (kind, value) = text.split_once('=').ok_or("expected KIND=VALUE")?;
    Origin::named(kind, value).map_err(|error| error.to_string())
}

fn purpose(name: &str) -> Result<Purpose, UnknownPurpose> {
    name.parse()
}

fn mode(name: &str) -> Result<DisclosureMode, UnknownMode> {
    name.parse()
}

/// One line of the answer. Positions count from 0.
#[derive(Serialize)]
struct Answer<'a> {
    position: u64,
    state: &'static str,
    /// Only where the mode says whose number each is.
    #[serde(skip_serializing_if = "Option::is_none")]
    accounts: Option<&'a [AccountId]>,
}

/// What a batch found, where the mode does not say by which number.
#[derive(Serialize)]
struct Together {
    #[serde(skip_serializing_if = "Option::is_none")]
    accounts: Option<Vec<AccountId>>,
    count: u64,
}

pub fn run(session: &Session, args: &Args) -> Result<(), CliError> {
    if args.caller.is_empty() {
        return Err(Error::EmptyCaller.into());
    }
    let origins = args.network.iter().chain(&args.origin).cloned();
    let mut caller = origins.fold(Caller::new(&args.caller), Caller::via);
    for number in &args.own_number {
        caller = caller.own_number(args.numbers.hash(number).map_err(CliError::OwnNumber)?);
    }
    let source = Source::of(args.file.as_deref());
    // Before the index, so that a missing file is found before anything is written.
    let lines = Lines::new(source.open(&ProgressBar::hidden())?, &source);
    let options = args.min_novel.into_iter().fold(session.options()?, Options::unlinked_min_novel);
    let index = Index::open(&args.dir, options.must_exist())?;
    let mut sync = Sync { index, caller, args, out: Out::new(), summary: Summary::default() };
    sync.run(lines)
}

/// Accounts in one line.
fn listed(accounts: &[AccountId]) -> String {
    let accounts: Vec<String> = accounts.iter().map(ToString::to_string).collect();
    if accounts.is_empty() { "-".to_owned() } else { accounts.join(" ") }
}

/// A lookup of any number of lines, batch by batch.
struct Sync<'a> {
    index: Index,
    caller: Caller,
    args: &'a Args,
    out: Out,
    summary: Summary,
}

#[derive(Default)]
struct Summary {
    lines: u64,
    answered: u64,
    deferred: u64,
    withheld: u64,
    invalid: u64,
    matches: u64,
    charged: u64,
    remaining: u64,
    retry_after: Option<Duration>,
}

impl Sync<'_> {
    fn run(&mut self, mut lines: Lines) -> Result<(), CliError> {
        let mut line = Vec::new();
        loop {
            // For each line of the batch where its hash is, or nothing if it is no number.
            let mut places: Vec<Option<usize>> = Vec::new();
            let mut hashes = Vec::new();
            while places.len() < BATCH && lines.next_into(&mut line)? {
                let hash = self.hash(&line);
                places.push(hash.map(|_| hashes.len()));
                hashes.extend(hash);
            }
            // The first batch is asked even if it is empty: it checks the caller and tells what remains.
            if places.is_empty() && self.summary.lines > 0 {
                break;
            }
            self.ask(&places, &hashes)?;
            if places.len() < BATCH {
                break;
            }
        }
        self.finish()
    }

    fn hash(&self, line: &[u8]) -> Option<PhoneHash> {
        let text = std::str::from_utf8(line).ok().filter(|text| text.len() <= Lines::MAX_LEN)?;
        self.args.numbers.hash(text).ok()
    }

    /// Looks a batch up and writes a line of output for each line of input.
    fn ask(&mut self, places: &[Option<usize>], hashes: &[PhoneHash]) -> Result<(), CliError> {
        let options = LookupOptions::default().mode(self.args.mode);
        let reply = self.index.lookup_with(&self.caller, self.args.purpose, hashes, options)?;
        if self.summary.lines == 0 && !self.args.json {
            let accounts = if self.is_linked() { "  accounts" } else { "" };
            self.out.line(format_args!("{:>10}  {:<8}{accounts}", "position", "state"))?;
        }
        let mut matches = reply.matches().peekable();
        let mut accounts = Vec::new();
        for place in places {
            accounts.clear();
            let state = match place.and_then(|place| reply.state(place)) {
                Some(NumberState::Answered) => {
                    while let Some(found) = matches.next_if(|found| Some(found.position) == *place) {
                        accounts.push(found.account);
                    }
                    self.summary.answered += 1;
                    "answered"
                }
                Some(NumberState::Deferred) => {
                    self.summary.deferred += 1;
                    "deferred"
                }
                Some(NumberState::Withheld) => {
                    self.summary.withheld += 1;
                    "withheld"
                }
                // Only of an index in parts, which the command line does not ask.
                Some(NumberState::Unavailable) => "unavailable",
                None => {
                    self.summary.invalid += 1;
                    "invalid"
                }
            };
            self.summary.matches += accounts.len() as u64;
            let accounts = self.is_linked().then_some(&accounts[..]);
            self.write(&Answer { position: self.summary.lines, state, accounts })?;
            self.summary.lines += 1;
        }
        self.write_together(&reply)?;
        self.summary.charged += reply.charged();
        self.summary.remaining = reply.remaining();
        self.summary.retry_after = self.summary.retry_after.max(reply.retry_after());
        // What was paid for is delivered before more is asked.
        self.out.flush()
    }

    fn is_linked(&self) -> bool {
        self.args.mode == DisclosureMode::Linked
    }

    fn write(&mut self, answer: &Answer<'_>) -> Result<(), CliError> {
        if self.args.json {
            return self.out.json(answer);
        }
        let accounts = answer.accounts.map_or_else(String::new, |accounts| format!("  {}", listed(accounts)));
        self.out.line(format_args!("{:>10}  {:<8}{accounts}", answer.position, answer.state))
    }

    /// What the batch found as a whole, in the modes that tell no more.
    fn write_together(&mut self, reply: &Reply) -> Result<(), CliError> {
        if self.is_linked() {
            return Ok(());
        }
        self.summary.matches += reply.count();
        let accounts = (self.args.mode == DisclosureMode::Unlinked).then(|| reply.accounts());
        if self.args.json {
            return self.out.json(&Together { accounts, count: reply.count() });
        }
        match accounts {
            Some(accounts) => self.out.line(format_args!("accounts: {}", listed(&accounts))),
            None => self.out.line(format_args!("count: {}", grouped(reply.count()))),
        }
    }

    fn finish(&mut self) -> Result<(), CliError> {
        let s = &self.summary;
        let retry = s.retry_after.map_or_else(|| "-".to_owned(), span);
        let withheld = match s.withheld {
            0 => String::new(),
            withheld => format!(" {} withheld,", grouped(withheld)),
        };
        let text = format!(
            "{} answered with {} matches, {} deferred,{withheld} {} invalid; charged {}, remaining {}, retry after {retry}",
            grouped(s.answered),
            grouped(s.matches),
            grouped(s.deferred),
            grouped(s.invalid),
            grouped(s.charged),
            grouped(s.remaining),
        );
        if self.args.json {
            note(text);
        } else {
            self.out.line(text)?;
        }
        self.out.flush()
    }
}
