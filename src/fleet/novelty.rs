//! What callers paid for, shared: an appended list of fingerprints for each caller and generation.
//!
//! A node tells what was paid on it some time after the charge, and asks what was paid elsewhere when it has not for a while.
//! What is lost or late on the way is paid again: that costs the caller, and never the budget.

use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::FleetLedger;
use super::answers::damaged;
use super::calls::{Ask, Paid, Tail};
use super::charge::quota_of;
use crate::ledger::{RedbLedger, Scope, ScopeId, ScopeKind};
use crate::words::Result;

/// How long what was heard of a caller is good.
const HEARD_NS: u64 = 60_000_000_000;
/// Generations in a window, and the one that is under way: a number is forgotten between one and one and a quarter windows
/// after its charge, plus a quarter where a node heard of it.
const GENERATIONS: u64 = 4;
/// Numbers that wait to be told at most. What comes then is not told.
const MOST_UNSENT: usize = 4 << 20;
const FINGERPRINT_BYTES: usize = 4;
/// Callers, and bytes, that one call tells of.
const TOLD_CALLERS: usize = 512;
const TOLD_AT_ONCE: usize = 256 << 10;

/// Numbers that callers paid for here and the fleet was not told of.
#[derive(Default)]
pub(super) struct Unsent(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    of: HashMap<(ScopeId, u64), Vec<u8>>,
    numbers: usize,
}

impl Unsent {
    pub(super) fn len(&self) -> usize {
        self.0.lock().numbers
    }

    fn push(&self, caller: ScopeId, generation: u64, fingerprints: impl Iterator<Item = u32>) {
        let mut waiting = self.0.lock();
        if waiting.numbers >= MOST_UNSENT {
            return;
        }
        let bytes = waiting.of.entry((caller, generation)).or_default();
        let before = bytes.len();
        bytes.extend(fingerprints.flat_map(u32::to_le_bytes));
        waiting.numbers += (bytes.len() - before) / FINGERPRINT_BYTES;
    }

    fn take(&self) -> Vec<Paid> {
        let taken = std::mem::take(&mut *self.0.lock()).of.into_iter();
        taken.map(|((caller, generation), bytes)| Paid { caller, generation, bytes }).collect()
    }

    fn forget(&self, caller: ScopeId) {
        let mut waiting = self.0.lock();
        waiting.of.retain(|(of, _), _| *of != caller);
        waiting.numbers = waiting.of.values().map(|bytes| bytes.len() / FINGERPRINT_BYTES).sum();
    }
}

impl FleetLedger {
    /// Seconds of a generation; nothing is remembered without a window.
    fn generation_s(&self) -> u64 {
        (self.window_s / GENERATIONS).max(60)
    }

    fn now_s(&self) -> u64 {
        self.clock.wall_ms() / 1_000
    }

    /// The generations that are remembered, oldest first.
    fn generations(&self) -> std::ops::RangeInclusive<u64> {
        let now = self.now_s() / self.generation_s();
        now.saturating_sub(GENERATIONS)..=now
    }

    pub(super) fn queue_novelty(&self, caller: ScopeId, charged: &[u32], fingerprints: &[u32]) {
        if self.window_s == 0 || charged.is_empty() {
            return;
        }
        let paid = charged.iter().filter_map(|at| fingerprints.get(*at as usize).copied());
        self.unsent.push(caller, self.now_s() / self.generation_s(), paid);
    }

    /// Tells the fleet what waits, until a moment, in a call for many callers of one server. What could not be told is told the
    /// next time, unless too much waits by then.
    pub(super) fn send_novelty(&self, until_ns: u64) {
        let expire_s = self.generation_s() * (GENERATIONS + 2);
        let mut waiting = self.unsent.take();
        waiting.sort_by_cached_key(|paid| self.calls.cluster.primary_of(paid.slot()));
        let mut left = waiting.as_slice();
        while !left.is_empty() && self.clock.monotonic_ns() <= until_ns {
            let (some, rest) = left.split_at(self.told_at_once(left));
            let told = match self.calls.remember(some, expire_s) {
                Ok(told) => told,
                Err(error) => {
                    tracing::debug!(error = error.to_string(), "what callers paid for was not told");
                    break;
                }
            };
            for (paid, told) in some.iter().zip(told) {
                match told {
                    Ok(len) => self.note_told(paid, len),
                    Err(_) => self.unsent.push(paid.caller, paid.generation, read(&paid.bytes)),
                }
            }
            left = rest;
        }
        left.iter().for_each(|paid| self.unsent.push(paid.caller, paid.generation, read(&paid.bytes)));
    }

    /// How many of these go in one call: those of the first one's server, and not too much at once.
    fn told_at_once(&self, waiting: &[Paid]) -> usize {
        let primary = waiting.first().and_then(|paid| self.calls.cluster.primary_of(paid.slot()));
        let mut bytes = 0;
        let fits = |paid: &&Paid| {
            bytes += paid.bytes.len();
            bytes <= TOLD_AT_ONCE && self.calls.cluster.primary_of(paid.slot()) == primary
        };
        waiting.iter().take(TOLD_CALLERS).take_while(fits).count().max(1)
    }

