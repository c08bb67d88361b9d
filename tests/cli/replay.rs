//! `unlisted replay`, small: the fields, the same bytes for the same seed, and what the presets are held to.

use std::collections::BTreeMap;

use serde_json::Value;

use super::support::World;

/// Rows of a replay by their protection.
fn replay(world: &World, args: &[&str]) -> BTreeMap<String, Value> {
    let mut command = world.command(&[&["replay"], args, &["--json"]].concat());
    let run = super::support::Run::of(&command.env_remove("UNLISTED_SECRET").output().unwrap());
    assert!(!run.stderr.contains("ERROR"), "{}", run.stderr);
    let row = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
    let named = |row: Value| (row["protection"].as_str().unwrap().to_owned(), row);
    run.success().lines().map(row).map(named).collect()
}

fn count(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_else(|| panic!("{field} of {row}"))
}

fn share(row: &Value, field: &str) -> f64 {
    row[field].as_f64().unwrap_or_else(|| panic!("{field} of {row}"))
}

/// Few accounts, numbers and users.
const SMALL: [&str; 6] = ["--scale", "1000", "--sample", "20000", "--users", "30"];

#[test]
fn the_crowd_of_2019_gets_less_than_a_hundredth_under_messenger_and_users_notice_nothing() {
    let world = World::bare();
    let protections = ["--protection", "none", "--protection", "signal", "--protection", "messenger"];
    // One network of fifty accounts.
    let args =
        [&["twitter-2019", "--scale", "200", "--sample", "500000", "--users", "90"][..], &protections].concat();
    let rows = replay(&world, &args);
    let [none, signal, messenger] = ["none", "signal", "messenger"].map(|name| &rows[name]);
    assert_eq!((count(none, "asked"), count(none, "answered")), (2_000_000_000, 2_000_000_000));
    assert!((16_500_000..17_500_000).contains(&count(none, "disclosed")), "{none}");
    assert!((55.0..65.0).contains(&share(none, "days")), "{none}");
    let ratio = count(messenger, "disclosed") as f64 / count(none, "disclosed") as f64;
    assert!(ratio < 0.01 && (ratio - share(messenger, "disclosed_share")).abs() < 1e-5, "{messenger}");
    assert!(share(messenger, "honest_deferred_share") < 0.001, "{messenger}");
    assert!(share(messenger, "carrier_deferred_share") < 0.001, "{messenger}");
    // The engine, and not a formula, was asked; they agree.
    for row in [signal, messenger] {
        let (answered, closed_form) = (count(row, "answered") as f64, count(row, "closed_form") as f64);
        assert!((0.98..1.001).contains(&(answered / closed_form)), "{row}");
    }
    assert!(share(signal, "disclosed_share") > 0.25, "{signal}");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let world = World::bare();
    let run = |seed: &str| {
        let args =
            ["replay", "fresh-crowd", "--protection", "none", "--protection", "strict", "--json", "--seed", seed];
        world.ok(&[&args[..], &SMALL].concat())
    };
    let first = run("7");
    assert_eq!(first, run("7"));
    assert_ne!(first, run("8"));
}

#[test]
fn every_scenario_has_its_rows() {
    let world = World::bare();
    for (name, scale) in [
        ("vienna-2025", "1"),
        ("slow-bots", "400"),
        ("endpoint-hopping", "100"),
        ("leaked-list", "100"),
        ("fresh-crowd", "1000"),
        ("crash-and-retry", "200"),
    ] {
        let args = ["--scale", scale, "--sample", "20000", "--users", "9", "--protection"];
        let rows = replay(&world, &[&[name], &args[..], &["none", "--protection", "strict"]].concat());
        let (none, strict) = (&rows["none"], &rows["strict"]);
        assert_eq!(count(none, "answered"), count(none, "asked"), "{none}");
        for field in ["asked", "answered", "disclosed", "closed_form", "honest_lookups", "scale", "number_scale"] {
            assert!(count(none, field) > 0 && count(strict, field) > 0, "{field} of {none} {strict}");
        }
        assert!(none["days"].is_f64() && strict.get("days").is_some(), "{none} {strict}");
        assert_eq!(share(none, "honest_deferred_share"), 0.0, "{none}");
        assert!(count(strict, "disclosed") < count(none, "disclosed"), "{strict}");
    }
}

#[test]
fn a_scenario_has_its_table_and_its_plot() {
    let world = World::bare();
    let args = ["replay", "leaked-list", "--scale", "100", "--sample", "20000", "--users", "9", "--plot"];
    let table = world.ok(&[&args[..], &["plot.html"]].concat());
    for text in ["leaked-list: numbers of a leaked list", "Seed 1.", "Scale: 1 in 100 accounts", "closed form"] {
        assert!(table.contains(text), "{table}");
    }
    for name in ["none", "signal", "default", "strict", "messenger", "social"] {
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(name));
        assert!(row.is_some_and(|row| row.ends_with('%')), "{table}");
        assert!(world.read("plot.html").contains(&format!(">{name} ")), "{name}");
    }
    world.ok(&[&args[..], &["plot.svg", "--protection", "strict"]].concat());
    let plot = world.read("plot.svg");
    assert!(plot.starts_with("<svg ") && plot.ends_with("</svg>\n") && plot.matches("<polyline ").count() == 1);
    // Self-contained: nothing is fetched.
    assert!(!plot.contains("href") && plot.matches("://").count() == 1, "{plot}");
}

#[test]
fn endpoints_share_one_budget() {
    let world = World::bare();
    let small = ["--scale", "100", "--sample", "100000", "--users", "0"];
    let protections = ["--protection", "none", "--protection", "messenger"];
    let hopping = replay(&world, &[&["endpoint-hopping"], &small[..], &protections].concat());
    let messenger = &hopping["messenger"];
    // Four endpoints are asked and the budget is that of one.
    assert!(count(messenger, "answered") <= count(messenger, "closed_form") * 1_001 / 1_000, "{messenger}");
    // One endpoint would show 60 % of the listed; all four show 90 % of them.
    let shown = count(messenger, "disclosed") as f64 / count(messenger, "answered") as f64 / 0.0189;
    assert!((0.8..1.0).contains(&shown), "{shown}");
}

#[test]
fn sizes_and_names_are_checked() {
    let world = World::bare();
    assert!(world.run(&["replay", "myspace-2006"]).usage().contains("twitter-2019"));
    assert!(world.run(&["replay", "slow-bots", "--plot", "plot.png"]).usage().contains(".svg or .html"));
    assert!(world.run(&["replay", "slow-bots", "--protection", "lax"]).usage().contains("messenger"));
    let error = world.run(&["replay", "vienna-2025", "--scale", "7"]).failure();
    assert!(error.starts_with("vienna-2025 has 5 accounts in 1 networks: --scale must divide both"), "{error}");
    let error = world.run(&["replay", "twitter-2019", "--scale", "0"]).failure();
    assert!(error.contains("--scale must divide both"), "{error}");
    let args = ["--scale", "200", "--users", "0", "--protection", "strict", "--plot", "no/such/folder.svg"];
    let error = world.run(&[&["replay", "twitter-2019"], &args[..]].concat()).failure();
    assert!(error.starts_with("could not write no/such/folder.svg"), "{error}");
}
