//! What happens in the background: reading segments ahead, folding ranges with many changes, compacting disclosures,
//! forgetting what is past its retention.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Inner;
use crate::segment::keys::KeyRange;
use crate::words::{Error, Result};

/// How often to look without being woken.
const INTERVAL: Duration = Duration::from_secs(60);
/// Shortest time between two looks, however often it is woken.
const PAUSE: Duration = Duration::from_millis(200);
/// How often to forget, in nanoseconds: an hour.
const FORGET_EVERY_NS: u64 = 3_600_000_000_000;
/// Changes in all ranges together, in multiples of what makes one range worth folding, at which the fullest range
/// is folded even if it is not: the overlay is memory.
const MOST_OVERLAYS: usize = 8;

/// Bytes of a change in the log, about.
const CHANGE_LOG_BYTES: usize = 44;
/// A log is long when it has so many times the bytes of the changes that count, since later ones replaced most ...
const LONG_LOG: usize = 4;
/// ... and at least so many bytes.
const MIN_LONG_LOG_BYTES: usize = 64 << 20;

/// Wakes the background thread, or ends it.
#[derive(Debug, Default)]
pub(super) struct Wake {
    signal: Mutex<Signal>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Signal {
    look: bool,
    stop: bool,
}

impl Wake {
    /// There may be something to fold. Whoever was told once looks by itself after a pause: every lookup may call this, and
    /// to wake a thread takes some microseconds.
    pub(super) fn wake(&self) {
        if !std::mem::replace(&mut self.signal.lock().look, true) {
            self.changed.notify_one();
        }
    }

    fn stop(&self) {
        self.signal.lock().stop = true;
        self.changed.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.signal.lock().stop
    }

    /// Waits to be woken, for at most the interval. `false` means stop.
    fn wait(&self) -> bool {
        let mut signal = self.signal.lock();
        if !signal.look && !signal.stop {
            self.changed.wait_for(&mut signal, INTERVAL);
        }
        signal.look = false;
        !signal.stop
    }

    /// Sleeps, but not through a stop. `false` means stop.
    fn pause(&self) -> bool {
        let mut signal = self.signal.lock();
        self.changed.wait_while_for(&mut signal, |signal| !signal.stop, PAUSE);
        !signal.stop
    }
}

/// The background thread of an index; dropping it ends the thread after the fold it is at.
#[derive(Debug)]
pub(super) struct Worker {
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread, unless the options say none.
    pub(super) fn start(inner: &Arc<Inner>) -> Result<Self> {
        let wake = inner.wake.clone();
        if !inner.options.background {
            return Ok(Self { wake, thread: None });
        }
        let (weak, signal) = (Arc::downgrade(inner), wake.clone());
        let thread = thread::Builder::new()
            .name("unlisted-maintain".to_owned())
            .spawn(move || run(&weak, &signal))
            .map_err(Error::io("start a thread for", &inner.dir))?;
        Ok(Self { wake, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.wake.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the background thread of the index ended by a panic: this is a bug");
        }
    }
}

fn run(inner: &Weak<Inner>, wake: &Wake) {
    let mut forgot_at_ns = None;
    if let Some(inner) = inner.upgrade() {
        inner.learn_known_and_tell(wake);
        inner.warm_and_tell(wake);
    }
    while wake.wait() {
        let Some(inner) = inner.upgrade() else { return };
        if inner.is_cold() {
            inner.warm_and_tell(wake);
        }
        if let Err(error) = inner.maintain(&mut forgot_at_ns) {
            tracing::error!(error = error.with_causes(), "background work failed; it is tried again");
        }
        drop(inner);
        if !wake.pause() {
            return;
        }
    }
}

impl Inner {
    fn warm_and_tell(&self, wake: &Wake) {
        if let Err(error) = self.warm(&|| wake.is_stopping()) {
            tracing::error!(error = error.with_causes(), "a segment is damaged: lookups of the damaged page fail");
        }
    }

    /// Until it is done, a caller that was never seen costs a read.
    fn learn_known_and_tell(&self, wake: &Wake) {
        if let Err(error) = self.ledger.learn_known(&|| wake.is_stopping()) {
            tracing::error!(error = error.with_causes(), "known callers were not read; it is tried again");
        }
    }

    fn maintain(&self, forgot_at_ns: &mut Option<u64>) -> Result<()> {
        for range in self.worth_folding() {
            self.fold_range(range)?;
        }
        self.trim_log()?;
        self.ledger.write_novelty()?;
        self.ledger.learn_known(&|| self.wake.is_stopping())?;
        self.ledger.write_activity_if_due()?;
        self.watch_signals()?;
        let now_ns = self.clock.monotonic_ns();
        if let Some(file) = &self.epoch_file {
            file.note(&self.ledger, now_ns, false)?;
        }
        if forgot_at_ns.is_none_or(|at| now_ns.saturating_sub(at) >= FORGET_EVERY_NS) {
            *forgot_at_ns = Some(now_ns);
            self.forget(false)?;
            self.vacuum_index_if_due()?;
        } else if !self.disclosures.is_compact() {
            self.compact_and_tell()?;
        }
        Ok(())
    }

    /// Compacts full disclosure logs. What is past its retention, or erased, goes with them.
    fn compact_and_tell(&self) -> Result<()> {
        let done = self.compact_disclosures(false)?;
        if done.forgotten > 0 {
            tracing::info!(gone = done.forgotten, "forgot disclosures that were erased or past their retention");
        }
        Ok(())
    }

    /// Is the log on disk much longer than the changes that count?
    fn log_is_long(&self, changes: usize) -> bool {
        let worth_bytes = (changes * CHANGE_LOG_BYTES * LONG_LOG).max(MIN_LONG_LOG_BYTES);
        self.store.log().bytes() > worth_bytes as u64
    }

    /// Is there anything for the background to do, with so many changes in memory?
    pub(super) fn has_work(&self, changes: usize) -> bool {
        changes >= self.options.fold_at_changes || self.log_is_long(changes)
    }

    /// Ranges with enough changes, or else the fullest if all changes together are too many, or else the one that
    /// keeps a long log from being trimmed.
    fn worth_folding(&self) -> Vec<KeyRange> {
        let worth = self.options.fold_at_changes;
        let all = self.overlay.read().len();
        if self.log_is_long(all) {
            return self.pinning_range().map(|(range, _)| range).into_iter().collect();
        }
        if all < worth {
            return Vec::new();
        }
        let counts = self.counts();
        let worthy: Vec<_> = counts.iter().filter(|(_, count)| *count >= worth).map(|(range, _)| *range).collect();
        if worthy.is_empty() && all / MOST_OVERLAYS >= worth {
            return self.fullest_range().into_iter().collect();
        }
        worthy
    }

    /// The range with the most changes.
    pub(super) fn fullest_range(&self) -> Option<KeyRange> {
        self.counts().into_iter().max_by_key(|(_, count)| *count).map(|(range, _)| range)
    }

    /// Every range and about how many changes it has. Lookups wait for whoever waits for the overlay, so nobody
    /// holds it for a look at every change.
    fn counts(&self) -> Vec<(KeyRange, usize)> {
        let map = self.segments.load();
        let overlay = self.overlay.read();
        map.slots().iter().map(|slot| (slot.range, overlay.count_in(slot.range))).collect()
    }
}
