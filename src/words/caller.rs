//! Who asks, and from where.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::{AccountId, PhoneHash};

/// A caller that the host has authenticated, with the origins it shares with others.
///
/// Every lookup is charged to the caller, to each of its origins and to everyone. The id and the origins reach
/// the disk only through a keyed PRF, and `Debug` prints neither.
///
/// ```
/// use unlisted::{Caller, Origin};
/// let caller = Caller::new("user-7")
///     .via(Origin::network("198.51.100.7".parse()?))
///     .via(Origin::named("cohort", "signup-2026-11")?);
/// assert_eq!(format!("{caller:?}"), "Caller(.., via network, cohort)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    id: Vec<u8>,
    origins: Vec<Origin>,
    own_numbers: Vec<PhoneHash>,
}

/// Something that several callers share: a network prefix, a device, a signup cohort, a tenant.
///
/// ```
/// use unlisted::Origin;
/// // Addresses of one /24 (IPv4) or /48 (IPv6) are one origin.
/// assert_eq!(Origin::network("198.51.100.7".parse()?), Origin::network("198.51.100.99".parse()?));
/// assert_ne!(Origin::network("198.51.100.7".parse()?), Origin::network("198.51.101.7".parse()?));
/// // An IPv4 address written as IPv6 is the IPv4 address.
/// assert_eq!(Origin::network("::ffff:198.51.100.7".parse()?), Origin::network("198.51.100.7".parse()?));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    kind: String,
    value: Vec<u8>,
}

/// Why something is not an origin.
///
/// ```
/// use unlisted::{Origin, OriginError};
/// assert_eq!(Origin::named("Device", "x"), Err(OriginError::BadKind));
/// assert_eq!(Origin::parse_network("198.18.0.0/16"), Err(OriginError::WidePrefix { found: 16, unit: 24 }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OriginError {
    /// The kind is not a short lower-case word.
    #[error(
        "an origin kind is 1 to {} characters of a-z, 0-9, '-' and '_', starting with a letter",
        Origin::MAX_KIND_LEN
    )]
    BadKind,
    /// `caller`, `everyone` and `network` mean something else.
    #[error("the origin kind {kind:?} is reserved")]
    ReservedKind {
        /// The kind.
        kind: String,
    },
    /// Nothing, or too much, was given as value.
    #[error("the value of an origin has 1 to {} bytes, found {len}", Origin::MAX_VALUE_LEN)]
    BadValueLen {
        /// Bytes given.
        len: usize,
    },
    /// Not an address or a prefix.
    #[error("expected a network as an IP address or prefix such as 198.51.100.0/24 or 2001:db8::/48")]
    BadNetwork,
    /// A prefix wider than the unit that a quota counts.
    #[error("the prefix length {found} is wider than the unit of a network quota, which is /{unit}")]
    WidePrefix {
        /// Length given.
        found: u8,
        /// Length of the unit.
        unit: u8,
    },
}

impl Caller {
    /// Longest caller id, in bytes.
    pub const MAX_ID_LEN: usize = 256;
    /// Most origins of one caller.
    pub const MAX_ORIGINS: usize = 8;
    /// Most numbers of a caller's own.
    pub const MAX_OWN_NUMBERS: usize = 8;

    /// A caller by the host's own id for it. An empty or overlong id is refused by the lookup.
    #[must_use]
    pub fn new(id: impl AsRef<[u8]>) -> Self {
        Self { id: id.as_ref().to_vec(), origins: Vec::new(), own_numbers: Vec::new() }
    }

    /// The caller that an account is: its id is the account's text. Only what an account asked under this id counts for
    /// its listings with a mutual audience ([`OptIns::MUTUAL`](crate::OptIns::MUTUAL)).
    ///
    /// ```
    /// use unlisted::{AccountId, Caller};
    /// assert_eq!(Caller::of_account(AccountId::from(42)), Caller::new("42"));
    /// ```
    #[must_use]
    pub fn of_account(account: AccountId) -> Self {
        Self::new(account.to_string())
    }

    /// The same caller, with one more number or e-mail address of its own, which the host has verified: listings with a
    /// mutual audience answer if their account asked for it. At most [`Caller::MAX_OWN_NUMBERS`] count; more are refused
    /// by the lookup.
    #[must_use]
    pub fn own_number(mut self, hash: PhoneHash) -> Self {
        if !self.own_numbers.contains(&hash) {
            self.own_numbers.push(hash);
        }
        self
    }

    pub(crate) fn own_numbers(&self) -> &[PhoneHash] {
        &self.own_numbers
    }

    /// The same caller, coming through one more origin. The same origin twice counts once.
    #[must_use]
    pub fn via(mut self, origin: Origin) -> Self {
        if !self.origins.contains(&origin) {
            self.origins.push(origin);
        }
        self
    }

    pub(crate) fn id(&self) -> &[u8] {
        &self.id
    }

