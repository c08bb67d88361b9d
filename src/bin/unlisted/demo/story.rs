//! The chapters about people who use the service as it is meant.

use std::collections::HashSet;
use std::time::Instant;

use unlisted::{AccountId, Caller, Index, OptIns, Origin, PhoneHash, Purpose, Reply};

use super::home::Home;
use super::sample::{Book, Sample};
use super::scraper::Scraped;
use super::{CALLER_BURST, NETWORK_BURST, ensure};
use crate::error::CliError;
use crate::output::{Out, grouped};

pub struct Story<'a> {
    pub home: &'a Home,
    pub sample: Sample,
    pub out: Out,
    pub start: Instant,
}

/// A listing that was opted out in the story.
pub struct Hidden {
    caller: Caller,
    hash: PhoneHash,
    account: AccountId,
}

/// The last book is kept for the scraper's chapter.
pub fn honest(sample: &Sample) -> Option<(&Book, &[Book])> {
    sample.books.split_last()
}

pub fn caller_of(book: &Book) -> Result<Caller, CliError> {
    let network = Origin::parse_network(&book.network).map_err(unlisted::Error::from)?;
    Ok(Caller::new(&book.caller).via(network))
}

pub fn found(reply: &Reply) -> Vec<(usize, AccountId)> {
    reply.matches().map(|found| (found.position, found.account)).collect()
}

