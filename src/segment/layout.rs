//! Where things are in a segment file. Every number is checked before any arithmetic depends on it.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Flaw;
use super::keys::{KeyRange, KeyShape};
use crate::filter::{self, BLOCK_LEN};
use crate::words::Damage;

/// Unit of the checksums.
pub(crate) const PAGE_LEN: usize = 4096;
/// Slots of a bucket.
pub(crate) const BUCKET_SLOTS: usize = 56;
/// Bytes of a bucket's tag line: 56 tags, 7 bytes of overflow filter, 1 byte count.
pub(crate) const TAG_LINE_LEN: usize = 64;
/// Newest format version.
pub(crate) const FORMAT_VERSION: u32 = 2;
/// Purposes, each with a part of the filter.
pub(crate) const PURPOSES: usize = 6;

const MAGIC: &[u8; 8] = b"UNLSTSEG";
const FOOTER_MAGIC: &[u8; 8] = b"GESTSLNU";
/// Bytes of the footer.
pub(crate) const FOOTER_LEN: usize = 24;
/// Bytes of the header that its checksum covers.
const HEADER_SUMMED: usize = 160;
/// What follows the checksum of the header.
const PADDING: [u8; PAGE_LEN - HEADER_SUMMED - 8] = [0; PAGE_LEN - HEADER_SUMMED - 8];
/// Largest count of anything in one segment: keeps every product below 2^63.
const MAX_COUNT: u64 = 1 << 32;

/// The header of a segment, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The index that the segment belongs to.
    pub(crate) index_id: [u8; 16],
    /// Which segment of the index this is; never used twice.
    pub(crate) generation: u64,
    pub(crate) keys: KeyShape,
    /// Bytes of an account: 16, or 8 where every account is a `u64`.
    pub(crate) account_len: u8,
    pub(crate) spill_buckets: u64,
    /// Stored listings, removed ones included.
    pub(crate) entries: u64,
    /// Of those, removed.
    pub(crate) removed: u64,
    /// Listings with at least one opt-in.
    pub(crate) opted_in: u64,
    /// Seconds of one era of removal.
    pub(crate) era_s: u64,
    /// *(key, purpose)* pairs in the filter, by the purpose's bit.
    pub(crate) members: [u64; PURPOSES],
}

/// Offsets of the parts of a segment, derived from its header; in this order for [`super::reader::Segment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Layout {
    pub(crate) table_at: usize,
    /// Bytes of a bucket of the table.
    pub(crate) bucket_len: usize,
    /// Bytes of a slot of the table.
    pub(crate) slot_len: usize,
    /// Where each purpose's blocks begin, and how many they are.
    pub(crate) filters: [(usize, u64); PURPOSES],
    pub(crate) spill_at: usize,
    /// End of the last bucket of the spill area.
    pub(crate) spill_end: usize,
    /// Bytes of a slot of the spill area, which are wide always.
    pub(crate) spill_slot_len: usize,
    pub(crate) filter_at: usize,
    pub(crate) sums_at: usize,
    pub(crate) footer_at: usize,
    pub(crate) file_len: usize,
}

impl Layout {
    /// Bytes of a spill bucket.
    pub(crate) const fn spill_bucket_len(&self) -> usize {
        TAG_LINE_LEN + BUCKET_SLOTS * self.spill_slot_len
    }

    /// Pages that have a checksum: filter, table and spill area.
    pub(crate) const fn pages(&self) -> usize {
        (self.sums_at - self.filter_at) / PAGE_LEN
    }
}

impl Header {
    /// Where things are. `None` only for counts that [`Header::decode`] refuses.
    pub(crate) fn layout(&self) -> Option<Layout> {
        let slot_len = if self.keys.wide { 16 } else { 8 } + usize::from(self.account_len) + 8;
        let spill_slot_len = 16 + usize::from(self.account_len) + 8;
        let mut layout = Layout {
            filter_at: PAGE_LEN,
            filters: [(PAGE_LEN, 1); PURPOSES],
            table_at: 0,
            spill_at: 0,
            spill_end: 0,
            sums_at: 0,
            footer_at: 0,
            file_len: 0,
            bucket_len: TAG_LINE_LEN + BUCKET_SLOTS * slot_len,
            slot_len,
            spill_slot_len,
        };
        let mut blocks = 0;
        for (part, members) in layout.filters.iter_mut().zip(self.members) {
            let of_purpose = filter::blocks_for(members);
            *part =
                (layout.filter_at.checked_add(usize::try_from(blocks).ok()?.checked_mul(BLOCK_LEN)?)?, of_purpose);
            blocks += of_purpose;
        }
        layout.table_at = part_end(layout.filter_at, blocks, BLOCK_LEN)?;
        layout.spill_at = part_end(layout.table_at, self.keys.buckets, layout.bucket_len)?;
        layout.sums_at = part_end(layout.spill_at, self.spill_buckets, layout.spill_bucket_len())?;
        layout.spill_end = layout.spill_at + usize::try_from(self.spill_buckets).ok()? * layout.spill_bucket_len();
        layout.footer_at = layout.sums_at.checked_add(layout.pages().checked_mul(8)?)?;
        layout.file_len = layout.footer_at.checked_add(FOOTER_LEN)?;
        Some(layout)
    }

