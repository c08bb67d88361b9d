//! How a node finds its fleet, and what it does when it cannot.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::words::FleetError;

/// What a node does while it cannot reach the fleet. There is no mode that answers what was not charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Degraded {
    /// It refuses every lookup that would cost something.
    #[default]
    Refuse,
    /// It spends what it has leased already, and then refuses. Meanwhile it does not hear of suspensions.
    SpendLeased,
}

/// The fleet that an index is a node of: one ledger on a Valkey cluster, shared by all nodes.
///
/// Nodes of a fleet have the same secret, which also keeps fleets apart that use one cluster.
///
/// ```
/// use std::time::Duration;
/// use unlisted::{Degraded, FleetOptions, Index, Options, Secret};
/// # fn node() -> Result<(), Box<dyn std::error::Error>> {
/// let fleet = FleetOptions::new(["10.0.0.1:6379", "10.0.0.2:6379"])
///     .credentials("unlisted", "a password")
///     .degraded(Degraded::SpendLeased)
///     .max_silence(Duration::from_secs(2));
/// let index = Index::open("/srv/unlisted", Options::new(Secret::from_env("UNLISTED_SECRET")?).fleet(fleet))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FleetOptions {
    pub(crate) addresses: Vec<String>,
    pub(crate) prefix: String,
    pub(crate) credentials: Option<(String, Zeroizing<String>)>,
    pub(crate) tls: Option<Tls>,
    pub(crate) replicas: u32,
    pub(crate) degraded: Degraded,
    pub(crate) sync_every: Duration,
    pub(crate) max_silence: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) idle_after: Duration,
    pub(crate) create: bool,
    pub(crate) share_novelty: bool,
}

/// What a TLS connection is checked against, and shows.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// PEM; the system's certificates where there is none.
    pub(crate) authority: Option<Vec<u8>>,
    /// Certificate and key, PEM.
    pub(crate) client: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl FleetOptions {
    /// Longest prefix, in bytes.
    const MAX_PREFIX_LEN: usize = 64;

    /// The fleet on the cluster of which these are some servers, as `host:port`.
    #[must_use]
    pub fn new(addresses: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            prefix: "unlisted".to_owned(),
            credentials: None,
            tls: None,
            replicas: 1,
            degraded: Degraded::Refuse,
            sync_every: Duration::from_millis(500),
            max_silence: Duration::from_secs(2),
            call_timeout: Duration::from_secs(1),
            idle_after: Duration::from_secs(60),
            create: false,
            share_novelty: true,
        }
    }

    /// What the keys of the ledger begin with: `unlisted` if nothing is said. One for each fleet of a cluster.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// A user of the servers' access control list; `default` is the one of `requirepass`.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user.into(), Zeroizing::new(password.into())));
        self
    }

    /// Connects with TLS, and checks servers against this certificate authority (PEM), or those of the system.
    #[must_use]
    pub fn tls(mut self, authority: Option<Vec<u8>>) -> Self {
        self.tls.get_or_insert_default().authority = authority;
        self
    }

    /// Shows this certificate to the servers (PEM, with its key); implies TLS.
    #[must_use]
    pub fn client_certificate(mut self, certificate: Vec<u8>, key: Vec<u8>) -> Self {
        self.tls.get_or_insert_default().client = Some((certificate, Zeroizing::new(key)));
        self
    }

    /// How many replicas must have a lease on disk before it counts, beside the primary: 1 if nothing is said. With 0, a lost
    /// primary gives back what was leased from it.
    #[must_use]
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    /// What the node does while it cannot reach the fleet: refuse if nothing is said.
    #[must_use]
    pub fn degraded(mut self, degraded: Degraded) -> Self {
        self.degraded = degraded;
        self
    }

    /// For how long a node may answer without having heard what operators decided: 2 s if nothing is said. A suspension
    /// reaches every node within this time, since a node that did not hear of it refuses by then. The node asks four times in
    /// it, and at least every half second.
    #[must_use]
    pub fn max_silence(mut self, max_silence: Duration) -> Self {
        self.max_silence = max_silence;
        self.sync_every = (max_silence / 4).min(Duration::from_millis(500));
        self
    }

    /// How long a call to a server may take: 1 s if nothing is said.
    #[must_use]
    pub fn call_timeout(mut self, call_timeout: Duration) -> Self {
        self.call_timeout = call_timeout;
        self
    }

    /// After what time without use a lease goes back: a minute if nothing is said.
    #[must_use]
    pub fn idle_after(mut self, idle_after: Duration) -> Self {
        self.idle_after = idle_after;
        self
    }

    /// Do nodes tell each other what callers paid for? They do if nothing is said. Where each caller comes to one node, that
    /// node remembers it all the same, on its own disk, and the cluster's memory is spared four bytes a number; a caller that
    /// comes to another node then pays again.
    #[must_use]
    pub fn share_novelty(mut self, share: bool) -> Self {
        self.share_novelty = share;
        self
    }

    /// Makes the fleet if there is none under the prefix. For one node and the first time only: where it is always said, a
    /// ledger that was emptied cannot be told from one that was never there.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.create = true;
        self
    }

    pub(crate) fn check(&self) -> Result<(), FleetError> {
        let bad = |reason: &str| Err(FleetError::BadOptions { reason: reason.to_owned() });
        if self.addresses.is_empty() {
            return bad("no server is named");
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if self.prefix.is_empty() || self.prefix.len() > Self::MAX_PREFIX_LEN || !self.prefix.chars().all(is_word)
        {
            return bad("a prefix has 1 to 64 letters, digits, or any of - _ . :");
        }
        if self.max_silence.is_zero() || self.call_timeout.is_zero() {
            return bad("a time is zero");
        }
        Ok(())
    }
}

impl fmt::Debug for FleetOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetOptions")
            .field("addresses", &self.addresses)
            .field("prefix", &self.prefix)
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .field("tls", &self.tls.is_some())
            .field("replicas", &self.replicas)
            .field("degraded", &self.degraded)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_keys_are_not_printed() {
        let options =
            FleetOptions::new(["h:1"]).credentials("node", "hush").client_certificate(vec![7; 4], vec![8; 4]);
        let text = format!("{options:?}");
        assert!(text.contains("node") && !text.contains("hush") && !text.contains('8'), "{text}");
    }

    #[test]
    fn options_are_checked() {
        assert!(FleetOptions::new(["h:1"]).check().is_ok());
        assert!(FleetOptions::new([""; 0]).check().is_err());
        for prefix in ["", "a{b}", "a b", &"x".repeat(65)] {
            assert!(FleetOptions::new(["h:1"]).prefix(prefix).check().is_err(), "{prefix}");
        }
        assert!(FleetOptions::new(["h:1"]).max_silence(Duration::ZERO).check().is_err());
    }
}
