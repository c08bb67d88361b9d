//! Figures about an index.

use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_128;

use super::{Index, Inner};
use crate::disclosures::DisclosureSync;
use crate::words::{Flags, Key, Purpose, Result};

/// What an index holds and what it takes.
///
/// ```
/// use unlisted::{AccountId, Index, OptIns, Options, PhoneHash, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::empty(), 1))?;
/// let stats = index.stats()?;
/// assert_eq!((stats.listings, stats.opted_in, stats.delta), (1, 0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// Listings, hidden ones included, removed ones not.
    pub listings: u64,
    /// Listings with at least one opt-in.
    pub opted_in: u64,
    /// Removals still remembered.
    pub removed: u64,
    /// Tripwires that are set ([`Index::set_tripwires`]). They are no listings in the figures above.
    pub tripwires: u64,
    /// Live segments.
    pub segments: usize,
    /// Changes not yet folded into segments.
    pub delta: usize,
    /// Bytes of all segments, filters included.
    pub segment_bytes: u64,
    /// Bytes of `index.redb`.
    pub index_bytes: u64,
    /// Bytes of `ledger.redb`.
    pub ledger_bytes: u64,
    /// Bytes of the disclosure log.
    pub disclosure_bytes: u64,
    /// Rows of the disclosure log; what was repeated since the last compaction counts as often as it was.
    pub disclosures: u64,
    /// How safe the record of a disclosure is before the answer.
    pub disclosure_sync: DisclosureSync,
    /// Bytes of segments and `index.redb` for each listing; zero without listings.
    pub bytes_per_listing: f64,
    /// Distinct numbers looked up since the index was opened.
    pub looked_up: u64,
    /// Of numbers that no segment has anything for, the share that pass a filter all the same: as seen in lookups
    /// since the index was opened, or, before there were [`Stats::MIN_SEEN`] such numbers, as measured on as many
    /// random ones. Zero without segments.
    pub filter_false_positive_rate: f64,
    /// Of the numbers looked up, those that passed the filter of their segment.
    pub filter_passes: u64,
    /// Transactions that changed listings since the index was made.
    pub snapshot_version: u64,
    /// Bytes of the filter that knows which callers and origins the ledger has rows of: 1.2 MB, or 2.4 for each of them if
    /// that is more. Zero until it was made ([`Index::warm`]).
    pub known_callers_filter_bytes: u64,
    /// Times since the index was opened that a budget, or what a caller paid for, was not in memory and was looked for in
    /// the ledger.
    pub ledger_reads: u64,
    /// Times that it was not looked for, since the caller or origin was never seen.
    pub ledger_reads_spared: u64,
}

impl Stats {
    /// Absent numbers from which a rate of false positives is taken.
    pub const MIN_SEEN: u64 = 16_384;
}

/// Counters of what filters did. Relaxed: they are added to once a batch and read by nobody who needs order.
#[derive(Debug, Default)]
pub(super) struct Seen {
    looked_up: AtomicU64,
    passed: AtomicU64,
    passed_in_vain: AtomicU64,
}

impl Seen {
    pub(super) fn add(&self, looked_up: u64, passed: u64, passed_in_vain: u64) {
        self.looked_up.fetch_add(looked_up, Ordering::Relaxed);
        self.passed.fetch_add(passed, Ordering::Relaxed);
        self.passed_in_vain.fetch_add(passed_in_vain, Ordering::Relaxed);
    }
}

/// Listings counted by what became of them.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    listings: u64,
    opted_in: u64,
    removed: u64,
}

impl Counts {
    /// The counter goes up by one for what a listing is now, and down for what it was.
    fn count(&mut self, flags: Flags, step: fn(u64, u64) -> u64) {
        if flags.is_removed() {
            self.removed = step(self.removed, 1);
            return;
        }
        self.listings = step(self.listings, 1);
        if flags.opt_ins().has_purpose() {
            self.opted_in = step(self.opted_in, 1);
        }
    }
}

impl Index {
    /// Figures about the index. It looks every unfolded change up in its segment, so it is not free.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if a segment is; [`crate::Error::Io`] if a file cannot be asked for its size.
    pub fn stats(&self) -> Result<Stats> {
        self.inner.stats()
    }

