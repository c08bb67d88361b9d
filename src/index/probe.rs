//! The probe of a lookup: a batch of keys through overlay, filters and tables.
//!
//! A processor works on as many instructions at once as its window holds, and a prefetch stays in it until its page is
//! found. In a large table most pages have to be searched for, so where the tag lines are is computed for a group of keys first, and
//! then a loop that does nothing else asks for all of them: many searches overlap. A filter is small enough for its pages to be known:
//! its blocks are asked for a block of keys at a time, while an earlier one is tested. Slots are near their tag line, and
//! are asked for as soon as it is compared. Measured in `docs/PERFORMANCE.md`.

use super::Inner;
use super::segments::{LiveSegment, SegmentMap};
use crate::disk::Horizon;
use crate::prefetch::{BLOCK, block};
use crate::segment::staged::{BucketPlace, FilterPlace, TagMatch, Take};
use crate::wide;
use crate::words::{AccountId, Key, OptIns, Purpose, Result, Stamp};

/// Keys between the one whose filter block is asked for and the one whose is tested.
const FILTER_LEAD: usize = 2 * BLOCK;
/// Keys that go through the filter before those that pass go on to the table. What is noted of them fits the first level of
/// a cache.
const GROUP: usize = 256;
/// Keys whose pages are asked for before the first is touched: far more than a disk works on at once.
const WINDOW: usize = 32 * GROUP;

/// The filter block that a key asked for; none if no segment has its range.
#[derive(Clone, Copy)]
struct Asked<'a> {
    segment: Option<&'a LiveSegment>,
    place: FilterPlace,
}

/// A key that passed its filter block, by its number in the batch, and the bucket it belongs to.
#[derive(Clone, Copy)]
struct Placed<'a> {
    segment: &'a LiveSegment,
    place: BucketPlace,
    number: u32,
}

/// Memory for the keys of a batch between its steps.
struct Room<'a> {
    asked: Vec<Asked<'a>>,
    /// Numbers in the batch of the keys that passed.
    passed: Vec<u32>,
    placed: Vec<Placed<'a>>,
    /// Where in `placed`, and what its tag line says.
    matches: Vec<(u32, TagMatch)>,
}

