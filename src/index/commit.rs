//! Under the writer's lock: batches that arrived together are planned one after the other, become durable in one
//! transaction, and then visible.

use std::sync::Arc;

use super::segments::SegmentMap;
use super::{Inner, Writer};
use crate::ledger::RedbLedger;
use crate::overlay::{Change, Overlay, Rows};
use crate::shards::Shard;
use crate::store::{Changes, DeltaRef, State};
use crate::words::{Error, OptIns, Result, Stamp};

use super::update::UpdateReport;

/// Changes whose lines are asked of the memory before the first of them is read.
const AHEAD: usize = 32;

/// A batch, ready to be compared with what is newer than the segments.
pub(super) struct Prepared {
    changes: Vec<Change>,
    watermark: Option<Vec<u8>>,
    /// What the segments of `map` hold of each listing.
    stored: Vec<Option<Stamp>>,
    map: Arc<SegmentMap>,
}

impl Prepared {
    pub(super) fn new(changes: Vec<Change>, watermark: Option<Vec<u8>>, map: Arc<SegmentMap>) -> Result<Self> {
        let stored = stored_in(&map, &changes)?;
        Ok(Self { changes, watermark, stored, map })
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Has it anything but opt-outs and removals?
    pub(super) fn may_grow(&self) -> bool {
        self.changes.iter().any(|change| change.entry.flags().opt_ins().has_purpose())
    }

    /// Asks the segments again if a fold or an import replaced some. The writer's lock keeps the new map.
    fn renew(&mut self, map: &Arc<SegmentMap>) -> Result<()> {
        if !Arc::ptr_eq(&self.map, map) {
            self.stored = stored_in(map, &self.changes)?;
            self.map = map.clone();
        }
        Ok(())
    }
}

/// What the segments hold of each change's listing: some tens at a time, so that they wait for memory together.
fn stored_in(map: &SegmentMap, changes: &[Change]) -> Result<Vec<Option<Stamp>>> {
    let mut stored = Vec::with_capacity(changes.len());
    let mut asked = Vec::with_capacity(AHEAD);
    for some in changes.chunks(AHEAD) {
        asked.clear();
        asked.extend(some.iter().map(|change| {
            let live = map.of(change.entry.key)?;
            let place = live.segment().home_place(change.entry.key);
            live.segment().ask_for_tags(place);
            Some((live, place))
        }));
        for (change, asked) in some.iter().zip(&asked) {
            let entry = change.entry;
            let mut newest = None;
            if let Some((live, place)) = asked {
                live.locate(|s| {
                    s.probe_from(*place, entry.key, &mut |account, stamp| {
                        if account == entry.account {
                            newest = Some(stamp);
                        }
                    })
                })?;
            }
            stored.push(newest);
        }
    }
    Ok(stored)
}

/// What one transaction will write.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The last change of each listing.
    pub(super) new: Rows,
    /// Delta rows under a shorter form of the key, which the new ones stand for.
    replaced: Vec<DeltaRef>,
}

/// Whether a full index refuses listings, asked of the disk at most once a transaction.
#[derive(Default)]
struct Room(Option<Option<(u64, u64)>>);

impl Inner {
    /// One transaction for all batches; each gets its own outcome. The writer is locked all the while.
    pub(super) fn commit_together(
        &self,
        writer: &mut Writer,
        batches: &mut [Prepared],
    ) -> Vec<Result<UpdateReport>> {
        let mut plan = Plan::default();
        let mut next = writer.state.clone();
        let mut outcomes = Vec::with_capacity(batches.len());
        let mut sets_watermark = false;
        {
            let (overlay, map, mut room) = (self.overlay.read(), self.segments.load_full(), Room::default());
            let shard = self.shard();
            for batch in batches {
                let planned = writer.check().and_then(|()| batch.renew(&map));
                let planned =
                    planned.and_then(|()| self.plan(&mut plan, batch, &overlay, &mut room, shard.as_deref()));
                if planned.is_ok() && batch.watermark.is_some() {
                    next.watermark = batch.watermark.take();
                    sets_watermark = true;
                }
                outcomes.push(planned);
            }
        }
        if (!plan.new.is_empty() || sets_watermark)
            && let Err(error) = self.write(writer, next, &plan)
        {
            fail_all(&mut outcomes, error);
        }
        outcomes
    }

