//! Copies of `ledger.redb` out of a snapshot.

use std::path::Path;

use super::activity::rows as activity_rows;
use super::{bucket_log, bucket_rows, disclosures, novelty_rows, policy_rows, standing, state};
use crate::database::{Db, DbOptions, Snapshot};
use crate::words::Result;

/// Every table of a ledger. A copy refuses one that is not among them, so that none is left out unseen.
const TABLES: [&str; 9] = [
    state::NAME,
    bucket_rows::NAME,
    bucket_log::NAME,
    policy_rows::NAME,
    standing::NAME,
    novelty_rows::NAME,
    activity_rows::NAME,
    activity_rows::SLOTS_NAME,
    disclosures::NAME,
];

/// Writes everything that a snapshot of `ledger.redb` holds into a new file.
pub(crate) fn copy(from: &Snapshot, to: &Path, options: DbOptions) -> Result<()> {
    let to = Db::create(to, &options)?;
    copy_all_but_buckets(from, &to)?;
    from.copy_table(bucket_rows::BUCKETS, &to)
}

/// Everything but the table of buckets.
pub(super) fn copy_all_but_buckets(from: &Snapshot, to: &Db) -> Result<()> {
    from.expect_tables(&TABLES)?;
    from.copy_table(state::STATE, to)?;
    from.copy_table(bucket_log::BUCKET_LOG, to)?;
    from.copy_table(policy_rows::POLICIES, to)?;
    from.copy_table(standing::STANDINGS, to)?;
    from.copy_table(novelty_rows::NOVELTY, to)?;
    from.copy_table(activity_rows::ACTIVITY, to)?;
    from.copy_table(activity_rows::SLOTS, to)?;
    from.copy_table(disclosures::DISCLOSURES, to)
}
