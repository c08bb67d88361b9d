//! `unlisted tripwires arithmetic`: how many numbers until an enumerator is caught, and how often an honest book is.

use serde::Serialize;
use unlisted::TripwireOdds;

use crate::error::CliError;
use crate::output::Out;

#[derive(clap::Args)]
pub struct Args {
    /// Numbers that an enumerator goes through, trapped or not.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    space: u64,
    /// The share of them that is trapped, between 0 and 1.
    #[arg(long, value_name = "S", value_parser = share)]
    share: f64,
    /// Tripwires from which on something happens.
    #[arg(long, value_name = "K", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(TripwireOdds::MAX_THRESHOLD)))]
    threshold: u32,
    /// Contacts of an honest address book.
    #[arg(long, value_name = "N", default_value_t = 500)]
    book: u64,
    /// The share of them that are numbers nobody has any more, of the same space, between 0 and 1.
    #[arg(long, value_name = "Q", default_value_t = 0.1, value_parser = share)]
    stale_share: f64,
}

#[derive(Serialize)]
struct Report {
    space: u64,
    share: f64,
    threshold: u32,
    /// Tripwires to set for that share.
    tripwires: u64,
    enumerator: Enumerator,
    honest_book: HonestBook,
}

/// Numbers until so many of a hundred enumerators are caught; nothing if the space has no so many.
#[derive(Serialize)]
struct Enumerator {
    numbers_until_50_percent: Option<u64>,
    numbers_until_99_percent: Option<u64>,
    /// Of the numbers of the whole space, the share that 99 of 100 do not get beyond.
    share_of_space_at_99_percent: Option<f64>,
}

#[derive(Serialize)]
struct HonestBook {
    contacts: u64,
    stale_share: f64,
    /// The probability that the book has as many tripwires as the threshold, each stale number being trapped as any other is.
    /// Numbers that nobody was ever given are in fewer books than that.
    probability_to_trip: f64,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| "expected a share between 0 and 1".to_owned())
}

pub fn run(args: &Args) -> Result<(), CliError> {
    let odds = |share| {
        TripwireOdds::new(share, args.threshold).ok_or(CliError::BadArguments("no share of numbers is so small"))
    };
    let (enumerator, honest) = (odds(args.share)?, odds(args.share * args.stale_share)?);
    let until = |probability| enumerator.numbers_until(probability).filter(|numbers| *numbers <= args.space);
    let most = until(0.99);
    let report = Report {
        space: args.space,
        share: args.share,
        threshold: args.threshold,
        tripwires: (args.space as f64 * args.share).round() as u64,
        enumerator: Enumerator {
            numbers_until_50_percent: until(0.5),
            numbers_until_99_percent: most,
            share_of_space_at_99_percent: most.map(|numbers| numbers as f64 / args.space as f64),
        },
        honest_book: HonestBook {
            contacts: args.book,
            stale_share: args.stale_share,
            probability_to_trip: honest.met_by(args.book),
        },
    };
    let mut out = Out::new();
    out.json(&report)?;
    out.flush()
}
