//! The end of the log that grows: a frame for each lookup that shows something, before its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::files::{Active, Part, Prepared};
use super::frame::{self, MAX_ACCOUNTS, Place, frame_len};
use super::row::Group;
use super::{DisclosureSync, Folder, Mark};
use crate::disk::File;
use crate::words::{AccountId, Error, Result};

/// How many times as long as it should be a log may become, if the thread that syncs does not come to seal it, before a
/// lookup does.
const LONGEST_LOG: u64 = 2;

/// Parts that queries and compaction see, the growing log and how much of it is on the device.
pub(super) struct State {
    pub(super) active: Active,
    /// Everything older, oldest first.
    pub(super) parts: Vec<Part>,
    buffer: Vec<u8>,
    /// Is there a thread that syncs and seals full logs, and is room reserved ahead of the frames? A lookup that waits for the
    /// device gains nothing from either.
    is_ahead: bool,
    /// The next log, made ahead.
    next: Option<Prepared>,
    /// Bytes written to logs, counted through all of them.
    written: u64,
    /// Of those, how many are on the device.
    synced: u64,
    /// `written` where the growing log begins.
    base: u64,
    /// Does some thread sync now? Others wait for it and go in the next round together.
    is_syncing: bool,
    /// Was something written that the background thread was not told of yet?
    is_dirty: bool,
    is_closing: bool,
    /// The first failed write or sync. From then on nothing is shown.
    poison: Option<String>,
}

