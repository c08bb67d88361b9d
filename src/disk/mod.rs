//! Layer 2: files. The one place that publishes, maps, locks and removes them.

mod lock;
mod map;
mod publish;

pub(crate) use lock::DirLock;
pub(crate) use map::MappedFile;
pub(crate) use publish::{publish, publish_streamed, remove_file, rename, sync_dir};
