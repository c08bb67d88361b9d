//! Reading bytes that may be anything, one field after the other.

use crate::words::ShardError;

/// What is left to read.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn some(&mut self, len: usize) -> Option<&'a [u8]> {
        let (some, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(some)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// So many pieces of 16 bytes. The count is compared with what is there before memory is taken.
    pub(super) fn blocks(&mut self, count: usize) -> Option<Vec<[u8; 16]>> {
        Some(self.some(count.checked_mul(16)?)?.as_chunks().0.to_vec())
    }

    pub(super) const fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// Do bytes begin as those of a ticket or an answer do: with what they are, and a version that this build reads?
pub(super) fn check_format(
    bytes: &[u8],
    (magic, version): (&[u8; 8], u32),
    malformed: fn(&'static str) -> ShardError,
) -> Result<(), ShardError> {
    let rest = bytes.strip_prefix(magic).ok_or_else(|| malformed("its first bytes are something else"))?;
    match rest.first_chunk().copied().map(u32::from_le_bytes) {
        Some(found) if found == version => Ok(()),
        None => Err(malformed("it is cut short")),
        Some(0) => Err(malformed("there is no version 0")),
        Some(found) => Err(ShardError::NewerFormat { found, supported: version }),
    }
}
