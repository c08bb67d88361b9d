//! Listings and questions made by arithmetic: those of `unlisted bench`, so that the engine itself can be asked too.

use unlisted::{AccountId, Listing, OptIns, PhoneHash, Purpose, Version};

/// What is asked for.
pub const PURPOSE: Purpose = Purpose::ContactSync;
/// Its bit.
pub const PURPOSE_BIT: u32 = OptIns::CONTACT_SYNC.bits().trailing_zeros();
/// Numbers from here on belong to nobody.
const NOBODY: u64 = 1 << 50;

/// SplitMix64.
pub struct SplitMix(pub u64);

impl SplitMix {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ b >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

/// A key of a prototype: uniform, as a PRF's output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub hi: u64,
    pub lo: u64,
}

/// A listing of a prototype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub account: u128,
    /// One bit for each purpose.
    pub opt_ins: u8,
}

/// The hash of the `i`-th number.
pub fn hash(i: u64) -> PhoneHash {
    let mut random = SplitMix(i.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut bytes = [0; 32];
    for word in bytes.as_chunks_mut::<8>().0 {
        *word = random.next().to_le_bytes();
    }
    PhoneHash::from_bytes(bytes)
}

/// The key of the `i`-th number in a prototype, which has no secret: half of the hash.
pub fn key(i: u64) -> Key {
    let mut random = SplitMix(i.wrapping_mul(0x2545_f491_4f6c_dd1d));
    Key { hi: random.next(), lo: random.next() }
}

/// The opt-ins of the `i`-th listing: none for 30 %, otherwise 90 % contact sync and 40 % of each of three others, 1.47 a
/// listing.
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

/// The `i`-th listing of a prototype. Its account fits a `u64`.
pub fn entry(i: u64) -> Entry {
    Entry { key: key(i), account: u128::from(SplitMix(i).next() >> 1), opt_ins: opt_ins(i).bits() }
}

/// The `i`-th listing, for the engine.
pub fn listing(i: u64) -> Listing {
    let account = AccountId::from(SplitMix(i).next() >> 1);
    Listing { hash: hash(i), account, opt_ins: opt_ins(i), version: Version::default() }
}

/// What a set of questions is made of: listings that are found, listings that are hidden from the purpose, and numbers
/// of nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// So many of a hundred are found, the others are nobody's.
    Found(u64),
    /// All are listed, none has opted in.
    Hidden,
}

pub const MIXES: [Mix; 4] = [Mix::Found(0), Mix::Found(50), Mix::Found(100), Mix::Hidden];

impl Mix {
    pub fn name(self) -> String {
        match self {
            Self::Found(percent) => format!("{percent} %"),
            Self::Hidden => "hidden".to_owned(),
        }
    }

    /// The numbers asked, and how many of them are found.
    pub fn questions(self, count: usize, listings: u64) -> (Vec<u64>, u64) {
        let mut random = SplitMix(1);
        let mut found = 0;
        let numbers = (0..count).map(|_| {
            let listed = match self {
                Self::Found(percent) => random.below(100) < percent,
                Self::Hidden => true,
            };
            if !listed {
                return NOBODY + random.below(NOBODY);
            }
            found += u64::from(self != Self::Hidden);
            loop {
                let i = random.below(listings);
                if opt_ins(i).allows(PURPOSE) == (self != Self::Hidden) {
                    return i;
                }
            }
        });
        (numbers.collect(), found)
    }
}
