//! The write path: prepare a batch without a lock, enter the group whose leader commits all that wait in one
//! transaction (`commit.rs`), answer when it is durable and visible.

use super::commit::Prepared;
use super::group::Entered;
use super::{Index, Inner};
use crate::overlay::Change;
use crate::words::{AccountId, Entry, Error, Flags, Key, OptIns, PhoneHash, Result, Version};

/// Longest watermark, in bytes.
const MAX_WATERMARK_LEN: usize = 4_096;

/// Changes that become durable and visible together. See [`Index::update`].
///
/// ```
/// use unlisted::{AccountId, Index, OptIns, Options, PhoneHash, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let (ada, account) = (PhoneHash::of_e164("+14155550100")?, AccountId::from(42));
/// index.update(|batch| {
///     batch.put(ada, account, OptIns::SEARCH, 1)?;
///     batch.remove(ada, account, 2)?;
///     batch.watermark("offset 2")
/// })?;
/// assert_eq!(index.watermark().as_deref(), Some(&b"offset 2"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UpdateBatch {
    changes: Vec<(PhoneHash, AccountId, Option<OptIns>, Version)>,
    watermark: Option<Vec<u8>>,
    limit: usize,
}

/// What became of the changes of an update.
///
/// ```
/// use unlisted::{AccountId, Index, OptIns, Options, PhoneHash, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let (ada, account) = (PhoneHash::of_e164("+14155550100")?, AccountId::from(42));
/// index.set_opt_ins(ada, account, OptIns::empty(), 7)?;
/// let late = index.set_opt_ins(ada, account, OptIns::SEARCH, 6)?;
/// assert_eq!((late.applied, late.stale), (0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct UpdateReport {
    /// Changes that took effect.
    pub applied: usize,
    /// Changes whose version was not newer than what the index had: they changed nothing.
    pub stale: usize,
    /// Changes of keys that another node of the fleet has: they were left out. Every node follows the whole feed, so another
    /// one keeps them.
    pub elsewhere: usize,
}

impl UpdateBatch {
    /// Lists an account under a phone, or changes what it agreed to. No opt-ins means that it is not found.
    ///
    /// # Errors
    /// [`Error::Version`] for a version of more than 56 bits; [`Error::ReservedAccount`]; [`Error::UpdateTooLarge`].
    pub fn put(&mut self, hash: PhoneHash, account: AccountId, opt_ins: OptIns, version: u64) -> Result<()> {
        self.push(hash, account, Some(opt_ins), version)
    }

    /// Removes a listing. The removal is remembered, so that an older update that arrives late stays undone.
    ///
    /// # Errors
    /// As [`UpdateBatch::put`].
    pub fn remove(&mut self, hash: PhoneHash, account: AccountId, version: u64) -> Result<()> {
        self.push(hash, account, None, version)
    }

    /// Changes what a listing agreed to. Like [`UpdateBatch::put`], it takes effect for a listing that is not
    /// there yet: an opt-out that overtakes its listing must win over it.
    ///
    /// # Errors
    /// As [`UpdateBatch::put`].
    pub fn set_opt_ins(
        &mut self,
        hash: PhoneHash,
        account: AccountId,
        opt_ins: OptIns,
        version: u64,
    ) -> Result<()> {
        self.push(hash, account, Some(opt_ins), version)
    }

    /// Sets where the host's change feed stands once this batch is in: an offset, a sequence number, a map of
    /// them; up to 4,096 bytes in the host's own form. Stored in the same transaction, so that a host that
    /// resumes from [`Index::watermark`] applies every change exactly once.
    ///
    /// # Errors
    /// [`Error::WatermarkTooLong`].
    pub fn watermark(&mut self, watermark: impl AsRef<[u8]>) -> Result<()> {
        let watermark = watermark.as_ref();
        if watermark.len() > MAX_WATERMARK_LEN {
            return Err(Error::WatermarkTooLong { len: watermark.len(), limit: MAX_WATERMARK_LEN });
        }
        self.watermark = Some(watermark.to_vec());
        Ok(())
    }

    fn push(&mut self, hash: PhoneHash, account: AccountId, opt_ins: Option<OptIns>, version: u64) -> Result<()> {
        if self.changes.len() == self.limit {
            return Err(Error::UpdateTooLarge { len: self.limit + 1, limit: self.limit });
        }
        if account == AccountId::RESERVED {
            return Err(Error::ReservedAccount);
        }
        self.changes.push((hash, account, opt_ins, Version::new(version)?));
        Ok(())
    }
}

