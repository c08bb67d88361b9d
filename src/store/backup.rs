//! Copies of `index.redb` out of a snapshot.

use std::path::Path;

use super::{disclosures, log, manifest, state};
use crate::database::{Db, DbOptions, Snapshot};
use crate::words::Result;

/// Writes everything that a snapshot of `index.redb` holds into a new file.
pub(crate) fn copy(from: &Snapshot, to: &Path, options: DbOptions) -> Result<()> {
    // The first layout of the delta is moved into the log by every open.
    from.expect_tables(&[state::NAME, manifest::NAME, log::NAME, log::FOLDED_NAME, disclosures::NAME])?;
    let to = Db::create(to, &options)?;
    from.copy_table(state::STATE, &to)?;
    from.copy_table(manifest::SEGMENTS, &to)?;
    from.copy_table(log::LOG, &to)?;
    from.copy_table(log::FOLDED, &to)?;
    from.copy_table(disclosures::TABLE, &to)
}
