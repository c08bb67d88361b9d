//! Layer 1: what scopes did in an hour, counted in bounded memory, and the heaviest of them.
//!
//! A scope is a caller or an origin, known by its keyed identity. Counting is lossy: where room runs out, the lightest
//! half goes, and the table says how much anybody may be short by it (G. S. Manku and R. Motwani, "Approximate
//! Frequency Counts over Data Streams", VLDB 2002). Also what the counters say of a scope (`score`), and the arithmetic of
//! tripwires (`odds`). Pure: no clocks, no locks, no files.

mod counts;
mod heaviest;
mod odds;
mod score;
mod table;

pub use counts::TopBy;
pub(crate) use counts::{Counts, Short};
pub(crate) use heaviest::{Kept, heaviest};
pub use odds::TripwireOdds;
pub(crate) use score::Evidence;
pub(crate) use table::{CALLERS, Dropped, Entry, Table};
