//! Layer 2: the ledger. Every read path charges it, durably, before anything is revealed.
//!
//! It knows scopes only by their keyed identities. [`Ledger`] is the seam behind which another engine can
//! stand; [`RedbLedger`] is the embedded one.

mod bucket_rows;
mod buckets;
mod disclosures;
mod group;
mod memory;
mod novelty_rows;
mod redb;
mod state;
mod table;
mod time;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::words::{AccountId, Purpose, Quota, QuotaPolicy, Result};

pub(crate) use self::redb::{LedgerOptions, RedbLedger};
pub(crate) use state::LedgerState;

/// Name of the file in the directory of an index.
pub(crate) const FILE_NAME: &str = "ledger.redb";

/// The keyed identity of a caller, an origin or everyone.
pub(crate) type ScopeId = [u8; 16];

/// Something that is charged, and what it may spend.
#[derive(Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) id: ScopeId,
    pub(crate) quota: Quota,
}

/// What a charge allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Numbers that were charged: the first ones of those that cost something.
    pub(crate) granted: u64,
    /// Numbers that could still be asked at once, by the scope that has least.
    pub(crate) remaining: u64,
    /// How long until the rest can be asked, or a full burst of it; `None` if nothing was left out.
    pub(crate) retry_after: Option<Duration>,
}

/// What a charge decided about the numbers of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) grant: Grant,
    /// Positions, in order, of the numbers that could not be paid. All others may be answered: they are paid now, or
    /// were within the window.
    pub(crate) deferred: Vec<u32>,
}

/// A durable account of what was asked and disclosed.
pub(crate) trait Ledger: Send + Sync {
    /// Charges numbers, given by their fingerprints, to all scopes alike. The caller is the first scope; what it paid
    /// for within the window is free. When this returns, the charge is durable.
    fn charge(&self, scopes: &[Scope], fingerprints: &[u32]) -> Result<Verdict>;

    /// Records that these accounts are about to be disclosed to the caller. Durable when this returns.
    fn disclose(&self, caller: ScopeId, purpose: Purpose, accounts: &[AccountId]) -> Result<()>;

    /// The quotas in force.
    fn policy(&self) -> Arc<QuotaPolicy>;
}
