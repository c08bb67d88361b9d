//! How many numbers until an enumerator has met his tripwires, and how often an honest address book does.

/// The arithmetic of tripwires: with a share of numbers trapped, how likely is it to meet `threshold` of them?
///
/// Each number is taken to be trapped with the same probability, on its own. For whoever asks in random order that is a
/// little late: since he asks for no number twice, what is left gets fuller, and he meets them earlier. An order that is
/// not random meets as many where tripwires are spread evenly, as `unlisted tripwires generate` spreads them.
///
/// ```
/// use unlisted::TripwireOdds;
/// let one_in_a_thousand = TripwireOdds::new(0.001, 1).expect("a share");
/// assert_eq!(one_in_a_thousand.numbers_until(0.99), Some(4_603)); // ln 0.01 / ln 0.999
/// // A book of 500 contacts, a tenth of them numbers that nobody has any more:
/// let honest = TripwireOdds::new(0.1 * 0.001, 2).expect("a share");
/// assert!((honest.met_by(500) - 0.0012).abs() < 0.0001);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TripwireOdds {
    share: f64,
    threshold: u32,
}

impl TripwireOdds {
    /// Largest threshold: each step of a sum is worth it.
    pub const MAX_THRESHOLD: u32 = 100_000;

    /// A share of numbers, between 0 and 1, and how many of them have to be met. `None` for what is no share, and for a
    /// threshold of 0 or above [`TripwireOdds::MAX_THRESHOLD`].
    #[must_use]
    pub fn new(share: f64, threshold: u32) -> Option<Self> {
        let is_share = share > 0.0 && share < 1.0;
        (is_share && (1..=Self::MAX_THRESHOLD).contains(&threshold)).then_some(Self { share, threshold })
    }

    /// The probability that so many numbers have at least the threshold of tripwires among them: the upper tail of a
    /// binomial distribution.
    #[must_use]
    pub fn met_by(&self, numbers: u64) -> f64 {
        if numbers < u64::from(self.threshold) {
            return 0.0;
        }
        // Whichever tail is small is summed, so that a small probability is exact too.
        if (numbers as f64) * self.share < f64::from(self.threshold) {
            return self.upper_tail(numbers).clamp(0.0, 1.0);
        }
        (1.0 - self.lower_tail(numbers)).clamp(0.0, 1.0)
    }

    /// The least count of numbers by which the threshold is met with this probability. `None` if it is not between 0 and
    /// 1, or if it takes 2^63 numbers.
    #[must_use]
    pub fn numbers_until(&self, probability: f64) -> Option<u64> {
        if !(probability > 0.0 && probability < 1.0) {
            return None;
        }
        let mut high = u64::from(self.threshold);
        while self.met_by(high) < probability {
            high = high.checked_mul(2).filter(|high| *high < 1 << 63)?;
        }
        let mut low = 0;
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.met_by(middle) < probability { low = middle } else { high = middle }
        }
        Some(high)
    }

    /// ln of the probability of none.
    fn ln_none(&self, numbers: u64) -> f64 {
        numbers as f64 * (-self.share).ln_1p()
    }

    /// ln of how much likelier `met + 1` is than `met`.
    fn ln_step(&self, numbers: u64, met: u64) -> f64 {
        let left = numbers.saturating_sub(met) as f64;
        (left / (met + 1) as f64).ln() + self.share.ln() - (-self.share).ln_1p()
    }

    /// The probability of fewer than the threshold.
    fn lower_tail(&self, numbers: u64) -> f64 {
        let (mut ln_term, mut sum) = (self.ln_none(numbers), 0.0);
        for met in 0..u64::from(self.threshold) {
            sum += ln_term.exp();
            ln_term += self.ln_step(numbers, met);
        }
        sum
    }

    /// The probability of the threshold or more, where that is above the mean: each term is less than the one before.
    fn upper_tail(&self, numbers: u64) -> f64 {
        let threshold = u64::from(self.threshold);
        let mut ln_term = self.ln_none(numbers);
        for met in 0..threshold {
            ln_term += self.ln_step(numbers, met);
        }
        let mut sum = 0.0;
        for met in threshold..=numbers {
            let term = ln_term.exp();
            sum += term;
            if term <= sum * 1e-17 {
                break;
            }
            ln_term += self.ln_step(numbers, met);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odds(share: f64, threshold: u32) -> TripwireOdds {
        TripwireOdds::new(share, threshold).unwrap()
    }

    #[test]
    fn one_tripwire_is_the_closed_form() {
        for share in [0.000_01_f64, 0.000_1, 0.001, 0.01, 0.3] {
            let closed: f64 = (0.01_f64.ln() / (1.0 - share).ln()).ceil();
            assert_eq!(odds(share, 1).numbers_until(0.99), Some(closed as u64), "{share}");
            for numbers in [1_u64, 10, 1_000] {
                let closed = 1.0 - (1.0 - share).powf(numbers as f64);
                assert!((odds(share, 1).met_by(numbers) - closed).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn tails_are_those_of_a_sum_over_all_outcomes() {
        // Ten numbers, each outcome counted.
        for threshold in 1..=10_u32 {
            let share: f64 = 0.3;
            let outcome =
                |bits: u32| share.powi(bits.count_ones() as i32) * 0.7_f64.powi(10 - bits.count_ones() as i32);
            let exact: f64 =
                (0..1 << 10_u32).filter(|bits: &u32| bits.count_ones() >= threshold).map(outcome).sum();
            let found = odds(share, threshold).met_by(10);
            assert!((found - exact).abs() < 1e-12 * exact.max(1e-3), "{threshold}: {found} {exact}");
        }
        assert_eq!(odds(0.3, 11).met_by(10), 0.0);
    }

    #[test]
    fn small_and_large_probabilities_are_finite_and_in_order() {
        let honest = odds(1e-7, 3).met_by(500);
        // C(500, 3) p^3, since two more hardly ever happen.
        assert!((honest / (20_708_500.0 * 1e-21) - 1.0).abs() < 1e-3, "{honest}");
        for threshold in [1, 2, 3, 10, 1_000] {
            let until = |p| odds(0.001, threshold).numbers_until(p).unwrap();
            assert!(until(0.5) < until(0.99) && until(0.99) < until(0.999));
            assert!(odds(0.001, threshold).met_by(until(0.99)) >= 0.99);
            assert!(odds(0.001, threshold).met_by(until(0.99) - 1) < 0.99);
        }
        assert_eq!(odds(0.5, 1).met_by(u64::MAX), 1.0);
        assert_eq!(odds(1e-300, 1).numbers_until(0.99), None);
    }

    #[test]
    fn what_is_no_share_or_probability_is_refused() {
        for share in [0.0, 1.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
            assert_eq!(TripwireOdds::new(share, 1), None);
        }
        assert_eq!((TripwireOdds::new(0.1, 0), TripwireOdds::new(0.1, 100_001)), (None, None));
        for probability in [0.0, 1.0, f64::NAN] {
            assert_eq!(odds(0.1, 1).numbers_until(probability), None);
        }
    }
}
