//! The child process of RocksDB, which `peers` builds when it is wanted.

use clap::Parser;
use unlisted_peers::args::Args;
use unlisted_peers::{parent, store};

fn main() -> store::Result<()> {
    parent::main(&Args::parse())
}
