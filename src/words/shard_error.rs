//! Why a ticket, an answer, a record of who owns which keys, or the move of a range was refused.

use std::path::PathBuf;

use thiserror::Error;

/// Longest name of a node, in bytes.
pub(crate) const MAX_NODE_NAME_LEN: usize = 48;

/// Why a shard did not do what it was asked. Nothing was revealed, and no variant carries a key or an account.
///
/// ```
/// use unlisted::{Ownership, ShardError};
/// assert!(matches!(Ownership::decode(b"something else"), Err(ShardError::RecordMalformed { .. })));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The index was opened without the name of its node.
    #[error("this index is no node of a fleet: open it with the name of its node")]
    NotANode,
    /// The index was a node of another name when it was last open.
    #[error("this index is the node {known:?} and was opened as {found:?}")]
    OtherNode {
        /// The name in the index.
        known: String,
        /// The name in the options.
        found: String,
    },
    /// Not the name of a node.
    #[error("the name of a node is 1 to {max} characters of a-z, 0-9, '-', '_', '.' and ':'", max = MAX_NODE_NAME_LEN)]
    BadName,
    /// Not a span of keys.
    #[error("a span of keys goes from {from:#x} to a larger number up to 0x10000, found {to:#x}")]
    BadSpan {
        /// Where it begins.
        from: u32,
        /// Where it ends.
        to: u32,
    },
    /// The index holds some ranges only, so an answer of it alone would be short.
    #[error("this index holds a part of all keys: ask with tickets")]
    NotWhole,
    /// Nobody told this node yet who owns which keys.
    #[error("this node was not told yet who owns which keys")]
    NoRecord,
    /// A record is none.
    #[error("the record of who owns which keys is malformed: {reason}")]
    RecordMalformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A record has too many spans.
    #[error("a record has at most {limit} spans, found {found}")]
    RecordTooLarge {
        /// Spans of it.
        found: usize,
        /// The bound.
        limit: usize,
    },
    /// Everything that was to be moved is where it was to go.
    #[error("the span is owned by that node already")]
    NothingMoves,
    /// The record is of another fleet.
    #[error("the record of who owns which keys is of another fleet")]
    RecordForeign,
    /// The record is older than the one this node has.
    #[error("the record of who owns which keys has version {found}, this node knows version {known}")]
    RecordOlder {
        /// Version of the record.
        found: u64,
        /// Version that the node knows.
        known: u64,
    },
    /// Two records have one version: they were not changed by compare-and-set.
    #[error(
        "another record of who owns which keys has version {version} too: records change by compare-and-set only"
    )]
    RecordForked {
        /// The version.
        version: u64,
    },
    /// The bytes are no ticket.
    #[error("the ticket is malformed: {reason}")]
    TicketMalformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A later build wrote the ticket, or the answer.
    #[error("it has format version {found}; this build reads version {supported}")]
    NewerFormat {
        /// Version found.
        found: u32,
        /// Version of this build.
        supported: u32,
    },
    /// The ticket was not made under this secret, or was changed.
    #[error("the ticket was changed, or made under another secret")]
    TicketForged,
    /// The ticket is of another fleet with the same secret.
    #[error("the ticket is of another fleet")]
    TicketForeign,
    /// The ticket is past its time.
    #[error("the ticket expired {by_ms} ms ago, beyond the clock skew that is allowed")]
    TicketExpired {
        /// By how much.
        by_ms: u64,
    },
    /// The ticket is from the future.
    #[error("the ticket was issued {by_ms} ms ahead of this node's clock, beyond the skew that is allowed")]
    TicketEarly {
        /// By how much.
        by_ms: u64,
    },
    /// The ticket was issued under a newer record than this node knows.
    #[error("the ticket was issued under version {found} of the record, this node knows version {known}")]
    TicketNewer {
        /// Version of the ticket.
        found: u64,
        /// Version that the node knows.
        known: u64,
    },
    /// The ticket was issued under an older record, and this node gave a range of its keys away since.
    #[error(
        "the ticket was issued under version {found} of the record, and by version {known} a key of it has another owner"
    )]
    TicketOlder {
        /// Version of the ticket.
        found: u64,
        /// Version that the node knows.
        known: u64,
    },
    /// A key of the ticket is not this node's.
    #[error("a key of the ticket has another owner")]
    WrongOwner,
    /// This node owns a range that it does not have yet.
    #[error("this node owns a range whose listings it does not have yet")]
    RangeMissing,
    /// The bytes are no answer.
    #[error("the answer is malformed: {reason}")]
    AnswerMalformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The answer was not made under this secret, or was changed.
    #[error("the answer was changed, or made under another secret")]
    AnswerForged,
    /// The answer is to none of the tickets that wait for one.
    #[error("the answer is to no ticket of this lookup that waits for one")]
    AnswerUnexpected,
    /// A range cannot be expected where some of it is held or expected already.
    #[error("a part of the span is held or expected here already")]
    RangeHeld,
    /// Only a range that is held as a whole can be given.
    #[error("a part of the span is not held here")]
    RangeNotHeld,
    /// A range that came was not expected.
    #[error("this node does not expect the span: say so before it is exported")]
    RangeNotExpected,
    /// Accounts were erased since the range was expected, and what comes may have them still.
    #[error("accounts were erased since the span was expected: drop it, expect it and export it again")]
    ErasedMeanwhile,
    /// A range is expected, and nothing is imported in bulk meanwhile.
    #[error("a span is expected here: bulk imports wait until it came or was dropped")]
    RangeExpected,
    /// What the index holds changed since the bulk import began.
    #[error("what this node holds changed since the import began: run it again")]
    RangesChanged,
    /// The owner has not applied everything that the node which expects the range left out.
    #[error("this node's feed is behind where the next owner began to keep the span: export it again later")]
    FeedBehind,
    /// A range that this node owns is not dropped.
    #[error("this node owns a part of the span: change the record first")]
    RangeOwned,
    /// The folder holds no exported range.
    #[error("{} holds no exported range, or something else beside it", dir.display())]
    NotAnExport {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds an exported range already.
    #[error("{} holds an exported range already", dir.display())]
    ExportExists {
        /// The folder.
        dir: PathBuf,
    },
    /// The manifest of an exported range was changed.
    #[error("the manifest of the exported range in {} is malformed: {reason}", dir.display())]
    ExportMalformed {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The range was exported under another secret, or by another fleet.
    #[error("the range in {} was exported by another fleet or under another secret", dir.display())]
    ExportForeign {
        /// The folder.
        dir: PathBuf,
    },
}
