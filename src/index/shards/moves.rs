//! A range from one node to another: the next owner expects it, the owner exports it, it arrives, the record changes, the old
//! owner drops it.
//!
//! Between `expect` and the arrival the next owner keeps what its feed says of the range, as changes in the log that no fold puts
//! into segments. So its feed and the owner's need not stand at the same place: the export only has to be of a moment at or
//! past the one at which the next owner began to keep. Of a listing that both have, the newer version counts.

use super::super::{Index, Inner};
use crate::shards::{Hold, KeySpan};
use crate::store::Changes;
use crate::words::{Result, ShardError};

/// What came with a range, or went with it.
///
/// ```
/// use unlisted::{Index, KeySpan, Options, Ownership, RangeReport, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?).node("a"))?;
/// let upper = KeySpan::new(0x8000, 0x1_0000)?;
/// index.expect_range(upper)?;
/// // The move is given up.
/// assert_eq!(index.drop_range(upper)?, RangeReport::default());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RangeReport {
    /// Segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Changes that are in no segment.
    pub changes: usize,
}

impl Index {
    /// Says that a span will come from another node: from now on, durably, this node keeps what updates say of it. It does not
    /// answer for it before [`Index::import_range`].
    ///
    /// Returns where this node's feed stands at that moment. What the feed said before was left out here, so the owner must
    /// export at or past that place.
    ///
    /// # Errors
    /// [`ShardError::NotANode`]; [`ShardError::RangeHeld`] if a part of it is held or expected already;
    /// [`crate::Error::Database`], [`crate::Error::Poisoned`].
    pub fn expect_range(&self, span: KeySpan) -> Result<Option<Vec<u8>>> {
        let inner = &self.inner;
        // A fold that is under way does not know what it must leave alone.
        let _structure = inner.structure.lock();
        let mut writer = inner.writer.lock();
        let shard = inner.node()?;
        if shard.holds.any(span, |hold| *hold != Hold::Nothing) {
            return Err(ShardError::RangeHeld.into());
        }
        inner.become_shard(&mut writer, shard.with(span, Hold::Expected))?;
        Ok(writer.state.watermark.clone())
    }

    /// Drops what this node has of a span: what another owns by the record that this node follows, or a span that was expected and
    /// does not come. Durable when it returns; updates of it are left out from then on.
    ///
    /// # Errors
    /// [`ShardError::NotANode`]; [`ShardError::RangeOwned`] if this node owns and has a part of it; [`crate::Error::Damaged`] if a
    /// segment that has to be cut is; [`crate::Error::Io`], [`crate::Error::Database`], [`crate::Error::Poisoned`].
    pub fn drop_range(&self, span: KeySpan) -> Result<RangeReport> {
        self.inner.drop_range(span)
    }
}

impl Inner {
    fn drop_range(&self, span: KeySpan) -> Result<RangeReport> {
        let structure = self.structure.lock();
        self.check_not_owned(span)?;
        self.align(&structure, span)?;
        let map = self.segments.load_full();
        let is_gone = |range| span.covers(KeySpan::of_range(range));
        let gone = map.live().filter(|segment| is_gone(segment.segment().header().keys.range));
        let mut report = RangeReport::default();
        let mut retire = Vec::new();
        for segment in gone {
            report.segments += 1;
            report.bytes += segment.segment().len() as u64;
            retire.push(segment.generation());
        }

        let mut writer = self.writer.lock();
        writer.check()?;
        // The record may have changed while segments were cut.
        self.check_not_owned(span)?;
        let shard = self.node()?.with(span, Hold::Nothing);
        let changes: Vec<_> = {
            let overlay = self.overlay.read();
            let of_span = span.ranges().into_iter().flat_map(|range| overlay.in_range(range));
            of_span.map(|change| (change.entry.key, change.entry.account, change.entry.stamp)).collect()
        };
        report.changes = changes.len();
        let mut next = writer.state.clone();
        if next.tripwires > 0 {
            let gone = self.tripwires_in(span, &self.overlay.read())?;
            next.tripwires = next.tripwires.saturating_sub(gone);
        }
        next.ledger_commits = self.ledger.commits();
        // Pages that are free now have them still: the background writes the file anew.
        next.forgotten = next.forgotten.saturating_add(changes.len() as u64);
        let last = self.store.log().last();
        let folded: Vec<_> = span.ranges().into_iter().map(|range| (range, last)).collect();
        let of_drop = Changes { folded: &folded, retire: &retire, shard: Some(&shard), ..Changes::default() };
        let next_map =
            map.replaced(&retire, &[]).ok_or(crate::words::Error::Panicked { during: "drop a range" })?;
        writer.commit(next, |next| self.store.commit(&of_drop, next))?;
        // First of all nobody is answered for it any more; who is just being answered looks again afterwards.
        self.shard.store(Some(shard.into()));
        self.segments.store(next_map.into());
        self.drop_from_overlay(&changes);
        drop(writer);
        self.remove_retired(&map, &retire);
        self.trim_log()?;
        super::super::fold::wait_for_readers(map);
        Ok(report)
    }

    fn check_not_owned(&self, span: KeySpan) -> Result<(), ShardError> {
        let shard = self.node()?;
        let Some(record) = &shard.record else {
            // Nothing says that somebody else has it.
            let is_held = shard.holds.any(span, |hold| *hold == Hold::Complete);
            return if is_held { Err(ShardError::RangeOwned) } else { Ok(()) };
        };
        let has_own = shard.holds.iter().any(|(piece, hold)| {
            let both = KeySpan::new(piece.from().max(span.from()), piece.to().min(span.to()));
            *hold == Hold::Complete && both.is_ok_and(|both| record.owns_some(&shard.node, both))
        });
        if has_own { Err(ShardError::RangeOwned) } else { Ok(()) }
    }
}
