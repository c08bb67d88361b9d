//! The probe of a lookup: a batch of keys through overlay, filters and tables.
//!
//! A key goes through three stages: its filter block, its tag line, its slots. Each stage asks the memory for the
//! line that the next one reads and puts the key into that stage's queue, where it waits until [`AHEAD`] others
//! were put in behind it. So many lines are under way at any time, and the processor computes on keys whose
//! lines have come while others' are on their way.

use std::collections::VecDeque;

use super::Inner;
use super::segments::LiveSegment;
use crate::segment::reader::FilterPlace;
use crate::words::{AccountId, Key, Purpose, Result, Stamp};

/// Keys that wait in a stage while their lines come. More than the lines a core can have under way, and few enough
/// that none is evicted before it is read; other values were not measured.
const AHEAD: usize = 32;

/// A key on its way: position in the batch, key, and the segment of its range.
#[derive(Clone, Copy)]
struct Asked<'a> {
    number: u32,
    key: Key,
    segment: &'a LiveSegment,
}

/// A batch on its way through the stages.
struct Probe<'a> {
    purpose: Purpose,
    changes: &'a [Changed],
    /// Wait for their filter block.
    blocks: VecDeque<(Asked<'a>, FilterPlace)>,
    /// Wait for the tag line at this place.
    tags: VecDeque<(Asked<'a>, usize)>,
    /// Wait for the first slot of these candidates at this place.
    slots: VecDeque<(Asked<'a>, usize, u64)>,
    /// Opted-in listings: position in the batch, account.
    found: Vec<(u32, AccountId)>,
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
        let mut probe = Probe::new(purpose, &changes);
        for (number, key) in (0_u32..).zip(keys) {
            if let Some(segment) = segments.of(*key) {
                probe.ask(Asked { number, key: *key, segment })?;
            }
        }
        probe.drain()?;
        self.seen.add(keys.len() as u64, probe.passed, probe.passed_in_vain);
        probe.found.sort_unstable();
        Ok(probe.found)
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

impl<'a> Probe<'a> {
    /// Begins with what the overlay answers.
    fn new(purpose: Purpose, changes: &'a [Changed]) -> Self {
        let agreed = changes.iter().filter(|(.., stamp)| stamp.flags().opt_ins().allows(purpose));
        Self {
            purpose,
            changes,
            blocks: VecDeque::with_capacity(2 * AHEAD),
            tags: VecDeque::with_capacity(2 * AHEAD),
            slots: VecDeque::with_capacity(2 * AHEAD),
            found: agreed.map(|(number, account, _)| (*number, *account)).collect(),
            passed: 0,
            passed_in_vain: 0,
        }
    }

    /// Asks for the key's filter block.
    #[inline]
    fn ask(&mut self, asked: Asked<'a>) -> Result<()> {
        let place = asked.segment.segment().filter_place(asked.key, self.purpose);
        self.blocks.push_back((asked, place));
        if self.blocks.len() > AHEAD { self.filter() } else { Ok(()) }
    }

    /// Tests the longest waiting filter block; a key that passes asks for its tag line.
    #[inline]
    fn filter(&mut self) -> Result<()> {
        let Some((asked, place)) = self.blocks.pop_front() else { return Ok(()) };
        if !asked.segment.locate(|s| s.passes(place))? {
            return Ok(());
        }
        self.passed += 1;
        self.tags.push_back((asked, asked.segment.segment().table_place(asked.key)));
        if self.tags.len() > AHEAD { self.match_tags() } else { Ok(()) }
    }

    /// Compares the longest waiting tag line; the key asks for the first slot whose tag is right.
    #[inline]
    fn match_tags(&mut self) -> Result<()> {
        let Some((asked, place)) = self.tags.pop_front() else { return Ok(()) };
        let candidates = asked.segment.locate(|s| s.candidates(place, asked.key))?;
        self.slots.push_back((asked, place, candidates));
        if self.slots.len() > AHEAD { self.read_slots() } else { Ok(()) }
    }

    /// Reads the longest waiting slots and takes what agreed to the purpose.
    #[inline]
    fn read_slots(&mut self) -> Result<()> {
        let Some((asked, place, candidates)) = self.slots.pop_front() else { return Ok(()) };
        let (changes, purpose, found) = (self.changes, self.purpose, &mut self.found);
        let mut agreed = 0;
        asked.segment.locate(|s| {
            s.probe_from(place, candidates, asked.key, |account, stamp| {
                if stamp.flags().opt_ins().allows(purpose) {
                    agreed += 1;
                    // A change stands above the segment's listing of the same account.
                    if !is_changed(changes, asked.number, account) {
                        found.push((asked.number, account));
                    }
                }
            })
        })?;
        self.passed_in_vain += u64::from(agreed == 0);
        Ok(())
    }

    /// Brings what still waits to its end.
    fn drain(&mut self) -> Result<()> {
        while !self.blocks.is_empty() {
            self.filter()?;
        }
        while !self.tags.is_empty() {
            self.match_tags()?;
        }
        while !self.slots.is_empty() {
            self.read_slots()?;
        }
        Ok(())
    }
}

/// Does the overlay have a change of this listing?
fn is_changed(changes: &[Changed], number: u32, account: AccountId) -> bool {
    if changes.is_empty() {
        return false;
    }
    let start = changes.partition_point(|(of, ..)| *of < number);
    changes.iter().skip(start).take_while(|(of, ..)| *of == number).any(|(_, changed, _)| *changed == account)
}
