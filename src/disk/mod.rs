//! Layer 2: files. The one place that calls the file system, and memory as the kernel maps it.
//!
//! Everything that has files is told which [`Disk`] they are on. Without the feature `internals` there is one only.

mod copy;
mod direct;
mod file;
mod lines;
mod lock;
mod map;
mod memory;
mod names;
mod publish;
mod recent;
#[cfg(feature = "internals")]
pub(crate) mod sim;

pub(crate) use copy::{Copied, Ends, digest};
pub(crate) use direct::{Buffer, Spill, SpillReader, transfer_len};
pub(crate) use file::File;
pub(crate) use lines::{LINE, Lines};
pub(crate) use lock::DirLock;
pub(crate) use map::{MappedEnd, MappedFile};
pub(crate) use memory::{available_bytes, major_faults};
pub(crate) use recent::{Horizon, Recent};

/// Where files are.
#[derive(Debug, Clone, Default)]
pub(crate) enum Disk {
    /// What the operating system has.
    #[default]
    Real,
    /// One in memory, which crashes and fails as a test asks.
    #[cfg(feature = "internals")]
    Sim(sim::SimDisk),
}
