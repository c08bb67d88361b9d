//! How an index is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Memory;
use super::events::{Event, Events};
use super::shards::ShardOptions;
use crate::database::DbOptions;
use crate::disclosures::DisclosureSync;
use crate::disk::Disk;
use crate::segment::tombstone;
use crate::words::{
    Clock, DisclosureMode, Error, Purpose, QuotaPolicy, Result, Secret, SystemClock, TripwirePolicy,
};

/// How an index is opened. Only the secret has no default.
///
/// ```
/// use std::time::Duration;
/// use unlisted::{Index, Options, Quota, QuotaPolicy, Secret};
/// let dir = tempfile::tempdir()?;
/// let options = Options::new(Secret::from_hex(&"5e".repeat(32))?)
///     .quotas(QuotaPolicy::default().with_caller(Quota::per_hour(1_000, 60)?))
///     .max_batch(2_000)
///     .removal_retention(Duration::from_secs(7 * 86_400));
/// let index = Index::open(dir.path(), options)?;
/// assert_eq!(index.quotas().caller(), Quota::per_hour(1_000, 60)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) disk: Disk,
    pub(crate) secret: Secret,
    pub(crate) create: Create,
    pub(crate) quotas: Option<QuotaPolicy>,
    pub(crate) max_batch: usize,
    pub(crate) max_update: usize,
    pub(crate) max_bytes: u64,
    pub(crate) index_cache_bytes: usize,
    pub(crate) ledger_cache_bytes: usize,
    pub(crate) active_callers: usize,
    pub(crate) max_lease: u32,
    pub(crate) novelty_window: Duration,
    pub(crate) novelty_bytes: usize,
    pub(crate) activity_scopes: usize,
    pub(crate) activity_retention: Duration,
    pub(crate) check_databases: bool,
    pub(crate) memory: Memory,
    pub(crate) segment_memory_bytes: Option<u64>,
    pub(crate) import_memory_bytes: usize,
    pub(crate) segment_listings: usize,
    pub(crate) background: bool,
    pub(crate) fold_at_changes: usize,
    pub(crate) max_unfolded: usize,
    pub(crate) removal_retention: Duration,
    pub(crate) disclosure_modes: [DisclosureMode; Purpose::ALL.len()],
    pub(crate) unlinked_min_novel: usize,
    pub(crate) disclosure_retention: Duration,
    pub(crate) disclosure_sync: DisclosureSync,
    pub(crate) max_clock_jump: Duration,
    pub(crate) max_lag: Option<Duration>,
    pub(crate) epoch_file: Option<PathBuf>,
    pub(crate) create_epoch_file: bool,
    pub(crate) exhaust_if_restored: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Events,
    pub(crate) tripwires: TripwirePolicy,
    pub(crate) suspicious_from_percent: Option<u8>,
    #[cfg(feature = "valkey")]
    pub(crate) fleet: Option<crate::fleet::FleetOptions>,
    pub(crate) shard: ShardOptions,
}

/// What to do where there is no index yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Create {
    IfMissing,
    Never,
    Always,
}

