//! `unlisted tripwires generate`: numbers spread over ranges that nobody was given.
//!
//! Each range is cut into as many equal parts as it gives numbers, and each part gives one at random. So tripwires are spread
//! evenly, whatever order an enumerator goes in: twice the length of a part, in a row, always holds one. Where in its part a
//! tripwire is, a keyed hash of seed, range and part says: who knows some of them learns nothing of the others.

use std::path::PathBuf;

use unlisted::E164;

use super::each_line;
use crate::error::CliError;
use crate::output::{Out, grouped, note};

#[derive(clap::Args)]
pub struct Args {
    /// Ranges, one a line: a prefix in international form and how many digits its numbers have, such as +4915999 12. Not
    /// even numbers that were given back long ago should be in them: those are in address books.
    #[arg(long, value_name = "FILE")]
    ranges: PathBuf,
    /// The share of the numbers of these ranges to choose, above 0 and at most 1.
    #[arg(long, value_name = "S", value_parser = share)]
    share: f64,
    /// The same seed gives the same numbers. Keep it as secret as they are; a random one by default.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Most numbers of one range: more than any host sets.
const MAX_CHOSEN: f64 = 1e9;
const CONTEXT: &str = "unlisted 2026-11 choice of tripwires";

/// All numbers that begin with a prefix and have so many digits.
struct Range {
    prefix: String,
    /// Digits behind the prefix.
    free: usize,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "expected a share above 0 and at most 1".to_owned())
}

pub fn run(args: &Args) -> Result<(), CliError> {
    let mut ranges = Vec::new();
    each_line(&args.ranges, |text| {
        ranges.push(Range::parse(text)?);
        Ok(())
    })?;
    if let Some(double) = overlap(&ranges) {
        return Err(CliError::BadArguments(double));
    }
    let seed = match args.seed {
        Some(seed) => seed.to_le_bytes(),
        None => random()?,
    };
    let mut out = Out::new();
    let (mut chosen, mut space) = (0, 0);
    for range in &ranges {
        space += range.len();
        chosen += range.write(&seed, args.share, &mut out)?;
    }
    out.flush()?;
    note(format_args!("{} of {} numbers", grouped(chosen), grouped(u64::try_from(space).unwrap_or(u64::MAX))));
    Ok(())
}

fn random() -> Result<[u8; 8], CliError> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| unlisted::Error::Random { reason: error.to_string() })?;
    Ok(seed)
}

/// Does a range lie in another one? Then its numbers would come twice.
fn overlap(ranges: &[Range]) -> Option<&'static str> {
    let mut sorted: Vec<(&str, usize)> =
        ranges.iter().map(|range| (range.prefix.as_str(), range.prefix.len() + range.free)).collect();
    sorted.sort_unstable();
    let is_in = |(a, len_a): &(&str, usize), (b, len_b): &(&str, usize)| len_a == len_b && b.starts_with(a);
    // Whatever lies in a range comes right behind it, or behind others that do.
    let mut open: Vec<(&str, usize)> = Vec::new();
    for range in sorted {
        open.retain(|before| range.0.starts_with(before.0));
        if open.iter().any(|before| is_in(before, &range)) {
            return Some("two of the ranges have numbers in common");
        }
        open.push(range);
    }
    None
}

impl Range {
    fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a prefix and the number of digits, such as +4915999 12";
        let mut fields = text.split([' ', ',', '\t']).filter(|field| !field.is_empty());
        let (Some(prefix), Some(digits), None) = (fields.next(), fields.next(), fields.next()) else {
            return Err(EXPECTED.to_owned());
        };
        let plain = prefix.strip_prefix('+').ok_or(EXPECTED)?;
        let digits: usize = digits.parse().map_err(|_| EXPECTED)?;
        let free = digits.checked_sub(plain.len()).filter(|free| *free > 0 && digits <= 15);
        let free = free.ok_or("the digits are more than those of the prefix and at most 15")?;
        let range = Self { prefix: plain.to_owned(), free };
        // If the first number is one, all are.
        E164::parse(&range.number(0)).map_err(|error| error.to_string())?;
        Ok(range)
    }

    fn len(&self) -> u128 {
        10_u128.pow(u32::try_from(self.free).unwrap_or(0))
    }

    fn number(&self, at: u128) -> String {
        format!("+{}{at:0free$}", self.prefix, free = self.free)
    }

    /// Writes a number of each part; returns how many.
    fn write(&self, seed: &[u8; 8], share: f64, out: &mut Out) -> Result<u64, CliError> {
        let len = self.len();
        let wanted = (len as f64 * share).round();
        if wanted > MAX_CHOSEN {
            return Err(CliError::BadArguments("a range would give more than 1,000,000,000 tripwires"));
        }
        let parts = (wanted as u128).min(len);
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(seed).update(self.prefix.as_bytes()).update(&[0xff]).update(&self.free.to_le_bytes());
        let mut random = hasher.finalize_xof();
        for part in 0..parts {
            let (start, end) = (part * len / parts, (part + 1) * len / parts);
            let mut word = [0; 8];
            random.fill(&mut word);
            let within = (u128::from(u64::from_le_bytes(word)) * (end - start)) >> 64;
            out.line(self.number(start + within))?;
        }
        Ok(u64::try_from(parts).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_their_numbers_are_numbers() {
        let range = Range::parse("+4915999 12").unwrap();
        assert_eq!(
            (range.len(), range.number(7), range.number(99_999)),
            (100_000, "+491599900007".into(), "+491599999999".into())
        );
        assert_eq!(Range::parse("+1415555,11").unwrap().len(), 10_000);
        for bad in
            ["", "+4915999", "4915999 12", "+4915999 7", "+4915999 16", "+49 15999 12", "+49159x9 12", "+0999 12"]
        {
            assert!(Range::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_with_numbers_in_common_are_found() {
        let overlaps = |texts: &[&str]| {
            let ranges: Vec<Range> = texts.iter().map(|text| Range::parse(text).unwrap()).collect();
            overlap(&ranges).is_some()
        };
        assert!(overlaps(&["+4915 12", "+49150 12"]) && overlaps(&["+49159 12", "+49159 12"]));
        assert!(overlaps(&["+4915 12", "+49150 11", "+491501 12"]));
        assert!(!overlaps(&["+4915 12", "+49150 11", "+49151 11", "+4916 12"]));
    }
}
