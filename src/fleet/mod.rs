//! Layer 2: the ledger of a fleet, on a Valkey cluster that all nodes share.
//!
//! Every bucket is a key of its own, changed by one function that runs in the server (`functions.lua`). A node takes *leases*
//! for many numbers at once ([`credits`]), so a lookup inside a lease calls nobody. A lease counts once it is on the disks of
//! the primary and of a replica (`WAITAOF`, over the connection that asked for it). What callers paid for is shared by caller
//! and generation ([`novelty`]); who is suspended, who has a quota of its own and which quotas hold is in one record that every
//! node follows ([`record`], [`follow`]) into its own ledger, which still decides who may ask at all.
//!
//! Keys carry nothing but keyed identities. `docs/SCALE.md` says what each failure can cost.

mod answers;
mod calls;
mod charge;
mod cluster;
mod credits;
mod follow;
mod health;
mod levers;
mod novelty;
mod options;
mod record;
mod rows;
mod server;
mod slots;

use std::array;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

pub use self::health::FleetHealth;
pub use self::options::{Degraded, FleetOptions};

use self::calls::Calls;
use self::credits::Credits;
use self::follow::Followed;
use self::novelty::Unsent;
use crate::ledger::RedbLedger;
use crate::words::{Clock, FleetError, Result};

/// Leases of so many scopes can be asked for at the same time; those of one scope are asked for one after another.
const LEASING: usize = 256;

/// What a node's ledger has to say about a fleet.
pub(crate) struct FleetSettings {
    pub(crate) options: FleetOptions,
    pub(crate) clock: Arc<dyn Clock>,
    /// The fleet's name: a digest of the secret.
    pub(crate) fleet: [u8; 16],
    /// How long a number that was paid for stays free.
    pub(crate) novelty_window: Duration,
    /// Most numbers of a lease.
    pub(crate) max_lease: u64,
    /// Scopes that leases are held of.
    pub(crate) active_scopes: usize,
}

/// The ledger of a fleet, as one of its nodes has it.
pub(crate) struct FleetLedger {
    calls: Calls,
    credits: Credits,
    leasing: [Mutex<()>; LEASING],
    /// Counts decisions and quotas, so that what was looked up before one is looked up again.
    stamp: AtomicU64,
    followed: Mutex<Followed>,
    /// When the record was read last, by the monotonic clock; zero if it never was.
    heard_ns: AtomicU64,
    /// Why it could not be read since.
    trouble: Mutex<Option<FleetError>>,
    unsent: Unsent,
    clock: Arc<dyn Clock>,
    window_s: u64,
    max_lease: u64,
    refused: AtomicU64,
}

impl FleetLedger {
    /// Joins the fleet, or makes it, and brings the node's own ledger to what the fleet says.
    pub(crate) fn join(settings: &FleetSettings, local: &RedbLedger) -> Result<Self> {
        let calls = Calls::connect(&settings.options, &settings.fleet)?;
        let fleet = Self {
            calls,
            credits: Credits::new(settings.active_scopes),
            leasing: array::from_fn(|_| Mutex::new(())),
            stamp: AtomicU64::new(1),
            followed: Mutex::default(),
            heard_ns: AtomicU64::new(0),
            trouble: Mutex::new(None),
            unsent: Unsent::default(),
            clock: settings.clock.clone(),
            // Without a window nothing is told and nothing is asked for.
            window_s: if settings.options.share_novelty { settings.novelty_window.as_secs() } else { 0 },
            max_lease: settings.max_lease,
            refused: AtomicU64::new(0),
        };
        if settings.options.create {
            fleet.create(local)?;
        }
        fleet.follow(local)?;
        Ok(fleet)
    }

    /// How often [`FleetLedger::beat`] has to be called.
    pub(crate) const fn beat_every(&self) -> Duration {
        self.calls.options.sync_every
    }

    /// What a node does now and then: hears what was decided, tells what callers paid for, and gives back leases that nobody
    /// uses.
    pub(crate) fn beat(&self, local: &RedbLedger) {
        if let Err(error) = self.follow(local) {
            tracing::warn!(error = error.with_causes(), "nothing was heard of the fleet");
            return;
        }
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now_ns = self.clock.monotonic_ns();
        // What is not done by then is done after the record was read again: a node that does not read it answers nothing.
        let until_ns = now_ns.saturating_add(ns(self.beat_every()));
        self.give_back_unused(now_ns.saturating_sub(ns(self.calls.options.idle_after)), until_ns);
        self.send_novelty(until_ns);
    }

    /// Gives back all leases, and tells what callers paid for. No lookup is under way.
    pub(crate) fn leave(&self) {
        self.give_back_unused(u64::MAX, u64::MAX);
        self.send_novelty(u64::MAX);
    }

    /// Once and never again: a call whose answer is lost may have been carried out. What is not given back stays spent.
    fn give_back_unused(&self, since_ns: u64, until_ns: u64) {
        for (id, quota, numbers) in self.credits.take_idle(since_ns) {
            if self.clock.monotonic_ns() > until_ns {
                self.credits.change(id, |credit| credit.left = credit.left.saturating_add(numbers));
                continue;
            }
            if let Err(error) = self.calls.give_back(id, quota, numbers, false) {
                tracing::debug!(error = error.to_string(), numbers, "a lease was forfeited");
            }
        }
    }

    fn stamp(&self) -> u64 {
        self.stamp.load(Ordering::Acquire)
    }

    /// Something was decided: what is held was looked up before it.
    fn decided(&self) {
        self.stamp.fetch_add(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for FleetLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetLedger").field("options", &self.calls.options).finish_non_exhaustive()
    }
}
