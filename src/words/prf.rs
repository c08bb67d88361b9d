//! The keyed function from a contact's hash to the key of its listings.
//!
//! It is AES-256-CMAC (NIST SP 800-38B) of exactly the 32 bytes of the hash, under one AES key for each
//! [`Domain`]. Those keys are derived from the secret with BLAKE3. A message of two whole blocks is two AES
//! calls: `AES(AES(first) ^ second ^ K1)`. The two calls of one hash depend on each other, those of different
//! hashes do not, so a batch runs every first call and then every second one, and the processor keeps several
//! AES rounds in flight. `docs/THREAT-MODEL.md` has the argument for the choice and the measurements;
//! `benches/prf.rs` repeats them.

use std::fmt;

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128Enc, Aes256Enc, Block};
use zeroize::{Zeroize, Zeroizing};

use super::Domain;

/// Hashes evaluated together. A whole number of the groups that `aes` encrypts at once with AES-NI (8), `ARMv8`
/// or 512-bit VAES (64), so that only the last part of a batch is encrypted block by block.
const LANES: usize = 64;

/// BLAKE3 `derive_key` contexts. They fix every key of every existing index: never change them.
const PHONE_CONTEXT: &str = "unlisted 2026-11 listing keys of phone numbers";
const FINGERPRINT_CONTEXT: &str = "unlisted 2026-11 fingerprints of numbers paid for";
const EMAIL_CONTEXT: &str = "unlisted 2026-11 listing keys of e-mail addresses";

/// The keyed function of one index, with its AES keys expanded.
///
/// The round keys are wiped on drop (feature `zeroize` of crate `aes`), and `Debug` prints none of them. A move
/// may leave a copy behind that nobody wipes, so make it where it stays.
pub struct Prf {
    phone: Cmac,
    email: Cmac,
}

impl Prf {
    /// Derives the keys of both domains from the secret.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { phone: Cmac::derive(PHONE_CONTEXT, secret), email: Cmac::derive(EMAIL_CONTEXT, secret) }
    }

    #[cfg(any(test, feature = "internals"))]
    /// The key of one hash. A batch costs a fraction of this for each hash: see [`Prf::keys_into`].
    #[must_use]
    pub fn key_of(&self, domain: Domain, hash: &[u8; 32]) -> [u8; 16] {
        let cmac = match domain {
            Domain::Phone => &self.phone,
            Domain::Email => &self.email,
        };
        let (mut first, second) = halves(hash);
        cmac.tags(std::slice::from_mut(&mut first), std::slice::from_ref(&second));
        first.into()
    }

    /// Hands the key of every item to `sink`, in the order of the items. Nothing is allocated.
    ///
    /// The domains may be mixed at will. Which domain an item belongs to is not a secret: the time depends on
    /// that and on the number of items, never on a hash.
    pub fn keys_into<'a>(
        &self,
        items: impl IntoIterator<Item = (Domain, &'a [u8; 32])>,
        mut sink: impl FnMut([u8; 16]),
    ) {
        let mut items = items.into_iter();
        let mut lanes = Lanes::new();
        while lanes.fill(&mut items) {
            self.evaluate(&mut lanes);
            lanes.drain(&mut sink);
        }
    }

    fn evaluate(&self, lanes: &mut Lanes) {
        let emails_at = LANES.saturating_sub(lanes.emails);
        if let (Some(first), Some(second)) =
            (lanes.first.get_mut(..lanes.phones), lanes.second.get(..lanes.phones))
        {
            self.phone.tags(first, second);
        }
        if let (Some(first), Some(second)) = (lanes.first.get_mut(emails_at..), lanes.second.get(emails_at..)) {
            self.email.tags(first, second);
        }
    }
}

impl fmt::Debug for Prf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prf(..)")
    }
}

/// AES-256-CMAC of two-block messages under one key.
struct Cmac {
    cipher: Aes256Enc,
    /// The subkey that SP 800-38B adds to a last block that is whole.
    k1: [u8; 16],
}

impl Cmac {
    fn derive(context: &str, secret: &[u8; 32]) -> Self {
        let key = Zeroizing::new(blake3::derive_key(context, secret));
        Self::new(&key)
    }

    fn new(key: &[u8; 32]) -> Self {
        let cipher = Aes256Enc::new(key.into());
        let mut block = Block::default();
        cipher.encrypt_block(&mut block);
        let mut bits = u128::from_be_bytes(block.into());
        block.as_mut_slice().zeroize();
        // Times x in GF(2^128), without a branch on the bit shifted out.
        let mut doubled = (bits << 1) ^ (0x87 & (bits >> 127).wrapping_neg());
        let k1 = doubled.to_be_bytes();
        bits.zeroize();
        doubled.zeroize();
        Self { cipher, k1 }
    }

