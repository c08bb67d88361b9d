//! The key of a listing: a keyed PRF output, uniform and unpredictable to whoever lacks the secret.

use std::fmt;

use super::prf::{Fingerprints, Prf};
use super::{Caller, Origin, PhoneHash, Secret, ShardKeys};

/// Room for a length, a kind with its prefix, and an id or a value.
const IDENTITY_INPUT: usize = 8 + 8 + Origin::MAX_KIND_LEN + Caller::MAX_ID_LEN;

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
    fingerprints: Fingerprints,
    everyone: [u8; 16],
    check: [u8; 16],
    shards: ShardKeys,
}

/// A caller under the keys of the index.
#[derive(Clone, Copy)]
pub(crate) struct CallerKeys {
    /// The stored name of the caller.
    pub(crate) id: [u8; 16],
    /// What the caller's fingerprints of numbers depend on. It is never stored.
    pub(crate) seed: [u8; 16],
}

impl fmt::Debug for CallerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerKeys(..)")
    }
}

impl KeyRing {
    pub(crate) fn new(secret: &Secret) -> Self {
        let identities = blake3::derive_key("unlisted 2026-11 callers and origins", secret.bytes());
        Self {
            listings: Prf::new(secret.bytes()),
            identities,
            fingerprints: Fingerprints::new(secret.bytes()),
            everyone: halves(&identities, &["everyone"], &[]).0,
            check: super::prf::truncated(&blake3::derive_key("unlisted 2026-11 check value", secret.bytes())),
            shards: ShardKeys::new(secret),
        }
    }

    /// A value that tells one secret from another and nothing else about it.
    pub(crate) const fn check_value(&self) -> [u8; 16] {
        self.check
    }

    /// What nodes of a fleet vouch with.
    pub(crate) const fn shards(&self) -> &ShardKeys {
        &self.shards
    }

    /// Keys of a whole batch, in order, appended to `out`.
    pub(crate) fn keys_of<'a>(&self, hashes: impl Iterator<Item = &'a PhoneHash>, out: &mut Vec<Key>) {
        self.listings.keys_into(hashes.map(|h| (h.domain(), h.as_bytes())), |key| out.push(Key::from_bytes(key)));
    }

    /// The stored name of a caller, and the seed of its fingerprints.
    pub(crate) fn caller(&self, id: &[u8]) -> CallerKeys {
        let (id, seed) = halves(&self.identities, &["caller"], id);
        CallerKeys { id, seed }
    }

    /// The stored name of an origin.
    pub(crate) fn origin(&self, kind: &str, value: &[u8]) -> [u8; 16] {
        halves(&self.identities, &["origin:", kind], value).0
    }

    /// The stored name of everyone together.
    pub(crate) const fn everyone(&self) -> [u8; 16] {
        self.everyone
    }

    /// The name of the fleet of this secret.
    #[cfg(feature = "valkey")]
    pub(crate) fn fleet(&self) -> [u8; 16] {
        halves(&self.identities, &["fleet"], &[]).0
    }

    /// The stored name of a caller or an origin: `kind` separates the two and one kind of origin from another.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn identity_of(&self, kind: &str, id: &[u8]) -> [u8; 16] {
        halves(&self.identities, &[kind], id).0
    }

    /// What a caller's memory keeps of each key: [`Fingerprints::BITS`] bits that nobody can compute without the
    /// secret, and that differ from caller to caller.
    pub(crate) fn fingerprints_of(&self, caller: &CallerKeys, keys: &[Key], out: &mut Vec<u32>) {
        let seed = u128::from_be_bytes(caller.seed);
        self.fingerprints.of(keys.iter().map(|key| (key.to_u128() ^ seed).to_be_bytes()), out);
    }
}

/// The keyed digest of a kind, given in parts, and an id, as two halves. The first names, the second seeds.
fn halves(key: &[u8; 32], kind: &[&str], id: &[u8]) -> ([u8; 16], [u8; 16]) {
    // One buffer and one call: half the time of a hasher that is fed in pieces.
    let mut input = [0; IDENTITY_INPUT];
    let kind_len = kind.iter().map(|part| part.len()).sum::<usize>() as u64;
    let parts = kind.iter().map(|part| part.as_bytes());
    let mut len = 0;
    for part in std::iter::once(&kind_len.to_le_bytes()[..]).chain(parts).chain([id]) {
        let Some(to) = input.get_mut(len..len + part.len()) else { return long_halves(key, kind, id) };
        to.copy_from_slice(part);
        len += part.len();
    }
    split(&blake3::keyed_hash(key, input.get(..len).unwrap_or_default()))
}

/// The same for what does not fit into the buffer: nothing that a lookup accepts.
fn long_halves(key: &[u8; 32], kind: &[&str], id: &[u8]) -> ([u8; 16], [u8; 16]) {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(kind.iter().map(|part| part.len()).sum::<usize>() as u64).to_le_bytes());
    for part in kind {
        hasher.update(part.as_bytes());
    }
    split(&hasher.update(id).finalize())
}

fn split(digest: &blake3::Hash) -> ([u8; 16], [u8; 16]) {
    let [first, second] = digest.as_bytes().as_chunks::<16>().0 else { return ([0; 16], [0; 16]) };
    (*first, *second)
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
    fn names_do_not_depend_on_how_they_are_computed() {
        let ring = KeyRing::new(&Secret::from_bytes([7; 32]));
        assert_eq!(ring.caller(b"x").id, ring.identity_of("caller", b"x"));
        assert_eq!(ring.origin("device", b"x"), ring.identity_of("origin:device", b"x"));
        assert_eq!(ring.everyone(), ring.identity_of("everyone", &[]));
        for len in [0, 255, 256, 257, 5_000] {
            let id = vec![3; len];
            assert_eq!(halves(&ring.identities, &["a", "b"], &id), long_halves(&ring.identities, &["ab"], &id));
        }
    }

    #[test]
    fn fingerprints_depend_on_secret_caller_and_key() {
        let [ring, other] = [7, 8].map(|byte| KeyRing::new(&Secret::from_bytes([byte; 32])));
        let keys: Vec<Key> = (0..150_u128).map(|i| Key::from_u128(i << 64 | i)).collect();
        let of = |ring: &KeyRing, caller: &[u8]| {
            let mut out = Vec::new();
            ring.fingerprints_of(&ring.caller(caller), &keys, &mut out);
            assert!(out.iter().all(|fingerprint| fingerprint >> Fingerprints::BITS == 0));
            out
        };
        let distinct: std::collections::BTreeSet<u32> =
            [of(&ring, b"a"), of(&ring, b"b"), of(&other, b"a")].concat().into_iter().collect();
        assert_eq!(distinct.len(), 450);
        assert_eq!(of(&ring, b"a"), of(&ring, b"a"));
        assert_eq!(format!("{:?}", ring.caller(b"a")), "CallerKeys(..)");
    }

    #[test]
    fn order_is_byte_order() {
        let small = Key::from_bytes([0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0]);
        let large = Key::from_bytes([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(small < large && small.to_bytes() < large.to_bytes());
        assert_eq!(Key::from_u128(small.to_u128()), small);
    }
}