impl Options {
    /// The defaults, under a secret.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self {
            disk: Disk::Real,
            secret,
            create: Create::IfMissing,
            quotas: None,
            max_batch: 10_000,
            max_update: 100_000,
            max_bytes: u64::MAX,
            index_cache_bytes: 64 << 20,
            ledger_cache_bytes: 64 << 20,
            active_callers: 1 << 20,
            max_lease: 1 << 20,
            novelty_window: Duration::from_secs(60 * 86_400),
            novelty_bytes: 256 << 20,
            activity_scopes: 1 << 16,
            activity_retention: Duration::from_secs(30 * 86_400),
            check_databases: false,
            memory: Memory::Mapped,
            segment_memory_bytes: None,
            import_memory_bytes: 5 << 29,
            segment_listings: 2_000_000,
            background: true,
            fold_at_changes: 100_000,
            max_unfolded: 4_000_000,
            removal_retention: Duration::from_secs(30 * 86_400),
            disclosure_modes: [DisclosureMode::Linked; Purpose::ALL.len()],
            unlinked_min_novel: 10,
            disclosure_retention: Duration::from_secs(365 * 86_400),
            disclosure_sync: DisclosureSync::Written { sync_within_ms: 10 },
            max_clock_jump: Duration::from_secs(86_400),
            max_lag: None,
            epoch_file: None,
            create_epoch_file: false,
            exhaust_if_restored: false,
            clock: Arc::new(SystemClock::default()),
            events: Events::default(),
            tripwires: TripwirePolicy::default(),
            suspicious_from_percent: None,
            #[cfg(feature = "valkey")]
            fleet: None,
            shard: ShardOptions::default(),
        }
    }

    /// Opens only an index that exists; by default a missing one is created.
    #[must_use]
    pub const fn must_exist(mut self) -> Self {
        self.create = Create::Never;
        self
    }

    /// Creates an index, and refuses where there is one.
    #[must_use]
    pub const fn must_create(mut self) -> Self {
        self.create = Create::Always;
        self
    }

    /// The quotas of a new index. An existing one keeps those in its ledger.
    #[must_use]
    pub fn quotas(mut self, policy: QuotaPolicy) -> Self {
        self.quotas = Some(policy);
        self
    }

    /// Most numbers of one lookup: 10,000 by default, at most 1,000,000.
    #[must_use]
    pub const fn max_batch(mut self, numbers: usize) -> Self {
        self.max_batch = numbers;
        self
    }

    /// Most changes of one update: 100,000 by default, at most 10,000,000.
    #[must_use]
    pub const fn max_update(mut self, changes: usize) -> Self {
        self.max_update = changes;
        self
    }

    /// Size of the directory at which the index takes no more listings; opt-outs, removals and erasures still
    /// work. No limit by default.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Memory for pages of `index.redb`: 64 MiB by default.
    #[must_use]
    pub const fn index_cache_bytes(mut self, bytes: usize) -> Self {
        self.index_cache_bytes = bytes;
        self
    }

    /// Memory for pages of `ledger.redb`: 64 MiB by default.
    #[must_use]
    pub const fn ledger_cache_bytes(mut self, bytes: usize) -> Self {
        self.ledger_cache_bytes = bytes;
        self
    }

    /// Callers and origins whose budgets are kept in memory: 1,048,576 by default, at least 64. One takes up to 128
    /// bytes. Others are read from the ledger when they ask again.
    #[must_use]
    pub const fn active_callers(mut self, callers: usize) -> Self {
        self.active_callers = callers;
        self
    }

    /// Most numbers that a budget is charged for ahead of their use, in one durable write: 1,048,576 by default. It is
    /// never more than a sixteenth of the burst, begins with nothing and doubles with use. A crash forfeits what was
    /// charged ahead; a clean close gives it back. With 0 nothing is charged ahead, except what refills in a second.
    #[must_use]
    pub const fn max_lease(mut self, numbers: u32) -> Self {
        self.max_lease = numbers;
        self
    }

    /// How long a number that a caller paid for stays free for it: 60 days by default, rounded up to minutes. It is
    /// forgotten not later than a quarter of this after that. With zero, every lookup pays for all its numbers.
    ///
    /// At most 65,536 numbers of a caller are remembered. They are remembered by fingerprints: a number that the
    /// caller did not pay for is taken for one that it did with a probability of at most 1 in 10,000.
    #[must_use]
    pub const fn novelty_window(mut self, window: Duration) -> Self {
        self.novelty_window = window;
        self
    }

    /// Memory for the numbers that active callers paid for: 256 MiB by default. A caller takes about 200 bytes and 8
    /// for each number. Others are read from the ledger when they ask again.
    #[must_use]
    pub const fn novelty_bytes(mut self, bytes: usize) -> Self {
        self.novelty_bytes = bytes;
        self
    }

    /// Callers and origins whose activity is counted in memory ([`crate::Inspector::top_callers`]): 65,536 by default, at
    /// least 1,024. One takes up to 300 bytes. If more are active in an hour, the lightest are dropped, and answers say how
    /// much they may be short by it.
    #[must_use]
    pub const fn activity_scopes(mut self, scopes: usize) -> Self {
        self.activity_scopes = scopes;
        self
    }

    /// How long the activity of callers and origins is remembered: 30 days of ledger time by default, at least an hour. An
    /// hour of it takes about 60 bytes a scope, for those 4,096 callers and 4,096 origins that were heaviest by each of
    /// what they were charged, missed and were deferred.
    #[must_use]
    pub const fn activity_retention(mut self, retention: Duration) -> Self {
        self.activity_retention = retention;
        self
    }

    /// Whether an open walks over all of `index.redb` and `ledger.redb`: it does not by default. Every page has a checksum that is
    /// checked when the page is read, as those of segments are, so what a disk may do to a file is found without it. The
    /// walk is for files of which somebody who computes checksums may have replaced pages.
    #[must_use]
    pub const fn check_databases(mut self, on: bool) -> Self {
        self.check_databases = on;
        self
    }

    /// Where segments are while the index is open: [`Memory::Mapped`] by default.
    #[must_use]
    pub const fn memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// Memory that segments may take, at least 1 MiB: by default what the system has available when it matters. Mapped
    /// segments are read ahead as a whole if they take at most three quarters of it, and a page of a larger index is
    /// taken to be in memory until half of it was asked for after it. Resident segments that need more do not open.
    #[must_use]
    pub const fn segment_memory_bytes(mut self, bytes: u64) -> Self {
        self.segment_memory_bytes = Some(bytes);
        self
    }

    /// Memory in which an import gathers rows before it writes them to temporary files: 2.5 GiB by default, at least 9
    /// MB, of which an import takes what its rows need: 23 bytes each, 31 if their account is no `u64`, and for versions
    /// that differ up to 7 more. Building comes on top: two segments a core at a time, about 75 bytes for each of their
    /// listings, twice that from half a billion rows on.
    #[must_use]
    pub const fn import_memory_bytes(mut self, bytes: usize) -> Self {
        self.import_memory_bytes = bytes;
        self
    }

    /// Most listings of a segment, after which its range is split: 2,000,000 by default, 1,000 to 16,000,000.
    #[must_use]
    pub const fn segment_listings(mut self, listings: usize) -> Self {
        self.segment_listings = listings;
        self
    }

    /// Whether a thread folds and forgets in the background: it does by default.
    #[must_use]
    pub const fn background(mut self, on: bool) -> Self {
        self.background = on;
        self
    }

    /// Changes in a range that make its fold worth while: 100,000 by default, at least 1.
    #[must_use]
    pub const fn fold_at_changes(mut self, changes: usize) -> Self {
        self.fold_at_changes = changes;
        self
    }

    /// Most changes that wait in memory to be folded: 4,000,000 by default, at least 1,000. Each takes 65 to 130
    /// bytes. An update that lists finds room by folding the fullest range first; opt-outs, removals and erasures go
    /// past the bound, since they are never kept waiting.
    #[must_use]
    pub const fn max_unfolded(mut self, changes: usize) -> Self {
        self.max_unfolded = changes;
        self
    }

    /// How long a removal is remembered, so that an older update that arrives late cannot undo it: 30 days by
    /// default, at least a minute.
    #[must_use]
    pub const fn removal_retention(mut self, retention: Duration) -> Self {
        self.removal_retention = retention;
        self
    }

    /// How much lookups for a purpose tell: [`DisclosureMode::Linked`] by default. A lookup may ask for less
    /// ([`crate::Index::lookup_with`]), never for more. A stricter mode needs a novelty window.
    #[must_use]
    pub fn disclosure_mode(mut self, purpose: Purpose, mode: DisclosureMode) -> Self {
        if let Some(of_purpose) = self.disclosure_modes.get_mut(purpose.bit() as usize) {
            *of_purpose = mode;
        }
        self
    }

    /// Fewest numbers that are answered together in the modes unlinked and count, each of them paid for by that lookup: 10
    /// by default, 2 to 1,000,000. It should be well below every quota's burst: what cannot be paid together is deferred.
    #[must_use]
    pub const fn unlinked_min_novel(mut self, numbers: usize) -> Self {
        self.unlinked_min_novel = numbers;
        self
    }

    /// How long a disclosure is remembered, counted from the last time it was made: a year by default, at least a
    /// minute.
    #[must_use]
    pub const fn disclosure_retention(mut self, retention: Duration) -> Self {
        self.disclosure_retention = retention;
        self
    }

    /// How safe the record of a disclosure is before the answer: by default written to the operating system, and on
    /// the device within 10 ms.
    #[must_use]
    pub const fn disclosure_sync(mut self, sync: DisclosureSync) -> Self {
        self.disclosure_sync = sync;
        self
    }

    /// How much time the wall clock may give budgets back for between two runs: a day by default.
    #[must_use]
    pub const fn max_clock_jump(mut self, jump: Duration) -> Self {
        self.max_clock_jump = jump;
        self
    }

    /// How far behind the host's feed lookups are still answered, at least a millisecond; no limit by default. For a replica, which
    /// follows a feed: a late one would answer about people who opted out meanwhile. Beyond it, and after each open until
    /// the first [`crate::Index::followed_until`], lookups are refused with [`Error::Lagging`]. Updates go on.
    #[must_use]
    pub const fn max_lag(mut self, lag: Duration) -> Self {
        self.max_lag = Some(lag);
        self
    }

    /// A small file outside the directory, and outside its backups, that says how far the ledger was. An index whose
    /// ledger is behind it was restored, and does not open (see [`Options::exhaust_if_restored`]): otherwise whoever
    /// asked since the copy was made would have his budget back. Without it an older copy of the ledger alone is found
    /// out, and one of the whole directory is not. It follows within a minute; none by default.
    ///
    /// A new index gets the file. Where it is missing later the index does not open (see
    /// [`Options::create_epoch_file`]).
    #[must_use]
    pub fn epoch_file(mut self, path: impl AsRef<Path>) -> Self {
        self.epoch_file = Some(path.as_ref().to_owned());
        self
    }

    /// Makes a missing epoch file for an index that was used before: the operator's word that its ledger is the newest.
    #[must_use]
    pub const fn create_epoch_file(mut self) -> Self {
        self.create_epoch_file = true;
        self
    }

    /// Opens an index that was restored from an older copy, with all budgets emptied: each begins at nothing and fills
    /// at its refill, as whoever asked everything just before the loss would have it. Only an epoch file tells.
    #[must_use]
    pub const fn exhaust_if_restored(mut self) -> Self {
        self.exhaust_if_restored = true;
        self
    }

    /// Another clock, for tests and simulations.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Calls this when a budget runs short, somebody is suspended, a suspended caller asks, or a tripwire is met (see
    /// [`Event`]). It runs in the thread of the lookup, with no lock held: it should be quick. A panic in it is that lookup's.
    #[must_use]
    pub fn on_event(mut self, callback: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.events = Events::to(callback);
        self
    }

    /// Puts the index on a simulated disk, where its directory is a path like any other.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    #[must_use]
    pub fn disk(mut self, disk: &crate::internals::SimDisk) -> Self {
        self.disk = Disk::Sim(disk.clone());
        self
    }

    /// From how many tripwires on something happens to a caller or an origin: by default the host is told of each caller that
    /// meets one ([`crate::Index::set_tripwires`]).
    #[must_use]
    pub fn tripwires(mut self, policy: TripwirePolicy) -> Self {
        self.tripwires = policy;
        self
    }

    /// Tells the host at the end of an hour whose score of the last 24 hours has come to so many hundredths, 0 to 100
    /// ([`Event::Suspicious`], [`crate::CallerSignals::score`]). Not at all by default, and not without the background thread.
    #[must_use]
    pub const fn suspicious_from_percent(mut self, percent: u8) -> Self {
        self.suspicious_from_percent = Some(percent);
        self
    }

    pub(crate) fn index_database(&self) -> DbOptions {
        DbOptions { disk: self.disk.clone(), cache_bytes: self.index_cache_bytes, check: self.check_databases }
    }

    pub(crate) fn ledger_database(&self) -> DbOptions {
        DbOptions { disk: self.disk.clone(), cache_bytes: self.ledger_cache_bytes, check: self.check_databases }
    }

    /// How long an era of removals is, in seconds.
    pub(crate) fn era_s(&self) -> u64 {
        tombstone::era_s(self.removal_retention.as_secs())
    }

    /// Refuses values that cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        self.shard.check()?;
        let sync_ms = match self.disclosure_sync {
            DisclosureSync::Written { sync_within_ms } => u64::from(sync_within_ms),
            DisclosureSync::Synced | DisclosureSync::Off => 1,
        };
        // Without a memory, what was answered once could be asked again in other company.
        let is_strict = self.disclosure_modes.iter().any(|mode| *mode != DisclosureMode::Linked);
        let (window_s, window_min_s) = (self.novelty_window.as_secs(), u64::from(is_strict));
        let retention_s = self.activity_retention.as_secs();
        let lag_ms = self.max_lag.map_or(1, |lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
        let checks = [
            ("max_batch", "1 to 1,000,000", self.max_batch as u64, 1, 1_000_000),
            ("max_update", "1 to 10,000,000", self.max_update as u64, 1, 10_000_000),
            ("segment_listings", "1,000 to 16,000,000", self.segment_listings as u64, 1_000, 16_000_000),
            ("fold_at_changes", "1 or more", self.fold_at_changes as u64, 1, u64::MAX),
            ("max_unfolded", "1,000 or more", self.max_unfolded as u64, 1_000, u64::MAX),
            ("active_callers", "64 or more", self.active_callers as u64, 64, u64::MAX),
            ("activity_scopes", "1,024 or more", self.activity_scopes as u64, 1_024, u64::MAX),
            ("activity_retention", "an hour to 100 years", retention_s, 3_600, 100 * 366 * 86_400),
            ("novelty_window", "up to 100 years", self.novelty_window.as_secs(), 0, 100 * 366 * 86_400),
            ("import_memory_bytes", "1 MiB or more", self.import_memory_bytes as u64, 1 << 20, u64::MAX),
            (
                "segment_memory_bytes",
                "1 MiB or more",
                self.segment_memory_bytes.unwrap_or(u64::MAX),
                1 << 20,
                u64::MAX,
            ),
            ("max_lag", "1 ms or more", lag_ms, 1, u64::MAX),
            ("removal_retention", "60 seconds or more", self.removal_retention.as_secs(), 60, u64::MAX),
            ("disclosure_retention", "60 seconds or more", self.disclosure_retention.as_secs(), 60, u64::MAX),
            ("suspicious_from_percent", "0 to 100", u64::from(self.suspicious_from_percent.unwrap_or(0)), 0, 100),
            ("disclosure_sync", "1 to 60,000 ms", sync_ms, 1, 60_000),
            ("unlinked_min_novel", "2 to 1,000,000", self.unlinked_min_novel as u64, 2, 1_000_000),
            ("novelty_window", "a second or more for modes unlinked and count", window_s, window_min_s, u64::MAX),
        ];
        for (name, expected, found, min, max) in checks {
            if found < min || found > max {
                return Err(Error::BadOption { name, expected, found });
            }
        }
        Ok(())
    }
}
