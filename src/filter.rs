//! The per-key filter: a blocked Bloom filter whose block is one cache line.
//!
//! A block has eight 64-bit words; a member sets one bit in each. One memory access answers "nobody here".
//! After Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (2007), with the
//! split block of Apache Parquet's specification widened to a whole line. At 12 bits a member about 0.4 % of
//! absent keys pass.
//!
//! Each purpose has blocks of its own: a lookup names one purpose, and the lines that it can touch are then as few
//! as that purpose has members, which is what the processor's caches and page tables hold more of.

use crate::words::{Key, Purpose};

/// Bytes of a block.
pub(crate) const BLOCK_LEN: usize = 64;
/// Filter bits spent on each member, *(key, purpose)*.
pub(crate) const BITS_PER_MEMBER: u64 = 12;

/// Six words with no structure (fractional digits of pi, each with its lowest bit set), so that one key's purposes fall into
/// unrelated blocks.
const PURPOSE_SALT: [u64; 6] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7345,
    0xa409_3822_299f_31d1,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
    0xbe54_66cf_34e9_0c6d,
];
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a member, which chooses its bits in its block. Keys are PRF outputs already, so this only has to keep
/// their randomness apart per purpose and from the bits that choose the block: one multiplication, folded. The first 64
/// bits of a key are known to every segment, and enough.
#[inline(always)]
pub(crate) fn member_hash(key: Key, purpose: Purpose) -> u64 {
    let salt = PURPOSE_SALT[purpose.bit() as usize];
    let product = u128::from(key.hi ^ salt) * u128::from(MULTIPLIER);
    (product >> 64) as u64 ^ product as u64
}

/// How many blocks hold `members` of one purpose: one at least, so that a lookup reads the same whether a purpose has
/// any member or none.
pub(crate) fn blocks_for(members: u64) -> u64 {
    members.saturating_mul(BITS_PER_MEMBER).div_ceil(BLOCK_LEN as u64 * 8).max(1)
}

/// Which of `blocks` a key is in: the 32 bits behind its range's prefix, scaled. Keys in order have blocks in order, so
/// that a filter is filled from its begin to its end.
#[inline(always)]
pub(crate) const fn block_of(place: u64, blocks: u64) -> u64 {
    (place * blocks) >> 32
}

/// Is the member in this block? Absent members pass rarely, present ones always. No branch on the way.
#[inline(always)]
pub(crate) fn block_has(block: &[u8; BLOCK_LEN], hash: u64) -> bool {
    let mut found = 1;
    for (i, word) in words(block).enumerate() {
        found &= word >> bit_of(hash, i);
    }
    found & 1 == 1
}

/// Adds a member to a block.
pub(crate) fn block_add(block: &mut [u8; BLOCK_LEN], hash: u64) {
    for (i, bytes) in block.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *bytes = (u64::from_le_bytes(*bytes) | 1 << bit_of(hash, i)).to_le_bytes();
    }
}

/// The low 48 bits of the hash name one of 64 bits in each of the eight words.
#[inline(always)]
const fn bit_of(hash: u64, word: usize) -> u64 {
    hash >> (6 * word) & 63
}

#[inline(always)]
fn words(block: &[u8; BLOCK_LEN]) -> impl Iterator<Item = u64> {
    block.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: u64) -> Key {
        let bytes = xxhash_rust::xxh3::xxh3_128(&i.to_le_bytes());
        Key::from_u128(bytes)
    }

    fn place(key: Key, blocks: &[[u8; BLOCK_LEN]]) -> usize {
        block_of(key.hi >> 32, blocks.len() as u64) as usize
    }

    fn build(members: impl Iterator<Item = u64>, count: u64, purpose: Purpose) -> Vec<[u8; BLOCK_LEN]> {
        let mut blocks = vec![[0; BLOCK_LEN]; blocks_for(count) as usize];
        for i in members {
            let at = place(key(i), &blocks);
            block_add(&mut blocks[at], member_hash(key(i), purpose));
        }
        blocks
    }

    fn passes(blocks: &[[u8; BLOCK_LEN]], i: u64, purpose: Purpose) -> bool {
        block_has(&blocks[place(key(i), blocks)], member_hash(key(i), purpose))
    }

    #[test]
    fn members_pass_and_few_others_do() {
        let n = 200_000;
        let blocks = build(0..n, n, Purpose::Search);
        assert!((0..n).all(|i| passes(&blocks, i, Purpose::Search)));
        let wrong = (n..2 * n).filter(|i| passes(&blocks, *i, Purpose::Search)).count();
        assert!(wrong as f64 / (n as f64) < 0.006, "{wrong} of {n} absent keys pass");
    }

    #[test]
    fn a_key_that_passes_wrongly_for_one_purpose_is_as_rare_for_another() {
        let n = 200_000;
        let search = build(0..n, n, Purpose::Search);
        let payments = build(0..n, n, Purpose::Payments);
        let both = |i: &u64| passes(&search, *i, Purpose::Search) && passes(&payments, *i, Purpose::Payments);
        let wrong = (n..2 * n).filter(both).count();
        assert!(wrong < 40, "{wrong} of {n} absent keys pass for both");
    }

    #[test]
    fn an_empty_filter_has_a_block_and_passes_nothing() {
        let blocks = build(std::iter::empty(), 0, Purpose::Search);
        assert_eq!(blocks.len(), 1);
        assert!((0..1_000).all(|i| !passes(&blocks, i, Purpose::Search)));
    }
}
