//! unlisted beside other stores: `cargo run --release --manifest-path benches/peers/Cargo.toml -- --listings 1000000`.

use clap::Parser;
use unlisted_peers::args::Args;
use unlisted_peers::{parent, store};

fn main() -> store::Result<()> {
    parent::main(&Args::parse())
}
