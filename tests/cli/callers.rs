//! `unlisted callers`: who is charged, misses and is deferred most.

use serde_json::{Value, json};

use super::support::{LISTINGS, World};

/// Caller user-1 finds everybody that it asks for, user-2 nobody, and both come from one network.
fn asked() -> World {
    let world = World::bare();
    world.ok(&["init", "index", "--quota", "caller=3/1", "--quota", "network=100/1"]);
    world.write("listings.csv", LISTINGS);
    world.ok(&["import", "index", "listings.csv"]);
    let ask = |caller: &str, numbers: &str| {
        let network = ["--network", "198.51.100.7"];
        world.pipe(&[&["lookup", "index", "--caller", caller][..], &network].concat(), numbers).success();
    };
    ask("user-1", "+14155550100\n+14155550101\n");
    ask("user-1", "+14155550100\n");
    ask("user-2", "+14155550190\n+14155550191\n+14155550192\n+14155550193\n+14155550194\n");
    world
}

fn tokens(report: &Value) -> Vec<String> {
    report["rows"].as_array().unwrap().iter().map(|row| row["token"].as_str().unwrap().to_owned()).collect()
}

fn figures(row: &Value) -> Vec<u64> {
    let fields = ["lookups", "asked", "charged", "found", "missed", "deferred", "tripwires", "short_by"];
    fields.iter().map(|field| row[field].as_u64().unwrap()).collect()
}

#[test]
fn callers_come_by_what_they_were_charged_missed_or_deferred() {
    let world = asked();
    let report = world.json(&["callers", "index", "--json"]);
    assert_eq!(
        (&report["by"], &report["window_s"], &report["short_by"]),
        (&json!("charged"), &json!(86_400), &json!(0))
    );
    let rows = report["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["id"]), (2, &Value::Null));
    assert_eq!(figures(&rows[0]), [1, 5, 3, 0, 3, 2, 0, 0]);
    // What was known came free, and one number of two accounts is one number found.
    assert_eq!(figures(&rows[1]), [2, 3, 2, 3, 0, 0, 0, 0]);
    assert!(rows[0]["first_at_ms"].as_u64() <= rows[0]["last_at_ms"].as_u64());
    assert!(rows[1]["first_at_ms"].as_u64().unwrap() > 1_700_000_000_000);

    let by = |by: &str| tokens(&world.json(&["callers", "index", "--by", by, "--json"]));
    assert_eq!((by("missed"), by("deferred")), (tokens(&report)[..1].to_vec(), tokens(&report)[..1].to_vec()));
    let first = world.json(&["callers", "index", "--limit", "1", "--window", "90m", "--json"]);
    assert_eq!((tokens(&first), &first["window_s"]), (tokens(&report)[..1].to_vec(), &json!(5_400)));
}

#[test]
fn origins_and_single_callers_can_be_asked_for() {
    let world = asked();
    let networks = world.json(&["callers", "index", "--origins", "network", "--json"]);
    assert_eq!(networks["origins"], "network");
    assert_eq!(figures(&networks["rows"][0]), [3, 8, 5, 3, 3, 2, 0, 0]);
    assert_eq!(world.json(&["callers", "index", "--origins", "device", "--json"])["rows"], json!([]));

    let args = ["callers", "index", "--by", "missed", "--caller", "user-1", "--caller", "nobody", "--json"];
    let one = world.json(&args);
    assert_eq!((one["rows"].as_array().unwrap().len(), &one["rows"][0]["id"]), (1, &json!("user-1")));
    assert_eq!(figures(&one["rows"][0]), [2, 3, 2, 3, 0, 0, 0, 0]);
    // The token is the one under which the disclosure log knows the caller.
    let csv = world.ok(&["exposed", "index", "--caller", "user-1", "--format", "csv"]);
    assert!(csv.contains(&tokens(&one)[0]), "{csv}");
}

#[test]
fn the_table_is_for_people() {
    let world = asked();
    let table = world.ok(&["callers", "index", "--by", "deferred", "--caller", "user-2"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..6], ["charged", "missed", "deferred", "asked", "found", "lookups"]);
    assert_eq!(lines[1][..6], ["3", "3", "2", "5", "0", "1"]);
    assert_eq!((lines[1][8].len(), lines[1][9]), (32, "user-2"));
    assert!(table.ends_with("\n1 callers by deferred\n"), "{table}");
    let empty = World::new().ok(&["callers", "index", "--origins", "network"]);
    assert!(empty.ends_with("origin (keyed)\n0 origins of kind network by charged\n"), "{empty}");
}

#[test]
fn arguments_that_make_no_sense_are_told() {
    let world = World::new();
    assert!(world.run(&["callers", "index", "--by", "luck"]).usage().contains("charged, missed, deferred"));
    for bad in ["", "24", "h", "1w", "-1h", "1.5h", "1ü"] {
        let usage = world.run(&["callers", "index", &format!("--window={bad}")]).usage();
        assert!(
            usage.contains("expected 90m, 24h or 7d") || usage.contains("a value is required"),
            "{bad}: {usage}"
        );
    }
    assert!(
        world
            .run(&["callers", "index", "--origins", "network", "--caller", "a"])
            .usage()
            .contains("cannot be used")
    );
    assert_eq!(world.run(&["callers", "index", "--caller", ""]).failure(), "the caller id is empty");
    assert!(world.run(&["callers", "index", "--origins", "No Kind"]).failure().contains("an origin kind is"));
}
