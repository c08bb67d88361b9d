//! Every input of `fuzz/corpus` through the fuzz targets' own code: what they found once stays found.

#![cfg(feature = "internals")]

use std::fs;
use std::path::Path;

// The very file that `cargo fuzz` builds.
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Runs a target on each of its inputs, and on none at all.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("the corpus {} is not there: {error}", folder.display()))
        .map(|item| item.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 3, "the corpus of {name} has {} inputs", paths.len());
    target(&[]);
    for path in paths {
        // The last line of the output names the input that a panic is about.
        println!("{}", path.display());
        target(&fs::read(&path).unwrap());
    }
}

#[test]
fn segment_open() {
    replay("segment_open", targets::segment_open);
}

#[test]
fn segment_roundtrip() {
    replay("segment_roundtrip", targets::segment_roundtrip);
}

#[test]
fn index_ops() {
    replay("index_ops", targets::index_ops);
}

#[test]
fn ledger_ops() {
    replay("ledger_ops", targets::ledger_ops);
}

#[test]
fn codec() {
    replay("codec", targets::codec);
}

#[test]
fn e164() {
    replay("e164", targets::e164);
}
