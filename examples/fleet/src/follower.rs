//! Follows the feed: what it holds goes into the index, exactly once, and the index is told how far it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use unlisted::{AccountId, Index};

use crate::{BEGINNING, Change, Entry, Error, Feed};

/// Entries that are read, and applied in one transaction, at a time.
const MOST: usize = 1_000;

/// What a follower has done since it began, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) applied: AtomicU64,
    /// Changes that were in the index already, or a newer one: published twice, or late.
    pub(crate) stale: AtomicU64,
    pub(crate) failed_reads: AtomicU64,
}

pub(crate) struct Follower {
    pub(crate) index: Index,
    pub(crate) feed: Feed,
    /// What the feed knows it by.
    pub(crate) name: String,
    /// How long it waits at the end of the feed.
    pub(crate) poll: Duration,
}

impl Follower {
    /// Follows until it is told to stop, or until something happens that does not pass.
    pub(crate) fn run(mut self, progress: &Progress, stop: &Receiver<()>) -> Result<(), Error> {
        loop {
            let wait = match self.round(progress) {
                Ok(true) => self.poll,
                Ok(false) => Duration::ZERO,
                Err(error) if error.is_passing() => {
                    progress.failed_reads.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(error = with_causes(&error), lag = ?self.index.lag(), "the feed is not to be had");
                    self.poll
                }
                Err(error) => return Err(error),
            };
            match stop.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Reads once, applies it, and reports if that was all; says whether it was.
    fn round(&mut self, progress: &Progress) -> Result<bool, Error> {
        // Before the feed is asked: what is published while it answers is not in the answer.
        let moment = self.index.feed_moment();
        let position = match self.index.watermark() {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => BEGINNING.to_owned(),
        };
        let page = self.feed.read(&self.name, &position, MOST)?;
        let is_erasure = |entry: &Entry| erased(entry).is_some();
        for run in page.entries.chunk_by(|a, b| !is_erasure(a) && !is_erasure(b)) {
            self.apply(run, progress)?;
        }
        if page.is_last {
            self.index.followed_until(moment)?;
        }
        Ok(page.is_last)
    }

    /// Applies one erasure, or changes between two: in order, for an erasure takes what came before it and leaves what
    /// came after.
    fn apply(&self, run: &[Entry], progress: &Progress) -> Result<(), Error> {
        // An erasure is a transaction of its own. It comes before its watermark: to erase twice is harmless.
        for (account, version) in run.iter().filter_map(erased) {
            self.index.erase_accounts_at(&[account], version)?;
        }
        let report = self.index.update(|batch| {
            for entry in run {
                match entry.change {
                    Change::Set { number, account, opt_ins, version } => {
                        batch.set_opt_ins(number, account, opt_ins, version)?;
                    }
                    Change::Remove { number, account, version } => batch.remove(number, account, version)?,
                    Change::Erase { .. } => {}
                }
            }
            run.last().map_or(Ok(()), |last| batch.watermark(&last.id))
        })?;
        progress.applied.fetch_add(run.len() as u64, Ordering::Relaxed);
        progress.stale.fetch_add(report.stale as u64, Ordering::Relaxed);
        Ok(())
    }
}

fn erased(entry: &Entry) -> Option<(AccountId, u64)> {
    match entry.change {
        Change::Erase { account, version } => Some((account, version)),
        Change::Set { .. } | Change::Remove { .. } => None,
    }
}

/// An error and its causes in one line.
pub fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
