//! The chapter about somebody who generates numbers to find out who has an account.

use std::collections::HashSet;

use unlisted::{AccountId, Caller, Index, Origin, PhoneHash, Purpose};

use super::story::{Story, caller_of, found, honest};
use super::{CALLER_BURST, NETWORK_BURST, ensure};
use crate::error::CliError;
use crate::output::{grouped, span};

/// Numbers the scraper asks at a time.
const BATCH: usize = 500;
/// Accounts it has made, all on one network.
const ACCOUNTS: usize = 4;
/// Numbers that the refill of the network may add while the demonstration runs.
const SLACK: u64 = 60;
/// Numbers of one caller that may be free by chance, since they have the fingerprint of another that it paid for. Of 2,000
/// numbers with 31 bits each that are 2,000^2 / 2^32, or 0.001: one in a thousand times, two in two million.
const FREE_BY_CHANCE: u64 = 1;

/// What the scraper got.
pub struct Scraped {
    pub accounts: usize,
    pub generated: u64,
    pub answered: u64,
}

/// How one account of the scraper ended.
struct Stop {
    answered: u64,
    found: Vec<AccountId>,
    retry_after: String,
}

impl Story<'_> {
    pub fn scrape(&mut self, index: &Index) -> Result<Scraped, CliError> {
        self.title(5, "Enumerate")?;
        let guesses = self.sample.guesses();
        let there: HashSet<_> = self.sample.expected(&guesses).into_iter().map(|(_, account)| account).collect();
        let there = there.len();
        self.out.line(format_args!(
            "   A scraper generates {} numbers where numbers are dense, shuffles them, and asks {BATCH} at a time,\n   \
             from {ACCOUNTS} accounts of one network. {} accounts could be found that way.",
            grouped(guesses.len() as u64),
            grouped(there as u64)
        ))?;
        self.out.line("   caller     answered  found  then")?;
        let network = Origin::parse_network("203.0.113.0/24").map_err(unlisted::Error::from)?;
        let mut rest = guesses.as_slice();
        let (mut answered, mut exposed) = (0, HashSet::new());
        for number in 1..=ACCOUNTS {
            let name = format!("scraper-{number}");
            let caller = Caller::new(&name).via(network.clone());
            let stop = ask_until_stopped(index, &caller, &mut rest)?;
            ensure(stop.answered <= CALLER_BURST + SLACK, "no caller gets more than its budget")?;
            check_disclosures(index, &caller, &stop)?;
            self.out.line(format_args!(
                "   {name}  {:>8}  {:>5}  deferred, retry after {}",
                grouped(stop.answered),
                stop.found.len(),
                stop.retry_after
            ))?;
            answered += stop.answered;
            exposed.extend(stop.found);
        }
        ensure(answered >= NETWORK_BURST, "the network spent its whole budget")?;
        ensure(answered <= NETWORK_BURST + SLACK, "a network gets no more than its budget")?;
        ensure(exposed.len() < there, "the scraper did not find everybody")?;
        self.out.line(format_args!(
            "   {} of {} numbers answered, {} of {} accounts found, and each disclosure is on record.",
            grouped(answered),
            grouped(guesses.len() as u64),
            grouped(exposed.len() as u64),
            grouped(there as u64)
        ))?;
        self.honest_user(index)?;
        Ok(Scraped { accounts: ACCOUNTS, generated: guesses.len() as u64, answered })
    }

    /// Meanwhile somebody on another network syncs for the first time.
    fn honest_user(&mut self, index: &Index) -> Result<(), CliError> {
        let sample = &self.sample;
        let (book, _) = honest(sample).ok_or(CliError::Claim("the sample has address books"))?;
        let hashes = book.hashes();
        let reply = index.lookup(&caller_of(book)?, Purpose::ContactSync, &hashes)?;
        let expected = sample.expected(&hashes);
        ensure(reply.deferred().count() == 0, "an honest user elsewhere is not deferred")?;
        ensure(!expected.is_empty(), "the honest user has somebody to find")?;
        ensure(reply.matches().len() == expected.len(), "an honest user elsewhere still finds everybody")?;
        self.out.line(format_args!(
            "   Meanwhile {} on another network syncs {} numbers: {} matches, none deferred.",
            book.caller,
            hashes.len(),
            expected.len()
        ))
    }
}

/// Asks on until something is deferred. `rest` is left at the first number without an answer.
fn ask_until_stopped(index: &Index, caller: &Caller, rest: &mut &[PhoneHash]) -> Result<Stop, CliError> {
    let mut stop = Stop { answered: 0, found: Vec::new(), retry_after: String::new() };
    let mut free = 0;
    loop {
        let (batch, _) = rest.split_at_checked(BATCH).unwrap_or((rest, &[]));
        ensure(!batch.is_empty(), "the budget ends before the numbers do")?;
        let reply = index.lookup(caller, Purpose::ContactSync, batch)?;
        let reached = reply.deferred().next().unwrap_or(batch.len());
        free += (reached as u64).abs_diff(reply.charged());
        ensure(
            reply.charged() <= reached as u64 && free <= FREE_BY_CHANCE,
            "what is answered is charged, and nothing else",
        )?;
        ensure(found(&reply).iter().all(|(at, _)| *at < reached), "a deferred number names nobody")?;
        stop.answered += reply.charged();
        stop.found.extend(reply.matches().map(|found| found.account));
        *rest = rest.get(reached..).unwrap_or_default();
        if let Some(wait) = reply.retry_after() {
            stop.retry_after = span(wait);
            // An account with several phones may have been found several times.
            stop.found.sort_unstable();
            stop.found.dedup();
            return Ok(stop);
        }
    }
}

/// The operator's list is what the caller was shown.
fn check_disclosures(index: &Index, caller: &Caller, stop: &Stop) -> Result<(), CliError> {
    let mut listed: Vec<_> = index.inspector().disclosed_to(caller)?.iter().map(|d| d.account).collect();
    listed.sort_unstable();
    ensure(listed == stop.found, "every disclosure is on record, and nothing else")
}
