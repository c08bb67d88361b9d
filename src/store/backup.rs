//! Copies of `index.redb` out of a snapshot: as it is, or of what counts.

use std::path::Path;

use super::{LogState, State, disclosures, log, manifest, shard, state};
use crate::database::{Db, DbOptions, Snapshot};
use crate::words::Result;

/// Every table. The first layout of the delta is moved into the log by every open.
const TABLES: [&str; 7] = [
    state::NAME,
    manifest::NAME,
    manifest::MAKERS_NAME,
    log::NAME,
    log::FOLDED_NAME,
    disclosures::NAME,
    shard::NAME,
];

/// Writes everything that a snapshot of `index.redb` holds into a new file.
pub(crate) fn copy(from: &Snapshot, to: &Path, options: DbOptions) -> Result<()> {
    from.expect_tables(&TABLES)?;
    let to = Db::create(to, &options)?;
    from.copy_table(state::STATE, &to)?;
    from.copy_table(manifest::SEGMENTS, &to)?;
    from.copy_table(manifest::MAKERS, &to)?;
    from.copy_table(shard::TABLE, &to)?;
    from.copy_table(log::LOG, &to)?;
    from.copy_table(log::FOLDED, &to)?;
    from.copy_table(disclosures::TABLE, &to)
}

/// Writes what counts into a new file: no change that is in a segment, and `next` as its state. Returns where its log stands.
pub(super) fn copy_what_counts(from: &Snapshot, to: &Db, log: &LogState, next: &State) -> Result<LogState> {
    from.expect_tables(&TABLES)?;
    to.write(|txn| state::write(to, txn, next))?;
    from.copy_table(manifest::SEGMENTS, to)?;
    from.copy_table(manifest::MAKERS, to)?;
    from.copy_table(shard::TABLE, to)?;
    from.copy_table(disclosures::TABLE, to)?;
    from.copy_table(log::FOLDED, to)?;
    log::copy_what_counts(from, to, log)
}