    /// Replaces each first block by the tag of its message. Both slices are equally long.
    #[inline]
    fn tags(&self, first: &mut [Block], second: &[Block]) {
        let k1 = u128::from_ne_bytes(self.k1);
        self.cipher.encrypt_blocks(first);
        for (state, block) in first.iter_mut().zip(second) {
            let sum = u128::from_ne_bytes((*state).into()) ^ u128::from_ne_bytes((*block).into()) ^ k1;
            *state = sum.to_ne_bytes().into();
        }
        self.cipher.encrypt_blocks(first);
    }
}

impl Drop for Cmac {
    fn drop(&mut self) {
        // The cipher wipes itself.
        self.k1.zeroize();
    }
}

/// Up to [`LANES`] messages. Phones fill the blocks from the front and e-mail addresses from the back, so each
/// domain is one run of blocks whatever the order in which they came; `places` remembers that.
///
/// From the begin of a cache line on, so that what is encrypted as a vector of 64 bytes is in one.
#[repr(C, align(64))]
struct Lanes {
    first: [Block; LANES],
    second: [Block; LANES],
    /// Where the message of each item is, by the item's number.
    places: [u8; LANES],
    phones: usize,
    emails: usize,
}

impl Lanes {
    fn new() -> Self {
        Self {
            first: [Block::default(); LANES],
            second: [Block::default(); LANES],
            places: [0; LANES],
            phones: 0,
            emails: 0,
        }
    }

    /// Takes the next items. False if there were none.
    #[inline(always)]
    fn fill<'a>(&mut self, items: &mut impl Iterator<Item = (Domain, &'a [u8; 32])>) -> bool {
        // Counted in registers: through `self` each would be a store for each item.
        let (mut phones, mut emails) = (0, 0);
        // The places come first: `zip` asks its right side only after the left one gave, so no item is lost.
        for (place, (domain, hash)) in self.places.iter_mut().zip(items) {
            // No branch on the domain: which of a mixed batch are e-mail addresses cannot be guessed.
            let is_email = usize::from(domain == Domain::Email);
            let at = if is_email == 1 { LANES - 1 - emails } else { phones };
            phones += 1 - is_email;
            emails += is_email;
            if let (Some(first), Some(second)) = (self.first.get_mut(at), self.second.get_mut(at)) {
                (*first, *second) = halves(hash);
            }
            *place = at as u8;
        }
        (self.phones, self.emails) = (phones, emails);
        phones + emails > 0
    }

    #[inline(always)]
    fn drain(&self, sink: &mut impl FnMut([u8; 16])) {
        for place in self.places.iter().take(self.phones + self.emails) {
            if let Some(tag) = self.first.get(usize::from(*place)) {
                sink((*tag).into());
            }
        }
    }
}

/// With plain arrays: the crate's own way to split an array is not always inlined, and then costs more than the cipher.
#[inline(always)]
fn halves(bytes: &[u8; 32]) -> (Block, Block) {
    let (mut first, mut second) = ([0; 16], [0; 16]);
    let (front, back) = bytes.split_at(16);
    first.copy_from_slice(front);
    second.copy_from_slice(back);
    (first.into(), second.into())
}

/// A keyed function from 16 bytes to a short fingerprint: AES-128 of the block, cut.
///
/// A ledger remembers with it which numbers a caller paid for. The block is the key of a listing, which segments
/// hold in clear, so the fingerprint must not be computable from it: hence a second cipher.
pub(crate) struct Fingerprints(Aes128Enc);

impl Fingerprints {
    /// Bits of a fingerprint.
    pub(crate) const BITS: u32 = 31;

    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let key = Zeroizing::new(blake3::derive_key(FINGERPRINT_CONTEXT, secret));
        Self(Aes128Enc::new(&halves(&key).0))
    }

    /// Appends the fingerprint of each block.
    pub(crate) fn of(&self, blocks: impl Iterator<Item = [u8; 16]>, out: &mut Vec<u32>) {
        let mut blocks = blocks;
        let mut lanes = [Block::default(); LANES];
        loop {
            let mut used = 0;
            for (lane, block) in lanes.iter_mut().zip(&mut blocks) {
                *lane = block.into();
                used += 1;
            }
            let Some(lanes) = lanes.get_mut(..used).filter(|lanes| !lanes.is_empty()) else { return };
            self.0.encrypt_blocks(lanes);
            let top = |lane: &Block| u128::from_be_bytes((*lane).into()) >> (128 - Self::BITS);
            out.extend(lanes.iter().map(|lane| top(lane) as u32));
        }
    }
}

