//! Timing in slices far shorter than a scheduler's turn, of which the median counts, so that other programs on the
//! machine disturb a figure little.

use std::time::Instant;

/// Units of work in a slice.
pub const SLICE: usize = 4_096;
/// Slices of random lines in a pass.
pub const SLICES: usize = 128;

/// Nanoseconds for each of the `units` of a slice: the median of so many slices.
pub fn median_ns(slices: usize, units: usize, mut work: impl FnMut(usize)) -> f64 {
    let slice = |number| {
        let start = Instant::now();
        work(number);
        start.elapsed().as_secs_f64() * 1e9 / units as f64
    };
    median((0..slices).map(slice).collect())
}

/// The middle of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
