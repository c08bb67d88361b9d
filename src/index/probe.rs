//! The probe of a lookup: a batch of keys through overlay, filters and tables, in stages.
//!
//! Each stage asks the memory for what the next one reads, for a group of keys at once, so that a group waits for
//! memory a few times and not a few times for each of its keys.

use super::Inner;
use super::segments::LiveSegment;
use crate::segment::reader::FilterPlace;
use crate::words::{AccountId, Key, Purpose, Result, Stamp};

/// Keys that go through the stages together. Their filter blocks and tag lines fit the first-level cache.
const GROUP: usize = 128;

/// A key on its way through the stages.
struct Pending<'a> {
    /// Position in the batch.
    number: u32,
    key: Key,
    segment: &'a LiveSegment,
    place: FilterPlace,
    bucket: usize,
    candidates: u64,
}

/// What the filters did in one batch.
#[derive(Default)]
struct Tally {
    passed: u64,
    /// Passed the filter, and the table had nothing for the purpose.
    passed_in_vain: u64,
}

/// A change of the overlay: position in the batch, account, stamp. Sorted by position.
type Changed = (u32, AccountId, Stamp);

impl Inner {
    /// The opted-in listings of these keys, as (position in `keys`, account), in order.
    ///
    /// The overlay is read before the segments: a fold puts a change into a segment before it takes it out of
    /// the overlay, so in this order a change is seen in one or both, never in neither.
    pub(super) fn probe(&self, purpose: Purpose, keys: &[Key]) -> Result<Vec<(u32, AccountId)>> {
        let changes = self.changes_of(keys);
        let segments = self.segments.load();
        let mut found: Vec<_> = changes
            .iter()
            .filter(|(.., stamp)| stamp.flags().opt_ins().allows(purpose))
            .map(|(number, account, _)| (*number, *account))
            .collect();
        let mut tally = Tally::default();
        let mut pending = Vec::with_capacity(GROUP.min(keys.len()));
        for (first, group) in (0_u32..).step_by(GROUP).zip(keys.chunks(GROUP)) {
            pending.clear();
            pending.extend((first..).zip(group).filter_map(|(number, key)| {
                let segment = segments.of(*key)?;
                let place = segment.segment().filter_place(*key, purpose);
                Some(Pending { number, key: *key, segment, place, bucket: 0, candidates: 0 })
            }));
            filter(&mut pending)?;
            tally.passed += pending.len() as u64;
            match_tags(&mut pending)?;
            tally.passed_in_vain += read_slots(&pending, purpose, &changes, &mut found)?;
        }
        self.seen.add(keys.len() as u64, tally.passed, tally.passed_in_vain);
        found.sort_unstable();
        Ok(found)
    }

    /// The overlay's changes of these keys, in order of positions.
    fn changes_of(&self, keys: &[Key]) -> Vec<Changed> {
        let overlay = self.overlay.read();
        let mut changes = Vec::new();
        if !overlay.is_empty() {
            for (number, key) in (0_u32..).zip(keys) {
                changes.extend(overlay.of_key(*key).map(|c| (number, c.entry.account, c.entry.stamp)));
            }
        }
        changes
    }
}

/// Keeps the keys that pass their filter, and asks for their tag lines.
fn filter(pending: &mut Vec<Pending<'_>>) -> Result<()> {
    let mut kept = 0;
    for i in 0..pending.len() {
        let Some(next) = pending.get_mut(i) else { break };
        if next.segment.locate(|s| s.passes(next.place))? {
            next.bucket = next.segment.segment().table_place(next.key);
            pending.swap(kept, i);
            kept += 1;
        }
    }
    pending.truncate(kept);
    Ok(())
}

/// Compares tags, and asks for the first slot whose tag is right.
fn match_tags(pending: &mut [Pending<'_>]) -> Result<()> {
    for next in pending {
        next.candidates = next.segment.locate(|s| s.candidates(next.bucket, next.key))?;
    }
    Ok(())
}

/// Reads the slots and takes what agreed to the purpose. Returns how many keys had nothing for it.
fn read_slots(
    pending: &[Pending<'_>],
    purpose: Purpose,
    changes: &[Changed],
    found: &mut Vec<(u32, AccountId)>,
) -> Result<u64> {
    let mut in_vain = 0;
    for next in pending {
        let mut agreed = 0;
        next.segment.locate(|s| {
            s.probe_from(next.bucket, next.candidates, next.key, |account, stamp| {
                if stamp.flags().opt_ins().allows(purpose) {
                    agreed += 1;
                    // A change stands above the segment's listing of the same account.
                    if !is_changed(changes, next.number, account) {
                        found.push((next.number, account));
                    }
                }
            })
        })?;
        in_vain += u64::from(agreed == 0);
    }
    Ok(in_vain)
}

/// Does the overlay have a change of this listing?
fn is_changed(changes: &[Changed], number: u32, account: AccountId) -> bool {
    let start = changes.partition_point(|(of, ..)| *of < number);
    changes.iter().skip(start).take_while(|(of, ..)| *of == number).any(|(_, changed, _)| *changed == account)
}
