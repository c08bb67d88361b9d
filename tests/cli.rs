//! The program from outside: arguments, files and pipes in; text, JSON and exit codes out.
#![cfg(feature = "cli")]

#[path = "cli/backup.rs"]
mod backup;
#[cfg(feature = "internals")]
#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/callers.rs"]
mod callers;
#[path = "cli/erasure.rs"]
mod erasure;
#[path = "cli/failures.rs"]
mod failures;
#[path = "cli/import.rs"]
mod import;
#[path = "cli/levers.rs"]
mod levers;
#[path = "cli/modes.rs"]
mod modes;
#[path = "cli/replay.rs"]
mod replay;
#[path = "cli/support.rs"]
mod support;
#[path = "cli/tripwires.rs"]
mod tripwires;

use std::io::Read;
use std::process::Stdio;

use serde_json::{Value, json};

use support::{LISTINGS, Run, World, gzip};

const UUID: &str = "0190b8d4-7a3c-7def-8123-456789abcdef";

fn found(accounts: &[&str]) -> (String, Vec<String>) {
    ("answered".to_owned(), accounts.iter().map(|a| (*a).to_owned()).collect())
}

fn state(name: &str) -> (String, Vec<String>) {
    (name.to_owned(), Vec::new())
}

#[test]
fn version_and_help() {
    let world = World::bare();
    assert_eq!(world.ok(&["--version"]), format!("unlisted {}\n", env!("CARGO_PKG_VERSION")));
    let help = world.ok(&["--help"]);
    for name in [
        "init",
        "import",
        "generate",
        "lookup",
        "update",
        "erase",
        "held",
        "vacuum",
        "stats",
        "fold",
        "verify",
        "budget",
        "suspend",
        "reinstate",
        "grant",
        "quota",
        "exposed",
        "callers",
        "tripwires",
        "demo",
        "replay",
    ] {
        assert!(help.contains(&format!("\n  {name} ")), "{help}");
        assert!(world.ok(&[name, "--help"]).contains("Usage: unlisted"));
    }
    assert!(world.run(&[]).usage().contains("Usage: unlisted"));
    assert!(world.run(&["forget"]).usage().contains("forget"));
}

#[test]
fn init_makes_an_index_with_its_quotas() {
    let world = World::bare();
    let made = world.json(&[
        "init",
        "index",
        "--quota",
        "caller=10/5",
        "--quota",
        "device=3/2",
        "--quota",
        "everyone=100/50",
        "--json",
    ]);
    let quotas = json!({"caller": "10/5", "device": "3/2", "everyone": "100/50", "network": "200000/2000"});
    assert_eq!(made, json!({"dir": "index", "quotas": quotas}));
    assert_eq!(world.stats()["quotas"], quotas);
    let text = world.ok(&["init", "deeper/index"]);
    assert!(text.contains("made an empty index") && text.contains("quota caller: 50000/6"), "{text}");
    let made = world.json(&["init", "strict", "--preset", "strict", "--quota", "caller=10/7", "--json"]);
    assert_eq!(made["quotas"], json!({"caller": "10/7", "everyone": "1000000/10000", "network": "10000/100"}));
}

#[test]
fn a_lookup_keeps_positions_and_names_only_who_agreed() {
    let world = World::filled();
    let lines = "+1 415 555-0100\n\nnobody\n+14155550101\n+14155550102\r\n+14155550103\n+14155550199";
    let answers = world.lookup("user-7", lines);
    let none = found(&[]);
    assert_eq!(
        answers,
        [
            found(&["42"]),
            state("invalid"),
            state("invalid"),
            found(&["43", UUID]),
            none.clone(),
            none.clone(),
            none
        ]
    );
}

#[test]
fn a_lookup_names_purpose_network_and_origins() {
    let world = World::filled();
    world.write("numbers.gz", gzip("+14155550100\n+14155550102\n"));
    let mut args = vec!["lookup", "index", "numbers.gz", "--caller", "user-7", "--purpose", "search"];
    args.extend(["--network", "198.51.100.0/24", "--origin", "device=abc", "--origin", "cohort=2026-11"]);
    let table = world.ok(&args);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["position", "state", "accounts"]);
    assert_eq!(lines[1], ["0", "answered", "42"]);
    assert_eq!(lines[2], ["1", "answered", "44"]);
    assert!(table.ends_with(
        "2 answered with 2 matches, 0 deferred, 0 invalid; charged 2, remaining 49,998, retry after -\n"
    ));
    args.push("--json");
    let run = world.run(&args);
    assert!(run.stderr.starts_with("2 answered with 2 matches"), "{}", run.stderr);
    assert_eq!(run.success().lines().count(), 2);
}

