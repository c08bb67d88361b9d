//! Builds the image of a segment from sorted entries.

use super::keys::{KeyRange, KeyShape};
use super::layout::{BUCKET_SLOTS, Header, Layout, PAGE_LEN, PURPOSES, TAG_LINE_LEN, footer, page_sum};
use crate::filter::{self, BLOCK_LEN};
use crate::words::{Entry, Key};

/// Listings per bucket at most of the load that is built. At 54 of 56 about 4 % of the listings find their bucket full (a
/// Poisson mean of 54, computed) and cost a line or two of the spill area more, in exchange for the fewest bytes a
/// listing: 29.8 with `u64` accounts and 1.5 opt-ins, against 31.2 at 50.
const BUCKET_LOAD: usize = 54;
/// Listings per bucket of the spill area.
const SPILL_LOAD: usize = 50;

/// What a segment is made from.
pub(crate) struct Input<'a> {
    pub(crate) index_id: [u8; 16],
    pub(crate) generation: u64,
    pub(crate) range: KeyRange,
    /// Bits of the keys that are known: 128, or fewer if some come from a narrow segment.
    pub(crate) known_bits: u8,
    pub(crate) era_s: u64,
    /// Sorted by key, every *(key, account)* once, all in the range, keys cut to the bits of [`shape_for`].
    pub(crate) entries: &'a [Entry],
}

/// The key shape of a segment of so many listings. Cut the keys to it before they are sorted and compared.
pub(crate) fn shape_for(range: KeyRange, entries: usize, known_bits: u8) -> KeyShape {
    let buckets = entries.div_ceil(BUCKET_LOAD).max(1);
    KeyShape::best(range, buckets as u64, known_bits)
}

/// Builds a segment into zeros: `zeros` is asked for a buffer of the segment's length once.
///
/// # Errors
/// Those of `zeros`.
pub(crate) fn build_into<M: AsMut<[u8]>, E>(
    input: &Input<'_>,
    zeros: impl FnOnce(usize) -> Result<M, E>,
) -> Result<M, E> {
    let keys = shape_for(input.range, input.entries.len(), input.known_bits);
    let (header, spilled) = survey(input, keys);
    // Counts of a slice in memory are far below what a layout refuses.
    let Some(layout) = header.layout() else { return zeros(0) };
    let mut buffer = zeros(layout.file_len)?;
    let image = buffer.as_mut();
    image[..PAGE_LEN].copy_from_slice(&header.encode());
    fill_filter_and_table(&mut image[..layout.spill_at], &header, &layout, input.entries);
    fill_spill(&mut image[layout.spill_at..layout.sums_at], &header, &layout, &spilled);
    seal(image, &layout);
    Ok(buffer)
}

/// [`build_into`] a new vector.
#[cfg(any(test, feature = "internals"))]
pub(crate) fn build(input: &Input<'_>) -> Vec<u8> {
    let built: Result<_, std::convert::Infallible> = build_into(input, |len| Ok(vec![0; len]));
    let Ok(image) = built;
    image
}

/// The header, and the entries that find their bucket full: one pass, since the entries are more than a cache holds.
fn survey(input: &Input<'_>, keys: KeyShape) -> (Header, Vec<Entry>) {
    let mut header = Header {
        index_id: input.index_id,
        generation: input.generation,
        keys,
        account_len: 8,
        spill_buckets: 0,
        entries: input.entries.len() as u64,
        removed: 0,
        opted_in: 0,
        era_s: input.era_s,
        members: [0; PURPOSES],
    };
    let mut spilled = Vec::new();
    // How often each set of purposes occurs, whatever their audience.
    let mut sets = [0_u64; 1 << PURPOSES];
    for (_, run) in runs(input.entries, keys) {
        for entry in run {
            header.removed += u64::from(entry.flags().is_removed());
            if entry.account.as_u64().is_none() {
                header.account_len = 16;
            }
            sets[usize::from(entry.flags().opt_ins().bits()) % (1 << PURPOSES)] += 1;
        }
        spilled.extend_from_slice(run.get(BUCKET_SLOTS..).unwrap_or_default());
    }
    header.spill_buckets = spilled.len().div_ceil(SPILL_LOAD) as u64;
    for (set, count) in sets.into_iter().enumerate().skip(1) {
        header.opted_in += count;
        for (bit, members) in header.members.iter_mut().enumerate() {
            *members += count * (set as u64 >> bit & 1);
        }
    }
    (header, spilled)
}

/// Runs of entries with one home, in order. Sorted keys have sorted homes.
fn runs(entries: &[Entry], keys: KeyShape) -> impl Iterator<Item = (u64, &[Entry])> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let home = keys.home(rest.first()?.key);
        let len = rest.iter().position(|entry| keys.home(entry.key) != home).unwrap_or(rest.len());
        let (run, others) = rest.split_at(len);
        rest = others;
        Some((home, run))
    })
}

