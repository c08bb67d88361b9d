//! Layer 2: the ledger. Every read path charges it, durably, before anything is revealed.
//!
//! It knows scopes only by their keyed identities. [`Ledger`] is the seam behind which another engine can
//! stand; [`RedbLedger`] is the embedded one.

mod activity;
mod backup;
mod bucket_log;
mod bucket_rows;
mod buckets;
mod disclosures;
#[cfg(feature = "valkey")]
mod elsewhere;
mod group;
mod known;
mod levers;
mod memory;
mod novelty_rows;
mod policy_rows;
mod quotas;
mod redb;
#[cfg(feature = "internals")]
mod sizes;
mod standing;
mod state;
mod table;
mod time;
mod together;
mod vacuum;

use std::sync::Arc;
use std::time::Duration;

use crate::words::{QuotaPolicy, Result};

pub(crate) use self::activity::{ActivityOptions, InWindows, TopOf, TopScope};
pub(crate) use self::backup::copy;
#[cfg(feature = "valkey")]
pub(crate) use self::buckets::MAX_SCOPES;
pub(crate) use self::redb::{LedgerOptions, RedbLedger};
pub(crate) use levers::{ScopeBudget, StandingOf};
#[cfg(feature = "internals")]
pub use sizes::LedgerSizes;
pub(crate) use state::LedgerState;

/// Every kind of row: reads one that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(crate) const REREAD: [crate::database::Reread; 8] = [
    state::reread,
    bucket_rows::reread,
    bucket_log::reread,
    policy_rows::reread,
    standing::reread,
    novelty_rows::reread,
    activity::reread,
    activity::reread_slot,
];

/// Name of the file in the directory of an index.
pub(crate) const FILE_NAME: &str = "ledger.redb";

/// The keyed identity of a caller, an origin or everyone.
pub(crate) type ScopeId = [u8; 16];

/// What decides the quota of a scope that has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScopeKind<'a> {
    Caller,
    Origin(&'a str),
    Everyone,
}

impl<'a> ScopeKind<'a> {
    /// As errors and reports name it.
    pub(crate) const fn name(self) -> &'a str {
        match self {
            Self::Caller => "caller",
            Self::Origin(kind) => kind,
            Self::Everyone => "everyone",
        }
    }
}

/// Something that is charged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) id: ScopeId,
    pub(crate) kind: ScopeKind<'a>,
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
    /// A bit for each scope, by its position, that could not pay for all of it and could the last time.
    pub(crate) newly_short: u16,
}

/// What a charge decided about the numbers of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) grant: Grant,
    /// Positions, in order, of the numbers that are paid now.
    pub(crate) charged: Vec<u32>,
    /// Positions, in order, of the numbers that could not be paid. All others may be answered: they are paid now, or
    /// were within the window.
    pub(crate) deferred: Vec<u32>,
    /// Positions, in order, of the numbers that are left out without a charge, because they were paid for earlier or are too
    /// few ([`RedbLedger::charge_together`]).
    pub(crate) withheld: Vec<u32>,
}

/// A durable account of what was asked.
pub(crate) trait Ledger: Send + Sync {
    /// Charges numbers, given by their fingerprints, to all scopes alike. The caller is the first scope; what it paid
    /// for within the window is free. When this returns, the charge is durable.
    ///
    /// # Errors
    /// [`crate::Error::Suspended`] if one of the scopes is; then nothing is charged.
    fn charge(&self, scopes: &[Scope<'_>], fingerprints: &[u32]) -> Result<Verdict>;

    /// The quotas in force.
    fn policy(&self) -> Arc<QuotaPolicy>;
}

#[cfg(test)]
mod tests;