impl Story<'_> {
    pub fn title(&mut self, number: u32, title: &str) -> Result<(), CliError> {
        self.out.line(format_args!("\n{number}. {title}"))?;
        // Chapters appear as they happen.
        self.out.flush()
    }

    /// The accounts of the sample go in, all at once.
    pub fn load(&mut self, index: &Index) -> Result<(), CliError> {
        self.title(1, "Load the accounts")?;
        let start = Instant::now();
        let report = index.import(self.sample.listings.iter().copied())?;
        let ms = start.elapsed().as_millis();
        let stats = index.stats()?;
        ensure(report.rows == self.sample.listings.len() as u64, "every row was imported")?;
        ensure(stats.listings == report.rows - report.stale, "the index holds every row that is not stale")?;
        let [rows, stale, open] = [report.rows, report.stale, stats.opted_in].map(grouped);
        self.out.line(format_args!("   {rows} listings in {ms} ms; {stale} said the same listing twice."))?;
        self.out.line(format_args!("   {open} agreed to be found for some purpose; the others never are."))?;
        self.out.line(format_args!(
            "   Quotas of distinct numbers: {} a caller, {} a network.",
            grouped(CALLER_BURST),
            grouped(NETWORK_BURST)
        ))
    }

    /// Some people sync their address books.
    pub fn sync(&mut self, index: &Index) -> Result<(), CliError> {
        self.title(2, "Sync address books")?;
        self.out.line("   caller    region  contacts  numbers  matches  hidden  charged  remaining")?;
        let sample = &self.sample;
        let (_, books) = honest(sample).ok_or(CliError::Claim("the sample has address books"))?;
        let (mut matches, mut hidden) = (0, 0);
        for book in books {
            let hashes = book.hashes();
            let reply = index.lookup(&caller_of(book)?, Purpose::ContactSync, &hashes)?;
            let distinct: HashSet<_> = hashes.iter().copied().collect();
            let out_of_sight = distinct.iter().filter(|hash| sample.is_hidden(hash)).count();
            ensure(found(&reply) == sample.expected(&hashes), "a lookup names exactly who agreed to be found")?;
            ensure(reply.charged() == distinct.len() as u64, "every distinct number is charged once")?;
            ensure(reply.deferred().count() == 0, "an address book fits into the budget")?;
            let count = reply.matches().len();
            self.out.line(format_args!(
                "   {:<8}  {:<6}  {:>8}  {:>7}  {count:>7}  {out_of_sight:>6}  {:>7}  {:>9}",
                book.caller,
                book.region,
                book.contacts.len(),
                hashes.len(),
                reply.charged(),
                grouped(reply.remaining())
            ))?;
            matches += count;
            hidden += out_of_sight;
        }
        ensure(matches > 0 && hidden > 0, "the address books have both matches and hidden numbers")?;
        self.out.line(format_args!(
            "   {matches} matches, each one expected. {hidden} contacts have an account that did not agree: their\n   \
             answers and their price are those of numbers that nobody has."
        ))
    }

    /// Somebody no longer wants to be found.
    pub fn opt_out(&mut self, index: &Index) -> Result<Hidden, CliError> {
        self.title(3, "Opt out")?;
        let sample = &self.sample;
        let none = || CliError::Claim("somebody was found in the first address book");
        let book = sample.books.first().ok_or_else(none)?;
        let hashes = book.hashes();
        let (position, account) = *sample.expected(&hashes).first().ok_or_else(none)?;
        let hash = *hashes.get(position).ok_or_else(none)?;
        let version = sample.version(&hash, account).ok_or_else(none)?.get();
        let hidden = Hidden { caller: caller_of(book)?, hash, account };

        ensure(shows(index, &hidden)?, "the account is found before it opts out")?;
        let change = index.set_opt_ins(hash, account, OptIns::empty(), version + 1)?;
        ensure(change.applied == 1, "the opt-out was applied")?;
        ensure(!shows(index, &hidden)?, "the very next lookup does not find the account")?;
        let late = index.set_opt_ins(hash, account, OptIns::CONTACT_SYNC, version)?;
        ensure(late.stale == 1, "an older update that arrives late is stale")?;
        ensure(!shows(index, &hidden)?, "an older update does not undo the opt-out")?;
        self.out.line(format_args!("   account {account}, asked for by {}:", book.caller))?;
        self.out.line("     before the opt-out             found")?;
        self.out.line("     the next lookup after it       not found")?;
        self.out.line("     an older opt-in arrives late   stale, still not found")?;
        self.sample.opt_out(&hash, account);
        Ok(hidden)
    }

    /// Everything is closed and opened again.
    pub fn restart(&mut self, index: Index, hidden: &Hidden) -> Result<Index, CliError> {
        self.title(4, "Restart")?;
        let before = remaining(&index, &hidden.caller)?;
        // The last handle: it releases the directory.
        drop(index);
        let index = self.home.reopen()?;
        let after = remaining(&index, &hidden.caller)?;
        // One number a minute comes back; the demonstration does not take as long as two.
        ensure(before < CALLER_BURST, "the caller has spent some of its budget")?;
        ensure(after <= before + 2, "a restart gives no budget back")?;
        ensure(!shows(&index, hidden)?, "the opt-out survives a restart")?;
        let [before, after] = [before, after].map(grouped);
        self.out.line(format_args!("   budget left before {before}, after {after}; the opt-out still holds."))?;
        Ok(index)
    }

    /// What the story has shown.
    pub fn end(&mut self, scraped: &Scraped) -> Result<(), CliError> {
        let seconds = self.start.elapsed().as_secs_f64();
        self.out.line("\nWhat held, each checked while it was shown:")?;
        self.out.line(
            "   - only accounts that agreed are named, and hidden numbers cost and look like absent ones;",
        )?;
        self.out.line(
            "   - an opt-out works at the next lookup, survives a restart and is not undone by late news;",
        )?;
        self.out.line(format_args!(
            "   - a scraper with {} accounts on one network generated {} numbers and got answers for {};",
            scraped.accounts,
            grouped(scraped.generated),
            grouped(scraped.answered)
        ))?;
        self.out.line("   - people elsewhere noticed nothing, and the operator can list who was exposed.")?;
        match self.home.command() {
            Some(command) => self.out.line(format_args!("\n{seconds:.1} s. The index stays: {command}"))?,
            None => self.out.line(format_args!("\n{seconds:.1} s."))?,
        }
        self.out.flush()
    }
}

fn remaining(index: &Index, caller: &Caller) -> Result<u64, CliError> {
    Ok(index.lookup(caller, Purpose::ContactSync, &[])?.remaining())
}

fn shows(index: &Index, listing: &Hidden) -> Result<bool, CliError> {
    let reply = index.lookup(&listing.caller, Purpose::ContactSync, &[listing.hash])?;
    ensure(reply.deferred().count() == 0, "the caller still has budget")?;
    Ok(reply.matches().any(|found| found.account == listing.account))
}
