//! The probe alone, without caller, charge or disclosure: for benchmarks, under the feature `internals` only.
//!
//! It counts and names nobody, so that even a build with the feature has no way from a number to an account.

use super::Index;
use crate::words::{Key, PhoneHash, Purpose, Result};

/// Keys of a batch, ready to be probed.
#[derive(Debug)]
pub struct PreparedKeys(Vec<Key>);

impl Index {
    /// The keys of these hashes.
    #[must_use]
    pub fn prepare(&self, hashes: &[PhoneHash]) -> PreparedKeys {
        let mut keys = Vec::with_capacity(hashes.len());
        self.inner.ring.keys_of(hashes.iter(), &mut keys);
        PreparedKeys(keys)
    }

    /// Overlay, filter, table and mask for prepared keys; returns how many listings would answer.
    ///
    /// # Errors
    /// As [`Index::lookup`]'s of the segments.
    pub fn raw_probe(&self, purpose: Purpose, keys: &PreparedKeys) -> Result<usize> {
        self.inner.probe(purpose, &keys.0).map(|found| found.len())
    }
}
