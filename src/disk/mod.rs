//! Layer 2: files. The one place that publishes, maps, locks and removes them.

mod direct;
mod lock;
mod map;
mod publish;

pub(crate) use direct::{Buffer, Spill};
pub(crate) use lock::DirLock;
pub(crate) use map::MappedFile;
pub(crate) use publish::{publish, remove_file, rename};