    /// Whether lookups and updates are still taken: after a failed write the part that failed refuses until the index is opened
    /// again, and beyond [`crate::Options::max_lag`] lookups are refused until the index has caught up. For a host's health check; it reads no file, and may wait for a commit that is under way.
    ///
    /// # Errors
    /// [`crate::Error::Poisoned`] names the part and what failed first; [`crate::Error::Lagging`], which passes by itself.
    ///
    /// ```
    /// use unlisted::{Index, Options, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
    /// assert!(index.health().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn health(&self) -> Result<()> {
        self.inner.disclosures.check()?;
        self.inner.ledger.check_poison()?;
        self.inner.writer.lock().check()?;
        self.inner.check_lag(self.inner.known_until().as_deref())
    }
}

impl Inner {
    fn stats(&self) -> Result<Stats> {
        let (snapshot_version, tripwires) = {
            let writer = self.writer.lock();
            (writer.state.snapshot_version, writer.state.tripwires)
        };
        let (mut counts, segments, delta) = self.count()?;
        counts.listings = counts.listings.saturating_sub(tripwires);
        counts.opted_in = counts.opted_in.saturating_sub(tripwires);
        let segment_bytes = self.segment_bytes();
        let index_bytes = self.options.disk.len(self.store.path())?;
        let (disclosures, known) = (self.disclosures.usage(), self.ledger.known_usage());
        let looked_up = self.seen.looked_up.load(Ordering::Relaxed);
        let passed = self.seen.passed.load(Ordering::Relaxed);
        let in_vain = self.seen.passed_in_vain.load(Ordering::Relaxed);
        let absent = looked_up.saturating_sub(passed) + in_vain;
        let rate = if absent < Stats::MIN_SEEN { self.sample_filters()? } else { in_vain as f64 / absent as f64 };
        let per_listing = (segment_bytes + index_bytes) as f64 / counts.listings.max(1) as f64;
        Ok(Stats {
            listings: counts.listings,
            opted_in: counts.opted_in,
            removed: counts.removed,
            tripwires,
            segments,
            delta,
            segment_bytes,
            index_bytes,
            ledger_bytes: self.options.disk.len(self.ledger.path())?,
            disclosure_bytes: disclosures.bytes,
            disclosures: disclosures.rows,
            disclosure_sync: self.disclosures.sync(),
            bytes_per_listing: if counts.listings == 0 { 0.0 } else { per_listing },
            looked_up,
            filter_false_positive_rate: rate,
            filter_passes: passed,
            snapshot_version,
            known_callers_filter_bytes: known.bytes,
            ledger_reads: known.reads,
            ledger_reads_spared: known.spared,
        })
    }

    /// Listings by what became of them, live segments, unfolded changes.
    fn count(&self) -> Result<(Counts, usize, usize)> {
        let overlay = self.overlay.read();
        let map = self.segments.load();
        let mut counts = Counts::default();
        for segment in map.live() {
            let header = segment.segment().header();
            counts.listings += header.entries - header.removed;
            counts.opted_in += header.opted_in;
            counts.removed += header.removed;
        }
        for change in overlay.iter() {
            let entry = change.entry;
            counts.count(entry.flags(), u64::saturating_add);
            if let Some(segment) = map.of(entry.key) {
                segment.locate(|s| {
                    s.probe(entry.key, |account, stamp| {
                        if account == entry.account {
                            counts.count(stamp.flags(), u64::saturating_sub);
                        }
                    })
                })?;
            }
        }
        Ok((counts, map.live().count(), overlay.len()))
    }

    /// The share of random keys that pass a filter. Keys are uniform, so random ones are those of absent numbers.
    fn sample_filters(&self) -> Result<f64> {
        let map = self.segments.load();
        let mut passed = 0;
        for i in 0..Stats::MIN_SEEN {
            let key = Key::from_u128(xxh3_128(&i.to_le_bytes()));
            let purpose = Purpose::ALL.into_iter().cycle().nth(i as usize % Purpose::ALL.len());
            if let (Some(segment), Some(purpose)) = (map.of(key), purpose) {
                passed += u64::from(segment.locate(|s| s.may_contain(key, purpose))?);
            }
        }
        Ok(passed as f64 / Stats::MIN_SEEN as f64)
    }

    fn segment_bytes(&self) -> u64 {
        self.segments.load().live().map(|segment| segment.segment().len() as u64).sum()
    }

    /// Bytes of all files of the index.
    pub(super) fn disk_bytes(&self) -> Result<u64> {
        let databases = self.options.disk.len(self.store.path())? + self.options.disk.len(self.ledger.path())?;
        Ok(self.segment_bytes() + databases + self.disclosures.usage().bytes)
    }
}