#[test]
fn an_empty_lookup_tells_what_remains() {
    let world = World::filled();
    let run = world.pipe(&["lookup", "index", "-", "--caller", "user-7", "--json"], "");
    assert!(run.stderr.contains("charged 0, remaining 50,000"), "{}", run.stderr);
    assert_eq!(run.success(), "");
}

#[test]
fn a_short_budget_defers_and_is_not_given_back() {
    let world = World::bare();
    world.ok(&["init", "index", "--quota", "caller=2/1"]);
    world.write("listings.csv", LISTINGS);
    world.ok(&["import", "index", "listings.csv"]);
    let answers = world.lookup("user-7", "+14155550100\n+14155550101\n+14155550102\n+14155550103\n");
    assert_eq!(answers, [found(&["42"]), found(&["43", UUID]), state("deferred"), state("deferred")]);
    let run = world.pipe(&["lookup", "index", "--caller", "user-7"], "+14155550177\nnothing\n");
    assert!(run.stdout.contains("0  deferred") && run.stdout.contains("1  invalid"), "{}", run.stdout);
    assert!(run.stdout.contains("1 deferred, 1 invalid; charged 0, remaining 0, retry after "), "{}", run.stdout);
    assert!(!run.success().contains("retry after -"));
    assert_eq!(world.lookup("user-8", "+14155550100\n"), [found(&["42"])]);
}

#[test]
fn more_lines_than_a_batch_keep_their_positions() {
    let world = World::filled();
    let mut lines: String = (0..25_000).map(|i| format!("+1415556{i:04}\n")).collect();
    lines.push_str("+14155550100\n");
    let answers = world.lookup("user-7", &lines);
    assert_eq!(answers.len(), 25_001);
    assert_eq!(answers[25_000], found(&["42"]));
    assert!(answers[..25_000].iter().all(|answer| *answer == found(&[])));
}

#[test]
fn lines_that_are_no_text_are_invalid() {
    let world = World::filled();
    let mut lines = b"+1415\xff5550100\n".to_vec();
    lines.extend(vec![b'1'; 3 << 20]);
    lines.extend(b"\n+14155550100");
    let run = world.pipe(&["lookup", "index", "--caller", "user-7", "--json"], &lines);
    let answers: Vec<Value> = run.success().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answers: Vec<_> = answers.iter().map(support::state_and_accounts).collect();
    assert_eq!(answers, [state("invalid"), state("invalid"), found(&["42"])]);
}

#[test]
fn updates_apply_in_order_and_keep_the_watermark() {
    let world = World::filled();
    let feed = format!(
        "op,account,phone,version,opt_ins\n\
         put,46,+14155550104,1,contact-sync\n\
         set-opt-ins,42,+14155550100,2,\n\
         remove,43,+14155550101,2,whatever it was\n\
         set-opt-ins,45,+14155550103,1,contact-sync\n\
         put,{UUID},+14155550105,9,contact-sync\n"
    );
    let args = ["update", "index", "-", "--watermark", "offset 17", "--json"];
    let done: Value = serde_json::from_str(&world.pipe(&args, feed).success()).unwrap();
    assert_eq!(done, json!({"applied": 4, "stale": 1, "batches": 1}));
    assert_eq!(world.stats()["watermark"], "offset 17");
    let answers = world.lookup("user-7", "+14155550100\n+14155550101\n+14155550103\n+14155550104\n+14155550105\n");
    assert_eq!(answers, [found(&[]), found(&[UUID]), found(&[]), found(&["46"]), found(&[UUID])]);
    // A feed without rows still moves the watermark.
    world.write("feed.csv", "op,account,phone,version,opt_ins\n");
    let text = world.ok(&["update", "index", "feed.csv", "--watermark", "offset 18"]);
    assert_eq!(text, "0 changes applied, 0 stale, in 1 batches\n");
    assert_eq!(world.stats()["watermark"], "offset 18");
}

