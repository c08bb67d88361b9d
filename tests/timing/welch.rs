//! Welch's t, whole and cropped.

/// Percentiles at which both classes are cropped: more of them near the end, as dudect has them.
const CROPS: i32 = 40;

/// Count, mean and variance, updated one by one (Welford).
#[derive(Debug, Clone, Copy, Default)]
pub struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    pub fn add(&mut self, x: f64) {
        self.count += 1.0;
        let from_before = x - self.mean;
        self.mean += from_before / self.count;
        self.squares += from_before * (x - self.mean);
    }

    fn of(samples: impl Iterator<Item = f64>) -> Self {
        let mut moments = Self::default();
        samples.for_each(|x| moments.add(x));
        moments
    }

    fn variance(&self) -> f64 {
        if self.count > 1.0 { self.squares / (self.count - 1.0) } else { 0.0 }
    }
}

/// Welch's t of two classes.
pub fn t(one: &Moments, other: &Moments) -> f64 {
    let error = (one.variance() / one.count + other.variance() / other.count).sqrt();
    if error > 0.0 { (one.mean - other.mean) / error } else { 0.0 }
}

/// How far two classes are apart.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// The t of everything.
    pub whole: f64,
    /// The t that is largest, of everything or of what is below some percentile.
    pub largest: f64,
    /// Medians: of the second less the first, and of both together.
    pub difference: f64,
    pub median: f64,
}

impl Test {
    pub fn of(one: &[f64], other: &[f64]) -> Self {
        let mut all = [one, other].concat();
        all.sort_by(f64::total_cmp);
        let below = |limit: f64| {
            let moments = |samples: &[f64]| Moments::of(samples.iter().copied().filter(|x| *x < limit));
            t(&moments(one), &moments(other))
        };
        let whole = below(f64::INFINITY);
        // As dudect: 1 - 0.5^(10 i / n).
        let share = |i: i32| 1.0 - 0.5_f64.powf(10.0 * f64::from(i) / f64::from(CROPS));
        let cropped = (1..=CROPS).map(|i| below(percentile(&all, share(i))));
        let largest = cropped.fold(whole, |largest, t| if t.abs() > largest.abs() { t } else { largest });
        Self { whole, largest, difference: median(other) - median(one), median: percentile(&all, 0.5) }
    }
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform in [0, 1), from a counter.
    fn uniform(seed: u64) -> impl Iterator<Item = f64> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = state;
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (x ^ (x >> 31)) as f64 / u64::MAX as f64
        })
    }

    /// Times as a computer has them: a hump, and now and then something long.
    fn times(seed: u64, count: usize, center: f64) -> Vec<f64> {
        let mut draws = uniform(seed);
        let mut time = || {
            let hump: f64 = draws.by_ref().take(12).sum::<f64>() - 6.0;
            let tail = draws.next().unwrap_or(0.0);
            center
                + 30.0 * hump
                + if tail > 0.99 { 100_000.0 * (tail - 0.99) * draws.next().unwrap_or(0.0) } else { 0.0 }
        };
        (0..count).map(|_| time()).collect()
    }

    /// By hand: means 2.5 and 6, variances 5/3 and 4, so 3.5 / sqrt(5/12 + 4/3).
    #[test]
    fn t_is_welchs() {
        let (one, other) =
            (Moments::of([1.0, 2.0, 3.0, 4.0].into_iter()), Moments::of([4.0, 6.0, 8.0].into_iter()));
        assert!((t(&one, &other) + 3.5 / (5.0_f64 / 12.0 + 4.0 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(t(&one, &one), 0.0);
        assert_eq!(t(&Moments::of([1.0; 5].into_iter()), &Moments::of([1.0; 5].into_iter())), 0.0);
    }

    /// The largest of 41 t is above 4.5 about once in thousands of trials, if nothing is there.
    #[test]
    fn the_same_distribution_is_not_told_apart() {
        let mut above = 0;
        for trial in 0..40 {
            let test = Test::of(&times(2 * trial, 5_000, 1_000.0), &times(2 * trial + 1, 5_000, 1_000.0));
            above += usize::from(test.largest.abs() > 4.5);
        }
        assert!(above <= 1, "{above} of 40");
    }

    /// Three in a thousand, under a tail that hides it from the t of everything.
    #[test]
    fn a_small_shift_is_found_below_the_tail() {
        let test = Test::of(&times(1, 50_000, 1_000.0), &times(2, 50_000, 1_003.0));
        assert!(test.largest.abs() > 10.0 && test.largest < 0.0, "{test:?}");
        assert!(test.whole.abs() < 4.5, "{test:?}");
        assert!((test.difference - 3.0).abs() < 2.0, "{test:?}");
    }

    /// A class that is slower now and then, and otherwise the same.
    #[test]
    fn a_rare_delay_is_found_by_what_is_not_cropped() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for (i, x) in uniform(7).take(40_000).enumerate() {
            if i % 2 == 0 {
                one.push(100.0 + x)
            } else {
                other.push(100.0 + x + if i % 100 == 1 { 20.0 } else { 0.0 })
            }
        }
        assert!(Test::of(&one, &other).largest < -10.0);
    }
}
