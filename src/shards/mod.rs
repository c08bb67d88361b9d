//! Layer 1: an index in parts. Which node owns which keys, tickets and answers as bytes, the manifest of a range that moves.
//!
//! Nothing here knows a file or a network: the host carries the bytes.

mod answer;
mod bytes;
mod export;
mod holding;
#[cfg(feature = "internals")]
pub(crate) mod hostile;
mod ownership;
mod pieces;
mod span;
mod ticket;

pub(crate) use answer::{Answer, Found};
pub(crate) use export::{BadExport, Export, ExportedFile};
pub(crate) use holding::{Hold, Shard, check_name};
pub use ownership::Ownership;
pub(crate) use pieces::Pieces;
pub use span::KeySpan;
pub(crate) use ticket::Ticket;