#[test]
fn a_bad_change_stops_before_its_batch() {
    let world = World::new();
    let mut feed = String::from("op,phone,account,opt_ins,version\n");
    for i in 0..10_003 {
        feed.push_str(&format!("put,+1415556{i:05},{i},contact-sync,1\n"));
    }
    feed.push_str("put,+14155550100,42,everything,1\n");
    world.write("feed.csv", &feed);
    let error = world.run(&["update", "index", "feed.csv", "--watermark", "late"]).failure();
    assert!(error.starts_with("line 10005 of feed.csv: column opt_ins: expected nothing, or names"), "{error}");
    assert!(error.ends_with("the first 10,000 changes were applied, none after them"), "{error}");
    let stats = world.stats();
    assert_eq!((&stats["listings"], &stats["watermark"]), (&json!(10_000), &json!(null)));
}

#[test]
fn erased_accounts_are_gone_everywhere() {
    let world = World::filled();
    assert_eq!(world.json(&["erase", "index", "43", UUID, "999", "--json"]), json!({"accounts": 3, "removed": 2}));
    assert_eq!(world.lookup("user-7", "+14155550100\n+14155550101\n"), [found(&["42"]), found(&[])]);
    let run = world.pipe(&["erase", "index", "-"], "42\n\n 44 \n");
    assert_eq!(run.success(), "2 listings of 2 accounts removed\n");
    assert_eq!(world.stats()["listings"], 1);
}

#[test]
fn stats_fold_and_verify() {
    let world = World::filled();
    world.ok(&["erase", "index", "42"]);
    let stats = world.stats();
    for (field, expected) in [("listings", 4), ("opted_in", 3), ("removed", 1), ("segments", 1), ("delta", 1)] {
        assert_eq!(stats[field], expected, "{field}");
    }
    for field in ["segment_bytes", "index_bytes", "ledger_bytes", "bytes_per_listing", "snapshot_version"] {
        assert!(stats[field].as_f64().unwrap() > 0.0, "{field}");
    }
    assert_eq!(stats["looked_up"], json!(0));
    assert!(stats["filter_false_positive_rate"].as_f64().is_some_and(|rate| rate < 0.02));
    let table = world.ok(&["stats", "index"]);
    assert!(table.lines().any(|line| line.split_whitespace().eq(["listings", "4"])), "{table}");

    let mut verified = world.json(&["verify", "index", "--json"]);
    let pages = verified.as_object_mut().and_then(|fields| fields.remove("pages"));
    assert!(pages.and_then(|pages| pages.as_u64()).is_some_and(|pages| pages > 20), "two databases have pages");
    assert_eq!(verified, json!({"segments": 1, "listings": 5, "delta": 1, "disclosures": 0}));
    let folded = world.json(&["fold", "index", "--json"]);
    assert_eq!(folded, json!({"ranges": 1, "segments": 1, "folded": 1, "forgotten": 0}));
    assert_eq!(world.stats()["delta"], 0);
    assert!(world.ok(&["fold", "index"]).starts_with("0 changes folded"));
    let verified = world.ok(&["verify", "index"]);
    let lines: Vec<_> = verified.lines().collect();
    assert!(
        matches!(lines[..], ["1 segments with 5 listings and 0 changes are whole", pages]
            if pages.ends_with(" pages of the databases are whole")),
        "{verified}"
    );
}

