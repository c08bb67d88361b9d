//! Layer 3: the paths of the index, one file each.
//!
//! `open` ties the files together, `lookup` answers, also behind `discovery`, in one of the `modes`, a `mutual` audience apart, `update`, `erase` and `callers` write, `levers`
//! is what an operator does about callers, `lag` refuses what may be out of date, `import` and `fold` build
//! segments, `shards` keeps a part of the keys and moves parts between nodes, `memory` keeps them where lookups find them, `maintain` works in the background, `vacuum` forgets, `held` says what is left of an account, `verify` and `stats` look without changing anything, `backup` copies
//! and restores, `repair` replaces damaged segments.

mod backup;
mod callers;
mod commit;
mod disclosures;
mod discovery;
mod epoch_file;
mod erase;
mod events;
#[cfg(feature = "valkey")]
mod fleet;
mod fold;
mod group;
mod held;
mod import;
mod inspect;
mod lag;
mod ledgers;
mod levers;
mod lookup;
mod lost;
mod maintain;
mod memory;
mod modes;
mod mutual;
mod no_way_around;
mod open;
mod options;
mod probe;
#[cfg(feature = "internals")]
pub(crate) mod raw;
mod repair;
mod reply;
mod segments;
mod shards;
mod signals;
mod stats;
mod temporary;
mod top_callers;
mod tripwires;
mod update;
mod vacuum;
mod verify;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::{Mutex, RwLock};

use crate::disclosures::DisclosureLog;
use crate::disk::DirLock;
use crate::ledger::{Ledger, RedbLedger};
use crate::overlay::Overlay;
use crate::shards::Shard;
use crate::store::{State, Store};
use crate::words::{Clock, Error, KeyRing, QuotaPolicy, Result};

#[cfg(feature = "internals")]
pub(crate) use import::hostile as import_blocks;

pub use backup::{BackupMode, BackupReport};
pub use disclosures::CompactionReport;
pub use discovery::Discovery;
pub use erase::EraseReport;
pub use events::Event;
pub use fold::FoldReport;
pub use held::{Held, HeldByCaller, HeldRows};
pub use import::{ImportProgress, ImportReport, Importer};
pub use inspect::{CallerToken, Disclosure, DisclosureQuery, Disclosures, Exposure, Inspector, Standing};
pub use lag::FeedMoment;
pub use levers::{Budget, ScopeBudget, Subject};
pub use memory::Memory;
pub use modes::LookupOptions;
pub use options::Options;
pub use repair::{RangeOutcome, RepairReport, RepairedRange};
pub use reply::{Match, NumberState, Reply};
pub use shards::{ExportReport, Pending, RangeReport};
pub use signals::{CallerSignals, SignalQuery};
pub use stats::Stats;
pub use top_callers::{TopCaller, TopCallers, TopQuery};
pub use update::{UpdateBatch, UpdateReport};
pub use vacuum::VacuumReport;
pub use verify::{VerifyDepth, VerifyReport};

use segments::SegmentMap;

/// An open index. `Send + Sync`, and cheap to clone: clones share everything.
///
/// The directory is released when the last clone is dropped.
///
/// ```
/// use unlisted::{AccountId, Caller, Index, OptIns, Options, PhoneHash, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::CONTACT_SYNC, 1))?;
///
/// let caller = Caller::new("user-7");
/// let reply = index.lookup(&caller, Purpose::ContactSync, &[ada])?;
/// assert_eq!(reply.matches().next().map(|found| found.account), Some(AccountId::from(42)));
/// assert_eq!(index.lookup(&caller, Purpose::Payments, &[ada])?.matches().count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Index {
    /// Stops the background thread when the last handle is dropped; dropped before what it works on.
    _worker: Arc<maintain::Worker>,
    /// The same for the thread that keeps up with the fleet.
    #[cfg(feature = "valkey")]
    _heart: Option<Arc<fleet::Heart>>,
    inner: Arc<Inner>,
}

/// What every path works on.
pub(crate) struct Inner {
    dir: PathBuf,
    options: Options,
    ring: KeyRing,
    clock: Arc<dyn Clock>,
    store: Store,
    ledger: RedbLedger,
    /// Where charges are paid instead, if this is a node of a fleet.
    #[cfg(feature = "valkey")]
    fleet: Option<crate::fleet::FleetLedger>,
    epoch_file: Option<epoch_file::EpochFile>,
    disclosures: DisclosureLog,
    /// One writer at a time. Locked after `structure`, before `overlay`.
    writer: Mutex<Writer>,
    /// Updates that wait for the writer; the first of them commits for all.
    group: group::Group<commit::Prepared, Result<UpdateReport>>,
    /// One fold, import or erasure at a time. Locked before `writer`.
    structure: Mutex<()>,
    /// Lookups read it before `segments`; folds change `segments` before it.
    overlay: RwLock<Overlay>,
    segments: ArcSwap<SegmentMap>,
    /// What node of a fleet this is. Changed under the writer's lock, which follows that of `structure`.
    shard: ArcSwapOption<Shard>,
    residency: memory::Residency,
    seen: stats::Seen,
    followed: lag::Followed,
    watch: Mutex<signals::Watch>,
    wake: Arc<maintain::Wake>,
    _lock: DirLock,
}

/// What the writer guards: the state on disk, and whether it is still known.
#[derive(Debug)]
struct Writer {
    state: State,
    poison: Option<String>,
}

impl Writer {
    /// Refuses after a failed write.
    fn check(&self) -> Result<()> {
        match &self.poison {
            Some(cause) => Err(Error::Poisoned { what: "index", cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Runs a transaction that ends in the state `next`; a failure poisons the writer.
    fn commit(&mut self, next: State, write: impl FnOnce(&State) -> Result<()>) -> Result<()> {
        self.check()?;
        match write(&next) {
            Ok(()) => {
                self.state = next;
                Ok(())
            }
            Err(error) => {
                self.poison = Some(error.with_causes());
                Err(error)
            }
        }
    }
}

impl Index {
    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The quotas in force.
    #[must_use]
    pub fn quotas(&self) -> QuotaPolicy {
        QuotaPolicy::clone(&self.inner.ledger.policy())
    }

    /// Where the host's change feed stands: what the last committed update set, if any did.
    #[must_use]
    pub fn watermark(&self) -> Option<Vec<u8>> {
        self.inner.writer.lock().state.watermark.clone()
    }

    /// How many transactions changed listings since the index was made. Two equal versions are equal content.
    #[must_use]
    pub fn snapshot_version(&self) -> u64 {
        self.inner.writer.lock().state.snapshot_version
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("dir", &self.inner.dir).finish_non_exhaustive()
    }
}