/// Filters and table, bucket after bucket: both are in the order of keys.
fn fill_filter_and_table(part: &mut [u8], header: &Header, layout: &Layout, entries: &[Entry]) {
    let keys = header.keys;
    let account_len = usize::from(header.account_len);
    let (filters, table) = part.split_at_mut(layout.table_at);
    for (home, run) in runs(entries, keys) {
        let at = home as usize * layout.bucket_len;
        let bucket = &mut table[at..at + layout.bucket_len];
        let (tags, slots) = bucket.split_at_mut(TAG_LINE_LEN);
        for (i, (entry, slot)) in run.iter().zip(slots.chunks_exact_mut(layout.slot_len)).enumerate() {
            tags[i] = keys.tag(entry.key);
            write_slot(slot, keys, keys.wide, account_len, entry);
        }
        tags[TAG_LINE_LEN - 1] = run.len().min(BUCKET_SLOTS) as u8;
        for entry in run.iter().skip(BUCKET_SLOTS) {
            set_overflow(tags, keys, entry.key);
        }
        for entry in run {
            add_to_filters(filters, layout, keys.place(entry.key), entry);
        }
    }
}

fn add_to_filters(filters: &mut [u8], layout: &Layout, place: u64, entry: &Entry) {
    for purpose in entry.flags().opt_ins().purposes() {
        let (start, blocks) = layout.filters[purpose.bit() as usize];
        let at = start + filter::block_of(place, blocks) as usize * BLOCK_LEN;
        if let Some(block) = filters[at..].first_chunk_mut() {
            filter::block_add(block, filter::member_hash(entry.key, purpose));
        }
    }
}

/// The spill area is probed bucket after bucket from a key's spill home; every full bucket that an entry
/// passes notes it in its overflow filter.
fn fill_spill(part: &mut [u8], header: &Header, layout: &Layout, spilled: &[Entry]) {
    let keys = header.keys;
    let account_len = usize::from(header.account_len);
    let bucket_len = layout.spill_bucket_len();
    for entry in spilled {
        let mut at = keys.spill_home(entry.key, header.spill_buckets);
        loop {
            let bucket = &mut part[at as usize * bucket_len..][..bucket_len];
            let (tags, slots) = bucket.split_at_mut(TAG_LINE_LEN);
            let count = usize::from(tags[TAG_LINE_LEN - 1]);
            if let Some(slot) = slots.chunks_exact_mut(layout.spill_slot_len).nth(count) {
                tags[count] = keys.tag(entry.key);
                write_slot(slot, keys, true, account_len, entry);
                tags[TAG_LINE_LEN - 1] += 1;
                break;
            }
            set_overflow(tags, keys, entry.key);
            at = (at + 1) % header.spill_buckets;
        }
    }
}

fn set_overflow(tags: &mut [u8], keys: KeyShape, key: Key) {
    let bit = keys.overflow_bit(key);
    tags[BUCKET_SLOTS + bit as usize / 8] |= 1 << (bit % 8);
}

/// A slot: key bytes, account bytes, version and flags.
fn write_slot(slot: &mut [u8], keys: KeyShape, wide: bool, account_len: usize, entry: &Entry) {
    let account = u128::from_be_bytes(entry.account.to_bytes());
    let (low, high) = ((account as u64).to_be_bytes(), ((account >> 64) as u64).to_be_bytes());
    let stamp = entry.stamp.word().to_le_bytes();
    let known = keys.mask(entry.key);
    let [first, second] = [known.hi.to_be_bytes(), known.lo.to_be_bytes()];
    // Whole words: copies of a length that is known only here take several times as long.
    match (wide, account_len) {
        (false, 8) => put_words(slot, [keys.stored(entry.key).to_be_bytes(), low, stamp]),
        (false, _) => put_words(slot, [keys.stored(entry.key).to_be_bytes(), high, low, stamp]),
        (true, 8) => put_words(slot, [first, second, low, stamp]),
        (true, _) => put_words(slot, [first, second, high, low, stamp]),
    }
}

#[inline]
fn put_words<const N: usize>(slot: &mut [u8], words: [[u8; 8]; N]) {
    slot.as_chunks_mut().0.iter_mut().zip(words).for_each(|(to, word)| *to = word);
}

/// Writes the page checksums and the footer.
pub(super) fn seal(image: &mut [u8], layout: &Layout) {
    let (body, tail) = image.split_at_mut(layout.sums_at);
    let (sums, end) = tail.split_at_mut(layout.pages() * 8);
    let pages = body[layout.filter_at..].chunks_exact(PAGE_LEN);
    for (number, (page, sum)) in pages.zip(sums.as_chunks_mut::<8>().0).enumerate() {
        *sum = page_sum(page, number).to_le_bytes();
    }
    end.copy_from_slice(&footer(sums, layout.file_len));
}
