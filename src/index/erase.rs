//! Erasing accounts: every listing of them, found by one scan.

use std::collections::HashMap;

use super::commit::Plan;
use super::{Index, Inner, fold};
use crate::ledger::ScopeId;
use crate::overlay::{Change, Overlay};
use crate::segment::keys::mask_key;
use crate::words::{AccountId, Caller, Entry, Error, Flags, Result, Version};

/// What an erasure found.
///
/// ```
/// use unlisted::{AccountId, Index, OptIns, Options, PhoneHash, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// let report = index.erase_accounts(&[AccountId::from(42), AccountId::from(43)])?;
/// assert_eq!((report.accounts, report.removed), (2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct EraseReport {
    /// Accounts asked for.
    pub accounts: usize,
    /// Listings removed.
    pub removed: usize,
}

impl Index {
    /// Removes every listing of an account, what the disclosure log says of it (who was shown it, and when), and which
    /// numbers it paid for itself as [`crate::Caller::of_account`]. Durable and visible when it returns.
    ///
    /// Bytes of it stay in the files for a bounded time: in the disclosure log until the background thread compacts it, which
    /// is at once, or [`Index::compact_disclosures`]; as marks of removal until [`crate::Options::removal_retention`] and a
    /// sixteenth of it have passed, and up to an hour until the background thread folds them away and writes `index.redb`
    /// anew, or [`Index::vacuum`]. [`crate::Inspector::held`] says what is left. What the account itself was shown, what it
    /// spent, how much it asked and whether it is suspended stays as of any caller.
    ///
    /// The removals carry the newest version that any listing of the account had here, so that no update as old as
    /// that brings one back. A host whose versions come from one sequence knows a better one: [`Index::erase_accounts_at`].
    /// It costs a scan of all segments: erase many accounts in one call.
    ///
    /// # Errors
    /// [`crate::Error::ReservedAccount`]; [`crate::Error::Damaged`] if a segment is; [`crate::Error::Database`] if the disk refuses. Never for want
    /// of room. An error of the disclosure log comes after the listings are gone: call it again.
    pub fn erase_account(&self, account: AccountId) -> Result<EraseReport> {
        self.erase_accounts(&[account])
    }

    /// Removes every listing of these accounts, by one scan.
    ///
    /// # Errors
    /// As [`Index::erase_account`].
    pub fn erase_accounts(&self, accounts: &[AccountId]) -> Result<EraseReport> {
        self.inner.erase(accounts, None)
    }

    /// Removes every listing of these accounts, by one scan, as of a version of the host's: no update up to it brings one
    /// back. A listing that is newer than that goes too, with a removal of its own version.
    ///
    /// What stays stale does not depend on which listings are here, so all nodes of a fleet take the same updates
    /// afterwards, whatever ranges they hold.
    ///
    /// ```
    /// use unlisted::{AccountId, Index, OptIns, Options, PhoneHash, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
    /// let (ada, account) = (PhoneHash::of_e164("+14155550100")?, AccountId::from(42));
    /// index.set_opt_ins(ada, account, OptIns::SEARCH, 1)?;
    /// // The account is gone at 9; what was said at 5 arrives late.
    /// assert_eq!(index.erase_accounts_at(&[account], 9)?.removed, 1);
    /// assert_eq!(index.set_opt_ins(ada, account, OptIns::SEARCH, 5)?.stale, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Version`] for a version of more than 56 bits; otherwise as [`Index::erase_account`].
    pub fn erase_accounts_at(&self, accounts: &[AccountId], version: u64) -> Result<EraseReport> {
        self.inner.erase(accounts, Some(Version::new(version)?))
    }
}

/// The newest state of every listing of the wanted accounts, with the bits of its key that are known.
type Found = HashMap<AccountId, Vec<(Entry, u8)>>;