impl Room<'_> {
    fn for_keys(keys: usize) -> Self {
        let room = GROUP.min(keys);
        Self {
            asked: Vec::with_capacity(room),
            passed: Vec::with_capacity(room),
            placed: Vec::with_capacity(room),
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
    spilled: Vec<Placed<'a>>,
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
                segment.segment().ask_for_tags(segment.segment().home_place(*key));
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
        wide::run(Tables { probe: &mut probe, horizon })?;
        probe.spill_area()?;
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

/// [`Probe::tables`], compiled for what the processor has.
struct Tables<'a, 'b> {
    probe: &'b mut Probe<'a>,
    horizon: Option<&'b Horizon>,
}

impl wide::Work for Tables<'_, '_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run(self) -> Result<()> {
        self.probe.tables(self.horizon)
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

    #[inline(always)]
    fn tables(&mut self, horizon: Option<&Horizon>) -> Result<()> {
        let mut room = Room::for_keys(self.keys.len());
        let Some(horizon) = horizon else {
            for (first, keys) in (0_u32..).step_by(GROUP).zip(self.keys.chunks(GROUP)) {
                room.passed.clear();
                self.pass_filter(first, keys, &mut room)?;
                let Room { passed, placed, matches, .. } = &mut room;
                self.read_table(passed, placed, matches, None)?;
            }
            return Ok(());
        };
        for (first, keys) in (0_u32..).step_by(WINDOW).zip(self.keys.chunks(WINDOW)) {
            self.tables_asking(first, keys, horizon, &mut room)?;
        }
        Ok(())
    }

    /// The same for keys whose pages may not be in memory: each step asks the disk for the pages of all keys before it
    /// touches the first. What passes its filter is asked for, whatever it is found to be.
    #[inline(always)]
    fn tables_asking(&mut self, first: u32, keys: &[Key], horizon: &Horizon, room: &mut Room<'a>) -> Result<()> {
        for key in keys {
            if let Some(segment) = self.segments.of(*key).filter(|segment| !segment.has_filter()) {
                segment.ask(segment.segment().filter_block(*key, self.purpose), horizon);
            }
        }
        room.passed.clear();
        for (first, keys) in (first..).step_by(GROUP).zip(keys.chunks(GROUP)) {
            self.pass_filter(first, keys, room)?;
        }
        let Room { passed, placed, matches, .. } = room;
        for (key, segment) in passed.iter().filter_map(|number| self.of_number(*number)) {
            if !segment.is_filled() {
                segment.ask(segment.segment().home_bucket(key), horizon);
            }
        }
        for passed in passed.chunks(GROUP) {
            self.read_table(passed, placed, matches, Some(horizon))?;
        }
        Ok(())
    }

    /// A key of the batch and its segment.
    #[inline(always)]
    fn of_number(&self, number: u32) -> Option<(Key, &'a LiveSegment)> {
        let key = *self.keys.get(number as usize)?;
        Some((key, self.segments.of(key)?))
    }

    /// Adds the keys of a group that pass their filter block to those that passed.
    #[inline(always)]
    fn pass_filter(&mut self, first: u32, keys: &[Key], room: &mut Room<'a>) -> Result<()> {
        let Room { asked, passed, .. } = room;
        asked.clear();
        asked.reserve(keys.len());
        let before = passed.len();
        let lead = lead_of(keys.len(), FILTER_LEAD);
        for at in (0..keys.len() + lead).step_by(BLOCK) {
            self.ask_filter(block(keys, at), asked);
            if let Some(at) = at.checked_sub(lead) {
                test_filter(first + at as u32, block(asked, at), passed)?;
            }
        }
        self.passed += passed.len() - before;
        Ok(())
    }

    #[inline(always)]
    fn ask_filter(&self, keys: &[Key], asked: &mut Vec<Asked<'a>>) {
        for key in keys {
            let segment = self.segments.of(*key);
            let place = match segment {
                Some(segment) => segment.segment().filter_place(*key, self.purpose),
                None => FilterPlace::default(),
            };
            asked.push(Asked { segment, place });
        }
    }

    /// Tag lines and slots of a group of keys that passed.
    #[inline(always)]
    fn read_table(
        &mut self,
        passed: &[u32],
        placed: &mut Vec<Placed<'a>>,
        matches: &mut Vec<(u32, TagMatch)>,
        horizon: Option<&Horizon>,
    ) -> Result<()> {
        if passed.is_empty() {
            return Ok(());
        }
        placed.clear();
        placed.reserve(passed.len());
        matches.clear();
        matches.reserve(passed.len());
        self.place(passed, placed);
        for Placed { segment, place, .. } in placed.iter() {
            segment.segment().ask_for_tags(*place);
        }
        let mut read = 0;
        for at in (0..placed.len() + BLOCK).step_by(BLOCK) {
            // Slots that were asked for a block ago.
            let asked = matches.len();
            self.match_tags(at as u32, block(placed, at), matches, horizon)?;
            self.read_slots(placed, matches.get(read..asked).unwrap_or_default())?;
            read = asked;
        }
        Ok(())
    }

    /// The buckets of keys that passed.
    #[inline(always)]
    fn place(&self, passed: &[u32], placed: &mut Vec<Placed<'a>>) {
        for number in passed {
            if let Some((key, segment)) = self.of_number(*number) {
                placed.push(Placed { segment, place: segment.segment().home_place(key), number: *number });
            }
        }
    }

    /// Compares tag lines and asks for slots; notes the keys whose listings may be in the spill area too.
    #[inline(always)]
    fn match_tags(
        &mut self,
        first: u32,
        placed: &[Placed<'a>],
        matches: &mut Vec<(u32, TagMatch)>,
        horizon: Option<&Horizon>,
    ) -> Result<()> {
        for (at, on_way) in (first..).zip(placed) {
            let Placed { segment, place, number } = *on_way;
            let Some(key) = self.keys.get(number as usize) else { continue };
            let matched = segment.segment().match_tags(place, *key).map_err(|flaw| segment.located(flaw))?;
            if matched.overflows() {
                self.note_spilled(*key, on_way, horizon);
            }
            if matched.has_candidates() {
                segment.segment().ask_for_slots(matched);
                matches.push((at, matched));
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn read_slots(&mut self, placed: &[Placed<'a>], matches: &[(u32, TagMatch)]) -> Result<()> {
        for (at, matched) in matches {
            let Some(Placed { segment, number, .. }) = placed.get(*at as usize) else { continue };
            let Some(key) = self.keys.get(*number as usize) else { continue };
            let mut taker = Taker::new(*number, self.purpose, self.changes, &mut self.probed);
            let read = segment.segment().read_slots(*matched, *key, &mut taker);
            read.map_err(|flaw| segment.located(flaw))?;
            self.answered += usize::from(taker.agreed);
        }
        Ok(())
    }

    /// Few keys find their home full. Their lines are asked for later, together: each is in a page of its own.
    #[cold]
    fn note_spilled(&mut self, key: Key, placed: &Placed<'a>, horizon: Option<&Horizon>) {
        let segment = placed.segment;
        if let Some(horizon) = horizon.filter(|_| !segment.is_filled()) {
            segment.ask(segment.segment().spill_bucket_of(key), horizon);
        }
        if let Some(place) = segment.segment().spill_place(key) {
            self.spilled.push(Placed { place, ..*placed });
        }
    }

    /// Looks into the spill area for the keys that found their home full.
    fn spill_area(&mut self) -> Result<()> {
        let spilled = std::mem::take(&mut self.spilled);
        for Placed { segment, place, .. } in &spilled {
            segment.segment().ask_for_tags(*place);
        }
        let mut matches = Vec::with_capacity(spilled.len());
        for Placed { segment, place, number } in &spilled {
            let Some(key) = self.keys.get(*number as usize) else { continue };
            let matched = segment.locate(|segment| segment.match_tags(*place, *key))?;
            segment.segment().ask_for_spill_slots(matched);
            matches.push((*segment, *number, key, matched));
        }
        for (segment, number, key, matched) in matches {
            let mut taker = Taker::new(number, self.purpose, self.changes, &mut self.probed);
            segment.locate(|segment| segment.read_spill(matched, *key, &mut taker))?;
            self.answered += usize::from(taker.agreed);
        }
        Ok(())
    }
}

/// Few keys do not wait for others: there is nothing that could be done meanwhile.
#[inline(always)]
const fn lead_of(keys: usize, most: usize) -> usize {
    let other_blocks = keys.saturating_sub(1) / BLOCK * BLOCK;
    if other_blocks < most { other_blocks } else { most }
}

/// Adds the numbers, from `first` on, of the keys that pass their filter block.
#[inline(always)]
fn test_filter(first: u32, asked: &[Asked<'_>], passed: &mut Vec<u32>) -> Result<()> {
    let mut count = passed.len();
    passed.resize(count + asked.len(), 0);
    for (number, Asked { segment, place }) in (first..).zip(asked) {
        // Written whether the key passes or not, so that the processor has no branch to guess.
        if let Some(to) = passed.get_mut(count) {
            *to = number;
        }
        if let Some(segment) = segment {
            count += usize::from(segment.segment().passes(*place).map_err(|flaw| segment.located(flaw))?);
        }
    }
    passed.truncate(count);
    Ok(())
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
}

impl Take for Taker<'_> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::index::{Index, Options};
    use crate::wide::Work;
    use crate::words::{Listing, PhoneHash, Secret, Version};

    fn hash(i: u32) -> PhoneHash {
        PhoneHash::from_bytes(*blake3::hash(&i.to_le_bytes()).as_bytes())
    }

    /// Every third number has no account, every seventh has thirty, which fill their buckets, and every other account hides.
    fn listings() -> Vec<(u32, u64, OptIns)> {
        let accounts = |i: u32| match i {
            _ if i.is_multiple_of(3) => 0,
            _ if i.is_multiple_of(7) => 30,
            _ => 1,
        };
        let of_number = |i: u32| (0..accounts(i)).map(move |account| (i, u64::from(i) << 8 | account));
        let opt_ins = [OptIns::SEARCH, OptIns::CONTACT_SYNC];
        (0..3_000).flat_map(of_number).map(|(i, account)| (i, account, opt_ins[account as usize % 2])).collect()
    }

    /// Whatever the number of keys is in blocks, and whatever the processor has.
    #[test]
    fn keys_in_blocks_are_answered_as_one_by_one_and_wide_as_narrow() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(Secret::from_bytes([7; 32])).background(false).segment_listings(8_000);
        let index = Index::open(dir.path(), options).unwrap();
        let (mut expected, mut rows) = (BTreeMap::<u32, Vec<AccountId>>::new(), Vec::new());
        for (i, account, opt_ins) in listings() {
            let account = AccountId::from(account);
            rows.push(Listing { hash: hash(i), account, opt_ins, version: Version::default() });
            if opt_ins.allows(Purpose::Search) {
                expected.entry(i).or_default().push(account);
            }
        }
        index.import(rows).unwrap();
        let inner = &index.inner;
        let segments = inner.segments.load();
        assert!(segments.live().any(|live| live.segment().header().spill_buckets > 0));
        let horizon = Horizon::of_bytes(0);
        for len in [0, 1, 15, 16, 17, 32, 33, 49, 255, 256, 257, 700, 3_000] {
            let mut keys = Vec::new();
            inner.ring.keys_of((0..len).map(|i| hash(i * 11 % 3_000)).collect::<Vec<_>>().iter(), &mut keys);
            let shown = |i: u32| expected.get(&(i * 11 % 3_000)).into_iter().flatten();
            let expected: Vec<_> = (0..len).flat_map(|i| shown(i).map(move |account| (i, *account))).collect();
            for (is_wide, horizon) in
                [(false, None), (true, None), (false, Some(&horizon)), (true, Some(&horizon))]
            {
                let mut probe = Probe::new(Purpose::Search, &keys, &segments, &[]);
                let tables = Tables { probe: &mut probe, horizon };
                if is_wide { wide::run(tables) } else { tables.run() }.unwrap();
                probe.spill_area().unwrap();
                probe.probed.found.sort();
                assert!(probe.probed.found == expected, "{len} keys");
            }
        }
    }
}
