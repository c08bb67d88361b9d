//! The probe of a lookup: a batch of keys through overlay, filters and tables.
//!
//! A group of keys goes through each step together: filter block, tag line, slot. A step begins with a short loop that
//! does nothing but ask the memory for the group's lines. A processor works on as many instructions at once as its
//! window holds, and a prefetch stays in it until its page is found: in a short loop many such searches overlap, in a
//! long one they queue: at 10 million listings the stalls of a pipeline with a queue between steps stood on its prefetches.

use super::Inner;
use super::segments::{LiveSegment, SegmentMap};
use crate::disk::Horizon;
use crate::segment::staged::{BucketPlace, FilterPlace, TagMatch};
use crate::words::{AccountId, Key, OptIns, Purpose, Result, Stamp};

/// Keys of a group. Its lines, one a key in each step, fit the first level of a cache.
const GROUP: usize = 256;
/// Keys whose pages are asked for before the first is touched: far more than a disk works on at once.
const WINDOW: usize = 32 * GROUP;

/// A key that has a segment, by its number in the batch, and the filter block it asked for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    number: u32,
    segment: &'a LiveSegment,
    place: FilterPlace,
}

/// A key that passed its filter block.
#[derive(Clone, Copy)]
struct Passed<'a> {
    number: u32,
    key: Key,
    segment: &'a LiveSegment,
}

/// Memory for the keys of a batch between its steps.
struct Room<'a> {
    asked: Vec<Asked<'a>>,
    passed: Vec<Passed<'a>>,
    places: Vec<BucketPlace>,
    matches: Vec<(Passed<'a>, TagMatch)>,
}

impl Room<'_> {
    fn for_keys(keys: usize) -> Self {
        let room = GROUP.min(keys);
        Self {
            asked: Vec::with_capacity(room),
            passed: Vec::with_capacity(room),
            places: Vec::with_capacity(room),
            matches: Vec::with_capacity(room),
        }
    }
}

/// A batch on its way.
struct Probe<'a> {
    purpose: Purpose,
    keys: &'a [Key],
    segments: &'a SegmentMap,
    changes: &'a [Changed],
    /// Keys whose listings may be in the spill area too.
    spilled: Vec<Passed<'a>>,
    /// Opted-in listings: position in the batch, account. Three runs, each in order: overlay, table, spill area.
    probed: Probed,
    /// How many keys passed the filter.
    passed: usize,
    /// Of those, keys with an opted-in listing in their home bucket, and in the spill area.
    answered: usize,
}

/// The opted-in listings of a batch, as (position in the batch, account), in order.
#[derive(Default)]
pub(super) struct Probed {
    pub(super) found: Vec<(u32, AccountId)>,
    /// Those whose audience is mutual: nobody may be shown them but whose number their account asked for.
    pub(super) mutual: Vec<(u32, AccountId)>,
}

impl Probed {
    /// Takes a listing that agreed to the purpose.
    #[inline(always)]
    fn take(&mut self, number: u32, account: AccountId, opt_ins: OptIns) {
        let to = if opt_ins.contains(OptIns::MUTUAL) { &mut self.mutual } else { &mut self.found };
        to.push((number, account));
    }
}

/// A change of the overlay: position in the batch, account, stamp. Sorted by position.
type Changed = (u32, AccountId, Stamp);

/// Keys of a lookup at most whose first lines are asked for before it is charged.
const ASKED_BEFORE: usize = 16;

impl Inner {
    /// Asks the memory for the filter blocks and tag lines of a few keys, so that they come while the lookup is charged:
    /// of one number those are most of the time that the probe waits. Nothing is read, and nothing depends on what is
    /// there. The lines of a larger batch come together anyway.
    pub(super) fn ask_before(&self, purpose: Purpose, keys: &[Key]) {
        if keys.len() > ASKED_BEFORE {
            return;
        }
        let segments = self.segments.load();
        for key in keys {
            if let Some(segment) = segments.of(*key) {
                segment.segment().filter_place(*key, purpose);
                segment.segment().home_place(*key);
            }
        }
    }

    /// The opted-in listings of these keys.
    ///
    /// The overlay is read before the segments: a fold puts a change into a segment before it takes it out of
    /// the overlay, so in this order a change is seen in one or both, never in neither.
    pub(super) fn probe(&self, purpose: Purpose, keys: &[Key]) -> Result<Probed> {
        self.watched(keys.len(), || self.probe_with(purpose, keys, self.residency.horizon()))
    }

