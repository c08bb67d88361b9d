//! Bytes as a stream of values. What is past the end reads as zero, so every input means something.

/// The rest of the bytes.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut value = [0; N];
        let (head, rest) = self.0.split_at(N.min(self.0.len()));
        value[..head.len()].copy_from_slice(head);
        self.0 = rest;
        value
    }

    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A value below `limit`, which is at most 256.
    pub fn below(&mut self, limit: u64) -> u64 {
        u64::from(self.u8()) % limit
    }
}
