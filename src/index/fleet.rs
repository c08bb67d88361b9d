//! An index as a node of a fleet: joining it, the thread that keeps up with it, and what a host asks of it.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Index, Inner, Options};
use crate::fleet::{FleetHealth, FleetLedger, FleetOptions, FleetSettings};
use crate::ledger::RedbLedger;
use crate::words::{Error, FleetError, KeyRing, Result};

impl Options {
    /// Charges the ledger of a fleet instead of one of its own, with feature `valkey`. The node's own ledger keeps what it
    /// hears of the fleet: quotas, suspensions, and what callers paid for.
    #[must_use]
    pub fn fleet(mut self, fleet: FleetOptions) -> Self {
        self.fleet = Some(fleet);
        self
    }
}

impl Index {
    /// How this node stands with its fleet; none if it is of none.
    #[must_use]
    pub fn fleet_health(&self) -> Option<FleetHealth> {
        self.inner.fleet.as_ref().map(FleetLedger::health)
    }

    /// A small record that the fleet keeps under a name, and its version: 0 if nobody ever set it. For what nodes have to agree
    /// on, such as who owns which range of keys.
    ///
    /// # Errors
    /// [`FleetError::Alone`] without a fleet; [`FleetError`] if it cannot be read.
    pub fn fleet_record(&self, name: &str) -> Result<(u64, Vec<u8>)> {
        self.fleet()?.record(name)
    }

    /// Replaces such a record if it still has the version `expected`, and returns the next version. Durable when it returns.
    ///
    /// # Errors
    /// [`FleetError::RecordChanged`] if somebody else replaced it; [`FleetError::Alone`] without a fleet.
    pub fn replace_fleet_record(&self, name: &str, expected: u64, bytes: &[u8]) -> Result<u64> {
        self.fleet()?.replace_record(name, expected, bytes)
    }

    fn fleet(&self) -> Result<&FleetLedger> {
        self.inner.fleet.as_ref().ok_or(Error::Fleet(FleetError::Alone))
    }
}

/// Joins the fleet that the options name.
pub(super) fn join(options: &Options, ring: &KeyRing, ledger: &RedbLedger) -> Result<Option<FleetLedger>> {
    let Some(fleet) = &options.fleet else { return Ok(None) };
    let settings = FleetSettings {
        options: fleet.clone(),
        clock: options.clock.clone(),
        fleet: ring.fleet(),
        novelty_window: options.novelty_window,
        max_lease: u64::from(options.max_lease),
        active_scopes: options.active_callers,
    };
    FleetLedger::join(&settings, ledger).map(Some)
}

/// The thread that keeps a node up with its fleet; dropping it ends the thread.
pub(super) struct Heart {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    is_stopping: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits; `false` means stop.
    fn wait(&self, time: Duration) -> bool {
        let mut is_stopping = self.is_stopping.lock();
        self.changed.wait_while_for(&mut is_stopping, |is_stopping| !*is_stopping, time);
        !*is_stopping
    }
}

impl Heart {
    /// Starts the thread, if the index is of a fleet.
    pub(super) fn start(inner: &Arc<Inner>) -> Result<Option<Self>> {
        let Some(every) = inner.fleet.as_ref().map(FleetLedger::beat_every) else { return Ok(None) };
        let stop = Arc::new(Stop::default());
        let (weak, signal) = (Arc::downgrade(inner), stop.clone());
        let thread = thread::Builder::new()
            .name("unlisted-fleet".to_owned())
            .spawn(move || beat(&weak, &signal, every))
            .map_err(Error::io("start a thread for", &inner.dir))?;
        Ok(Some(Self { stop, thread: Some(thread) }))
    }
}

fn beat(inner: &Weak<Inner>, stop: &Stop, every: Duration) {
    while stop.wait(every) {
        let Some(inner) = inner.upgrade() else { return };
        if let Some(fleet) = &inner.fleet {
            fleet.beat(&inner.ledger);
        }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        *self.stop.is_stopping.lock() = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that follows the fleet ended by a panic: this is a bug");
        }
    }
}
