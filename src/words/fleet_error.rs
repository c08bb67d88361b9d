//! Why the ledger of a fleet gave nothing.

use std::time::Duration;

use thiserror::Error;

/// Why the shared ledger of a fleet gave nothing. Nothing was revealed; a charge that may have happened stands.
///
/// ```
/// use unlisted::FleetError;
/// let error = FleetError::NotDurable { local: 1, replicas: 0, wanted: 1 };
/// assert_eq!(error.to_string(), "a lease is on the disk of 0 replicas, 1 wanted (primary: 1): it counts as spent");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FleetError {
    /// A server, or all of them, could not be reached, or gave up in the middle.
    #[error("{address} did not answer: {reason}")]
    Unavailable {
        /// Host and port, or all that were tried.
        address: String,
        /// What the client saw.
        reason: String,
    },
    /// The node has not heard of decisions about callers for too long, and its mode is to refuse.
    #[error("nothing was heard of the fleet for {silent:?}; a node answers for at most {limit:?}")]
    Silent {
        /// How long.
        silent: Duration,
        /// How long it may be.
        limit: Duration,
    },
    /// What was leased is spent, and no more can be leased now. The mode is to spend leases and then refuse.
    #[error("the fleet is out of reach and the leases of this node are spent")]
    LeasesSpent,
    /// A server is not part of a cluster.
    #[error("{address} is not part of a cluster")]
    NotACluster {
        /// Host and port.
        address: String,
    },
    /// A server is too old.
    #[error("{address} is version {found}; a fleet needs Valkey {} or Redis {}", LEAST.0, LEAST.1)]
    OldServer {
        /// Host and port.
        address: String,
        /// The version it told.
        found: String,
    },
    /// A server would lose or drop what the ledger is for.
    #[error("{address} has {setting} {found:?}; a ledger needs {wanted:?}")]
    UnsafeServer {
        /// Host and port.
        address: String,
        /// Name of the setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        wanted: &'static str,
    },
    /// A server does not accept the user or its password, or does not let it do what a node does.
    #[error("{address} does not let this user in: {reason}")]
    Denied {
        /// Host and port.
        address: String,
        /// What the server said.
        reason: String,
    },
    /// There is no fleet under this prefix, and none was to be made.
    #[error("there is no fleet under the prefix {prefix:?}: make one first, once")]
    NoFleet {
        /// The prefix of the keys.
        prefix: String,
    },
    /// Another fleet, of another secret, has the prefix.
    #[error("the prefix {prefix:?} belongs to fleet {found}, this one is {own}")]
    Foreign {
        /// The prefix of the keys.
        prefix: String,
        /// Whose it is.
        found: String,
        /// Who asked.
        own: String,
    },
    /// Some of the ledger is gone. A lease from it would refill budgets.
    #[error("the ledger of the fleet was emptied: {what} is gone; budgets would refill")]
    Emptied {
        /// What is gone.
        what: String,
    },
    /// Some of the ledger is an older state than this node has seen. A lease from it would refill budgets.
    #[error("slot {slot} of the fleet's ledger went back: it has {found} changes, this node has seen {expected}")]
    WentBack {
        /// The cluster's slot.
        slot: u16,
        /// Changes that the server counts.
        found: u64,
        /// Changes that were durable.
        expected: u64,
    },
    /// The quotas of the fleet are newer than those of this node, which learns them soon.
    #[error("the fleet is at quotas {found}, this node at {own}")]
    NewerQuotas {
        /// Version of the fleet.
        found: u64,
        /// Version of the node.
        own: u64,
    },
    /// A lease is not on as many disks as it has to be. It counts as spent.
    #[error(
        "a lease is on the disk of {replicas} replicas, {wanted} wanted (primary: {local}): it counts as spent"
    )]
    NotDurable {
        /// Primaries that have it on disk: one or none.
        local: u64,
        /// Replicas that have it on disk.
        replicas: u64,
        /// Replicas that must have it on disk.
        wanted: u64,
    },
    /// A record was replaced by somebody else meanwhile.
    #[error("record {name:?} is at version {found}, expected {expected}")]
    RecordChanged {
        /// Name of the record.
        name: String,
        /// Its version.
        found: u64,
        /// The version that was to be replaced.
        expected: u64,
    },
    /// A server said something that no node wrote.
    #[error("the fleet's {what} does not decode: {reason}")]
    Damaged {
        /// What it is.
        what: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// The options of a fleet make no sense.
    #[error("the options of the fleet: {reason}")]
    BadOptions {
        /// What is wrong.
        reason: String,
    },
    /// An index that was opened without a fleet was asked about one.
    #[error("this index is not of a fleet")]
    Alone,
}

/// Versions that have `WAITAOF`: of Valkey, of Redis.
pub(crate) const LEAST: (&str, &str) = ("8.0", "7.2");
