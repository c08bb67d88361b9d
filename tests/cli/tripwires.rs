//! `unlisted tripwires` and `callers --suspicious`.

use serde_json::{Value, json};

use super::support::World;

#[test]
fn tripwires_are_set_counted_and_removed() {
    let world = World::filled();
    world.write("nobodys.txt", "+14155550180\n\n+14155550181\n+14155550182\n");
    let listings = world.stats()["listings"].clone();
    assert_eq!(world.ok(&["tripwires", "index", "--add", "nobodys.txt"]), "3 set, 3 tripwires in all\n");
    let again = world.json(&["tripwires", "index", "--add", "nobodys.txt", "--json"]);
    assert_eq!(again, json!({"added": 0, "tripwires": 3}));
    assert_eq!((&world.stats()["tripwires"], &world.stats()["listings"]), (&json!(3), &listings));
    // To a caller they are as absent as the fourth number.
    let lines = "+14155550180\n+14155550181\n+14155550199\n+14155550100\n";
    let found = world.lookup("user-1", lines);
    assert_eq!((&found[0], &found[1]), (&found[2], &found[2]));
    assert_ne!(found[3], found[2]);
    let row = &world.json(&["callers", "index", "--caller", "user-1", "--json"])["rows"][0];
    assert_eq!((&row["tripwires"], &row["missed"]), (&json!(2), &json!(3)));

    world.write("one.txt", "+14155550181\n");
    assert_eq!(world.ok(&["tripwires", "index", "--remove", "one.txt"]), "1 removed, 2 tripwires in all\n");
    assert_eq!(world.json(&["tripwires", "index", "--count", "--json"]), json!({"tripwires": 2}));
}

#[test]
fn a_listed_number_or_a_bad_line_sets_nothing() {
    let world = World::filled();
    // Found, and hidden.
    for listed in ["+14155550100", "+14155550103"] {
        world.write("some.txt", format!("+14155550180\n{listed}\n"));
        let failure = world.run(&["tripwires", "index", "--add", "some.txt"]).failure();
        assert!(failure.starts_with("a tripwire must be a number that nobody has"), "{failure}");
    }
    world.write("bad.txt", "+14155550180\n\nnobody\n");
    let failure = world.run(&["tripwires", "index", "--add", "bad.txt"]).failure();
    assert!(failure.starts_with("line 3 of bad.txt: ") && failure.ends_with("; nothing was done"), "{failure}");
    assert_eq!(world.json(&["tripwires", "index", "--count", "--json"]), json!({"tripwires": 0}));
    world.write("reserved.csv", "phone,account,opt_ins,version\n+14155550180,18446744073709551615,search,1\n");
    let failure = world.run(&["import", "index", "reserved.csv", "--strict"]).failure();
    assert!(failure.contains("column account: is the one that is reserved"), "{failure}");
    assert_eq!(world.stats()["listings"], 5);
    for args in [&["tripwires", "index"][..], &["tripwires"], &["tripwires", "index", "--count", "--add", "x"]] {
        world.run(args).usage();
    }
}

#[test]
fn generated_numbers_are_spread_over_the_ranges_and_the_same_for_a_seed() {
    let world = World::new();
    world.write("ranges.txt", "+4915999 12\n+1415555,11\n");
    let generate = |seed: &str| {
        world.ok(&["tripwires", "generate", "--ranges", "ranges.txt", "--share", "0.01", "--seed", seed])
    };
    let text = generate("7");
    let numbers: Vec<&str> = text.lines().collect();
    assert_eq!(numbers.len(), 1_000 + 100);
    // One in each hundred.
    for (i, number) in numbers[..1_000].iter().enumerate() {
        let within: usize = number.strip_prefix("+4915999").unwrap().parse().unwrap();
        assert!(number.len() == 13 && within / 100 == i, "{number}");
    }
    assert!(numbers[1_000..].iter().all(|number| number.starts_with("+1415555") && number.len() == 12));
    assert_eq!(generate("7"), text);
    let other = generate("8");
    let common = other.lines().filter(|number| numbers.contains(number)).count();
    assert!(common < 50, "by chance one in a hundred is the same: {common}");
    let random = || world.ok(&["tripwires", "generate", "--ranges", "ranges.txt", "--share", "0.01"]);
    assert_ne!(random(), random());
    world.write("chosen.txt", &text);
    assert_eq!(world.json(&["tripwires", "index", "--add", "chosen.txt", "--json"])["added"], 1_100);

    world.write("bad.txt", "+4915999 12\n4915999 12\n");
    let failure = world.run(&["tripwires", "generate", "--ranges", "bad.txt", "--share", "0.01"]).failure();
    assert!(failure.starts_with("line 2 of bad.txt: expected a prefix"), "{failure}");
    world.write("twice.txt", "+4915 12\n+49159 12\n");
    let failure = world.run(&["tripwires", "generate", "--ranges", "twice.txt", "--share", "0.01"]).failure();
    assert_eq!(failure, "two of the ranges have numbers in common");
    world.run(&["tripwires", "generate", "--ranges", "ranges.txt", "--share", "1.5"]).usage();
}

