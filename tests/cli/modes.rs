//! Disclosure modes and mutual audiences on the command line.

use serde_json::{Value, json};

use crate::support::{LISTINGS, World};

const NUMBERS: &str = "+14155550101\n+14155550100\n+14155550103\nnobody\n";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ask(world: &World, caller: &str, mode: &str, more: &[&str], input: &str) -> Vec<Value> {
    let args = ["lookup", "index", "--caller", caller, "--mode", mode, "--json"];
    lines(&world.pipe(&[&args[..], more].concat(), input).success())
}

#[test]
fn unlinked_and_counted_lookups_tell_of_a_batch_as_a_whole() {
    let world = World::filled();
    let linked = ask(&world, "one", "linked", &[], NUMBERS);
    let mut accounts: Vec<&str> =
        linked.iter().flat_map(|line| line["accounts"].as_array().unwrap()).map(|a| a.as_str().unwrap()).collect();
    accounts.sort_unstable_by_key(|account| (account.len(), *account));
    assert_eq!(accounts.len(), 3);

    let state = |position: u64, state: &str| json!({"position": position, "state": state});
    let states = ["answered", "answered", "answered", "invalid"];
    let mut expected: Vec<Value> = (0..).zip(states).map(|(at, name)| state(at, name)).collect();
    expected.push(json!({"accounts": accounts, "count": 3}));
    assert_eq!(ask(&world, "two", "unlinked", &["--min-novel", "3"], NUMBERS), expected);
    expected[4] = json!({"count": 3});
    assert_eq!(ask(&world, "three", "count", &["--min-novel", "3"], NUMBERS), expected);
    // Too few by default, and again: withheld, without a charge.
    let again = ask(&world, "two", "unlinked", &["--min-novel", "3"], NUMBERS);
    assert_eq!((&again[0], &again[4]), (&state(0, "withheld"), &json!({"accounts": [], "count": 0})));
    let text = world.pipe(&["lookup", "index", "--caller", "four", "--mode", "unlinked"], NUMBERS).success();
    assert!(text.contains("\n         0  withheld\n") && text.contains("\naccounts: -\n"), "{text}");
    assert!(text.contains("0 answered with 0 matches, 0 deferred, 3 withheld, 1 invalid; charged 0,"), "{text}");
    let args = ["lookup", "index", "--caller", "five", "--mode", "count", "--min-novel", "2"];
    let text = world.pipe(&args, NUMBERS).success();
    assert!(text.contains("\ncount: 3\n3 answered with 3 matches, 0 deferred, 1 invalid; charged 3,"), "{text}");
}

#[test]
fn unknown_modes_and_useless_bounds_are_refused() {
    let world = World::filled();
    let args = ["lookup", "index", "--caller", "one", "--mode"];
    let unknown = world.run(&[&args[..], &["everything"]].concat()).usage();
    assert!(unknown.contains("unknown disclosure mode") && unknown.contains("unlinked"), "{unknown}");
    let run = world.run(&[&args[..], &["count", "--min-novel", "1"]].concat());
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("unlinked_min_novel") && run.stdout.is_empty(), "{}", run.stderr);
}

#[test]
fn a_mutual_listing_answers_whoever_its_account_asked_for() {
    let world = World::new();
    let row = "+14155550150,50,contact-sync|mutual,1\n";
    world.write("listings.csv", format!("{LISTINGS}{row}"));
    world.ok(&["import", "index", "listings.csv"]);
    let found = |more: &[&str]| {
        let answers = ask(&world, "42", "linked", more, "+14155550150\n");
        answers[0]["accounts"].as_array().unwrap().len()
    };
    let own = ["--own-number", "+1 415 555-0100"];
    assert_eq!(found(&own), 0);
    // The account asks, by its id.
    ask(&world, "50", "linked", &[], "+14155550100\n");
    assert_eq!((found(&own), found(&[]), found(&["--own-number", "+14155550101"])), (1, 0, 0));
    let run = world.run(&["lookup", "index", "--caller", "42", "--own-number", "nobody"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("--own-number: "), "{}", run.stderr);
}