impl State {
    fn check(&self) -> Result<()> {
        match &self.poison {
            Some(cause) => Err(Error::Poisoned { what: "disclosure log", cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Writes the frames of one lookup, in one piece. Returns what has to be synced for them to be durable.
    fn write(
        &mut self,
        folder: &Folder,
        group: &Group,
        at_ms: u64,
        accounts: impl ExactSizeIterator<Item = AccountId> + Clone,
    ) -> Result<u64> {
        let origins = group.origins.tokens().len();
        let frames = accounts.len().div_ceil(MAX_ACCOUNTS);
        // As many as there may be: some may be short.
        let bytes = frame_len(origins, 0, false) * frames + 16 * accounts.len();
        let most_bytes = folder.log_bytes.saturating_mul(if self.is_ahead { LONGEST_LOG } else { 1 });
        if self.active.totals.frames > 0 && self.active.len + bytes as u64 > most_bytes {
            self.rotate(folder)?;
        }
        self.buffer.clear();
        let synced = self.synced.saturating_sub(self.base);
        for number in 0..frames {
            let at = self.active.len + self.buffer.len() as u64;
            let place = Place { at, salt: self.active.salt, synced, has_short: self.active.has_short };
            let some = accounts.clone().skip(number * MAX_ACCOUNTS);
            let rows = frame::encode(&mut self.buffer, place, group, at_ms, some);
            self.active.totals.add(rows, at_ms);
        }
        self.active.append(&self.buffer, most_bytes)?;
        self.written += self.buffer.len() as u64;
        Ok(self.written)
    }

    /// Seals the growing log and begins the next. All of it is on the device then.
    fn rotate(&mut self, folder: &Folder) -> Result<()> {
        let (sealed, footer) = self.active.seal(folder)?;
        let mut next = self.active.successor(folder, self.next.take())?;
        if self.is_ahead {
            next.reserve_ahead();
        }
        self.base = self.written + footer;
        self.written = self.base + next.len;
        self.synced = self.written;
        self.parts.push(Part::Log(Arc::new(sealed)));
        self.active = next;
        Ok(())
    }
}

/// Shared by lookups and by the thread that syncs behind them.
pub(super) struct Shared {
    state: Mutex<State>,
    is_poisoned: AtomicBool,
    /// There is something to sync, or an end.
    work: Condvar,
    /// A sync ended.
    done: Condvar,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    folder: Folder,
    sync: DisclosureSync,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Everything in `parts` and `active` is on the device.
    pub(super) fn start(
        folder: Folder,
        sync: DisclosureSync,
        mut active: Active,
        parts: Vec<Part>,
    ) -> Result<Self> {
        let len = active.len;
        let is_ahead = matches!(sync, DisclosureSync::Written { .. });
        if is_ahead {
            active.reserve_ahead();
        }
        let state = State {
            active,
            parts,
            buffer: Vec::new(),
            is_ahead,
            next: None,
            written: len,
            synced: len,
            base: 0,
            is_syncing: false,
            is_dirty: false,
            is_closing: false,
            poison: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            is_poisoned: AtomicBool::new(false),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let thread = match sync {
            DisclosureSync::Written { sync_within_ms } => {
                let (shared, behind) = (shared.clone(), folder.clone());
                let within = Duration::from_millis(u64::from(sync_within_ms));
                let thread = thread::Builder::new().name("unlisted-disclose".to_owned());
                let started = thread.spawn(move || shared.sync_behind(&behind, within));
                Some(started.map_err(Error::io("start a thread for", &folder.dir))?)
            }
            DisclosureSync::Synced | DisclosureSync::Off => None,
        };
        Ok(Self { shared, folder, sync, thread })
    }

    /// Refuses after a failed write or sync.
    pub(super) fn check(&self) -> Result<()> {
        if self.shared.is_poisoned.load(Ordering::Acquire) { self.shared.state.lock().check() } else { Ok(()) }
    }

    /// Writes what a lookup is about to show, as safely as the options say.
    pub(super) fn append(
        &self,
        group: &Group,
        at_ms: u64,
        accounts: impl ExactSizeIterator<Item = AccountId> + Clone,
    ) -> Result<()> {
        let mut state = self.shared.state.lock();
        let target = self.write(&mut state, group, at_ms, accounts)?;
        if self.sync == DisclosureSync::Synced {
            return self.shared.sync_to(&mut state, target);
        }
        if !state.is_dirty {
            state.is_dirty = true;
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Writes a row that is on record elsewhere until the caller settles.
    pub(super) fn import(&self, group: &Group, at_ms: u64, account: AccountId) -> Result<()> {
        let mut state = self.shared.state.lock();
        self.write(&mut state, group, at_ms, std::iter::once(account)).map(drop)
    }

    fn write(
        &self,
        state: &mut State,
        group: &Group,
        at_ms: u64,
        accounts: impl ExactSizeIterator<Item = AccountId> + Clone,
    ) -> Result<u64> {
        state.check()?;
        let written = state.write(&self.folder, group, at_ms, accounts);
        written.map_err(|error| self.shared.poison(state, error))
    }

    /// Puts everything written on the device; returns how far that is.
    pub(super) fn settle(&self) -> Result<Mark> {
        let mut state = self.shared.state.lock();
        state.check()?;
        let written = state.written;
        self.shared.sync_to(&mut state, written)?;
        // What came meanwhile may not be on the device yet.
        let len = state.synced.saturating_sub(state.base);
        Ok(Mark { seq: state.active.seq, len })
    }

    /// Seals the growing log if there is anything in it; returns the newest sealed one's number.
    pub(super) fn seal(&self) -> Result<u64> {
        let mut state = self.shared.state.lock();
        state.check()?;
        if state.active.totals.frames > 0 {
            state.rotate(&self.folder).map_err(|error| self.shared.poison(&mut state, error))?;
        }
        Ok(state.active.seq - 1)
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.shared.state.lock())
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.state.lock().is_closing = true;
        self.shared.work.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that syncs disclosures ended by a panic: this is a bug");
        }
        let mut state = self.shared.state.lock();
        if let Err(error) = state.active.write_on() {
            tracing::warn!(error = error.with_causes(), "the disclosure log keeps the room that it had reserved");
        }
        if let Some(Err(error)) = state.next.take().map(|next| next.discard(&self.folder)) {
            tracing::warn!(error = error.with_causes(), "a log that was made ahead stays until the next open");
        }
    }
}

impl Shared {
    /// Whoever failed hears why; everybody later hears that it did.
    fn poison(&self, state: &mut State, error: Error) -> Error {
        state.poison.get_or_insert_with(|| error.with_causes());
        self.is_poisoned.store(true, Ordering::Release);
        self.done.notify_all();
        error
    }

    /// Returns when so much is on the device. Threads that wait at the same time share a sync.
    fn sync_to(&self, state: &mut MutexGuard<'_, State>, target: u64) -> Result<()> {
        while state.synced < target {
            state.check()?;
            if state.is_syncing {
                self.done.wait(state);
            } else {
                self.sync_once(state)?;
            }
        }
        Ok(())
    }

    /// Syncs what is written by now, without the lock.
    fn sync_once(&self, state: &mut MutexGuard<'_, State>) -> Result<()> {
        let (file, written) = (state.active.file.clone(), state.written);
        state.is_syncing = true;
        let synced = MutexGuard::unlocked(state, || File::sync_data(&file));
        state.is_syncing = false;
        let result = match synced {
            Ok(()) => {
                // A rotation may have synced more meanwhile.
                state.synced = state.synced.max(written);
                Ok(())
            }
            Err(source) => {
                let path = state.active.path.clone();
                Err(self.poison(state, Error::Io { action: "sync", path, source }))
            }
        };
        self.done.notify_all();
        result
    }

    /// The thread's work: lets writes gather for half of the time allowed, and leaves the other half to the device.
    fn sync_behind(&self, folder: &Folder, within: Duration) {
        let mut state = self.state.lock();
        loop {
            while !state.is_dirty && !state.is_closing {
                self.work.wait(&mut state);
            }
            if state.is_closing || state.poison.is_some() {
                return;
            }
            let until = Instant::now() + within / 2;
            while !state.is_closing && !self.work.wait_until(&mut state, until).timed_out() {}
            state.is_dirty = false;
            let written = state.written;
            if let Err(error) = self.sync_to(&mut state, written) {
                tracing::error!(
                    error = error.with_causes(),
                    "disclosures could not be synced; nothing is shown now"
                );
                return;
            }
            if let Err(error) = self.rotate_behind(&mut state, folder) {
                tracing::error!(
                    error = error.with_causes(),
                    "a full disclosure log could not be sealed; nothing is shown now"
                );
                return;
            }
        }
    }

    /// Makes the next log ahead of its time, and seals one that is full. What lookups put since the last sync is little, so
    /// that they wait little for it.
    fn rotate_behind(&self, state: &mut MutexGuard<'_, State>, folder: &Folder) -> Result<()> {
        if state.next.is_none() && state.active.len >= folder.log_bytes / 2 {
            self.prepare(state, folder);
        }
        if state.active.len >= folder.log_bytes && state.active.totals.frames > 0 {
            return state.rotate(folder).map_err(|error| self.poison(state, error));
        }
        Ok(())
    }

    /// Makes the next log, without the lock. If it cannot be made, whoever needs it tries again and hears why.
    fn prepare(&self, state: &mut MutexGuard<'_, State>, folder: &Folder) {
        let seq = state.active.seq + 1;
        let prepared = MutexGuard::unlocked(state, || Prepared::create(folder, seq, true));
        let kept = prepared.and_then(|prepared| {
            // It may have been needed, and made, meanwhile.
            if state.active.seq + 1 != seq {
                return prepared.discard(folder);
            }
            state.next = Some(prepared);
            Ok(())
        });
        if let Err(error) = kept {
            tracing::debug!(error = error.with_causes(), "the next disclosure log is not made ahead");
        }
    }
}