    /// [`Inner::probe`], asking for pages that are not in memory if there is a `horizon`.
    pub(super) fn probe_with(&self, purpose: Purpose, keys: &[Key], horizon: Option<&Horizon>) -> Result<Probed> {
        let changes = self.changes_of(keys);
        let segments = self.segments.load();
        let mut probe = Probe::new(purpose, keys, &segments, &changes);
        probe.run(horizon)?;
        // A key with listings in the table and in the spill area is answered twice: a rate hardly feels it.
        self.seen.add(keys.len() as u64, probe.passed as u64, probe.passed.saturating_sub(probe.answered) as u64);
        let mut probed = probe.probed;
        // Usually one run already; the stable sort merges the few that there are.
        probed.found.sort();
        probed.mutual.sort();
        Ok(probed)
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
    fn new(purpose: Purpose, keys: &'a [Key], segments: &'a SegmentMap, changes: &'a [Changed]) -> Self {
        let mut probed = Probed { found: Vec::with_capacity(keys.len()), mutual: Vec::new() };
        for (number, account, stamp) in changes {
            let opt_ins = stamp.flags().opt_ins();
            if opt_ins.allows(purpose) {
                probed.take(*number, *account, opt_ins);
            }
        }
        Self { purpose, keys, segments, changes, spilled: Vec::new(), probed, passed: 0, answered: 0 }
    }

    fn run(&mut self, horizon: Option<&Horizon>) -> Result<()> {
        let mut room = Room::for_keys(self.keys.len());
        let Some(horizon) = horizon else {
            for (first, keys) in (0_u32..).step_by(GROUP).zip(self.keys.chunks(GROUP)) {
                room.passed.clear();
                self.ask_filter(first, keys, &mut room.asked);
                self.test_filter(&room.asked, &mut room.passed)?;
                self.read_table(&room.passed, &mut room.places, &mut room.matches, None)?;
            }
            return self.spill_area();
        };
        for (first, keys) in (0_u32..).step_by(WINDOW).zip(self.keys.chunks(WINDOW)) {
            self.run_asking(first, keys, horizon, &mut room)?;
        }
        self.spill_area()
    }

    /// The same for keys whose pages may not be in memory: each step asks the disk for the pages of all keys before it
    /// touches the first. What passes its filter is asked for, whatever it is found to be.
    fn run_asking(&mut self, first: u32, keys: &[Key], horizon: &Horizon, room: &mut Room<'a>) -> Result<()> {
        for key in keys {
            if let Some(segment) = self.segments.of(*key).filter(|segment| !segment.has_filter()) {
                segment.ask(segment.segment().filter_block(*key, self.purpose), horizon);
            }
        }
        room.passed.clear();
        for (first, keys) in (first..).step_by(GROUP).zip(keys.chunks(GROUP)) {
            self.ask_filter(first, keys, &mut room.asked);
            self.test_filter(&room.asked, &mut room.passed)?;
        }
        for Passed { key, segment, .. } in room.passed.iter().filter(|passed| !passed.segment.is_filled()) {
            segment.ask(segment.segment().home_bucket(*key), horizon);
        }
        for passed in room.passed.chunks(GROUP) {
            self.read_table(passed, &mut room.places, &mut room.matches, Some(horizon))?;
        }
        Ok(())
    }

    /// Tag lines and slots of a group.
    fn read_table(
        &mut self,
        passed: &[Passed<'a>],
        places: &mut Vec<BucketPlace>,
        matches: &mut Vec<(Passed<'a>, TagMatch)>,
        horizon: Option<&Horizon>,
    ) -> Result<()> {
        if passed.is_empty() {
            return Ok(());
        }
        places.clear();
        places.extend(passed.iter().map(|asked| asked.segment.segment().home_place(asked.key)));
        self.match_tags(passed, places, matches, horizon)?;
        for (asked, matched) in matches.iter() {
            asked.segment.segment().ask_for_slots(*matched);
        }
        self.read_slots(matches)
    }

    fn ask_filter(&self, first: u32, keys: &[Key], asked: &mut Vec<Asked<'a>>) {
        asked.clear();
        asked.extend((first..).zip(keys).filter_map(|(number, key)| {
            let segment = self.segments.of(*key)?;
            Some(Asked { number, segment, place: segment.segment().filter_place(*key, self.purpose) })
        }));
    }

    /// Adds the keys that pass their filter block.
    fn test_filter(&mut self, asked: &[Asked<'a>], passed: &mut Vec<Passed<'a>>) -> Result<()> {
        let mut numbers = [0_u16; GROUP];
        let mut count = 0;
        for (number, asked) in (0_u16..).zip(asked) {
            // Written whether the key passes or not, so that the processor has no branch to guess.
            if let Some(to) = numbers.get_mut(count) {
                *to = number;
            }
            count += usize::from(asked.segment.locate(|s| s.passes(asked.place))?);
        }
        self.passed += count;
        passed.extend(numbers.iter().take(count).filter_map(|at| {
            let Asked { number, segment, .. } = *asked.get(usize::from(*at))?;
            Some(Passed { number, key: *self.keys.get(number as usize)?, segment })
        }));
        Ok(())
    }

    /// Compares tag lines; notes the keys whose listings may be in the spill area too.
    fn match_tags(
        &mut self,
        passed: &[Passed<'a>],
        places: &[BucketPlace],
        matches: &mut Vec<(Passed<'a>, TagMatch)>,
        horizon: Option<&Horizon>,
    ) -> Result<()> {
        matches.clear();
        for (asked, place) in passed.iter().zip(places) {
            let matched = asked.segment.locate(|s| s.match_tags(*place, asked.key))?;
            if matched.overflows() {
                if let Some(horizon) = horizon.filter(|_| !asked.segment.is_filled()) {
                    asked.segment.ask(asked.segment.segment().spill_bucket_of(asked.key), horizon);
                }
                asked.segment.segment().ask_for_spill(asked.key);
                self.spilled.push(*asked);
            }
            if matched.has_candidates() {
                matches.push((*asked, matched));
            }
        }
        Ok(())
    }

    fn read_slots(&mut self, matches: &[(Passed<'a>, TagMatch)]) -> Result<()> {
        for (asked, matched) in matches {
            let mut taker = Taker::new(asked.number, self.purpose, self.changes, &mut self.probed);
            asked
                .segment
                .locate(|s| s.read_slots(*matched, asked.key, &mut |account, stamp| taker.take(account, stamp)))?;
            self.answered += usize::from(taker.agreed);
        }
        Ok(())
    }

    /// Looks into the spill area for the keys that found their home full. Few do, and their first line was asked
    /// for when that was seen.
    fn spill_area(&mut self) -> Result<()> {
        for asked in std::mem::take(&mut self.spilled) {
            let mut taker = Taker::new(asked.number, self.purpose, self.changes, &mut self.probed);
            asked
                .segment
                .locate(|s| s.probe_spill(asked.key, &mut |account, stamp| taker.take(account, stamp)))?;
            self.answered += usize::from(taker.agreed);
        }
        Ok(())
    }
}

/// Takes what agreed to the purpose and was not changed since.
struct Taker<'a> {
    number: u32,
    purpose: Purpose,
    changes: &'a [Changed],
    probed: &'a mut Probed,
    agreed: bool,
}

impl<'a> Taker<'a> {
    fn new(number: u32, purpose: Purpose, changes: &'a [Changed], probed: &'a mut Probed) -> Self {
        Self { number, purpose, changes, probed, agreed: false }
    }

    #[inline(always)]
    fn take(&mut self, account: AccountId, stamp: Stamp) {
        let opt_ins = stamp.flags().opt_ins();
        if opt_ins.allows(self.purpose) {
            self.agreed = true;
            // A change stands above the segment's listing of the same account.
            if !is_changed(self.changes, self.number, account) {
                self.probed.take(self.number, account, opt_ins);
            }
        }
    }
}

/// Does the overlay have a change of this listing?
#[inline(always)]
fn is_changed(changes: &[Changed], number: u32, account: AccountId) -> bool {
    if changes.is_empty() {
        return false;
    }
    let start = changes.partition_point(|(of, ..)| *of < number);
    changes.iter().skip(start).take_while(|(of, ..)| *of == number).any(|(_, changed, _)| *changed == account)
}
