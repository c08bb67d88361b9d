//! The blocked Bloom filter in front of some prototypes: what `src/filter.rs` is, with a block of one line, eight words
//! and 12 bits a member. Only the filter of the purpose that is asked for is made; the others count as bytes.

use memmap2::MmapMut;
use unlisted::internals::prefetch;

use super::memory::{self, LINE};
use super::population::Key;

pub const BITS_PER_MEMBER: u64 = 12;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

pub struct Filter {
    memory: MmapMut,
    blocks: u64,
}

impl Filter {
    pub fn for_members(members: u64) -> std::io::Result<Self> {
        let blocks = (members * BITS_PER_MEMBER).div_ceil(LINE as u64 * 8).max(1);
        Ok(Self { memory: memory::zeroed(blocks as usize * LINE)?, blocks })
    }

    fn hash(key: Key) -> u64 {
        let product = u128::from(key.hi) * u128::from(MULTIPLIER);
        (product >> 64) as u64 ^ product as u64
    }

    fn at(&self, key: Key) -> usize {
        (((key.hi >> 32) * self.blocks) >> 32) as usize * LINE
    }

    /// Asks for the block of a key.
    #[inline(always)]
    pub fn ask(&self, key: Key) {
        prefetch(&self.memory, self.at(key));
    }

    /// May the key be a member?
    #[inline(always)]
    pub fn passes(&self, key: Key) -> bool {
        let hash = Self::hash(key);
        let Some(block) = self.memory.get(self.at(key)..).and_then(<[u8]>::first_chunk::<LINE>) else {
            return false;
        };
        let words = block.as_chunks::<8>().0.iter().enumerate();
        words.fold(1, |found, (i, word)| found & u64::from_le_bytes(*word) >> (hash >> (6 * i) & 63)) & 1 == 1
    }

    pub fn add(&mut self, key: Key) {
        let (at, hash) = (self.at(key), Self::hash(key));
        for (i, word) in self.memory[at..at + LINE].as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = (u64::from_le_bytes(*word) | 1 << (hash >> (6 * i) & 63)).to_le_bytes();
        }
    }
}
