//! The batch loop, the same for all prototypes and the same as `src/index/probe.rs`: a group of keys goes through each
//! step together, and each step begins with a short loop that only asks the memory for the lines.

use super::directory::Directory;
use super::population::Key;
use super::table::{Found, Prototype};

/// Most keys of a group; the engine's groups have as many.
pub const MAX_GROUP: usize = 256;

/// What a probe came by, summed up over the probes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Keys that passed the filter, or all if there is none.
    pub passed: u64,
    /// Keys with a slot that was read.
    pub slots: u64,
    /// Keys that were looked for in the spill area.
    pub spills: u64,
}

/// A probe with its memory.
pub struct Probe {
    /// Keys of a group.
    group: usize,
    /// Position in the batch, account.
    pub found: Vec<(u32, u128)>,
    pub seen: Seen,
    passed: Vec<(u32, Key)>,
    homes: Vec<u64>,
    matches: Vec<(u32, Key, Found)>,
    spilled: Vec<(u32, Key)>,
}

impl Probe {
    /// In groups of so many keys, at most [`MAX_GROUP`].
    pub fn new(group: usize) -> Self {
        Self {
            group: group.clamp(1, MAX_GROUP),
            found: Vec::new(),
            seen: Seen::default(),
            passed: Vec::new(),
            homes: Vec::new(),
            matches: Vec::new(),
            spilled: Vec::new(),
        }
    }

    /// The listings of these keys that opted in, into `found`, in order of their keys' positions.
    pub fn run<D: Directory>(&mut self, prototype: &Prototype<D>, keys: &[Key]) {
        self.found.clear();
        self.spilled.clear();
        for (group, keys) in (0_u32..).zip(keys.chunks(self.group)) {
            self.filter(prototype, group * self.group as u32, keys);
            if self.passed.is_empty() {
                continue;
            }
            self.homes.clear();
            self.homes.extend(self.passed.iter().map(|(_, key)| prototype.ask_for_directory(*key)));
            self.find(prototype);
            self.matches.iter().for_each(|(.., found)| prototype.ask_for_slot(*found));
            for (number, key, found) in &self.matches {
                prototype.read_slots(*found, *key, |account| self.found.push((*number, account)));
            }
        }
        for (number, key) in &self.spilled {
            prototype.read_spill(*key, &mut |account| self.found.push((*number, account)));
        }
        self.seen.spills += self.spilled.len() as u64;
        // Two runs, each in order.
        self.found.sort();
    }

    fn filter<D: Directory>(&mut self, prototype: &Prototype<D>, first: u32, keys: &[Key]) {
        self.passed.clear();
        if let Some(filter) = &prototype.filter {
            keys.iter().for_each(|key| filter.ask(*key));
            let mut numbers = [0_u16; MAX_GROUP];
            let mut count = 0;
            for (number, key) in (0_u16..).zip(keys) {
                // Written whether the key passes or not, so that the processor has no branch to guess.
                if let Some(to) = numbers.get_mut(count) {
                    *to = number;
                }
                count += usize::from(filter.passes(*key));
            }
            let key = |at: &u16| Some((first + u32::from(*at), *keys.get(usize::from(*at))?));
            self.passed.extend(numbers.iter().take(count).filter_map(key));
        } else {
            self.passed.extend((first..).zip(keys.iter().copied()));
        }
        self.seen.passed += self.passed.len() as u64;
    }

    fn find<D: Directory>(&mut self, prototype: &Prototype<D>) {
        self.matches.clear();
        for ((number, key), home) in self.passed.iter().zip(&self.homes) {
            let found = prototype.find(*home, *key);
            if found.overflows() {
                prototype.ask_for_spill(*key);
                self.spilled.push((*number, *key));
            }
            if found.has_candidates() {
                self.matches.push((*number, *key, found));
            }
        }
        self.seen.slots += self.matches.len() as u64;
    }
}
