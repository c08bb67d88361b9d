//! What of a public lookup is not the probe: the parts that can be measured alone.

use serde::Serialize;
use unlisted::{Caller, Index, PhoneHash};

use super::pace::{self, Pace};
use super::{lookup, population};
use crate::error::CliError;

/// Nanoseconds a number; medians of single batches.
#[derive(Serialize)]
pub struct Report {
    /// Hashes to keys.
    prf_ns_per_key: f64,
    /// Fingerprints, what the caller paid for, and the charge inside a lease.
    charge_ns_per_key: f64,
}

/// Measures them on one thread, with the callers of the public lookups.
pub fn run(index: &Index, batch: usize, numbers: u64) -> Result<Report, CliError> {
    let names: Vec<Caller> =
        (0..lookup::CALLERS).map(|i| Caller::new(format!("{}-parts-{i}", std::process::id()))).collect();
    let callers: Vec<_> = names.iter().map(|caller| index.prepare_caller(caller)).collect();
    for lease in [numbers, 1] {
        index.raw_charge_all(&callers, lease)?;
    }
    // Nobody's numbers: neither part knows who has one.
    let questions = population::questions(numbers, 0, 0.0, 3 << 32);
    let batches: Vec<&[PhoneHash]> = questions.chunks(batch.max(1)).collect();
    let keys: Vec<_> = batches.iter().map(|batch| index.prepare(batch)).collect();
    let pace = |work: &(dyn Fn(usize) -> Result<(), CliError> + Sync)| -> Result<Pace, CliError> {
        pace::ns_per_unit(1, batches.len(), batch, 1, work)
    };
    let prf = pace(&|i| {
        std::hint::black_box(batches.get(i).map(|batch| index.prepare(batch)));
        Ok(())
    })?;
    let charge = pace(&|i| {
        if let (Some(caller), Some(keys)) = (callers.get(i % callers.len()), keys.get(i)) {
            index.raw_charge(*caller, keys)?;
        }
        Ok(())
    })?;
    Ok(Report { prf_ns_per_key: prf.median_ns, charge_ns_per_key: charge.median_ns })
}