    /// The origins, in the order they were given.
    #[must_use]
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }
}

impl Origin {
    /// The kind of network origins.
    pub const NETWORK: &'static str = "network";
    /// Longest kind, in bytes.
    pub const MAX_KIND_LEN: usize = 32;
    /// Longest value, in bytes.
    pub const MAX_VALUE_LEN: usize = 256;

    /// The network an address belongs to: its IPv4 /24 or IPv6 /48.
    #[must_use]
    pub fn network(address: IpAddr) -> Self {
        let value = match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Ipv4Addr::new(a, b, c, 0).octets().to_vec()
            }
            IpAddr::V6(v6) => {
                let [a, b, c, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).octets().to_vec()
            }
        };
        Self { kind: Self::NETWORK.to_owned(), value }
    }

    /// Reads an address, or a prefix no wider than the unit of a network quota.
    ///
    /// # Errors
    /// [`OriginError::BadNetwork`], [`OriginError::WidePrefix`].
    pub fn parse_network(text: &str) -> Result<Self, OriginError> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| OriginError::BadNetwork)?;
        let (unit, max) = if address.is_ipv4() { (24, 32) } else { (48, 128) };
        if let Some(len) = len {
            let found: u8 = len.parse().map_err(|_| OriginError::BadNetwork)?;
            if found > max {
                return Err(OriginError::BadNetwork);
            }
            if found < unit {
                return Err(OriginError::WidePrefix { found, unit });
            }
        }
        Ok(Self::network(address))
    }

    /// An origin of a kind that the host defines, such as `device`, `cohort` or `tenant`.
    ///
    /// # Errors
    /// [`OriginError`] if the kind is not a short word, is reserved, or the value is empty or too long.
    pub fn named(kind: &str, value: impl AsRef<[u8]>) -> Result<Self, OriginError> {
        check_kind(kind)?;
        if kind == Self::NETWORK {
            return Err(OriginError::ReservedKind { kind: kind.to_owned() });
        }
        let value = value.as_ref();
        if value.is_empty() || value.len() > Self::MAX_VALUE_LEN {
            return Err(OriginError::BadValueLen { len: value.len() });
        }
        Ok(Self { kind: kind.to_owned(), value: value.to_vec() })
    }

    /// The kind, which decides the quota.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    pub(crate) fn value(&self) -> &[u8] {
        &self.value
    }
}

/// Is this a word that may name a kind of origin?
pub(crate) fn check_kind(kind: &str) -> Result<(), OriginError> {
    let starts_well = kind.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if !starts_well || kind.len() > Origin::MAX_KIND_LEN || !kind.bytes().all(plain) {
        return Err(OriginError::BadKind);
    }
    if kind == "caller" || kind == "everyone" {
        return Err(OriginError::ReservedKind { kind: kind.to_owned() });
    }
    Ok(())
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller(..")?;
        for (i, origin) in self.origins.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { ", via " } else { ", " }, origin.kind)?;
        }
        f.write_str(")")
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({}, ..)", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_parse_as_addresses_and_prefixes() {
        let a = Origin::parse_network("198.18.176.0/24").unwrap();
        assert_eq!(a, Origin::parse_network("198.18.176.9").unwrap());
        assert_eq!(a, Origin::parse_network("198.18.176.8/30").unwrap());
        assert_eq!(Origin::parse_network("198.18.0.0/16"), Err(OriginError::WidePrefix { found: 16, unit: 24 }));
        assert_eq!(Origin::parse_network("2001:db8::/32"), Err(OriginError::WidePrefix { found: 32, unit: 48 }));
        for bad in ["", "somewhere", "198.18.176.0/33", "198.18.176.0/", "1.2.3"] {
            assert_eq!(Origin::parse_network(bad), Err(OriginError::BadNetwork), "{bad}");
        }
        let v6 = Origin::parse_network("2001:db8:1:2::1").unwrap();
        assert_eq!(v6, Origin::parse_network("2001:db8:1::/48").unwrap());
        assert_ne!(v6, Origin::parse_network("2001:db8:2::/48").unwrap());
    }

    #[test]
    fn kinds_are_short_words() {
        assert!(Origin::named("device", "x").is_ok());
        for bad in ["", "Device", "9x", "a b", &"a".repeat(33)] {
            assert_eq!(Origin::named(bad, "x"), Err(OriginError::BadKind));
        }
        for reserved in ["caller", "everyone", "network"] {
            assert!(matches!(Origin::named(reserved, "x"), Err(OriginError::ReservedKind { .. })));
        }
        assert_eq!(Origin::named("device", ""), Err(OriginError::BadValueLen { len: 0 }));
    }

    #[test]
    fn the_same_origin_twice_counts_once() {
        let origin = Origin::network("198.51.100.7".parse().unwrap());
        assert_eq!(Caller::new("a").via(origin.clone()).via(origin).origins().len(), 1);
    }
}
