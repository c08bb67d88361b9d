//! `unlisted bench`, small: that each runs to its end and prints the figures that documents quote.

use serde_json::Value;

use super::support::World;

/// What a bench prints; each of `fields` must be a number above zero.
fn bench(args: &[&str], fields: &[&str]) -> Value {
    let world = World::bare();
    let report: Value = serde_json::from_str(&world.ok(&[&["bench"], args, &["--json"]].concat())).unwrap();
    for field in fields {
        assert!(report[field].as_f64().is_some_and(|figure| figure > 0.0), "{field} of {report}");
    }
    report
}

#[test]
fn lookups_are_timed_raw_and_protected_beside_random_lines() {
    let fields = ["raw_ns_per_key", "protected_ns_per_key", "random_line_ns", "threads", "hits"];
    let report = bench(&["lookup", "--listings", "20000", "--hit-ratio", "0.25", "--batch", "64"], &fields);
    assert_eq!((report["listings"].as_u64(), report["batch"].as_u64()), (Some(20_000), Some(64)));
}

#[test]
fn imports_are_timed_beside_the_disk() {
    let fields = ["listings_per_s", "bytes_per_listing", "peak_rss_mb", "sequential_write_mb_per_s"];
    bench(&["import", "--listings", "20000"], &fields);
}

#[test]
fn the_disclosure_log_is_timed() {
    let report = bench(&["disclosures", "--rows", "20000"], &["append_one_ns", "compacted_bytes_per_row"]);
    assert!(report["compacted_bytes_per_row"].as_f64().unwrap() <= 24.0, "{report}");
}
