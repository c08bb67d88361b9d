//! Nodes that each embed an [`unlisted`] index and follow one feed of the host's changes, a Valkey stream.
//!
//! `change` is what the feed carries, `feed` how it is written and read, `follower` applies it exactly once and reports how
//! far it is, `node` opens an index and answers, `http` is how it is asked.

mod change;
mod feed;
mod follower;
mod http;
mod node;

use thiserror::Error;

pub use change::Change;
pub use feed::{BEGINNING, Entry, Feed, FeedOptions, Page};
pub use follower::with_causes;
pub use node::{Budgets, Config, Node};

/// Why a node does not follow its feed, or does not run.
#[derive(Debug, Error)]
pub enum Error {
    /// It passes: a server that is being replaced, a network that is cut.
    #[error("the feed does not answer")]
    Feed(#[from] redis::RedisError),
    /// It passes: what a primary says that no replica keeps up with may be undone, by a replica that takes its place.
    #[error("{replicas} replicas of the feed have on disk what its primary was told, and {expected} should")]
    NotReplicated { replicas: u32, expected: u32 },
    #[error("there is no feed at this address: begin one")]
    NoFeed,
    #[error(
        "the feed does not hold entry {position}, where this index stands: what came after it may be gone. Begin with a newer \
         backup of another node"
    )]
    Gap { position: String },
    #[error("entry {id} of the feed is malformed: {what}")]
    Entry { id: String, what: String },
    #[error("the index refuses")]
    Index(#[from] unlisted::Error),
    #[error("could not {action}")]
    Io { action: &'static str, source: std::io::Error },
    #[error("a thread panicked: this is a bug")]
    Panicked,
}

impl Error {
    /// Whether to try again. Everything else needs somebody who looks at it, and the node ends.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Feed(_) | Self::NotReplicated { .. })
    }

    /// A closure for `map_err`.
    fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}
