//! One module for each subcommand.

pub mod backup;
pub mod budget;
pub mod callers;
pub mod erase;
pub mod exposed;
pub mod generate;
pub mod held;
pub mod import;
pub mod init;
pub mod lookup;
pub mod maintain;
pub mod quota;
pub mod stats;
pub mod subject;
pub mod suspend;
mod suspicious;
pub mod tripwires;
pub mod update;
