//! Segments: immutable lookup images of one key range. Pure: bytes in, answers out, no files.
//!
//! `docs/FORMAT.md` draws every byte. [`layout`] knows where things are, [`keys`] which bits of a key they
//! hold, [`builder`] writes an image, [`reader`] checks one and answers from it, [`salvage`]
//! reads what is whole of a damaged one, [`staged`] does so line by line for a
//! batch, `slot` and `line` know single slots and cache lines, [`tombstone`] dates removed listings.

pub(crate) mod builder;
pub(crate) mod keys;
pub(crate) mod layout;
pub(crate) mod line;
pub(crate) mod reader;
pub(crate) mod salvage;
mod slot;
pub(crate) mod sort;
pub(crate) mod staged;
pub(crate) mod tombstone;

use crate::words::Damage;

/// Why bytes are not a usable segment. The caller knows the file and adds its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Not a segment at all.
    Foreign,
    /// Written by a later version.
    Newer {
        /// Version found.
        found: u32,
    },
    /// Damaged at an offset.
    Damaged {
        /// Where.
        offset: u64,
        /// How.
        what: Damage,
    },
}

impl Flaw {
    pub(crate) const fn geometry(offset: usize, field: &'static str, found: u64) -> Self {
        Self::Damaged { offset: offset as u64, what: Damage::Geometry { field, found } }
    }

    pub(crate) const fn entry(offset: u64, reason: &'static str) -> Self {
        Self::Damaged { offset, what: Damage::Entry { reason } }
    }

    pub(crate) const fn checksum(offset: u64, of: &'static str) -> Self {
        Self::Damaged { offset, what: Damage::Checksum { of } }
    }
}