#[test]
fn the_operator_sees_who_was_exposed() {
    let world = World::filled();
    world.lookup("user-7", "+14155550100\n+14155550103\n");
    let shown = world.json(&["exposed", "index", "--caller", "user-7", "--json"]);
    assert_eq!((&shown["account"], &shown["purpose"]), (&json!("42"), &json!("contact-sync")));
    assert!(shown["first_at_ms"].as_u64().unwrap() > 1_700_000_000_000);
    let table = world.ok(&["exposed", "index", "--caller", "user-7"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(&row[..2], ["42", "contact-sync"]);
    assert!(row[2].starts_with("20") && row[2].ends_with('Z') && table.ends_with("1 disclosures\n"), "{table}");
    assert_eq!(world.ok(&["exposed", "index", "--caller", "user-8", "--json"]), "");
}

#[test]
fn the_operator_asks_by_origin_account_and_window() {
    let world = World::filled();
    let args = ["lookup", "index", "--caller", "user-7", "--network", "198.51.100.7", "--origin", "device=d1"];
    world.pipe(&args, "+14155550100\n").success();
    let csv = |more: &[&str]| world.ok(&[&["exposed", "index", "--format", "csv"], more].concat());
    let all = csv(&[]);
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines[0], "caller,account,purpose,first_at_ms,last_at_ms");
    let fields: Vec<&str> = lines[1].split(',').collect();
    assert_eq!((lines.len(), fields[0].len(), &fields[1..3]), (2, 32, &["42", "contact-sync"][..]));
    let header = format!("{}\n", lines[0]);
    for (question, is_there) in [
        (["--origin", "network=198.51.100.0/24"], true),
        (["--origin", "network=198.51.101.0/24"], false),
        (["--origin", "device=d1"], true),
        (["--origin", "device=d2"], false),
        (["--account", "42"], true),
        (["--account", "43"], false),
        (["--since", "2024-01-01"], true),
        (["--until", "2024-01-01T12:00:00Z"], false),
    ] {
        assert_eq!(&csv(&question), if is_there { &all } else { &header }, "{question:?}");
    }
    let jsonl = world.json(&["exposed", "index", "--account", "42", "--format", "jsonl"]);
    assert_eq!((&jsonl["account"], &jsonl["caller"]), (&json!("42"), &json!(fields[0])));
    assert!(world.run(&["exposed", "index", "--since", "yesterday"]).usage().contains("expected 2026-11-22"));
    // An erased account is gone from the files too: the index of this program has no background.
    world.ok(&["erase", "index", "42"]);
    assert_eq!((csv(&[]), world.stats()["disclosures"].clone()), (header, json!(0)));
}

#[test]
fn generated_listings_are_deterministic_and_import_whole() {
    let world = World::new();
    let args = ["generate", "--listings", "20000", "--seed", "3"];
    let csv = world.ok(&args);
    assert_eq!(csv, world.ok(&args));
    assert_ne!(csv, world.ok(&["generate", "--listings", "20000"]));
    assert_eq!(csv.lines().count(), 20_001);
    let done = world.pipe(&["import", "index", "--strict", "--json"], &csv).success();
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!((&done["imported"], &done["rejected"]), (&json!(20_000), &json!(0)));
    assert_eq!(world.stats()["listings"], 20_000 - done["stale"].as_u64().unwrap());
    assert_eq!(world.json(&["verify", "index", "--json"])["listings"], world.stats()["listings"]);
}

#[test]
fn the_demo_needs_no_secret_and_holds() {
    let world = World::bare();
    let demo = Run::of(&world.command(&["demo"]).env_remove("UNLISTED_SECRET").output().unwrap()).success();
    for part in ["1. Load", "2. Sync", "3. Opt out", "4. Restart", "5. Enumerate", "retry after", "What held"] {
        assert!(demo.contains(part), "{demo}");
    }
    world.ok(&["demo", "--keep", "kept"]);
    let stats = world.json(&["--secret-file", "kept.secret", "stats", "kept", "--json"]);
    assert!(stats["listings"].as_u64().unwrap() > 4_900);
    let error = world.run(&["demo", "--keep", "kept"]).failure();
    assert!(error.starts_with("could not create kept.secret"), "{error}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = World::filled();
    for args in [vec!["generate", "--listings", "1000000"], vec!["lookup", "index", "--caller", "u", "--json"]] {
        let mut command = world.command(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            let lines = "+14155550100\n".repeat(200_000);
            drop(std::io::Write::write_all(&mut stdin, lines.as_bytes()));
        });
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 10]).unwrap();
        drop(stdout);
        let run = Run::of(&child.wait_with_output().unwrap());
        writer.join().unwrap();
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    }
}

#[cfg(feature = "national")]
#[test]
fn national_forms_are_read_with_a_region() {
    let world = World::new();
    world.write("listings.csv", "phone,account,opt_ins,version\n0171 2345678,42,contact-sync,1\n");
    world.ok(&["import", "index", "listings.csv", "--strict", "--region", "DE"]);
    assert_eq!(world.lookup("user-7", "+49 171 2345678\n"), [found(&["42"])]);
    let args = ["lookup", "index", "--caller", "user-8", "--region", "DE", "--json"];
    assert!(world.pipe(&args, "0171 2345678\n").success().contains("\"42\""));
    assert!(
        world.run(&["import", "index", "listings.csv", "--region", "XX"]).usage().contains("expected a region")
    );
}
