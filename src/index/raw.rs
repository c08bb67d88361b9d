//! The probe alone, without caller, charge or disclosure, and the charge alone: for benchmarks, under the feature
//! `internals` only.
//!
//! It counts and names nobody, so that even a build with the feature has no way from a number to an account.

use super::Index;
use crate::activity::Counts;
use crate::ledger::{Ledger, LedgerSizes, Scope, ScopeKind};
use crate::words::{Caller, CallerKeys, Key, PhoneHash, Purpose, Result};

/// Keys of a batch, ready to be probed.
#[derive(Debug)]
pub struct PreparedKeys(Vec<Key>);

impl Index {
    /// The keys of these hashes.
    #[must_use]
    pub fn prepare(&self, hashes: &[PhoneHash]) -> PreparedKeys {
        let mut keys = Vec::with_capacity(hashes.len());
        self.inner.ring.keys_of(hashes.iter(), &mut keys);
        PreparedKeys(keys)
    }

    /// Overlay, filter, table and mask for prepared keys; returns how many listings would answer.
    ///
    /// # Errors
    /// As [`Index::lookup`]'s of the segments.
    pub fn raw_probe(&self, purpose: Purpose, keys: &PreparedKeys) -> Result<usize> {
        self.inner.probe(purpose, &keys.0).map(|probed| probed.found.len())
    }
}

impl Index {
    /// [`Index::raw_probe`] without asking for the pages of the batch first: each one that is not in memory is waited for
    /// alone.
    ///
    /// # Errors
    /// As [`Index::raw_probe`].
    pub fn raw_probe_unasked(&self, purpose: Purpose, keys: &PreparedKeys) -> Result<usize> {
        let found = self.inner.probe_with(purpose, &keys.0, None);
        super::lost::overlook_faults();
        found.map(|probed| probed.found.len())
    }
}

impl Index {
    /// Lets go of the tables of all mapped segments, in this process and in the page cache, as a system short of memory does.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if a file cannot be opened.
    pub fn raw_drop_pages(&self) -> Result<()> {
        if self.inner.residency.is_resident() {
            return Ok(());
        }
        for live in self.inner.segments.load().live() {
            live.segment().bytes().drop_pages(live.path(), live.segment().table_part())?;
        }
        if let Some(horizon) = self.inner.residency.horizon() {
            horizon.forget();
        }
        Ok(())
    }
}

/// A caller, ready to be charged, by its own quota alone.
#[derive(Debug, Clone, Copy)]
pub struct PreparedCaller(CallerKeys);

impl Index {
    /// The caller under the keys of the index.
    #[must_use]
    pub fn prepare_caller(&self, caller: &Caller) -> PreparedCaller {
        PreparedCaller(self.inner.ring.caller(caller.id()))
    }

    const fn scope_of(caller: PreparedCaller) -> [Scope<'static>; 1] {
        [Scope { id: caller.0.id, kind: ScopeKind::Caller }]
    }

    /// Charges a number to each of these callers, and makes all of it durable in one commit.
    ///
    /// # Errors
    /// As [`Index::lookup`]'s of the ledger.
    pub fn raw_charge_all(&self, callers: &[PreparedCaller], numbers: u64) -> Result<()> {
        let scopes: Vec<Scope<'_>> = callers.iter().flat_map(|caller| Self::scope_of(*caller)).collect();
        self.inner.ledger.pay_apart(&scopes, numbers)
    }

    /// Charges numbers without a look at whether they are novel; returns how many were granted.
    ///
    /// # Errors
    /// As [`Index::lookup`]'s of the ledger.
    pub fn raw_pay(&self, caller: PreparedCaller, numbers: u64) -> Result<u64> {
        self.inner.ledger.pay_now(&Self::scope_of(caller), numbers)
    }

    /// The whole part of the ledger in a lookup: fingerprints, novelty, charge. Returns how many were charged.
    ///
    /// # Errors
    /// As [`Index::lookup`]'s of the ledger.
    pub fn raw_charge(&self, caller: PreparedCaller, keys: &PreparedKeys) -> Result<u64> {
        let scopes = Self::scope_of(caller);
        self.inner.ledger.ask_for(&scopes);
        let mut fingerprints = Vec::with_capacity(keys.0.len());
        self.inner.ring.fingerprints_of(&caller.0, &keys.0, &mut fingerprints);
        Ok(self.inner.ledger.charge(&scopes, &fingerprints)?.grant.granted)
    }

    /// Counts a lookup of so many numbers that were all charged and all missed.
    ///
    /// # Errors
    /// As [`Index::lookup`]'s of the ledger.
    pub fn raw_note(&self, caller: PreparedCaller, numbers: u64) -> Result<()> {
        let (asked, charged, missed) = (numbers, numbers, numbers);
        let counts = Counts { lookups: 1, asked, charged, missed, ..Counts::default() };
        self.inner.ledger.note_activity(&Self::scope_of(caller), &counts)
    }

    /// Transactions of the ledger so far.
    #[must_use]
    pub fn ledger_commits(&self) -> u64 {
        self.inner.ledger.commits()
    }

    /// Writes what callers paid for, and tells how much the ledger's tables take.
    ///
    /// # Errors
    /// [`crate::Error::Database`].
    pub fn ledger_sizes(&self) -> Result<LedgerSizes> {
        self.inner.ledger.write_novelty()?;
        self.inner.ledger.sizes()
    }
}
