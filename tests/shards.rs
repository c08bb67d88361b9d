//! An index in parts: nodes with one record of who owns what, against one whole index.
//!
//! `UNLISTED_SHARD_CASES=n` tries n histories instead of 10, `UNLISTED_SHARD_MOVES=n` moves ranges n times under load instead of
//! 12, and `UNLISTED_SHARD_STRIDE=1` stops a move at every call that changes the disk instead of at every 9th.

mod common;
#[cfg(feature = "internals")]
#[path = "shards/crash.rs"]
mod crash;
#[path = "shards/fleet.rs"]
mod fleet;
#[path = "shards/model.rs"]
mod model;
#[path = "shards/moving.rs"]
mod moving;
#[path = "shards/ranges.rs"]
mod ranges;
#[path = "shards/refused.rs"]
mod refused;
#[path = "shards/replies.rs"]
mod replies;

fn setting(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}
