//! Who is heaviest in a window: hours of the file and of memory, added up.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

use super::rows::{self, Absent, CALLER, Seen};
use super::slot_of;
use crate::activity::{Counts, Short, TopBy};
use crate::ledger::ScopeId;
use crate::ledger::redb::RedbLedger;
use crate::words::Result;

/// Which scopes are asked for.
pub(crate) struct TopOf<'a> {
    pub(crate) by: TopBy,
    /// How far back, in nanoseconds of ledger time.
    pub(crate) window_ns: u64,
    /// A kind of origin; callers if there is none.
    pub(crate) kind: Option<&'a str>,
    /// Only these, whatever they did; all who did anything if there are none.
    pub(crate) only: &'a [ScopeId],
    pub(crate) limit: usize,
}

/// A scope in a window.
pub(crate) struct TopScope {
    pub(crate) id: ScopeId,
    pub(crate) counts: Counts,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    /// What it was ordered by may be short by so much.
    pub(crate) short_by: u64,
}

/// A scope in a window and in the one before.
pub(crate) struct InWindows {
    pub(crate) id: ScopeId,
    pub(crate) counts: Counts,
    pub(crate) charged_before: u64,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    /// What was charged in the window may be short by so much.
    pub(crate) short_by: u64,
}

/// The heaviest scopes of a window.
pub(crate) struct Top {
    pub(crate) scopes: Vec<TopScope>,
    /// What a scope that was not counted at all may have had.
    pub(crate) short_by: u64,
}

/// A scope so far.
struct Sum {
    seen: Seen,
    /// What scopes without a row may have had in the hours in which this one has a row.
    covered: Short,
}

#[derive(Default)]
struct Sums {
    scopes: HashMap<ScopeId, Sum>,
    /// What a scope without any row may have had in all hours.
    absent: Short,
}

impl Sums {
    fn add(&mut self, absent: Short, seen: Seen) {
        let fresh = || Sum {
            seen: Seen { counts: Counts::default(), short: Short::default(), ..seen },
            covered: Short::default(),
        };
        let sum = self.scopes.entry(seen.id).or_insert_with(fresh);
        sum.seen.counts.add(&seen.counts);
        sum.seen.first_ms = sum.seen.first_ms.min(seen.first_ms);
        sum.seen.last_ms = sum.seen.last_ms.max(seen.last_ms);
        sum.seen.short = sum.seen.short.plus(seen.short);
        sum.covered = sum.covered.plus(absent);
    }

    fn top(self, of: &TopOf<'_>) -> Top {
        let absent = self.absent.by(of.by);
        let scope = |sum: Sum| {
            let Seen { id, counts, first_ms, last_ms, short } = sum.seen;
            let short_by = absent.saturating_sub(sum.covered.by(of.by)).saturating_add(short.by(of.by));
            TopScope { id, counts, first_ms, last_ms, short_by }
        };
        let wanted = |scope: &TopScope| !of.only.is_empty() || scope.counts.by(of.by) > 0;
        let mut scopes: Vec<TopScope> = self.scopes.into_values().map(scope).filter(wanted).collect();
        // Equal ones by identity, so that the order is the same each time.
        scopes.sort_unstable_by_key(|scope| (Reverse(scope.counts.by(of.by)), scope.id));
        scopes.truncate(of.limit);
        Top { scopes, short_by: absent }
    }
}

impl RedbLedger {
    /// The heaviest scopes of a window. It begins and ends with a whole hour of ledger time.
    pub(crate) fn top(&self, of: &TopOf<'_>) -> Result<Top> {
        let slots = self.slots_of(of.window_ns);
        Ok(self.sums(of.kind.unwrap_or(CALLER), of.only, slots)?.top(of))
    }

    /// What every scope of a kind did in a window, and in the window of the same length before it.
    pub(crate) fn in_windows(&self, kind: Option<&str>, window_ns: u64) -> Result<Vec<InWindows>> {
        let kind = kind.unwrap_or(CALLER);
        let now = self.slots_of(window_ns);
        let before = now.start.saturating_sub(now.end - now.start)..now.start;
        let oldest = self.activity.oldest(now.end.saturating_sub(1));
        let before = self.sums(kind, &[], before.start.max(oldest)..before.end)?;
        let Sums { scopes, absent } = self.sums(kind, &[], now)?;
        let row = |sum: Sum| {
            let Seen { id, counts, first_ms, last_ms, short } = sum.seen;
            let short_by = absent.charged.saturating_sub(sum.covered.charged).saturating_add(short.charged);
            let charged_before = before.scopes.get(&id).map_or(0, |sum| sum.seen.counts.charged);
            InWindows { id, counts, charged_before, first_ms, last_ms, short_by }
        };
        Ok(scopes.into_values().map(row).collect())
    }

    /// The hours of a window that ends now, within the retention.
    pub(super) fn slots_of(&self, window_ns: u64) -> Range<u32> {
        let now_ns = self.time.ledger_ns();
        let now_slot = slot_of(now_ns);
        let oldest = slot_of(now_ns.saturating_sub(window_ns)).max(self.activity.oldest(now_slot));
        oldest..now_slot.saturating_add(1)
    }

    /// What scopes of a kind did in these hours, all of them or only some.
    fn sums(&self, kind: &str, only: &[ScopeId], of: Range<u32>) -> Result<Sums> {
        let wanted = |id: &ScopeId| only.is_empty() || only.contains(id);
        let oldest = of.start.min(of.end);
        // No hour goes from memory to the file meanwhile.
        let writer = self.activity.writer.lock();
        let mut sums = Sums::default();
        let in_memory =
            self.activity.slots(|table| (table.entries().copied().collect(), table.dropped().to_vec()));
        let number = self.activity.known_kind(kind);
        for (_, slot) in in_memory.range(oldest..of.end) {
            let absent = slot.absent.of(kind);
            sums.absent = sums.absent.plus(absent);
            for entry in slot.entries.iter().filter(|entry| Some(entry.kind) == number && wanted(&entry.id)) {
                let (first_ms, last_ms, short) = (entry.first_ms, entry.last_ms, entry.short);
                sums.add(absent, Seen { id: entry.id, counts: entry.counts, first_ms, last_ms, short });
            }
        }
        self.db.read(|txn| {
            let slots = rows::slots(&self.db, txn, oldest, writer.owned_from.min(of.end))?;
            for (_, absent) in &slots {
                sums.absent = sums.absent.plus(absent.of(kind));
            }
            let visit = |absent: &Absent, seen: Seen| {
                if wanted(&seen.id) {
                    sums.add(absent.of(kind), seen);
                }
            };
            rows::of_kind(&self.db, txn, &slots, kind, visit)
        })?;
        Ok(sums)
    }
}
