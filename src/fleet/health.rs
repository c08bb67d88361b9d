//! How a node stands with its fleet, for metrics.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::FleetLedger;
use super::options::Degraded;

/// How a node stands with its fleet. See [`crate::Index::fleet_health`].
///
/// ```
/// use unlisted::{FleetError, Index, Options, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// assert!(index.fleet_health().is_none()); // not of a fleet
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FleetHealth {
    /// Did the node not hear the fleet for longer than it may?
    pub is_degraded: bool,
    /// What it does then.
    pub mode: Degraded,
    /// How long it has not heard the fleet.
    pub silent: Duration,
    /// Why, if it tried.
    pub trouble: Option<String>,
    /// Version of the quotas that the node obeys.
    pub quotas_version: u64,
    /// Calls to servers since the node was opened.
    pub network_calls: u64,
    /// Numbers that are leased and not spent.
    pub leased_numbers: u64,
    /// Scopes that leases are held of, or were lately.
    pub leased_scopes: usize,
    /// Numbers that were paid for here and the other nodes cannot know of yet.
    pub untold_numbers: usize,
    /// Lookups that were refused on account of the fleet.
    pub refused: u64,
}

impl FleetLedger {
    pub(crate) fn health(&self) -> FleetHealth {
        let heard_ns = self.heard_ns.load(Ordering::Acquire);
        let silent = Duration::from_nanos(self.clock.monotonic_ns().saturating_sub(heard_ns));
        let (leased_numbers, leased_scopes) = self.credits.held();
        FleetHealth {
            is_degraded: silent > self.calls.options.max_silence,
            mode: self.calls.options.degraded,
            silent,
            trouble: self.trouble.lock().as_ref().map(ToString::to_string),
            quotas_version: self.calls.terms().version,
            network_calls: self.calls.cluster.calls(),
            leased_numbers,
            leased_scopes,
            untold_numbers: self.unsent.len(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
