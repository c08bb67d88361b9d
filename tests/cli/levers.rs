//! Budgets, suspensions and quotas from the command line.

use serde_json::{Value, json};

use super::state;
use super::support::World;

/// An index whose callers have ten numbers, and a network twelve.
fn world() -> World {
    let world = World::bare();
    world.ok(&["init", "index", "--quota", "caller=10/1", "--quota", "network=12/1"]);
    world
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|i| format!("+1415555{i:04}\n")).collect()
}

fn budget(world: &World, args: &[&str]) -> Value {
    world.json(&[&["budget", "index", "--json"], args].concat())
}

#[test]
fn a_budget_says_what_is_left_in_each_scope_and_when_it_is_full() {
    let world = world();
    let via = ["--network", "198.51.100.7"];
    let ask = |caller: &str, lines: String| {
        let args = [&["lookup", "index", "--caller", caller, "--json"], &via[..]].concat();
        world.pipe(&args, lines).success()
    };
    ask("ada", numbers(0..8));
    let args = ["--caller", "ada", "--origin", "network=198.51.100.0/24"];
    let found = budget(&world, &args);
    assert_eq!(found["remaining"], 2);
    let scopes = found["scopes"].as_array().unwrap();
    let short: Vec<_> = scopes.iter().map(|of| (of["scope"].as_str().unwrap(), &of["remaining"])).collect();
    assert_eq!(short, [("caller", &json!(2)), ("network", &json!(4))]);
    let full_in_ms = scopes[0]["full_in_ms"].as_u64().unwrap();
    assert!((7 * 3_600_000..=8 * 3_600_000).contains(&full_in_ms), "{full_in_ms}");
    // Another caller of the network has what the network has.
    assert_eq!(budget(&world, &["--caller", "bob", "--origin", "network=198.51.100.99"])["remaining"], 4);
    let text = world.ok(&[&["budget", "index"], &args[..]].concat());
    assert!(text.contains("7h 59m") || text.contains("8h 0m"), "{text}");
    assert!(text.ends_with("2 new numbers can be asked now\n"), "{text}");
    assert!(world.run(&["budget", "index", "--caller", ""]).failure().contains("the caller id is empty"));
}

#[test]
fn who_is_suspended_is_refused_until_reinstated() {
    let world = world();
    let suspended = world.json(&["suspend", "index", "--caller", "ada", "--reason", "shuffled lists", "--json"]);
    assert_eq!(suspended, json!({"suspended": true}));
    let ask = || world.pipe(&["lookup", "index", "--caller", "ada"], numbers(0..1));
    assert!(ask().failure().contains("the caller is suspended"));
    assert_eq!(budget(&world, &["--caller", "ada"])["scopes"][0]["reason"], "shuffled lists");
    assert_eq!(budget(&world, &["--caller", "ada"])["remaining"], 0);
    let listed = world.json(&["quota", "show", "index", "--json"]);
    let row = &listed["standings"][0];
    assert_eq!((&row["scope"], &row["reason"]), (&json!("caller"), &json!("shuffled lists")));
    let token = row["token"].as_str().unwrap();
    let done = world.json(&["reinstate", "index", "--token", token, "--json"]);
    assert_eq!(done, json!({"was_suspended": true}));
    assert_eq!(world.lookup("ada", &numbers(0..1)), [state("answered")]);
    let again = world.ok(&["reinstate", "index", "--caller", "ada"]);
    assert_eq!(again, "the caller was not suspended\n");

    world.ok(&["suspend", "index", "--origin", "network=198.51.100.0/24", "--reason", "a crowd"]);
    let args = ["lookup", "index", "--caller", "bob", "--network", "198.51.100.9"];
    assert!(world.pipe(&args, numbers(0..1)).failure().contains("the network is suspended"));
    assert_eq!(world.lookup("bob", &numbers(0..1)), [state("answered")]);
}

#[test]
fn quotas_change_and_debts_stay() {
    let world = world();
    world.lookup("ada", &numbers(0..8));
    let set = world.json(&["quota", "set", "index", "--quota", "caller=30/2", "--json"]);
    assert_eq!(set["quotas"], json!({"caller": "30/2", "network": "12/1"}));
    assert_eq!(budget(&world, &["--caller", "ada"])["remaining"], 22);
    world.ok(&["grant", "index", "--caller", "ada", "--numbers", "5"]);
    assert_eq!(budget(&world, &["--caller", "ada"])["remaining"], 27);
    let own = ["quota", "set-one", "index", "--caller", "ada", "--quota", "1000/60"];
    world.ok(&own);
    assert_eq!(budget(&world, &["--caller", "ada"])["remaining"], 997);
    let growing = [
        "quota",
        "set-one",
        "index",
        "--caller",
        "eve",
        "--quota",
        "1000/60",
        "--start",
        "10",
        "--grows-for",
        "99d",
    ];
    let text = world.ok(&growing);
    assert!(text.contains(": quota 1000/60, from 10 within 99d 0h\n"), "{text}");
    assert_eq!(budget(&world, &["--caller", "eve"])["remaining"], 10);
    world.ok(&["quota", "set-one", "index", "--caller", "eve"]);
    assert_eq!(budget(&world, &["--caller", "eve"])["remaining"], 30);
}

#[test]
fn levers_that_make_no_sense_change_nothing() {
    let world = world();
    let text = world.ok(&["quota", "show", "index"]);
    assert_eq!(text, "quota caller: 10/1\nquota network: 12/1\n");
    for bad in [
        &["suspend", "index", "--reason", "whom?"][..],
        &["suspend", "index", "--caller", "a", "--token", "00", "--reason", "both"],
        &["suspend", "index", "--caller", "a"],
        &["reinstate", "index", "--token", "12345"],
        &["reinstate", "index", "--origin", "network=198.51.0.0/16"],
        &["grant", "index", "--caller", "a", "--numbers", "0"],
        &["quota", "set", "index"],
        &["quota", "set", "index", "--quota", "caller=0/1"],
        &["quota", "set-one", "index", "--caller", "a", "--quota", "10/1", "--start", "5"],
    ] {
        world.run(bad).usage();
    }
    let growing =
        ["quota", "set-one", "index", "--caller", "a", "--quota", "10/1", "--start", "11", "--grows-for", "1d"];
    world.run(&growing).failure();
    assert!(
        world
            .run(&["suspend", "index", "--caller", "a", "--reason", &"x".repeat(2_000)])
            .failure()
            .contains("1024")
    );
    assert_eq!(world.ok(&["quota", "show", "index"]), text);
}
