//! The write path: one redb transaction per batch, then the overlay, then the answer.

use std::collections::HashMap;

use super::{Index, Inner};
use crate::ledger::RedbLedger;
use crate::overlay::Change;
use crate::store::{Changes, DeltaRef, State};
use crate::words::{AccountId, Entry, Error, Flags, Key, OptIns, PhoneHash, Result, Stamp, Version};

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
}

impl UpdateBatch {
    /// Lists an account under a phone, or changes what it agreed to. No opt-ins means that it is not found.
    ///
    /// # Errors
    /// [`Error::Version`] for a version of more than 56 bits; [`Error::UpdateTooLarge`].
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
    /// # Errors
    /// Whatever the closure returns; [`Error::SizeLimit`] if the index is full and the batch does more than
    /// opt out and remove; [`Error::Database`] if the disk refuses, after which the writer is poisoned.
    pub fn update(&self, fill: impl FnOnce(&mut UpdateBatch) -> Result<()>) -> Result<UpdateReport> {
        let mut batch = UpdateBatch { changes: Vec::new(), watermark: None, limit: self.inner.options.max_update };
        fill(&mut batch)?;
        self.inner.update(&batch)
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
    fn update(&self, batch: &UpdateBatch) -> Result<UpdateReport> {
        let mut keys = Vec::with_capacity(batch.changes.len());
        self.ring.keys_of(batch.changes.iter().map(|(hash, ..)| hash), &mut keys);
        let removed_at_s = self.clock.wall_ms() / 1_000;
        let wanted: Vec<Change> = keys
            .iter()
            .zip(&batch.changes)
            .map(|(key, (_, account, opt_ins, version))| change(*key, *account, *opt_ins, *version, removed_at_s))
            .collect();

        let mut writer = self.writer.lock();
        writer.check()?;
        let mut plan = Plan::default();
        let mut grows = false;
        for change in &wanted {
            let stored = self.stored(&plan, change)?;
            if stored.is_some_and(|stored| change.entry.version() <= stored.entry.version()) {
                plan.stale += 1;
                continue;
            }
            let had = stored.map_or(OptIns::empty(), |stored| stored.entry.flags().opt_ins());
            grows |= !had.contains(change.entry.flags().opt_ins());
            plan.set(*change, stored);
        }
        let report = UpdateReport { applied: wanted.len() - plan.stale, stale: plan.stale };
        if plan.new.is_empty() && batch.watermark.is_none() {
            return Ok(report);
        }
        if grows {
            self.check_size()?;
        }
        let mut next = writer.state.clone();
        if let Some(watermark) = &batch.watermark {
            next.watermark = Some(watermark.clone());
        }
        self.write(&mut writer, next, &plan)?;
        Ok(report)
    }

    /// Commits a plan durably and then shows it to lookups. The writer is locked all the while.
    pub(super) fn write(&self, writer: &mut super::Writer, mut next: State, plan: &Plan) -> Result<()> {
        let put: Vec<Change> = plan.new.values().copied().collect();
        next.snapshot_version += u64::from(!put.is_empty());
        next.ledger_commits = self.ledger.commits();
        let changes = Changes { put: &put, drop: &plan.replaced, ..Changes::default() };
        writer.commit(next, |next| self.store.commit(&changes, next))?;
        RedbLedger::note_index_version(&self.ledger, writer.state.snapshot_version);
        let mut overlay = self.overlay.write();
        for change in put {
            overlay.set(change);
        }
        if overlay.len() >= self.options.fold_at_changes {
            self.wake.wake();
        }
        Ok(())
    }

    /// The newest state of the listing that a change is about: from this batch, the overlay, or its segment.
    fn stored(&self, plan: &Plan, change: &Change) -> Result<Option<Stored>> {
        let entry = change.entry;
        if let Some(earlier) = plan.new.get(&entry.id()) {
            return Ok(Some(Stored { entry: earlier.entry, in_delta: false }));
        }
        if let Some(row) = self.overlay.read().get(entry.key, entry.account) {
            return Ok(Some(Stored { entry: row.entry, in_delta: true }));
        }
        let segments = self.segments.load();
        let Some(segment) = segments.of(entry.key) else { return Ok(None) };
        let mut newest: Option<Stamp> = None;
        segment.locate(|s| {
            s.probe(entry.key, |account, stamp| {
                if account == entry.account {
                    newest = Some(stamp);
                }
            })
        })?;
        Ok(newest.map(|stamp| Stored { entry: Entry { stamp, ..entry }, in_delta: false }))
    }

    /// Is there room for more listings?
    pub(super) fn check_size(&self) -> Result<()> {
        let limit_bytes = self.options.max_bytes;
        if limit_bytes == u64::MAX {
            return Ok(());
        }
        let used_bytes = self.disk_bytes()?;
        if used_bytes >= limit_bytes {
            return Err(Error::SizeLimit { used_bytes, limit_bytes });
        }
        Ok(())
    }
}

/// The newest state of a listing, and whether a delta row holds it.
#[derive(Clone, Copy)]
struct Stored {
    entry: Entry,
    in_delta: bool,
}

/// What one transaction will write.
#[derive(Default)]
pub(super) struct Plan {
    /// The last change of each listing.
    pub(super) new: HashMap<(Key, AccountId), Change>,
    /// Delta rows under a shorter form of the key, which the new ones stand for.
    pub(super) replaced: Vec<DeltaRef>,
    stale: usize,
}

impl Plan {
    fn set(&mut self, change: Change, stored: Option<Stored>) {
        if let Some(Stored { entry, in_delta: true }) = stored
            && entry.key != change.entry.key
        {
            self.replaced.push((entry.key, entry.account, entry.stamp));
        }
        self.new.insert(change.entry.id(), change);
    }
}

/// The delta row of a change; no opt-ins at all means that the listing goes.
fn change(key: Key, account: AccountId, opt_ins: Option<OptIns>, version: Version, now_s: u64) -> Change {
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
