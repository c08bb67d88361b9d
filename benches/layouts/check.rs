//! Every prototype answers what a hash map does, on a population with phones of several accounts.

use std::collections::HashMap;

use super::directory::Directory;
use super::population::{self, Entry, Key, PURPOSE_BIT};
use super::probe::Probe;
use super::table::Prototype;

const LISTINGS: u64 = 200_000;
/// Every so many-th listing has the phone of the one before.
const SHARED_EVERY: u64 = 8;
/// This phone has more accounts than any bucket has slots.
const BUSY: std::ops::Range<u64> = 1_000..1_200;
const BATCH: usize = 512;

/// The `i`-th listing.
fn entry(i: u64, account_len: usize) -> Entry {
    let phone = if BUSY.contains(&i) { BUSY.start } else { i - u64::from(i % SHARED_EVERY == 1) };
    let high = if account_len == 16 { u128::from(i | 1) << 64 } else { 0 };
    let entry = population::entry(i);
    Entry { key: population::key(phone), account: high | entry.account, ..entry }
}

/// Compares the answers for all phones, listed and hidden, and for as many that nobody has.
///
/// # Errors
/// The first question that is answered otherwise.
pub fn run<D: Directory>(account_len: usize, filtered: bool, group: usize) -> super::Result<()> {
    let mut expected: HashMap<Key, Vec<u128>> = HashMap::new();
    let agreed = (0..LISTINGS).map(|i| entry(i, account_len)).filter(|e| e.opt_ins >> PURPOSE_BIT & 1 == 1);
    agreed.for_each(|e| expected.entry(e.key).or_default().push(e.account));
    expected.values_mut().for_each(|accounts| accounts.sort_unstable());
    let prototype = Prototype::<D>::build(LISTINGS, account_len, filtered, |i| entry(i, account_len))?;
    if prototype.spilled == 0 {
        return Err("the check did not reach the spill area".into());
    }
    let numbers: Vec<u64> = (0..2 * LISTINGS).collect();
    let mut probe = Probe::new(group);
    for batch in numbers.chunks(BATCH) {
        let keys: Vec<Key> = batch.iter().map(|i| population::key(*i)).collect();
        probe.run(&prototype, &keys);
        let wanted = (0_u32..).zip(&keys).flat_map(|(number, key)| {
            let accounts = expected.get(key).map(Vec::as_slice).unwrap_or_default();
            accounts.iter().map(move |account| (number, *account))
        });
        if !wanted.eq(probe.found.iter().copied()) {
            return Err(format!("a batch of the check from number {} on is answered wrongly", batch[0]).into());
        }
    }
    Ok(())
}
