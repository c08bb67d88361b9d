//! The key of a listing: a keyed PRF output, uniform and unpredictable to whoever lacks the secret.

use std::fmt;

use super::prf::Prf;
use super::{PhoneHash, Secret};

/// `PRF(secret, domain, hash)`: 16 bytes, ordered as big-endian bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// The first eight bytes. Ranges and buckets are taken from its top.
    pub(crate) hi: u64,
    /// The last eight bytes.
    pub(crate) lo: u64,
}

impl Key {
    pub(crate) const fn from_u128(bits: u128) -> Self {
        Self { hi: (bits >> 64) as u64, lo: bits as u64 }
    }

    pub(crate) const fn to_u128(self) -> u128 {
        (self.hi as u128) << 64 | self.lo as u128
    }

    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::from_u128(u128::from_be_bytes(bytes))
    }

    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.to_u128().to_be_bytes()
    }
}

/// Keys are what a stolen directory holds: they stay out of logs too.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Every keyed function of one index, derived from its secret and domain-separated.
pub(crate) struct KeyRing {
    listings: Prf,
    identities: [u8; 32],
    check: [u8; 16],
}

impl KeyRing {
    pub(crate) fn new(secret: &Secret) -> Self {
        Self {
            listings: Prf::new(secret.bytes()),
            identities: blake3::derive_key("unlisted 2026-11 callers and origins", secret.bytes()),
            check: super::prf::truncated(&blake3::derive_key("unlisted 2026-11 check value", secret.bytes())),
        }
    }

    /// A value that tells one secret from another and nothing else about it.
    pub(crate) const fn check_value(&self) -> [u8; 16] {
        self.check
    }

    /// Keys of a whole batch, in order, appended to `out`.
    pub(crate) fn keys_of<'a>(&self, hashes: impl Iterator<Item = &'a PhoneHash>, out: &mut Vec<Key>) {
        self.listings.keys_into(hashes.map(|h| (h.domain(), h.as_bytes())), |key| out.push(Key::from_bytes(key)));
    }

    /// The stored name of a caller or an origin: `kind` separates the two and one kind of origin from another.
    pub(crate) fn identity_of(&self, kind: &str, id: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.identities);
        hasher.update(&(kind.len() as u64).to_le_bytes());
        hasher.update(kind.as_bytes());
        hasher.update(id);
        super::prf::truncated(hasher.finalize().as_bytes())
    }
}

impl Drop for KeyRing {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.identities);
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Domain;

    #[test]
    fn domains_kinds_and_secrets_separate() {
        let ring = KeyRing::new(&Secret::from_bytes([7; 32]));
        let other = KeyRing::new(&Secret::from_bytes([8; 32]));
        let phone = PhoneHash::from_bytes([1; 32]);
        let key_of = |ring: &KeyRing, hash: PhoneHash| {
            let mut keys = Vec::new();
            ring.keys_of([hash].iter(), &mut keys);
            keys[0]
        };
        assert_ne!(key_of(&ring, phone), key_of(&ring, phone.in_domain(Domain::Email)));
        assert_ne!(key_of(&ring, phone), key_of(&other, phone));
        assert_ne!(ring.check_value(), other.check_value());
        assert_ne!(ring.identity_of("caller", b"x"), ring.identity_of("network", b"x"));
        assert_ne!(ring.identity_of("ab", b"c"), ring.identity_of("a", b"bc"));
        assert_eq!(format!("{ring:?} {:?}", key_of(&ring, phone)), "KeyRing(..) Key(..)");
    }

    #[test]
    fn order_is_byte_order() {
        let small = Key::from_bytes([0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0]);
        let large = Key::from_bytes([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(small < large && small.to_bytes() < large.to_bytes());
        assert_eq!(Key::from_u128(small.to_u128()), small);
    }
}
