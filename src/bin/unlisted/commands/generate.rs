//! `unlisted generate`: a synthetic population, the same for the same seed.

use crate::error::CliError;
use crate::output::Out;

#[derive(clap::Args)]
pub struct Args {
    /// Rows to write, besides the header.
    #[arg(long, value_name = "N")]
    listings: u64,
    /// The same seed gives the same rows.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

/// Mobile numbers by country: weight, and the written form with `x` for any digit and `n` for 2 to 9. The weights
/// add up to 100.
const PLANS: [(u64, &str); 20] = [
    (16, "+1nxxnxxxxxx"),
    (16, "+919xxxxxxxxx"),
    (9, "+55nn9xxxxxxxx"),
    (8, "+628nxxxxxxxx"),
    (3, "+4915xxxxxxxxx"),
    (3, "+4917nxxxxxxx"),
    (6, "+447nxxxxxxxx"),
    (3, "+23480xxxxxxxx"),
    (2, "+23490xxxxxxxx"),
    (5, "+52nxxxxxxxxx"),
    (4, "+336xxxxxxxx"),
    (4, "+393nxxxxxxxx"),
    (3, "+346xxxxxxxx"),
    (3, "+905nxxxxxxxx"),
    (3, "+989xxxxxxxxx"),
    (3, "+201nxxxxxxxx"),
    (2, "+601nxxxxxxx"),
    (2, "+9725xxxxxxxx"),
    (3, "+8190xxxxxxxx"),
    (2, "+278nxxxxxxx"),
];

/// Purposes and how many in a hundred agree to each, of those who agree to any.
const PURPOSES: [(&str, u64); 4] = [("contact-sync", 90), ("search", 40), ("suggestions", 40), ("payments", 40)];
/// In a hundred accounts, those that agree to nothing.
const HIDDEN: u64 = 30;
/// In a hundred rows, those that are one more phone of the account before.
const SECOND_PHONES: u64 = 2;
/// In a hundred rows, those that are one more account on the phone before.
const SECOND_ACCOUNTS: u64 = 1;
/// Bytes gathered before they are written.
const BUFFER_LEN: usize = 256 << 10;
/// No row is longer.
const MAX_ROW_LEN: usize = 128;

pub fn run(args: &Args) -> Result<(), CliError> {
    let mut out = Out::new();
    let mut buffer = Vec::with_capacity(BUFFER_LEN);
    buffer.extend_from_slice(b"phone,account,opt_ins,version\n");
    let mut population = Population::new(args.seed);
    for _ in 0..args.listings {
        if buffer.len() + MAX_ROW_LEN > BUFFER_LEN {
            out.bytes(&buffer)?;
            buffer.clear();
        }
        population.next_row(&mut buffer);
    }
    out.bytes(&buffer)?;
    out.flush()
}

/// Rows one after the other; some share the phone or the account of the one before.
struct Population {
    random: SplitMix,
    phone: Vec<u8>,
    account: u64,
}

impl Population {
    fn new(seed: u64) -> Self {
        let mut random = SplitMix(seed);
        let account = random.next() >> 1;
        Self { random, phone: Vec::with_capacity(16), account }
    }

    fn next_row(&mut self, to: &mut Vec<u8>) {
        match self.random.percent() {
            same if same < SECOND_ACCOUNTS && !self.phone.is_empty() => self.account = self.random.next() >> 1,
            same if same < SECOND_ACCOUNTS + SECOND_PHONES && !self.phone.is_empty() => self.next_phone(),
            _ => {
                self.next_phone();
                self.account = self.random.next() >> 1;
            }
        }
        to.extend_from_slice(&self.phone);
        to.push(b',');
        decimal(self.account, to);
        to.push(b',');
        self.opt_ins(to);
        to.push(b',');
        decimal(1 + self.random.below(999), to);
        to.push(b'\n');
    }

    fn next_phone(&mut self) {
        let mut at = self.random.below(100);
        let plan = PLANS.iter().find(|(weight, _)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let (_, form) = plan.copied().unwrap_or_default();
        let mut digits = Digits(self.random.next());
        self.phone.clear();
        self.phone.extend(form.bytes().map(|byte| match byte {
            b'x' => b'0' + digits.below(10),
            b'n' => b'2' + digits.below(8),
            other => other,
        }));
    }

    fn opt_ins(&mut self, to: &mut Vec<u8>) {
        if self.random.percent() < HIDDEN {
            return;
        }
        let mut first = true;
        for (name, share) in PURPOSES {
            if self.random.percent() < share {
                if !first {
                    to.push(b'|');
                }
                to.extend_from_slice(name.as_bytes());
                first = false;
            }
        }
    }
}

/// Sebastiano Vigna's SplitMix64: small, fast, and good enough for test data.
pub struct SplitMix(pub u64);

impl SplitMix {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ b >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    fn percent(&mut self) -> u64 {
        self.below(100)
    }
}

/// Digits out of one random word: a fraction whose next digit is what multiplying carries out.
struct Digits(u64);

impl Digits {
    fn below(&mut self, base: u64) -> u8 {
        let product = u128::from(self.0) * u128::from(base);
        self.0 = product as u64;
        ((product >> 64) as u64).to_le_bytes()[0]
    }
}

fn decimal(mut number: u64, to: &mut Vec<u8>) {
    let start = to.len();
    loop {
        to.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = to.get_mut(start..) {
        digits.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unlisted::{E164, OptIns};

    #[test]
    fn rows_are_valid_and_the_same_for_the_same_seed() {
        assert_eq!(PLANS.iter().map(|(weight, _)| weight).sum::<u64>(), 100);
        let rows = |seed| {
            let (mut population, mut text) = (Population::new(seed), Vec::new());
            (0..10_000).for_each(|_| population.next_row(&mut text));
            String::from_utf8(text).unwrap()
        };
        let text = rows(1);
        assert_eq!(text, rows(1));
        assert_ne!(text, rows(2));
        let mut opt_ins = 0;
        for row in text.lines() {
            assert!(row.len() < MAX_ROW_LEN);
            let fields: Vec<_> = row.split(',').collect();
            E164::parse(fields[0]).unwrap();
            fields[1].parse::<u64>().unwrap();
            opt_ins += OptIns::from_names(fields[2]).unwrap().purposes().count();
            assert!((1..1_000).contains(&fields[3].parse::<u64>().unwrap()));
        }
        assert!((13_500..16_000).contains(&opt_ins), "{opt_ins}");
    }

    #[test]
    fn decimals() {
        let mut text = Vec::new();
        [0, 7, 10, u64::MAX].into_iter().for_each(|number| decimal(number, &mut text));
        assert_eq!(text, b"071018446744073709551615");
    }
}