    /// Plans a batch behind those planned before it; if it is refused, the plan is as it was.
    fn plan(
        &self,
        plan: &mut Plan,
        batch: &Prepared,
        overlay: &Overlay,
        room: &mut Room,
        shard: Option<&Shard>,
    ) -> Result<UpdateReport> {
        let mut undo: Vec<(Change, Option<Change>)> = Vec::new();
        let replaced_before = plan.replaced.len();
        let (mut grows, mut stale, mut elsewhere) = (false, 0, 0);
        for (change, in_segment) in batch.changes.iter().zip(&batch.stored) {
            let (key, account) = change.entry.id();
            if shard.is_some_and(|shard| !shard.keeps(key)) {
                elsewhere += 1;
                continue;
            }
            let planned = plan.new.get(key, account);
            let in_delta = if planned.is_some() { None } else { overlay.get(key, account) };
            let stored = planned.or(in_delta).map(|row| row.entry.stamp).or(*in_segment);
            if stored.is_some_and(|stored| change.entry.version() <= stored.version()) {
                stale += 1;
                continue;
            }
            let had = stored.map_or(OptIns::empty(), |stored| stored.flags().opt_ins());
            grows |= !change.entry.flags().opt_ins().is_within(had);
            if let Some(row) = in_delta.filter(|row| row.entry.key != key) {
                plan.replaced.push((row.entry.key, row.entry.account, row.entry.stamp));
            }
            undo.push((*change, plan.new.set(*change)));
        }
        if grows && let Err(error) = self.check_room(room) {
            plan.undo(undo, replaced_before);
            return Err(error);
        }
        Ok(UpdateReport { applied: batch.len() - stale - elsewhere, stale, elsewhere })
    }

    fn check_room(&self, room: &mut Room) -> Result<()> {
        let full = match room.0 {
            Some(known) => known,
            None => match self.check_size() {
                Ok(()) => None,
                Err(Error::SizeLimit { used_bytes, limit_bytes }) => Some((used_bytes, limit_bytes)),
                Err(error) => return Err(error),
            },
        };
        room.0 = Some(full);
        full.map_or(Ok(()), |(used_bytes, limit_bytes)| Err(Error::SizeLimit { used_bytes, limit_bytes }))
    }

    /// Commits a plan durably and then shows it to lookups. The writer is locked all the while.
    pub(super) fn write(&self, writer: &mut Writer, mut next: State, plan: &Plan) -> Result<()> {
        let put: Vec<Change> = plan.new.iter().copied().collect();
        next.snapshot_version += u64::from(!put.is_empty());
        next.ledger_commits = self.ledger.commits();
        let changes = Changes { put: &put, drop: &plan.replaced, ..Changes::default() };
        writer.commit(next, |next| self.store.commit(&changes, next))?;
        RedbLedger::note_index_version(&self.ledger, writer.state.snapshot_version);
        let mut overlay = self.overlay.write();
        for change in put {
            overlay.set(change);
        }
        let changes = overlay.len();
        drop(overlay);
        if self.has_work(changes) {
            self.wake.wake();
        }
        Ok(())
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

impl Plan {
    /// Takes a batch's changes out again, the last first.
    fn undo(&mut self, undo: Vec<(Change, Option<Change>)>, replaced_before: usize) {
        for (change, before) in undo.into_iter().rev() {
            let (key, account) = change.entry.id();
            self.new.drop_unchanged(key, account, change.entry.stamp);
            if let Some(before) = before {
                self.new.set(before);
            }
        }
        self.replaced.truncate(replaced_before);
    }
}

/// A failed transaction fails every batch that it was to hold, also those that changed nothing: what they were
/// compared with may not be in. The first gets the failure itself, the others what a poisoned writer says.
fn fail_all(outcomes: &mut [Result<UpdateReport>], error: Error) {
    let cause = error.with_causes();
    let mut first = Some(error);
    for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
        let poisoned = || Error::Poisoned { what: "index", cause: cause.clone() };
        *outcome = Err(first.take().unwrap_or_else(poisoned));
    }
}
