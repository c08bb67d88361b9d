//! Comparing 56 tags at once.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "SSE2 takes a processor that has it; the argument is at the call")
)]

use super::layout::{BUCKET_SLOTS, TAG_LINE_LEN};

/// The slots of a tag line whose tag is this one, a bit each, slots without a listing included.
#[inline]
pub(crate) fn with_tag(line: &[u8; TAG_LINE_LEN], tag: u8) -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of every x86-64 processor, so nothing needs to be detected.
    let all = unsafe { sse2::equal_bytes(line, tag) };
    #[cfg(not(target_arch = "x86_64"))]
    let all = portable::equal_bytes(line, tag);
    all & ((1 << BUCKET_SLOTS) - 1)
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};

    use super::TAG_LINE_LEN;

    /// Four compares of sixteen bytes.
    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn equal_bytes(line: &[u8; TAG_LINE_LEN], tag: u8) -> u64 {
        let wanted = _mm_set1_epi8(tag.cast_signed());
        let mut found = 0;
        for (i, quarter) in line.as_chunks::<16>().0.iter().enumerate() {
            let word = u128::from_le_bytes(*quarter);
            let bytes = _mm_set_epi64x((word >> 64) as i64, word as i64);
            let equal = _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, wanted));
            found |= u64::from(equal.cast_unsigned()) << (16 * i);
        }
        found
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use super::TAG_LINE_LEN;

    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;

    /// Eight bytes at a time in a plain register: exact, whatever the bytes.
    #[inline]
    pub(super) fn equal_bytes(line: &[u8; TAG_LINE_LEN], tag: u8) -> u64 {
        let wanted = LOW * u64::from(tag);
        let mut found = 0;
        for (i, word) in line.as_chunks::<8>().0.iter().enumerate() {
            let differs = u64::from_le_bytes(*word) ^ wanted;
            // The high bit of each byte: clear if any of its low seven bits is set, then if its own is.
            let zero = !(((differs & !HIGH) + !HIGH) | differs) & HIGH;
            // Gathers the eight high bits into one byte.
            let gathered = (zero >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            found |= gathered << (8 * i);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_way_to_compare_tags_gives_the_same(line in prop::array::uniform32(0_u8..4), rest: [u8; 32], tag in 0_u8..5) {
            let mut whole = [0; TAG_LINE_LEN];
            whole[..32].copy_from_slice(&line);
            whole[32..].copy_from_slice(&rest);
            for tag in [tag, rest[7]] {
                let plain = (0..BUCKET_SLOTS).filter(|i| whole[*i] == tag).fold(0, |found, i| found | 1 << i);
                prop_assert_eq!(with_tag(&whole, tag), plain);
                prop_assert_eq!(portable::equal_bytes(&whole, tag) & ((1 << BUCKET_SLOTS) - 1), plain);
            }
        }
    }
}
