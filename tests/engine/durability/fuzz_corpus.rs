//! Every input of `fuzz/corpus` through the fuzz targets' own code: what they found once stays found.

#![cfg(feature = "internals")]

use std::fs;
use std::path::Path;

// The very file that `cargo fuzz` builds.
#[path = "../../../fuzz/src/lib.rs"]
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
    for path in &paths {
        // The last line of the output names the input that a panic is about.
        println!("{}", path.display());
        target(&fs::read(path).unwrap());
    }
    println!("{name}: {} inputs", paths.len() + 1);
}

/// A test for each target, and their names.
macro_rules! replay {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name), targets::$name);
            }
        )+

        const REPLAYED: &[&str] = &[$(stringify!($name)),+];
    };
}

replay!(
    codec,
    csv_import,
    disclosure_log,
    e164,
    index_ops,
    ledger_ops,
    rows,
    segment_narrow,
    segment_open,
    segment_roundtrip,
    shards,
);

#[test]
fn every_target_is_replayed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names_in = |folder: &str, ending: &str| {
        let items = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = items
            .filter_map(|item| Some(item.unwrap().file_name().to_str()?.strip_suffix(ending)?.to_owned()))
            .collect();
        names.sort();
        names
    };
    let folder = folder.to_str().unwrap();
    assert_eq!(names_in(&format!("{folder}/fuzz_targets"), ".rs"), REPLAYED);
    assert_eq!(names_in(&format!("{folder}/corpus"), ""), REPLAYED);
    let manifest = fs::read_to_string(format!("{folder}/Cargo.toml")).unwrap();
    let bins = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
    let mut bins: Vec<_> = bins.map(|line| line.trim_end_matches(".rs\"")).collect();
    bins.sort_unstable();
    assert_eq!(bins, REPLAYED, "a target that `cargo fuzz` does not build");
}
