//! Telephone numbers and the listings behind some of them, made by arithmetic from the seed: shuffled by nature.

use unlisted::{AccountId, Listing, OptIns, PhoneHash, Purpose, Version};

use crate::commands::generate::SplitMix;

/// Where the numbers of honest people's contacts begin.
const CONTACTS: u64 = 1 << 62;
/// So many different contacts there are.
const POOL: u64 = 200_000;
/// Of a million contacts, those that are listed.
const CONTACTS_LISTED_PPM: u64 = 100_000;
const MILLION: u64 = 1_000_000;

/// The endpoints that a hopping attack goes through, and how many in a hundred listings agreed to each.
pub const ENDPOINTS: [(Purpose, u64); 4] =
    [(Purpose::ContactSync, 60), (Purpose::Search, 40), (Purpose::Suggestions, 40), (Purpose::Payments, 30)];

/// All numbers of a replay.
#[derive(Clone, Copy)]
pub struct Numbers {
    pub seed: u64,
    pub listed_ppm: u64,
    /// Do listings differ in what they agreed to? Otherwise all agreed to contact sync.
    pub by_endpoint: bool,
}

impl Numbers {
    /// The hash of the `i`-th number.
    pub fn hash(&self, i: u64) -> PhoneHash {
        let mut random = SplitMix(i.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ self.seed.rotate_left(32));
        let mut bytes = [0; 32];
        for word in bytes.as_chunks_mut::<8>().0 {
            *word = random.next().to_le_bytes();
        }
        PhoneHash::from_bytes(bytes)
    }

    /// Any contact of an honest user.
    pub fn contact(&self, random: &mut SplitMix) -> PhoneHash {
        self.hash(CONTACTS + random.below(POOL))
    }

    /// The listings among the first so many numbers, and among all contacts.
    pub fn listings(self, count: u64) -> impl Iterator<Item = Listing> {
        let generated = (0..count).filter_map(move |i| self.listing(i, self.listed_ppm));
        generated.chain((CONTACTS..CONTACTS + POOL).filter_map(move |i| self.listing(i, CONTACTS_LISTED_PPM)))
    }

    fn listing(&self, i: u64, listed_ppm: u64) -> Option<Listing> {
        let mut random = SplitMix(i ^ self.seed.wrapping_mul(0x0b5e_55ed_5eed_1157));
        if random.below(MILLION) >= listed_ppm {
            return None;
        }
        let opt_ins = match self.by_endpoint {
            true => agreed(&mut random),
            false => OptIns::CONTACT_SYNC,
        };
        let version = Version::default();
        Some(Listing { hash: self.hash(i), account: AccountId::from(i + 1), opt_ins, version })
    }
}

fn agreed(random: &mut SplitMix) -> OptIns {
    let mut opt_ins = OptIns::empty();
    for (purpose, share) in ENDPOINTS {
        if random.below(100) < share {
            opt_ins |= OptIns::from(purpose);
        }
    }
    opt_ins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_as_many_as_stated_and_the_same_for_the_same_seed() {
        let numbers = |seed| Numbers { seed, listed_ppm: 8_500, by_endpoint: false };
        let of = |seed| numbers(seed).listings(1_000_000).map(|listing| listing.account).collect::<Vec<_>>();
        let listed = of(1);
        assert_eq!(listed, of(1));
        assert_ne!(listed, of(2));
        let contacts = listed.iter().filter(|account| account.as_u64() > Some(CONTACTS)).count();
        assert!((19_000..21_000).contains(&contacts), "{contacts}");
        assert!((8_200..8_800).contains(&(listed.len() - contacts)), "{}", listed.len() - contacts);
        assert_ne!(numbers(1).hash(7), numbers(2).hash(7));
    }
}
