//! Layer 1: which numbers a caller paid for. Pure: tables in memory, and how they become bytes.
//!
//! A number is remembered by a fingerprint, so a new number may be taken for a known one and cost nothing. How
//! likely that is, is bounded by construction:
//!
//! - In memory a fingerprint has 31 bits. On disk a *section* of a caller's fingerprints keeps the first `b` of them
//!   (16 more than the logarithm of how many the caller has, at most 31), sorted, as Golomb-Rice coded differences.
//! - A new number equals one that is kept to `b` bits with probability 2^-b. The sum of 2^-b over everything that is
//!   remembered of a caller is its *exposure*, and bounds the probability that a new number is free.
//! - A section is cut to fewer than 31 bits only while the exposure of all such sections of the caller stays below
//!   [`MAX_CUT_EXPOSURE`]. With at most [`MAX_REMEMBERED`] numbers of 31 bits beside them, no caller's exposure is
//!   above 1e-4.

mod section;
mod set;

pub(crate) use section::{MAX_SECTION, Section, bits_for, exposure_of};
pub(crate) use set::NoveltySet;

/// Bits of a fingerprint that was not cut.
pub(crate) const FULL_BITS: u32 = 31;

/// Most numbers remembered of one caller. What it asks beyond them is charged every time.
pub(crate) const MAX_REMEMBERED: usize = 1 << 16;

/// The largest exposure of a caller's cut sections, in units of 2^-31. With [`MAX_REMEMBERED`] numbers that were not
/// cut it is 1e-4.
pub(crate) const MAX_CUT_EXPOSURE: u64 = (1 << FULL_BITS) / 10_000 - MAX_REMEMBERED as u64;
