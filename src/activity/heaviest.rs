//! Which scopes of a slot are worth a row.

use super::{Entry, Short, TopBy};

/// Scopes that are kept, and the most that those which are not had.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) entries: Vec<Entry>,
    pub(crate) cut: Short,
    pub(crate) is_cut: bool,
}

/// Keeps the `count` heaviest by each counter, and as many that met most tripwires. Equal ones are kept by identity, so that the choice is the same each time.
pub(crate) fn heaviest(mut entries: Vec<Entry>, count: usize) -> Kept {
    if entries.len() <= count {
        return Kept { entries, ..Kept::default() };
    }
    entries.sort_unstable_by_key(|entry| entry.id);
    let mut is_kept = vec![false; entries.len()];
    let mut order: Vec<usize> = (0..entries.len()).collect();
    for by in TopBy::ALL {
        let rank = |at: &usize| (std::cmp::Reverse(entries.get(*at).map_or(0, |entry| entry.counts.by(by))), *at);
        if count < order.len() {
            order.select_nth_unstable_by_key(count, rank);
        }
        for at in order.iter().take(count) {
            if let Some(kept) = is_kept.get_mut(*at) {
                *kept = true;
            }
        }
    }
    for at in most_tripwires(&entries, count) {
        if let Some(kept) = is_kept.get_mut(at) {
            *kept = true;
        }
    }
    let mut kept = Kept { is_cut: is_kept.contains(&false), ..Kept::default() };
    for (entry, is_kept) in entries.into_iter().zip(is_kept) {
        if is_kept {
            kept.entries.push(entry);
        } else {
            kept.cut = kept.cut.max(Short::of(&entry.counts).plus(entry.short));
        }
    }
    kept
}

/// Where those are that met most tripwires, at most `count`.
fn most_tripwires(entries: &[Entry], count: usize) -> Vec<usize> {
    let tripped = entries.iter().enumerate().filter(|(_, entry)| entry.counts.tripwires > 0);
    let mut tripped: Vec<(usize, u32)> = tripped.map(|(at, entry)| (at, entry.counts.tripwires)).collect();
    tripped.sort_unstable_by_key(|(at, tripwires)| (std::cmp::Reverse(*tripwires), *at));
    tripped.into_iter().take(count).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::activity::{CALLERS, Counts};

    fn entry(i: usize, (charged, missed, deferred): (u64, u64, u64)) -> Entry {
        let id = *blake3::hash(&i.to_le_bytes()).as_bytes().first_chunk().unwrap();
        let counts = Counts { charged, missed, deferred, ..Counts::default() };
        let short = Short { charged: 1, missed: 0, deferred: 2 };
        Entry { slot: 1, kind: CALLERS, id, counts, first_ms: 0, last_ms: 0, short, is_changed: false }
    }

    proptest! {
        #[test]
        fn the_heaviest_by_each_counter_are_kept_and_the_rest_is_bounded(
            counts in prop::collection::vec((0..9_u64, 0..9_u64, 0..9_u64), 0..60),
            count in 1..20_usize,
        ) {
            let all: Vec<Entry> = counts.iter().enumerate().map(|(i, counts)| entry(i, *counts)).collect();
            let kept = heaviest(all.clone(), count);
            prop_assert!(kept.entries.len() <= 3 * count || all.len() <= count);
            let is_kept = |entry: &Entry| kept.entries.iter().any(|kept| kept.id == entry.id);
            prop_assert_eq!(kept.is_cut, all.iter().any(|entry| !is_kept(entry)));
            for by in TopBy::ALL {
                let mut sorted = all.clone();
                sorted.sort_by_key(|entry| (std::cmp::Reverse(entry.counts.by(by)), entry.id));
                prop_assert!(sorted.iter().take(count).all(is_kept));
                let rest = all.iter().filter(|entry| !is_kept(entry));
                let most = rest.map(|entry| entry.counts.by(by) + entry.short.by(by)).max().unwrap_or(0);
                prop_assert_eq!(kept.cut.by(by), most);
            }
        }
    }

    #[test]
    fn whoever_met_tripwires_is_kept_however_light() {
        let mut all: Vec<Entry> = (0..50).map(|i| entry(i, (100, 100, 100))).collect();
        all.push(entry(50, (1, 1, 0)));
        all[50].counts.tripwires = 1;
        let kept = heaviest(all.clone(), 5);
        assert!(kept.entries.iter().any(|kept| kept.id == all[50].id));
        assert!(kept.entries.len() < 50 && all[50].counts.weight() > all[0].counts.weight());
    }
}
