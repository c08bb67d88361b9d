//! A section: sorted fingerprints as Golomb-Rice coded differences.

use super::{FULL_BITS, MAX_CUT_EXPOSURE};

/// Most fingerprints of a section, so that adding to one rewrites a bounded row.
pub(crate) const MAX_SECTION: usize = 8_192;
/// Bits beyond the logarithm of how many there are: one new number in 2^16 meets a full section by chance.
const MARGIN_BITS: u32 = 16;
/// Fewest bits of a fingerprint; a table of the most numbers has homes of fewer.
const MIN_BITS: u32 = MARGIN_BITS + 6;
/// More than the longest code takes: bounds what hostile bytes make a reader do.
const MAX_CODE_BYTES: usize = MAX_SECTION * 5 + 16;

/// Fingerprints cut to `bits`, in order, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    bits: u32,
    /// The first `bits` of each fingerprint.
    values: Vec<u32>,
}

/// How many bits are kept of fingerprints of a caller that has `known` of them, when its cut sections have so much
/// exposure and `added` more come.
pub(crate) fn bits_for(known: usize, cut_exposure: u64, added: usize) -> u32 {
    let wanted = (log2_ceil(known) + MARGIN_BITS).clamp(MIN_BITS, FULL_BITS);
    if cut_exposure + exposure_of(wanted, added) <= MAX_CUT_EXPOSURE { wanted } else { FULL_BITS }
}

/// The exposure of `count` fingerprints of `bits` bits, in units of 2^-31.
pub(crate) const fn exposure_of(bits: u32, count: usize) -> u64 {
    (count as u64) << FULL_BITS.saturating_sub(bits)
}

impl Section {
    /// A section without fingerprints.
    pub(crate) const fn empty(bits: u32) -> Self {
        Self { bits, values: Vec::new() }
    }

    pub(crate) const fn bits(&self) -> u32 {
        self.bits
    }

    pub(crate) const fn len(&self) -> usize {
        self.values.len()
    }

    /// Were bits cut off?
    pub(crate) const fn is_cut(&self) -> bool {
        self.bits < FULL_BITS
    }

    /// Can so many more be added without cutting them too short?
    pub(crate) fn takes(&self, added: usize, cut_exposure: u64) -> bool {
        let count = self.len() + added;
        let cut = self.bits < FULL_BITS;
        let too_many = cut && log2_ceil(count) + MARGIN_BITS > self.bits;
        let exposed = cut && cut_exposure + exposure_of(self.bits, added) > MAX_CUT_EXPOSURE;
        count <= MAX_SECTION && !too_many && !exposed
    }

    /// Adds whole fingerprints.
    pub(crate) fn add(&mut self, fingerprints: &[u32]) {
        let cut = FULL_BITS.saturating_sub(self.bits);
        let added: Vec<u32> = fingerprints.iter().map(|fingerprint| fingerprint >> cut).collect();
        self.values.extend(sort_spread(added, self.bits));
        // The stable sort sees two runs, and merges them.
        self.values.sort();
        self.values.dedup();
    }

    /// The fingerprints, with zeros for the bits that were cut.
    pub(crate) fn fingerprints(&self) -> impl Iterator<Item = u32> {
        let cut = FULL_BITS.saturating_sub(self.bits);
        self.values.iter().map(move |value| value << cut)
    }

    /// The code: of each difference, less one, the high part in unary, then the low bits; the last byte is filled up
    /// with zeros.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let low = low_bits(self.bits, self.len());
        let mut writer = Writer::with_capacity(self.len() * (low as usize + 2) / 8);
        let mut next = 0;
        for value in &self.values {
            let gap = value - next;
            let mut high = gap >> low;
            while high >= 16 {
                writer.push(0xffff, 16);
                high -= 16;
            }
            // The zero that ends it is above the ones, and the low part above that.
            let (ones, rest) = ((1 << high) - 1, u64::from(gap & ((1 << low) - 1)));
            writer.push(ones | (rest << (high + 1)), high + 1 + low);
            next = value + 1;
        }
        writer.finish()
    }

    /// The section in these bytes; what is wrong with them otherwise.
    pub(crate) fn decode(bits: u32, count: usize, code: &[u8]) -> Result<Self, &'static str> {
        if !(MIN_BITS..=FULL_BITS).contains(&bits) {
            return Err("fingerprints of a length that no writer writes");
        }
        if count == 0 || count > MAX_SECTION || code.len() > MAX_CODE_BYTES {
            return Err("a section of a size that no writer writes");
        }
        let low = low_bits(bits, count);
        let mut reader = Reader { code, at: 0 };
        let mut values = Vec::with_capacity(count);
        let mut next: u64 = 0;
        for _ in 0..count {
            let value = next + (reader.ones()? << low) + reader.take(low)?;
            if value >> bits != 0 {
                return Err("a fingerprint is too large");
            }
            values.push(value as u32);
            next = value + 1;
        }
        if reader.is_at_end() { Ok(Self { bits, values }) } else { Err("bytes are left over in a section") }
    }
}

