//! All contestants, on little: each runs, and all of them find the same.

use std::process::Command;

use serde_json::Value;

/// Without RocksDB, which takes minutes to build.
const CONTESTANTS: &str = "lmdb,redb,fjall,sqlite,hashbrown,bloomfilter,fastbloom,binary-fuse";

#[test]
fn every_contestant_finds_the_same() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(["--listings", "20000", "--questions", "4096", "--json", "--threads", "2", "--only", CONTESTANTS])
        .arg("--dir")
        .arg(dir.path())
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let rows = report["rows"].as_array().expect("there are rows");
    assert_eq!(rows.len(), 2 + CONTESTANTS.split(',').count());
    for row in rows {
        assert_eq!(row["error"], Value::Null, "{row}");
        let asked = row["ns_per_key"].as_array().expect("there are figures");
        assert_eq!(asked.len(), 2, "{row}");
        let hits = |i: usize| asked[i]["hits"].as_u64().expect("hits are counted");
        // Three passes count; half of the keys are found, and of the others what a filter passes by mistake.
        assert!((3 * 4096 * 45 / 100..3 * 4096 * 55 / 100).contains(&hits(0)), "{row}");
        assert!(hits(1) < 3 * 4096 / 100, "{row}");
        assert!(row["filter_only"] == true || hits(1) == 0, "{row}");
    }
    assert_eq!(dir.path().read_dir().expect("it is still there").count(), 0, "a store was left behind");
}