    /// The first page of the file.
    pub(crate) fn encode(&self) -> [u8; PAGE_LEN] {
        let mut page = [0; PAGE_LEN];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(to) = page.get_mut(at..at + bytes.len()) {
                to.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(MAGIC);
        put(&FORMAT_VERSION.to_le_bytes());
        put(&[self.keys.range.bits(), self.keys.key_bits, u8::from(self.keys.wide), self.account_len]);
        put(&self.index_id);
        for number in self.numbers() {
            put(&number.to_le_bytes());
        }
        let sum = xxh3_64(page.get(..HEADER_SUMMED).unwrap_or_default());
        if let Some(to) = page.get_mut(HEADER_SUMMED..HEADER_SUMMED + 8) {
            to.copy_from_slice(&sum.to_le_bytes());
        }
        page
    }

    fn numbers(&self) -> impl Iterator<Item = u64> {
        let single = [
            self.generation,
            self.keys.range.prefix(),
            self.keys.buckets,
            self.spill_buckets,
            self.entries,
            self.removed,
            self.opted_in,
            self.era_s,
        ];
        single.into_iter().chain(self.members)
    }

    /// Reads the header of a file and checks that the file can be what it says.
    pub(crate) fn decode(file: &[u8]) -> Result<(Self, Layout), Flaw> {
        let page: &[u8; PAGE_LEN] = file.first_chunk().ok_or(Flaw::Damaged {
            offset: file.len() as u64,
            what: Damage::Length { expected: PAGE_LEN as u64, found: file.len() as u64 },
        })?;
        let mut fields = Fields { page, at: 0 };
        if &fields.take::<8>() != MAGIC {
            return Err(Flaw::Foreign);
        }
        let version = u32::from_le_bytes(fields.take());
        if version > FORMAT_VERSION {
            return Err(Flaw::Newer { found: version });
        }
        if version != FORMAT_VERSION {
            return Err(Flaw::geometry(8, "the format version", version.into()));
        }
        let sum = u64::from_le_bytes(Fields { page, at: HEADER_SUMMED }.take());
        if xxh3_64(page.get(..HEADER_SUMMED).unwrap_or_default()) != sum {
            return Err(Flaw::checksum(0, "the header"));
        }
        if page.get(HEADER_SUMMED + 8..) != Some(&PADDING) {
            return Err(Flaw::geometry(HEADER_SUMMED + 8, "the padding of the header", 1));
        }
        let header = Self::decode_fields(&mut fields)?;
        header.check_counts()?;
        let layout = header.layout().ok_or(Flaw::geometry(48, "the size of the parts", header.keys.buckets))?;
        check_ends(file, &layout)?;
        Ok((header, layout))
    }

    fn decode_fields(fields: &mut Fields<'_>) -> Result<Self, Flaw> {
        let [range_bits, key_bits, wide, account_len] = fields.take();
        let index_id = fields.take();
        let mut next = || u64::from_le_bytes(fields.take());
        let (generation, prefix, buckets) = (next(), next(), next());
        let range = KeyRange::new(prefix, range_bits).ok_or(Flaw::geometry(12, "the range", range_bits.into()))?;
        let keys = KeyShape { range, buckets, key_bits, wide: wide == 1 };
        if wide > 1 || buckets == 0 || buckets > MAX_COUNT || !keys.is_sound() {
            return Err(Flaw::geometry(13, "the key shape", key_bits.into()));
        }
        if account_len != 8 && account_len != 16 {
            return Err(Flaw::geometry(15, "the account length", account_len.into()));
        }
        Ok(Self {
            index_id,
            generation,
            keys,
            account_len,
            spill_buckets: next(),
            entries: next(),
            removed: next(),
            opted_in: next(),
            era_s: next(),
            members: std::array::from_fn(|_| next()),
        })
    }

    fn check_counts(&self) -> Result<(), Flaw> {
        let slots = (self.keys.buckets + self.spill_buckets.min(MAX_COUNT)) * BUCKET_SLOTS as u64;
        let bounds = [
            (56, "the number of spill buckets", self.spill_buckets, MAX_COUNT),
            (64, "the number of listings", self.entries, slots),
            (72, "the number of removed listings", self.removed, self.entries),
            (80, "the number of opted-in listings", self.opted_in, self.entries - self.removed.min(self.entries)),
        ];
        let members = self.members.iter().map(|found| (96, "the number of filter members", *found, self.opted_in));
        for (offset, field, found, max) in bounds.into_iter().chain(members) {
            if found > max {
                return Err(Flaw::geometry(offset, field, found));
            }
        }
        if self.era_s == 0 {
            return Err(Flaw::geometry(88, "a count that cannot be zero", 0));
        }
        Ok(())
    }
}

/// The end of a part of `count` items, rounded up to a page.
fn part_end(start: usize, count: u64, item_len: usize) -> Option<usize> {
    let len = usize::try_from(count).ok()?.checked_mul(item_len)?;
    start.checked_add(len)?.checked_next_multiple_of(PAGE_LEN)
}

/// The footer: checksum of the page checksums, file length, and a mark that the file was written to its end.
pub(crate) fn footer(sums: &[u8], file_len: usize) -> [u8; FOOTER_LEN] {
    let mut footer = [0; FOOTER_LEN];
    let parts = [xxh3_64(sums).to_le_bytes(), (file_len as u64).to_le_bytes(), *FOOTER_MAGIC];
    for (to, from) in footer.as_chunks_mut::<8>().0.iter_mut().zip(parts) {
        *to = from;
    }
    footer
}

/// The checksum of a page. The seed is its number, so that two pages cannot change places.
#[inline]
pub(crate) fn page_sum(page: &[u8], number: usize) -> u64 {
    xxh3_64_with_seed(page, number as u64)
}

/// Is the file as long as it should be, and was it written to its end?
fn check_ends(file: &[u8], layout: &Layout) -> Result<(), Flaw> {
    if file.len() != layout.file_len {
        let what = Damage::Length { expected: layout.file_len as u64, found: file.len() as u64 };
        return Err(Flaw::Damaged { offset: file.len().min(layout.file_len) as u64, what });
    }
    let sums = file.get(layout.sums_at..layout.footer_at).unwrap_or_default();
    if file.get(layout.footer_at..) != Some(&footer(sums, file.len())) {
        return Err(Flaw::checksum(layout.footer_at as u64, "the page checksums"));
    }
    Ok(())
}

/// Reads fields one after the other from the first page.
struct Fields<'a> {
    page: &'a [u8; PAGE_LEN],
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let field = self.page.get(self.at..).and_then(|rest| rest.first_chunk()).copied();
        self.at += N;
        // The page is longer than all fields together.
        field.unwrap_or([0; N])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            index_id: [3; 16],
            generation: 9,
            keys: KeyShape::best(KeyRange::new(0xa000 << 48, 4).unwrap(), 3, 128),
            account_len: 16,
            spill_buckets: 1,
            entries: 100,
            removed: 7,
            opted_in: 80,
            era_s: 60,
            members: [80, 50, 0, 0, 43, 1],
        }
    }

    fn file(header: &Header) -> Vec<u8> {
        let layout = header.layout().unwrap();
        let mut file = vec![0; layout.file_len];
        file[..PAGE_LEN].copy_from_slice(&header.encode());
        let end = footer(&file[layout.sums_at..layout.footer_at], layout.file_len);
        file[layout.footer_at..].copy_from_slice(&end);
        file
    }

    #[test]
    fn headers_round_trip() {
        let header = sample();
        let (decoded, layout) = Header::decode(&file(&header)).unwrap();
        assert_eq!(decoded, header);
        assert_eq!(Some(layout), header.layout());
        assert_eq!(layout.sums_at % PAGE_LEN, 0);
    }

    #[test]
    fn every_changed_byte_of_a_header_is_noticed() {
        let good = file(&sample());
        for at in 0..PAGE_LEN {
            for change in [1_u8, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= change;
                assert!(Header::decode(&bad).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let good = file(&sample());
        for len in (0..good.len()).step_by(97).chain(good.len() - 30..good.len()) {
            assert!(Header::decode(&good[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn impossible_counts_are_refused_even_with_a_right_checksum() {
        let changes: [fn(&mut Header); 8] = [
            |h| h.keys.buckets = 0,
            |h| h.keys.buckets = u64::MAX,
            |h| h.members[5] = u64::MAX,
            |h| h.spill_buckets = 1 << 40,
            |h| h.entries = u64::MAX,
            |h| h.removed = 101,
            |h| h.account_len = 9,
            |h| h.era_s = 0,
        ];
        for change in changes {
            let mut header = sample();
            change(&mut header);
            let mut bad = file(&sample());
            bad[..PAGE_LEN].copy_from_slice(&header.encode());
            assert!(matches!(Header::decode(&bad), Err(Flaw::Damaged { .. })), "{header:?}");
        }
    }
}
