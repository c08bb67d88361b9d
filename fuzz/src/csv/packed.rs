//! Listings in the blocks that an import keeps in memory and in temporary files.

use unlisted::Listing;
use unlisted::internals::{RawEntry, pack_import_rows, read_import_rows};

/// Packs the listings of each partition into a block and reads them again: whole, cut, and with a byte changed.
pub fn pack(listings: &[Listing]) {
    let mut rows: Vec<RawEntry> = listings.iter().map(entry).collect();
    // Partitions are one behind the other then, and what is in one keeps its order.
    rows.sort_by_key(|row| row.key[0]);
    for of_partition in rows.chunk_by(|one, next| one.key[0] == next.key[0]) {
        check(of_partition[0].key[0], of_partition);
    }
}

fn check(partition: u8, rows: &[RawEntry]) {
    let mut bytes = pack_import_rows(rows).expect("rows of one partition are a block");
    let mut expected = rows.to_vec();
    expected.sort_by_key(|row| row.key[1]);
    assert_eq!(read_import_rows(&bytes, partition).as_ref(), Some(&expected), "a block has other rows");
    assert_eq!(read_import_rows(&bytes[..bytes.len() - 1], partition), None, "a part of a block is none");
    // No checksum is made right for it, since only the files have them: other rows may come of it, as many at most.
    let at =
        rows.iter().fold(0, |sum: usize, row| sum.wrapping_mul(31).wrapping_add(row.stamp as usize)) % bytes.len();
    bytes[at] ^= 1 << (partition % 8);
    if let Some(read) = read_import_rows(&bytes, partition) {
        assert_eq!(read.len(), rows.len(), "a changed byte makes rows");
    }
}

/// As an import has it, but with the beginning of the hash for its key, so that inputs choose the partition.
fn entry(listing: &Listing) -> RawEntry {
    let (key, _) = listing.hash.as_bytes().split_first_chunk().expect("a hash is longer than a key");
    let stamp = listing.version.get() << 8 | u64::from(listing.opt_ins.bits());
    RawEntry { key: *key, account: listing.account, stamp }
}
