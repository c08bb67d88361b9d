//! Timing in slices: work is timed in pieces far shorter than a scheduler's turn, and the median piece counts, so that
//! other programs on the machine disturb a figure little.

use std::time::Instant;

use super::median;
use crate::error::CliError;

/// Units of work in a slice, about: some hundred microseconds of probes.
pub const SLICE_UNITS: usize = 4_096;

/// Nanoseconds that a unit of work takes the threads together, their speeds added up.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Of the median slice.
    pub median_ns: f64,
    /// Of all slices: what others on the machine took is in it, and what now and then falls to one lookup.
    pub mean_ns: f64,
}

/// Does `work` for each number below `count` on so many threads, each of `units` units, as many in a slice as make about
/// `slice_units`.
pub fn ns_per_unit(
    threads: u64,
    count: usize,
    units: usize,
    slice_units: usize,
    work: impl Fn(usize) -> Result<(), CliError> + Sync,
) -> Result<Pace, CliError> {
    let items = slice_units.div_ceil(units.max(1));
    let slice = |numbers: &[usize]| -> Result<f64, CliError> {
        let start = Instant::now();
        numbers.iter().try_for_each(|number| work(*number))?;
        Ok(start.elapsed().as_secs_f64() * 1e9 / (numbers.len() * units) as f64)
    };
    let share = |thread: usize| -> Result<Pace, CliError> {
        let numbers: Vec<usize> = (thread..count).step_by(threads as usize).collect();
        let slices: Vec<f64> = numbers.chunks(items).map(slice).collect::<Result<_, _>>()?;
        let mean_ns = slices.iter().sum::<f64>() / slices.len().max(1) as f64;
        Ok(Pace { median_ns: median(slices), mean_ns })
    };
    let ended: Vec<_> = std::thread::scope(|scope| {
        let share = &share;
        let workers: Vec<_> = (0..threads as usize).map(|thread| scope.spawn(move || share(thread))).collect();
        workers.into_iter().map(|worker| worker.join()).collect()
    });
    let mut units_per_ns = [0.0; 2];
    for thread in ended {
        let pace = thread.unwrap_or(Err(CliError::Panicked))?;
        units_per_ns[0] += 1.0 / pace.median_ns;
        units_per_ns[1] += 1.0 / pace.mean_ns;
    }
    Ok(Pace { median_ns: 1.0 / units_per_ns[0], mean_ns: 1.0 / units_per_ns[1] })
}