/// Values that a sort brings in order at once: about so many begin alike.
const SORTED_TOGETHER: usize = 4;

/// Sorts values of `bits` bits that are spread evenly, as keyed fingerprints are: one pass puts those together that begin
/// alike. Values of any other spread are sorted too, no slower than by a plain sort and that pass.
fn sort_spread(mut values: Vec<u32>, bits: u32) -> Vec<u32> {
    let first_bits = (values.len() / SORTED_TOGETHER).checked_ilog2().unwrap_or(0);
    if first_bits < 4 {
        values.sort_unstable();
        return values;
    }
    let first = |value: &u32| (value >> (bits - first_bits)) as usize;
    let mut ends = vec![0_u32; 1 << first_bits];
    for value in &values {
        if let Some(count) = ends.get_mut(first(value)) {
            *count += 1;
        }
    }
    let mut begin = 0;
    for end in &mut ends {
        begin += std::mem::replace(end, begin);
    }
    // Where values that begin alike begin; once they are in place, where they end.
    let mut sorted = vec![0; values.len()];
    for value in &values {
        if let Some(at) = ends.get_mut(first(value)) {
            if let Some(to) = sorted.get_mut(*at as usize) {
                *to = *value;
            }
            *at += 1;
        }
    }
    let mut rest = sorted.as_mut_slice();
    let mut begin = 0;
    for end in ends {
        let Some((alike, others)) = rest.split_at_mut_checked((end - begin) as usize) else { break };
        alike.sort_unstable();
        (rest, begin) = (others, end);
    }
    sorted
}

/// Bits of the low part: what the mean difference has, about.
fn low_bits(bits: u32, count: usize) -> u32 {
    bits.saturating_sub(log2_ceil(count))
}

fn log2_ceil(count: usize) -> u32 {
    count.saturating_sub(1).checked_ilog2().map_or(0, |log| log + 1)
}

/// Bits to bytes, the lowest bit of a byte first.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    open: u64,
    used: u32,
}

impl Writer {
    fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Appends a value of at most so many bits, of which there are at most 57.
    fn push(&mut self, value: u64, bits: u32) {
        self.open |= value << self.used;
        self.used += bits;
        // Eight bytes, of which the whole ones stay, copy faster than as many as there are.
        let whole = self.bytes.len() + (self.used / u8::BITS) as usize;
        self.bytes.extend_from_slice(&self.open.to_le_bytes());
        self.bytes.truncate(whole);
        self.open = self.open.checked_shr(self.used & !7).unwrap_or(0);
        self.used &= 7;
    }

    fn finish(mut self) -> Vec<u8> {
        let left = self.used.div_ceil(u8::BITS) as usize;
        self.bytes.extend(self.open.to_le_bytes().into_iter().take(left));
        self.bytes
    }
}

struct Reader<'a> {
    code: &'a [u8],
    /// In bits.
    at: usize,
}