impl Inner {
    fn erase(&self, accounts: &[AccountId], at: Option<Version>) -> Result<EraseReport> {
        if accounts.contains(&AccountId::RESERVED) {
            return Err(Error::ReservedAccount);
        }
        let mut found: Found = accounts.iter().map(|account| (*account, Vec::new())).collect();
        // No fold moves a listing from where was not looked to where was looked already.
        let _structure = self.structure.lock();
        self.find_in_segments(&mut found)?;
        let mut writer = self.writer.lock();
        writer.check()?;
        self.spoil_expected(&mut writer)?;
        put_changes_above(&self.overlay.read(), &mut found);
        let plan = plan(&found, at, self.clock.wall_ms() / 1_000);
        let report = EraseReport { accounts: found.len(), removed: plan.new.len() };
        if !plan.new.is_empty() {
            let next = writer.state.clone();
            self.write(&mut writer, next, &plan)?;
        }
        drop(writer);
        self.disclosures.erase(accounts)?;
        let callers: Vec<_> = found.keys().map(|account| self.caller_of(*account)).collect();
        self.erase_novelty(&callers)?;
        self.wake.wake();
        Ok(report)
    }

    /// Every listing of an account, removed ones too, the newest state of each.
    pub(super) fn listings_of(&self, account: AccountId) -> Result<Vec<Entry>> {
        let mut found: Found = [(account, Vec::new())].into();
        let _structure = self.structure.lock();
        self.find_in_segments(&mut found)?;
        let _writer = self.writer.lock();
        let overlay = self.overlay.read();
        let changes = overlay.iter().filter(|change| change.entry.account == account);
        let dated: Vec<Entry> = changes.map(|change| self.dated(*change)).collect();
        put_changes_above(&overlay, &mut found);
        let mut entries: Vec<Entry> = found.into_values().flatten().map(|(entry, _)| entry).collect();
        // Of a change the entry has no date yet.
        entries.retain(|entry| !dated.iter().any(|change| change.id() == entry.id()));
        entries.extend(dated);
        Ok(entries)
    }

    /// How the ledger knows an account that asks.
    pub(super) fn caller_of(&self, account: AccountId) -> ScopeId {
        self.ring.caller(Caller::of_account(account).id()).id
    }

    /// Adds what the segments hold, removals in the eras of today's options. No fold is under way.
    fn find_in_segments(&self, found: &mut Found) -> Result<()> {
        let (now_ms, era_s) = (self.clock.wall_ms(), self.era_s());
        for segment in self.segments.load().live() {
            let header = segment.segment().header();
            let (known_bits, from_era_s) = (header.keys.key_bits, header.era_s);
            segment.for_each(|entry| {
                if let Some(listings) = found.get_mut(&entry.account) {
                    listings.push((fold::in_eras(entry, now_ms, from_era_s, era_s), known_bits));
                }
            })?;
        }
        Ok(())
    }
}

/// Replaces what the segments said by what the overlay says of the same listings.
fn put_changes_above(overlay: &Overlay, found: &mut Found) {
    for change in overlay.iter() {
        let Some(listings) = found.get_mut(&change.entry.account) else { continue };
        listings.retain(|(entry, known_bits)| {
            let bits = change.known_bits.min(*known_bits);
            mask_key(entry.key, bits) != mask_key(change.entry.key, bits)
        });
        listings.push((change.entry, change.known_bits));
    }
}

fn plan(found: &Found, at: Option<Version>, removed_at_s: u64) -> Plan {
    let mut plan = Plan::default();
    for listings in found.values() {
        let newest = || listings.iter().map(|(entry, _)| entry.version()).max().unwrap_or_default();
        let least = at.unwrap_or_else(newest);
        for (entry, known_bits) in listings.iter().filter(|(entry, _)| !entry.flags().is_removed()) {
            let entry = Entry::new(entry.key, entry.account, least.max(entry.version()), Flags::removed(0));
            plan.new.set(Change { entry, known_bits: *known_bits, removed_at_s });
        }
    }
    plan
}