impl Index {
    /// Applies a batch of changes: all of them or, if anything fails, none.
    ///
    /// When it returns, the batch is durable and the next lookup sees it. A change whose version is not greater
    /// than the stored one is a no-op and counted as stale.
    ///
    /// Threads that update at once share a transaction: what each costs goes down with their number. Each batch
    /// keeps its own outcome; one that is refused takes no other with it.
    ///
    /// # Errors
    /// Whatever the closure returns; [`Error::SizeLimit`] if the index is full and the batch does more than
    /// opt out and remove; [`Error::Database`] if the disk refuses, after which the writer is poisoned, and
    /// [`Error::Poisoned`] for other batches of the same transaction and all later ones: whether they are in is
    /// known at the next open. A batch that lists may have to fold first (see [`Options::max_unfolded`]) and then
    /// fails as [`Index::fold`] does.
    ///
    /// [`Options::max_unfolded`]: crate::Options::max_unfolded
    pub fn update(&self, fill: impl FnOnce(&mut UpdateBatch) -> Result<()>) -> Result<UpdateReport> {
        let mut batch = UpdateBatch { changes: Vec::new(), watermark: None, limit: self.inner.options.max_update };
        fill(&mut batch)?;
        self.inner.update(batch)
    }

    /// Changes what one listing agreed to. Durable and visible when it returns.
    ///
    /// # Errors
    /// As [`Index::update`].
    pub fn set_opt_ins(
        &self,
        hash: PhoneHash,
        account: AccountId,
        opt_ins: OptIns,
        version: u64,
    ) -> Result<UpdateReport> {
        self.update(|batch| batch.set_opt_ins(hash, account, opt_ins, version))
    }
}

impl Inner {
    fn update(&self, batch: UpdateBatch) -> Result<UpdateReport> {
        let prepared = self.prepare(batch)?;
        if prepared.may_grow() {
            self.make_room()?;
        }
        match self.group.enter(prepared) {
            Entered::Done(outcome) => outcome.unwrap_or(Err(PANICKED)),
            Entered::Lead(mut turn) => {
                let mut writer = self.writer.lock();
                let mut batches = turn.take(self.options.max_update, Prepared::len);
                let outcomes = self.commit_together(&mut writer, &mut batches);
                drop(writer);
                turn.finish(outcomes).unwrap_or(Err(PANICKED))
            }
        }
    }

    /// What needs no lock: keys, rows, and what the segments know of them.
    fn prepare(&self, batch: UpdateBatch) -> Result<Prepared> {
        let UpdateBatch { changes, watermark, .. } = batch;
        let mut keys = Vec::with_capacity(changes.len());
        self.ring.keys_of(changes.iter().map(|(hash, ..)| hash), &mut keys);
        let removed_at_s = self.clock.wall_ms() / 1_000;
        let wanted = keys.iter().zip(&changes);
        let wanted = wanted
            .map(|(key, (_, account, opt_ins, version))| change(*key, *account, *opt_ins, *version, removed_at_s));
        Prepared::new(wanted.collect(), watermark, self.segments.load_full())
    }

    /// Folds, if so many changes wait in memory that there may be no more. Only those who list wait for it: an
    /// opt-out or a removal does not.
    pub(super) fn make_room(&self) -> Result<()> {
        while self.overlay.read().len() >= self.options.max_unfolded {
            let structure = self.structure.lock();
            // Whoever had the lock before may have made room.
            if self.overlay.read().len() < self.options.max_unfolded {
                break;
            }
            let Some(range) = self.fullest_range() else { break };
            if self.fold_locked(&structure, range)?.folded == 0 {
                break;
            }
        }
        Ok(())
    }
}

const PANICKED: Error = Error::Panicked { during: "a commit shared with other updates" };

/// The delta row of a change; no opt-ins at all means that the listing goes.
pub(super) fn change(
    key: Key,
    account: AccountId,
    opt_ins: Option<OptIns>,
    version: Version,
    now_s: u64,
) -> Change {
    match opt_ins {
        Some(opt_ins) => Change {
            entry: Entry::new(key, account, version, Flags::live(opt_ins)),
            known_bits: 128,
            removed_at_s: 0,
        },
        None => Change {
            entry: Entry::new(key, account, version, Flags::removed(0)),
            known_bits: 128,
            removed_at_s: now_s,
        },
    }
}