/// The first half of a longer digest.
#[must_use]
#[inline]
pub(crate) fn truncated(digest: &[u8; 32]) -> [u8; 16] {
    halves(digest).0.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cmac::Mac;

    fn inputs(count: usize) -> Vec<(Domain, [u8; 32])> {
        let mut stream = blake3::Hasher::new_keyed(&[3; 32]).finalize_xof();
        let item = |_| {
            let mut bytes = [0; 33];
            stream.fill(&mut bytes);
            let domain = if bytes[32] & 1 == 0 { Domain::Phone } else { Domain::Email };
            (domain, *bytes.first_chunk().unwrap())
        };
        (0..count).map(item).collect()
    }

    fn batch(prf: &Prf, items: &[(Domain, [u8; 32])]) -> Vec<[u8; 16]> {
        let mut out = Vec::new();
        prf.keys_into(items.iter().map(|(domain, hash)| (*domain, hash)), |key| out.push(key));
        out
    }

    #[test]
    fn equals_the_cmac_crate() {
        let secret = [0x5a; 32];
        let prf = Prf::new(&secret);
        for (domain, hash) in inputs(300) {
            let context = if domain == Domain::Phone { PHONE_CONTEXT } else { EMAIL_CONTEXT };
            let key = blake3::derive_key(context, &secret);
            let mut mac = cmac::Cmac::<aes::Aes256>::new_from_slice(&key).unwrap();
            mac.update(&hash);
            let expected: [u8; 16] = mac.finalize().into_bytes().into();
            assert_eq!(prf.key_of(domain, &hash), expected);
        }
    }

    /// Both values of the bit that doubling shifts out must have been seen, for the subkey to be tested.
    #[test]
    fn subkey_equals_the_cmac_crate_for_both_top_bits() {
        let mut seen = [false; 2];
        for byte in 0..32 {
            let key = [byte; 32];
            let mut probe = Block::default();
            Aes256Enc::new((&key).into()).encrypt_block(&mut probe);
            seen[usize::from(probe[0] >> 7)] = true;
            let mut tag = [Block::from([1; 16])];
            Cmac::new(&key).tags(&mut tag, &[Block::from([2; 16])]);
            let mut mac = cmac::Cmac::<aes::Aes256>::new_from_slice(&key).unwrap();
            mac.update(&[1; 16]);
            mac.update(&[2; 16]);
            assert_eq!(tag[0].as_slice(), mac.finalize().into_bytes().as_slice());
        }
        assert_eq!(seen, [true; 2]);
    }

    /// The keys that existing indexes hold. `openssl mac -cipher AES-256-CBC CMAC` under the two derived keys
    /// gave the same values.
    #[test]
    fn known_answers() {
        let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
        let hash: [u8; 32] = std::array::from_fn(|i| 0xff - i as u8);
        let prf = Prf::new(&secret);
        assert_eq!(
            u128::from_be_bytes(prf.key_of(Domain::Phone, &hash)),
            0xd4af_1db5_5ead_54db_1f8c_f3ab_8736_bd3b
        );
        assert_eq!(
            u128::from_be_bytes(prf.key_of(Domain::Email, &hash)),
            0x97d6_be9b_6b48_ac18_820d_8981_9510_909d
        );
    }

    #[test]
    fn batches_equal_singles_in_order() {
        let prf = Prf::new(&[9; 32]);
        let all = inputs(3 * LANES + 1);
        for count in (0..=40).chain(LANES - 1..=LANES + 1).chain([2 * LANES, 3 * LANES + 1]) {
            let items = &all[..count];
            let singles: Vec<_> = items.iter().map(|(domain, hash)| prf.key_of(*domain, hash)).collect();
            assert_eq!(batch(&prf, items), singles, "{count} items");
        }
    }

    #[test]
    fn one_domain_fills_every_lane() {
        let prf = Prf::new(&[9; 32]);
        for domain in [Domain::Phone, Domain::Email] {
            let items: Vec<_> = inputs(2 * LANES + 5).into_iter().map(|(_, hash)| (domain, hash)).collect();
            let singles: Vec<_> = items.iter().map(|(domain, hash)| prf.key_of(*domain, hash)).collect();
            assert_eq!(batch(&prf, &items), singles);
        }
    }

    #[test]
    fn domains_secrets_and_halves_matter() {
        let prf = Prf::new(&[1; 32]);
        let hash = [7; 32];
        let key = prf.key_of(Domain::Phone, &hash);
        assert_ne!(key, prf.key_of(Domain::Email, &hash));
        assert_ne!(key, Prf::new(&[2; 32]).key_of(Domain::Phone, &hash));
        for changed in [0, 15, 16, 31] {
            let mut other = hash;
            other[changed] ^= 1;
            assert_ne!(key, prf.key_of(Domain::Phone, &other));
        }
    }

    #[test]
    fn keys_are_wiped_and_not_printed() {
        fn wiped<T: zeroize::ZeroizeOnDrop>() {}
        wiped::<Aes256Enc>(); // fails to compile without feature `zeroize` of crate `aes`
        assert!(std::mem::needs_drop::<Prf>());
        assert_eq!(format!("{:?}", Prf::new(&[1; 32])), "Prf(..)");
    }

    #[test]
    fn truncation_keeps_the_first_half() {
        let digest: [u8; 32] = std::array::from_fn(|i| i as u8);
        assert_eq!(truncated(&digest), std::array::from_fn(|i| i as u8));
    }
}
