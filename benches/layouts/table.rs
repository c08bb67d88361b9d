//! A prototype: a filter or none, a table of buckets under a directory, a spill area for what finds its bucket full.

use super::directory::{Directory, OVERFLOWS};
use super::filter::{BITS_PER_MEMBER, Filter};
use super::population::{Entry, Key, PURPOSE_BIT};
use super::region::Region;
use unlisted::internals::prefetch;

/// Share of the slots of the spill area that are in use.
const SPILL_FULL: f64 = 0.9;
/// Listings that are stored together, so that the memory works on many at once.
const GROUP: usize = 256;

/// What the directory says of a key.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    bits: u64,
    slots_at: usize,
}

impl Found {
    #[inline(always)]
    pub const fn has_candidates(self) -> bool {
        self.bits & !OVERFLOWS != 0
    }

    #[inline(always)]
    pub const fn overflows(self) -> bool {
        self.bits & OVERFLOWS != 0
    }
}

pub struct Prototype<D> {
    pub filter: Option<Filter>,
    table: Region<D>,
    spill: Region<D>,
    listings: u64,
    /// Members of all filters, or 0 if there is none.
    members: u64,
    pub spilled: u64,
}

impl<D: Directory> Prototype<D> {
    /// Stores the listings with these numbers.
    pub fn build(
        listings: u64,
        account_len: usize,
        filtered: bool,
        entry: impl Fn(u64) -> Entry,
    ) -> std::io::Result<Self> {
        let asked = (0..listings).filter(|i| entry(*i).opt_ins >> PURPOSE_BIT & 1 == 1);
        let mut built = Self {
            filter: if filtered { Some(Filter::for_members(asked.count() as u64)?) } else { None },
            table: Region::with_room(listings, D::LOAD, account_len, false)?,
            spill: Region::with_room(0, 1.0, account_len, true)?,
            listings,
            members: 0,
            spilled: 0,
        };
        let mut late = Vec::new();
        for first in (0..listings).step_by(GROUP) {
            let group: Vec<Entry> = (first..listings.min(first + GROUP as u64)).map(&entry).collect();
            built.fill_filter(&group);
            built.store(&group, &mut late);
        }
        built.spilled = late.len() as u64;
        built.spill = Region::with_room(built.spilled, D::SLOTS as f64 * SPILL_FULL, account_len, true)?;
        late.iter().for_each(|entry| built.store_spilled(entry));
        Ok(built)
    }

    /// Bytes a listing of everything, the filters of all purposes included.
    pub fn bytes_a_listing(&self) -> f64 {
        let tables = self.table.len + self.spill.len;
        let filters = (self.members * BITS_PER_MEMBER) as f64 / 8.0;
        (tables as f64 + filters) / self.listings as f64
    }

    /// Bytes a listing of filters, and of directories.
    pub fn small_bytes_a_listing(&self) -> (f64, f64) {
        let filters = (self.members * BITS_PER_MEMBER) as f64 / 8.0;
        let directories = ((self.table.buckets + self.spill.buckets) as usize * D::LEN) as f64;
        (filters / self.listings as f64, directories / self.listings as f64)
    }

    fn fill_filter(&mut self, group: &[Entry]) {
        let Some(filter) = &mut self.filter else { return };
        self.members += group.iter().map(|entry| u64::from(entry.opt_ins.count_ones())).sum::<u64>();
        let asked = || group.iter().filter(|entry| entry.opt_ins >> PURPOSE_BIT & 1 == 1);
        asked().for_each(|entry| filter.ask(entry.key));
        asked().for_each(|entry| filter.add(entry.key));
    }

    fn store(&mut self, group: &[Entry], late: &mut Vec<Entry>) {
        let buckets: Vec<_> = group.iter().map(|entry| self.table.bucket(self.table.home(entry.key))).collect();
        buckets.iter().for_each(|bucket| prefetch(&self.table.memory, bucket.directory_at));
        let mut places = Vec::with_capacity(GROUP);
        for (entry, bucket) in group.iter().zip(&buckets) {
            let fingerprint = self.table.fingerprint(entry.key);
            let directory = self.table.directory(*bucket);
            if let Some(slot) = D::take(directory, fingerprint, entry.opt_ins) {
                let at = bucket.slots_at + slot * self.table.slot_len;
                self.table.ask_for_slot(at);
                places.push((entry, at));
            } else {
                D::note_overflow(directory, entry.key, entry.opt_ins);
                late.push(*entry);
            }
        }
        for (entry, at) in places {
            self.table.write(at, entry);
        }
    }

    /// Into the first bucket of the spill area with a free slot from its home there on.
    fn store_spilled(&mut self, entry: &Entry) {
        let fingerprint = self.table.fingerprint(entry.key);
        let mut number = self.spill.home(entry.key);
        loop {
            let bucket = self.spill.bucket(number);
            let directory = self.spill.directory(bucket);
            if let Some(slot) = D::take(directory, fingerprint, entry.opt_ins) {
                self.spill.write(bucket.slots_at + slot * self.spill.slot_len, entry);
                return;
            }
            D::note_overflow(directory, entry.key, entry.opt_ins);
            number = (number + 1) % self.spill.buckets;
        }
    }

    /// The number of the bucket of a key; asks for its directory.
    #[inline(always)]
    pub fn ask_for_directory(&self, key: Key) -> u64 {
        let home = self.table.home(key);
        prefetch(&self.table.memory, self.table.bucket(home).directory_at);
        home
    }

    #[inline(always)]
    pub fn find(&self, home: u64, key: Key) -> Found {
        let bucket = self.table.bucket(home);
        let bits = self.table.find(bucket, key, self.table.fingerprint(key), PURPOSE_BIT);
        Found { bits, slots_at: bucket.slots_at }
    }

    /// Asks for the first slot that may answer; there is rarely a second.
    #[inline(always)]
    pub fn ask_for_slot(&self, found: Found) {
        self.table.ask_for_slot(found.slots_at + found.bits.trailing_zeros() as usize % 64 * self.table.slot_len);
    }

    #[inline(always)]
    pub fn ask_for_spill(&self, key: Key) {
        prefetch(&self.spill.memory, self.spill.bucket(self.spill.home(key)).directory_at);
    }

    /// Calls `each` with the accounts of the key among the candidates.
    #[inline(always)]
    pub fn read_slots(&self, found: Found, key: Key, each: impl FnMut(u128)) {
        Self::read_candidates(&self.table, found, key, each);
    }

    pub fn read_spill(&self, key: Key, each: &mut impl FnMut(u128)) {
        let fingerprint = self.table.fingerprint(key);
        let mut number = self.spill.home(key);
        for _ in 0..self.spill.buckets {
            let bucket = self.spill.bucket(number);
            let bits = self.spill.find(bucket, key, fingerprint, PURPOSE_BIT);
            let found = Found { bits, slots_at: bucket.slots_at };
            Self::read_candidates(&self.spill, found, key, &mut *each);
            if !found.overflows() {
                return;
            }
            number = (number + 1) % self.spill.buckets;
        }
    }

    #[inline(always)]
    fn read_candidates(region: &Region<D>, found: Found, key: Key, mut each: impl FnMut(u128)) {
        let mut candidates = found.bits & !OVERFLOWS;
        while candidates != 0 {
            let slot = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            if let Some(account) = region.read(found.slots_at + slot * region.slot_len, key, PURPOSE_BIT) {
                each(account);
            }
        }
    }
}
