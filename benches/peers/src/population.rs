//! Listings and questions made by arithmetic, the same ones for every contestant.
//!
//! They are those of `unlisted bench`, with accounts of 16 bytes. A key is what an index under [`SECRET`] makes of a
//! hash, so that all stores hold the very same 16 bytes.

use unlisted::{AccountId, Listing, OptIns, PhoneHash, Purpose, Secret, Version, internals};

/// The secret of the measured index. Nothing but made-up numbers is under it.
pub const SECRET: [u8; 32] = [0xbe; 32];
/// What is asked for: a hit is a listing that opted in to it.
pub const PURPOSE: Purpose = Purpose::ContactSync;
/// Numbers from here on belong to nobody.
const NOBODY: u64 = 1 << 50;
/// Hashes keyed at a time.
const CHUNK: u64 = 8_192;

pub type Key = [u8; 16];
/// Account, then opt-ins.
pub type Value = [u8; 17];

/// An entry of a store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub key: Key,
    pub value: Value,
}

/// Sebastiano Vigna's SplitMix64.
pub struct SplitMix(pub u64);

impl SplitMix {
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ b >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(limit)) >> 64) as u64
    }
}

/// The hash of the `i`-th number.
pub fn hash(i: u64) -> PhoneHash {
    let mut random = SplitMix(i.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut bytes = [0; 32];
    for word in bytes.as_chunks_mut::<8>().0 {
        *word = random.word().to_le_bytes();
    }
    PhoneHash::from_bytes(bytes)
}

/// The opt-ins of the `i`-th listing: none for 30 %, otherwise 90 % contact sync and 40 % of each other purpose.
pub fn opt_ins(i: u64) -> OptIns {
    let mut random = SplitMix(i ^ 0x0b5e_55ed);
    let mut opt_ins = OptIns::empty();
    if random.below(100) < 30 {
        return opt_ins;
    }
    for purpose in [Purpose::ContactSync, Purpose::Search, Purpose::Suggestions, Purpose::Payments] {
        let share = if purpose == Purpose::ContactSync { 90 } else { 40 };
        if random.below(100) < share {
            opt_ins |= OptIns::from(purpose);
        }
    }
    opt_ins
}

/// The account of the `i`-th listing.
pub fn account(i: u64) -> [u8; 16] {
    let mut random = SplitMix(i);
    (u128::from(random.word() | 1) << 64 | u128::from(random.word())).to_be_bytes()
}

/// The `i`-th listing.
pub fn listing(i: u64) -> Listing {
    Listing {
        hash: hash(i),
        account: AccountId::from_bytes(account(i)),
        opt_ins: opt_ins(i),
        version: Version::default(),
    }
}

/// The keys of these hashes.
pub fn keys_of(hashes: &[PhoneHash]) -> Vec<Key> {
    internals::keys_of(&Secret::from_bytes(SECRET), hashes)
}

/// The first `count` entries, in the order of their numbers or of their keys.
pub fn rows(count: u64, sorted: bool) -> Vec<Row> {
    let mut rows = Vec::with_capacity(usize::try_from(count).unwrap_or(usize::MAX));
    for start in (0..count).step_by(CHUNK as usize) {
        let numbers = start..count.min(start + CHUNK);
        let hashes: Vec<_> = numbers.clone().map(hash).collect();
        rows.extend(keys_of(&hashes).into_iter().zip(numbers).map(|(key, i)| Row { key, value: value(i) }));
    }
    if sorted {
        rows.sort_unstable_by_key(|row| u128::from_be_bytes(row.key));
    }
    rows
}

fn value(i: u64) -> Value {
    let mut value = [0; 17];
    value[..16].copy_from_slice(&account(i));
    value[16] = opt_ins(i).bits();
    value
}

/// The account of an answer, if its opt-ins allow it to be found. Every peer's reader ends here, so that each pays for
/// reading the value and for the mask.
pub fn found(value: &[u8]) -> Option<[u8; 16]> {
    let (account, opt_ins) = value.split_first_chunk::<16>()?;
    let allowed = opt_ins.first()? & OptIns::from(PURPOSE).bits() != 0;
    allowed.then_some(*account)
}

/// Numbers to ask for: a share of them listed and opted in, the others nobody's.
pub fn questions(count: u64, listings: u64, hit_ratio: f64, seed: u64) -> Vec<PhoneHash> {
    let mut random = SplitMix(seed);
    let hits_of_2_32 = (hit_ratio.clamp(0.0, 1.0) * 4_294_967_296.0) as u64;
    let mut question = || {
        if random.below(1 << 32) >= hits_of_2_32 {
            return hash(NOBODY + random.below(NOBODY));
        }
        loop {
            let i = random.below(listings);
            if opt_ins(i).allows(PURPOSE) {
                return hash(i);
            }
        }
    };
    (0..count).map(|_| question()).collect()
}