impl Reader<'_> {
    /// What comes next, 57 bits of it at least. Behind the code are zeros.
    fn peek(&self) -> u64 {
        let rest = self.code.get(self.at / 8..).unwrap_or_default();
        let word = rest.first_chunk().copied().unwrap_or_else(|| {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            word
        });
        u64::from_le_bytes(word) >> (self.at % 8)
    }

    fn advance(&mut self, bits: u32) -> Result<(), &'static str> {
        self.at += bits as usize;
        if self.at > self.code.len() * 8 { Err("a section is cut short") } else { Ok(()) }
    }

    /// A value of so many bits, at most 32.
    fn take(&mut self, bits: u32) -> Result<u64, &'static str> {
        let value = self.peek() & ((1 << bits) - 1);
        self.advance(bits)?;
        Ok(value)
    }

    /// How many ones there are up to a zero, which is taken too.
    fn ones(&mut self) -> Result<u64, &'static str> {
        let mut all = 0;
        loop {
            let ones = self.peek().trailing_ones();
            all += u64::from(ones);
            if ones < 57 {
                self.advance(ones + 1)?;
                return Ok(all);
            }
            self.advance(ones)?;
        }
    }

    /// Is everything read, but for the zeros that fill the last byte?
    fn is_at_end(&self) -> bool {
        let left = self.code.len() * 8 - self.at;
        left < 8 && self.code.last().is_none_or(|last| left == 0 || u32::from(*last) >> (8 - left) == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn spread(count: usize, seed: u32) -> Vec<u32> {
        let mut stream = blake3::Hasher::new_keyed(&[seed as u8; 32]).finalize_xof();
        let mut one = || {
            let mut bytes = [0; 4];
            stream.fill(&mut bytes);
            u32::from_le_bytes(bytes) >> 1
        };
        (0..count).map(|_| one()).collect()
    }

    proptest! {
        #[test]
        fn sections_round_trip(bits in MIN_BITS..=FULL_BITS, fingerprints in prop::collection::vec(0_u32..1 << 31, 1..400)) {
            let mut section = Section::empty(bits);
            let (first, second) = fingerprints.split_at(fingerprints.len() / 2);
            section.add(first);
            section.add(second);
            let code = section.encode();
            prop_assert_eq!(Section::decode(bits, section.len(), &code), Ok(section.clone()));
            prop_assert!(Section::decode(bits, section.len(), &code[..code.len() - 1]).is_err());
            let longer = [&code[..], &[0]].concat();
            prop_assert!(Section::decode(bits, section.len(), &longer).is_err());
            let expected: BTreeSet<u32> = fingerprints.iter().map(|f| f >> (31 - bits)).collect();
            prop_assert!(section.values.iter().eq(&expected));
            for fingerprint in fingerprints {
                prop_assert!(section.fingerprints().any(|f| f == fingerprint >> (31 - bits) << (31 - bits)));
            }
        }

        #[test]
        fn any_bytes_are_a_section_or_an_error(bits in 0_u32..40, count in 0_usize..9_000, code: Vec<u8>) {
            if let Ok(section) = Section::decode(bits, count, &code) {
                prop_assert_eq!(section.encode(), code);
            }
        }
    }

    #[test]
    fn a_number_takes_less_than_two_and_a_half_bytes() {
        for count in [64, 100, 150, 257, 300, 500, 1_000, 4_000, MAX_SECTION] {
            let mut section = Section::empty(bits_for(count, 0, count));
            section.add(&spread(count, 1));
            let bytes = section.encode().len() as f64 / section.len() as f64;
            assert!(bytes < 2.45, "{bytes} bytes each of {count}");
        }
    }

    #[test]
    fn the_exposure_of_a_caller_stays_below_one_in_ten_thousand() {
        // Whatever the sizes in which a caller's numbers arrive.
        for step in [1, 7, 60, 500, 3_000, 8_192] {
            let (mut cut, mut all, mut known, mut open) = (0_u64, 0_u64, 0, Section::empty(FULL_BITS));
            while known + step <= super::super::MAX_REMEMBERED {
                known += step;
                if known == step || !open.takes(step, cut) {
                    open = Section::empty(bits_for(known, cut, step));
                }
                open.add(&spread(step, known as u32));
                let added = exposure_of(open.bits(), step);
                all += added;
                cut += if open.bits() < FULL_BITS { added } else { 0 };
            }
            assert!(cut <= MAX_CUT_EXPOSURE);
            assert!(all as f64 / 2_147_483_648.0 <= 1e-4, "{all} units by {step}");
        }
    }

    /// Worked out apart from this code, from `docs/FORMAT.md` alone.
    #[test]
    fn the_code_is_as_documented() {
        let mut section = Section::empty(22);
        section.add(&[3, (1 << 20) + 4, (1 << 20) + 5, (1 << 22) - 1].map(|value| value << 9 | 0x155));
        assert_eq!(hex::encode(section.encode()), "0600200000000000cbff7f");
    }

    #[test]
    fn the_least_and_the_most_fingerprints_of_a_section_round_trip() {
        for values in [vec![0], vec![u32::MAX >> 1], (0..MAX_SECTION as u32).collect()] {
            let mut section = Section::empty(FULL_BITS);
            section.add(&values);
            assert_eq!(Section::decode(FULL_BITS, section.len(), &section.encode()), Ok(section));
        }
        assert!(Section::decode(FULL_BITS, MAX_SECTION + 1, &[0; 64]).is_err());
    }
}
