//! Which slot of a cluster a key is in, and for each slot a text that is.
//!
//! The slot is CRC-16 (XMODEM) of what stands between the first braces, modulo 16,384: the Redis cluster specification.

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

const POLYNOMIAL: u16 = 0x1021;

/// The slot of a hash tag: what stands between the braces of a key.
pub(super) fn slot_of_tag(tag: &[u8]) -> u16 {
    tag.iter().fold(0_u16, |crc, byte| crc << 8 ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]) % SLOTS
}

/// What a byte adds to the checksum.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ POLYNOMIAL };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// For each slot the smallest number whose decimal digits are a hash tag in it.
pub(super) fn tags() -> Vec<u32> {
    let mut tags = vec![u32::MAX; usize::from(SLOTS)];
    let mut missing = tags.len();
    for number in 0.. {
        if missing == 0 {
            break;
        }
        let slot = slot_of_tag(number.to_string().as_bytes());
        if let Some(tag) = tags.get_mut(usize::from(slot)).filter(|tag| **tag == u32::MAX) {
            *tag = number;
            missing -= 1;
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // CRC-16/XMODEM of "123456789" is 0x31c3; the others are what a server says.
        assert_eq!(slot_of_tag(b"123456789"), 0x31c3);
        assert_eq!(slot_of_tag(b"foo"), 12_182);
        assert_eq!(slot_of_tag(b""), 0);
    }

    #[test]
    fn every_slot_has_a_tag() {
        let tags = tags();
        for (slot, tag) in (0..SLOTS).zip(&tags) {
            assert_eq!(slot_of_tag(tag.to_string().as_bytes()), slot);
        }
        assert!(tags.iter().all(|tag| *tag < 1 << 20));
    }
}
