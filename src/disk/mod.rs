//! Layer 2: files. The one place that publishes, maps, locks and removes them, and memory as the kernel maps it.

mod copy;
mod direct;
mod lines;
mod lock;
mod map;
mod memory;
mod publish;
mod recent;

pub(crate) use copy::{Copied, Ends, are_same_file, copy_to, digest, digest_file, link};
pub(crate) use direct::{Buffer, Spill, SpillReader, transfer_len};
pub(crate) use lines::{LINE, Lines};
pub(crate) use lock::DirLock;
pub(crate) use map::MappedFile;
pub(crate) use memory::{available_bytes, major_faults};
pub(crate) use publish::{publish, publish_streamed, remove_file, rename, sync_dir};
pub(crate) use recent::{Horizon, Recent};
