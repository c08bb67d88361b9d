//! How a node follows the fleet's record into its own ledger: quotas, suspensions, quotas of single scopes.
//!
//! A node that has not read the record for longer than its longest silence answers nothing, so a suspension holds on every
//! node within that time of its return, whether or not the node heard of it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::FleetLedger;
use super::calls::Terms;
use super::record::{Change, News, START};
use super::rows::{Decision, Kind, Row, RowId};
use crate::ledger::{Ledger, RedbLedger, Scope, ScopeId, ScopeKind, StandingOf};
use crate::words::{FleetError, QuotaOverride, Result, Suspension};

/// Standings that are read from the node's own ledger in one go.
const PAGE: usize = 1_000;

/// How far a node followed.
#[derive(Debug)]
pub(super) struct Followed {
    place: String,
    /// Was everything read, so that changes are enough from here on?
    is_whole: bool,
}

impl Default for Followed {
    fn default() -> Self {
        Self { place: START.to_owned(), is_whole: false }
    }
}

impl FleetLedger {
    /// Reads what was decided since the last time.
    pub(super) fn follow(&self, local: &RedbLedger) -> Result<()> {
        let followed = self.followed.lock();
        // A moment before it was read: what was decided later is heard of later.
        let at_ns = self.clock.monotonic_ns().max(1);
        match self.read_on(local, followed) {
            Ok(()) => {
                self.heard_ns.fetch_max(at_ns, Ordering::AcqRel);
                *self.trouble.lock() = None;
                Ok(())
            }
            Err(crate::words::Error::Fleet(error)) => {
                let error = match error {
                    // It was there.
                    FleetError::NoFleet { .. } if self.heard_ns.load(Ordering::Acquire) != 0 => {
                        FleetError::Emptied { what: "the fleet's record".to_owned() }
                    }
                    error => error,
                };
                *self.trouble.lock() = Some(error.clone());
                Err(error.into())
            }
            Err(error) => Err(error),
        }
    }

    fn read_on(&self, local: &RedbLedger, mut followed: parking_lot::MutexGuard<'_, Followed>) -> Result<()> {
        loop {
            let news = self.calls.news(&followed.place)?;
            self.obey(local, &news)?;
            if news.has_gap || !followed.is_whole {
                // The place was taken before the rows are read: a change in between is seen twice.
                followed.is_whole = false;
                self.read_all(local, news.now_us)?;
                followed.is_whole = true;
            }
            for change in &news.changes {
                self.apply(local, change, news.now_us)?;
            }
            followed.place = news.upto;
            if !news.is_full {
                return Ok(());
            }
        }
    }

    /// Takes over the quotas in force.
    fn obey(&self, local: &RedbLedger, news: &News) -> Result<()> {
        if news.record.quotas != *local.policy() {
            local.set_policy(news.record.quotas.clone())?;
        }
        let before = self.calls.terms();
        if before != news.record.terms {
            self.calls.set_terms(news.record.terms);
            self.decided();
            if before.version != 0 && news.record.terms.exhausted_us > before.exhausted_us {
                // What was leased before everything was taken is taken too.
                drop(self.credits.take_idle(u64::MAX));
            }
        }
        Ok(())
    }

    fn apply(&self, local: &RedbLedger, change: &Change, now_us: u64) -> Result<()> {
        match change {
            Change::Standing(id, row) => {
                self.apply_row(local, *id, row.as_ref(), now_us)?;
                self.decided();
            }
            Change::Forget(caller) => {
                self.forget_heard(*caller);
                local.erase_novelty(&[*caller])?;
            }
            Change::Other => {}
        }
        Ok(())
    }

    fn apply_row(&self, local: &RedbLedger, id: RowId, row: Option<&Row>, now_us: u64) -> Result<()> {
        let scope = Scope { id: id.id, kind: kind_of(row.map_or("caller", |row| &row.scope)) };
        match (id.kind, row.map(|row| &row.decision)) {
            (_, Some(Decision::Suspended(suspension))) => local.suspend(scope, suspension.clone()),
            (Kind::Suspension, None) => local.reinstate(scope).map(drop),
            (_, Some(Decision::Own(own, age))) => {
                let since_us = row.map_or(now_us, |row| row.since_us);
                let passed = Duration::from_micros(now_us.saturating_sub(since_us));
                local.set_override(scope, Some((*own, age.saturating_add(passed))))
            }
            (Kind::Own, None) => local.set_override(scope, None),
        }
    }

    /// Brings the node's own standings to what the fleet says, where they differ.
    fn read_all(&self, local: &RedbLedger, now_us: u64) -> Result<()> {
        let mut own: BTreeMap<ScopeId, StandingOf> = BTreeMap::new();
        loop {
            let page = local.standings(own.last_key_value().map(|(id, _)| *id), PAGE)?;
            let is_last = page.len() < PAGE;
            own.extend(page.into_iter().map(|standing| (standing.id, standing)));
            if is_last {
                break;
            }
        }
        let fleet: BTreeMap<RowId, Row> = self.calls.standings()?.into_iter().collect();
        for (id, standing) in &own {
            let scope = Scope { id: *id, kind: kind_of(&standing.scope) };
            if standing.suspension.is_some() && !fleet.contains_key(&RowId { id: *id, kind: Kind::Suspension }) {
                local.reinstate(scope)?;
            }
            if standing.own.is_some() && !fleet.contains_key(&RowId { id: *id, kind: Kind::Own }) {
                local.set_override(scope, None)?;
            }
        }
        for (id, row) in &fleet {
            if !is_so(own.get(&id.id), &row.decision) {
                self.apply_row(local, *id, Some(row), now_us)?;
            }
        }
        self.decided();
        Ok(())
    }

    /// Makes the fleet if there is none, with the quotas of this node's ledger and what was decided in it.
    pub(super) fn create(&self, local: &RedbLedger) -> Result<()> {
        match self.calls.news(START) {
            Err(FleetError::NoFleet { .. }) => {}
            other => return Ok(other.map(drop)?),
        }
        self.calls.create(&local.policy(), Terms { version: 1, exhausted_us: 0 })?;
        self.calls.set_terms(self.calls.news(START)?.record.terms);
        let mut after = None;
        loop {
            let page = local.standings(after, PAGE)?;
            for standing in &page {
                let suspended = standing.suspension.clone().map(Decision::Suspended);
                let own = standing.own.map(|own: QuotaOverride| Decision::Own(own, Duration::ZERO));
                for decision in suspended.into_iter().chain(own) {
                    let row = RowId { id: standing.id, kind: decision.kind() };
                    self.calls.decide(row, &standing.scope, Some(&decision))?;
                }
            }
            match page.last().filter(|_| page.len() == PAGE) {
                Some(last) => after = Some(last.id),
                None => return Ok(()),
            }
        }
    }
}

/// Does the node know of the decision already?
fn is_so(own: Option<&StandingOf>, decision: &Decision) -> bool {
    match decision {
        Decision::Suspended(suspension) => {
            own.is_some_and(|own| own.suspension.as_ref().is_some_and(|of: &Suspension| of == suspension))
        }
        Decision::Own(quota, _) => own.is_some_and(|own| own.own.as_ref() == Some(quota)),
    }
}

pub(super) fn kind_of(scope: &str) -> ScopeKind<'_> {
    match scope {
        "caller" => ScopeKind::Caller,
        "everyone" => ScopeKind::Everyone,
        kind => ScopeKind::Origin(kind),
    }
}
