//! `unlisted demo`: the life of an index on a shipped sample. Every claim it prints is checked before.

mod home;
mod sample;
mod scraper;
mod story;

use std::path::PathBuf;
use std::time::Instant;

use unlisted::{Quota, QuotaPolicy};

use crate::error::CliError;
use crate::output::Out;

use home::Home;
use sample::Sample;
use story::Story;

#[derive(clap::Args)]
pub struct Args {
    /// Keep the index in this directory, which must not hold one, and its secret in DIR.secret.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Distinct numbers that a caller may ask at once.
const CALLER_BURST: u64 = 2_000;
/// And those of all callers of a network.
const NETWORK_BURST: u64 = 5_000;

pub fn run(args: &Args) -> Result<(), CliError> {
    let start = Instant::now();
    let sample = Sample::read()?;
    let home = Home::make(args.keep.as_deref())?;
    let quotas = QuotaPolicy::default()
        .with_caller(Quota::per_hour(CALLER_BURST, 60).map_err(unlisted::Error::from)?)
        .with_origin("network", Quota::per_hour(NETWORK_BURST, 600).map_err(unlisted::Error::from)?)
        .map_err(unlisted::Error::from)?;
    let index = home.create(quotas)?;

    let mut story = Story { home: &home, sample, out: Out::new(), start };
    story.load(&index)?;
    story.sync(&index)?;
    let hidden = story.opt_out(&index)?;
    let index = story.restart(index, &hidden)?;
    let scraped = story.scrape(&index)?;
    story.end(&scraped)
}

/// A claim that is printed only if it holds.
fn ensure(holds: bool, claim: &'static str) -> Result<(), CliError> {
    if holds { Ok(()) } else { Err(CliError::Claim(claim)) }
}
