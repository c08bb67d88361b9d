//! One module for each subcommand.

pub mod callers;
pub mod erase;
pub mod exposed;
pub mod generate;
pub mod import;
pub mod init;
pub mod lookup;
pub mod maintain;
pub mod stats;
pub mod update;
