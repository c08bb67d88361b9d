//! Timing in slices: work is timed in pieces far shorter than a scheduler's turn, and the median piece counts, so that
//! other programs on the machine disturb a figure little.

use std::time::Instant;

use super::median;
use crate::error::CliError;

/// Units of work in a slice, about: some hundred microseconds of lookups.
const SLICE_UNITS: usize = 4_096;

/// Does `work` for each number below `count` on so many threads, each of `units` units. Returns the nanoseconds a unit
/// takes the threads together: the median slice of each thread, their speeds added up.
pub fn ns_per_unit(
    threads: u64,
    count: usize,
    units: usize,
    work: impl Fn(usize) -> Result<(), CliError> + Sync,
) -> Result<f64, CliError> {
    let items = SLICE_UNITS.div_ceil(units.max(1));
    let slice = |numbers: &[usize]| -> Result<f64, CliError> {
        let start = Instant::now();
        numbers.iter().try_for_each(|number| work(*number))?;
        Ok(start.elapsed().as_secs_f64() * 1e9 / (numbers.len() * units) as f64)
    };
    let share = |thread: usize| -> Result<f64, CliError> {
        let numbers: Vec<usize> = (thread..count).step_by(threads as usize).collect();
        Ok(median(numbers.chunks(items).map(slice).collect::<Result<_, _>>()?))
    };
    let ended: Vec<_> = std::thread::scope(|scope| {
        let share = &share;
        let workers: Vec<_> = (0..threads as usize).map(|thread| scope.spawn(move || share(thread))).collect();
        workers.into_iter().map(|worker| worker.join()).collect()
    });
    let mut units_per_ns = 0.0;
    for thread in ended {
        units_per_ns += 1.0 / thread.unwrap_or(Err(CliError::Panicked))?;
    }
    Ok(1.0 / units_per_ns)
}