#[test]
fn the_arithmetic_is_the_one_of_the_threat_model() {
    let world = World::bare();
    let of = |share: &str, threshold: &str| -> Value {
        world.json(&[
            "tripwires",
            "arithmetic",
            "--space",
            "100000000",
            "--share",
            share,
            "--threshold",
            threshold,
        ])
    };
    let one = of("0.001", "1");
    assert_eq!(
        (&one["tripwires"], &one["enumerator"]["numbers_until_99_percent"]),
        (&json!(100_000), &json!(4_603))
    );
    let table = include_str!("../../docs/THREAT-MODEL.md");
    for share in ["0.0001", "0.001", "0.01"] {
        for threshold in ["1", "2", "3", "5"] {
            let report = of(share, threshold);
            let until = |name: &str| grouped(report["enumerator"][name].as_u64().unwrap());
            let honest = report["honest_book"]["probability_to_trip"].as_f64().unwrap();
            let row = format!(
                "| {share} | {threshold} | {} | {} | {honest:.1e} |",
                until("numbers_until_50_percent"),
                until("numbers_until_99_percent"),
            );
            assert!(table.contains(&row), "docs/THREAT-MODEL.md lacks\n{row}");
        }
    }
    let small = ["tripwires", "arithmetic", "--space", "100", "--share", "0.001"];
    assert_eq!(world.json(&small)["enumerator"]["numbers_until_99_percent"], Value::Null);
    let book =
        ["tripwires", "arithmetic", "--space", "100", "--share", "0.5", "--book", "1", "--stale-share", "0.5"];
    let quarter = world.json(&book)["honest_book"]["probability_to_trip"].as_f64().unwrap();
    assert!((quarter - 0.25).abs() < 1e-12);
    for bad in ["0", "1", "x", "-0.5"] {
        world.run(&["tripwires", "arithmetic", "--space", "100", &format!("--share={bad}")]).usage();
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap()).collect();
    parts.join(",")
}

#[test]
fn suspicious_callers_come_by_their_score() {
    let world = World::filled();
    world.write("nobodys.txt", "+14155550180\n");
    world.ok(&["tripwires", "index", "--add", "nobodys.txt"]);
    world.lookup("honest", "+14155550100\n+14155550101\n");
    world.lookup("tripped", "+14155550180\n+14155550181\n");
    let report = world.json(&["callers", "index", "--suspicious", "--json"]);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &report["window_s"]), (2, &json!(86_400)));
    let score = |row: &Value| row["score"].as_f64().unwrap();
    assert!(score(&rows[0]) > 0.5 && score(&rows[1]) < 0.01);
    assert_eq!(
        (&rows[0]["tripwires"], &rows[0]["novel"], &rows[0]["hit_share"]),
        (&json!(1), &json!(2), &json!(0.0))
    );
    assert_eq!((&rows[1]["hit_share"], &rows[1]["growth"]), (&json!(1.0), &json!(1.0)));
    let table = world.ok(&["callers", "index", "--suspicious", "--limit", "1", "--window", "2h"]);
    let cells: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(cells[..4], ["0.50", "1", "2", "0"]);
    assert!(table.ends_with("\n1 callers by score\n"), "{table}");
    let networks = world.ok(&["callers", "index", "--suspicious", "--origins", "network"]);
    assert!(networks.ends_with("0 origins of kind network by score\n"), "{networks}");
    world.run(&["callers", "index", "--suspicious", "--by", "missed"]).usage();
}
