//! What is left of an account, and what a vacuum forgets.

use serde_json::json;

use super::support::World;

#[test]
fn what_is_held_of_an_account_is_said_before_and_after_its_erasure() {
    let world = World::filled();
    world.lookup("user-7", "+14155550100\n");
    world.lookup("42", "+14155550102\n+14155550101\n");
    let held = world.json(&["held", "index", "42", "--json"]);
    let none = json!({"rows": 0, "until_ms": null});
    assert_eq!(held["listings"], json!({"rows": 1, "until_ms": null}));
    assert_eq!((&held["removals"], &held["shown"]["rows"]), (&none, &json!(1)));
    let caller = &held["as_caller"];
    for (part, rows) in [("disclosures", 2), ("numbers", 2), ("budget", 1), ("activity", 1), ("standing", 0)] {
        assert_eq!(caller[part]["rows"], rows, "{part}");
    }
    world.ok(&["erase", "index", "42"]);
    world.ok(&["suspend", "index", "--caller", "42", "--reason", "erased itself after a crawl"]);
    let held = world.json(&["held", "index", "42", "--json"]);
    assert_eq!((&held["listings"], &held["shown"]), (&none, &none));
    assert_eq!(held["removals"]["rows"], 1);
    assert!(held["removals"]["until_ms"].as_u64() > held["as_caller"]["budget"]["until_ms"].as_u64());
    assert_eq!((&held["as_caller"]["numbers"], &held["as_caller"]["standing"]["rows"]), (&none, &json!(1)));
    let text = world.ok(&["held", "index", "42"]);
    assert!(text.contains("\nmarks of removal         1, until 20"), "{text}");
    assert!(text.contains("\nsuspension or own quota  1, until it is ended\n"), "{text}");
    assert!(text.contains("disclosures of it        0\n"), "{text}");
}

#[test]
fn a_vacuum_says_what_went_and_what_the_databases_take() {
    let world = World::filled();
    world.ok(&["erase", "index", "42"]);
    let report = world.json(&["vacuum", "index", "--json"]);
    assert_eq!((&report["removals"], &report["disclosures"]), (&json!(0), &json!(0)), "the mark is young");
    let [before, after] = ["bytes_before", "bytes_after"].map(|field| report[field].as_u64().unwrap());
    let stats = world.stats();
    assert!(before > 0 && after > 0);
    assert_eq!((&stats["listings"], &stats["removed"]), (&json!(4), &json!(1)));
    assert!(world.ok(&["vacuum", "index"]).starts_with("0 removals, 0 disclosures and 0 buckets forgotten; "));
    world.ok(&["verify", "index"]);
}

#[test]
fn an_erasure_as_of_a_version_makes_older_updates_late() {
    let world = World::filled();
    let refused = world.run(&["erase", "index", "42", "--at", "72057594037927936"]).failure();
    assert!(refused.contains("72057594037927936"), "{refused}");
    let report = world.json(&["erase", "index", "42", "--at", "9", "--json"]);
    assert_eq!(report["removed"], 1);
    let put = |version: u64| {
        let feed = format!("op,phone,account,opt_ins,version\nput,+14155550100,42,search,{version}\n");
        world.pipe(&["update", "index"], feed).success()
    };
    assert!(put(9).starts_with("0 "), "{}", put(9));
    assert!(put(10).starts_with("1 "), "{}", put(10));
}
