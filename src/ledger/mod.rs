//! Layer 2: the ledger. Every read path charges it, durably, before anything is revealed.
//!
//! It knows scopes only by their keyed identities. [`Ledger`] is the seam behind which another engine can
//! stand; [`RedbLedger`] is the embedded one.

mod disclosures;
mod redb;
mod state;
mod time;

use std::sync::Arc;
use std::time::Duration;

use crate::words::{Quota, QuotaPolicy, Result};

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
    /// Numbers that may be answered: a prefix of what was wanted.
    pub(crate) granted: u64,
    /// Numbers that could still be asked at once, by the scope that has least.
    pub(crate) remaining: u64,
    /// How long until the rest can be asked, or a full burst of it; `None` if nothing was left out.
    pub(crate) retry_after: Option<Duration>,
}

/// A durable account of what was asked.
pub(crate) trait Ledger: Send + Sync {
    /// Charges up to `want` numbers to all scopes alike. When this returns, the charge is durable.
    fn charge(&self, scopes: &[Scope], want: u64) -> Result<Grant>;

    /// The quotas in force.
    fn policy(&self) -> Arc<QuotaPolicy>;
}