    /// Where nobody else appended, the node knows all of a list.
    fn note_told(&self, paid: &Paid, len: u64) {
        let from = len.saturating_sub(paid.bytes.len() as u64);
        self.credits.change(paid.caller, |credit| {
            let mine = credit.tails.iter_mut().find(|tail| tail.generation == paid.generation);
            if let Some(tail) = mine.filter(|tail| tail.from == from) {
                tail.from = len;
            }
        });
    }

    pub(super) fn is_heard(&self, caller: ScopeId, now_ns: u64) -> bool {
        let heard = |heard_ns: u64| heard_ns != 0 && now_ns.saturating_sub(heard_ns) < HEARD_NS;
        self.window_s == 0 || self.credits.get(caller).is_some_and(|credit| heard(credit.heard_ns))
    }

    /// Asks the fleet what a caller paid for elsewhere.
    pub(super) fn hear_novelty(&self, local: &RedbLedger, caller: ScopeId, now_ns: u64) -> Result<()> {
        let scope = Scope { id: caller, kind: ScopeKind::Caller };
        let Some(quota) = quota_of(local, scope)? else { return Ok(()) };
        let known = self.credits.get(caller).map(|credit| credit.tails).unwrap_or_default();
        let from =
            |generation| known.iter().find(|tail| tail.generation == generation).map_or(0, |tail| tail.from);
        let mut tails: Vec<Tail> =
            self.generations().map(|generation| Tail { generation, from: from(generation) }).collect();
        let room = loop {
            let ask = Ask { id: caller, quota, wanted: 0, ahead: 0, tails: &tails };
            let heard = self.calls.lease(&ask)?;
            let (mut is_all, before) = (true, tails.clone());
            for (tail, (len, bytes)) in tails.iter_mut().zip(heard.novelty) {
                self.learn(local, caller, tail.generation, &bytes)?;
                // A list that is shorter than what the node has was removed, and begins again.
                tail.from = if len < tail.from { 0 } else { tail.from + bytes.len() as u64 };
                is_all &= tail.from >= len;
            }
            if is_all {
                break heard.room;
            }
            if tails == before {
                return Err(damaged("novelty", "a list is longer than what can be read of it").into());
            }
        };
        self.credits.change(caller, |credit| {
            (credit.tails, credit.room) = (tails, room);
            (credit.heard_ns, credit.used_ns) = (now_ns.max(1), now_ns);
        });
        Ok(())
    }

    fn learn(&self, local: &RedbLedger, caller: ScopeId, generation: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let ended_s = (generation + 1).saturating_mul(self.generation_s());
        let ago = Duration::from_secs(self.now_s().saturating_sub(ended_s));
        local.learn_paid(caller, ago, &read(bytes).collect::<Vec<_>>())
    }

    /// Did this caller pay for one of these numbers within the window, here or elsewhere?
    pub(crate) fn has_paid(&self, local: &RedbLedger, caller: ScopeId, fingerprints: &[u32]) -> Result<bool> {
        if local.has_paid(caller, fingerprints)? {
            return Ok(true);
        }
        let now_ns = self.clock.monotonic_ns();
        if self.is_heard(caller, now_ns) {
            return Ok(false);
        }
        self.hear_novelty(local, caller, now_ns)?;
        local.has_paid(caller, fingerprints)
    }

    /// Has the fleet forget what callers paid for; the other nodes do when they hear of it.
    pub(crate) fn erase_novelty(&self, local: &RedbLedger, callers: &[ScopeId]) -> Result<()> {
        for caller in callers {
            self.unsent.forget(*caller);
            self.calls.forget(*caller, self.generations())?;
            self.calls.tell_forget(*caller)?;
            self.forget_heard(*caller);
        }
        local.erase_novelty(callers)
    }

    /// What was heard of a caller does not count any more.
    pub(super) fn forget_heard(&self, caller: ScopeId) {
        self.unsent.forget(caller);
        self.credits.change(caller, |credit| {
            credit.tails.clear();
            credit.heard_ns = 0;
        });
    }
}

/// Fingerprints out of what was appended. A part of one at the end, which nobody wrote, is left out.
fn read(bytes: &[u8]) -> impl ExactSizeIterator<Item = u32> + '_ {
    bytes.as_chunks::<FINGERPRINT_BYTES>().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_kept_by_caller_and_bounded() {
        let unsent = Unsent::default();
        unsent.push([1; 16], 7, [5, 6].into_iter());
        unsent.push([1; 16], 7, [7].into_iter());
        unsent.push([2; 16], 7, [8].into_iter());
        assert_eq!(unsent.len(), 4);
        unsent.forget([2; 16]);
        assert_eq!(unsent.len(), 3);
        let taken = unsent.take();
        assert_eq!(taken.len(), 1);
        assert_eq!(read(&taken[0].bytes).collect::<Vec<_>>(), [5, 6, 7]);
        assert_eq!(unsent.len(), 0);
        unsent.push([3; 16], 1, 0..MOST_UNSENT as u32);
        unsent.push([3; 16], 1, [1].into_iter());
        assert_eq!(unsent.len(), MOST_UNSENT);
    }

    #[test]
    fn half_a_fingerprint_is_left_out() {
        assert_eq!(read(&[1, 0, 0, 0, 2, 0]).collect::<Vec<_>>(), [1]);
    }
}
