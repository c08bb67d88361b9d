//! `backup`, `restore`, `repair` and `verify --fast`.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use super::support::{LISTINGS, World};

#[test]
fn a_backup_restores_with_empty_budgets_and_what_was_paid_for() {
    let world = World::filled();
    let before = world.lookup("user-7", "+14155550100\n");
    let report = world.json(&["backup", "index", "backup", "--json"]);
    assert_eq!(
        (&report["number"], &report["linked_files"], &report["copied_files"]),
        (&json!(1), &json!(1), &json!(3))
    );
    let text = world.ok(&["backup", "index", "backup", "--copy"]);
    assert!(
        text.starts_with("version 1 is backed up: 4 files with ")
            && text.ends_with("0 files with 0 B unchanged\n")
    );

    let restored = world.json(&["restore", "backup/", "restored/", "--json"]);
    assert_eq!(restored, json!({"snapshot_version": 1, "watermark": null, "exhausted": true}));
    fs::rename(world.path("index"), world.path("old")).unwrap();
    fs::rename(world.path("restored"), world.path("index")).unwrap();
    assert_eq!(world.lookup("user-7", "+14155550100\n"), before);
    assert_eq!(world.lookup("user-8", "+14155550100\n")[0].0, "deferred");
    assert_eq!(world.json(&["verify", "index", "--fast", "--json"])["listings"], 5);

    let error = world.run(&["restore", "backup", "index"]).failure();
    assert!(error.contains("is not empty"), "{error}");
    let error = world.run(&["restore", "old", "again"]).failure();
    assert!(error.contains("holds no backup"), "{error}");
    fs::write(world.path("backup/BACKUP"), b"UNLSTBAK\x01\0\0\0\0\0\0\0 and then nothing").unwrap();
    let error = world.run(&["restore", "backup", "again"]).failure();
    assert!(error.contains("BACKUP") && !world.path("again").exists(), "{error}");
}

#[test]
fn a_backup_goes_through_a_pipe() {
    let world = World::filled();
    let output = world.command(&["backup", "index", "-"]).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("version 1 is backed up"));
    let text = world.pipe(&["restore", "-", "restored"], &output.stdout).success();
    assert_eq!(text, "version 1 is restored; all budgets begin at nothing; replay the feed from its beginning\n");
    assert_eq!(world.json(&["verify", "restored", "--json"])["listings"], 5);
    let error = world.pipe(&["restore", "-", "cut"], &output.stdout[..output.stdout.len() / 2]).failure();
    assert!(error.contains("the stream") && !world.path("cut").exists(), "{error}");
}

#[test]
fn a_repair_says_what_is_lost_and_a_backup_gives_it_back() {
    let world = World::filled();
    assert_eq!(world.ok(&["repair", "index"]), "0 of 1 segments were damaged\n");
    world.ok(&["backup", "index", "backup", "--copy"]);
    let segment = fs::read_dir(world.path("index/segments")).unwrap().next().unwrap().unwrap().path();
    fs::write(&segment, b"gone").unwrap();
    world.run(&["stats", "index"]).failure();
    let report = world.json(&["repair", "index", "--from", "backup", "--json"]);
    let range = &report["ranges"][0];
    assert_eq!(
        (&range["outcome"], &range["listings"], &report["is_replay_needed"]),
        (&json!("whole"), &json!(5), &json!(false))
    );
    assert_eq!(world.json(&["verify", "index", "--json"])["listings"], 5);

    fs::remove_file(&segment).unwrap();
    let text = world.ok(&["repair", "index"]);
    assert!(
        text.contains("0 of 5 listings could be read, 0 are stored now: what could not be read is gone"),
        "{text}"
    );
    assert!(text.contains("1 spans of keys between 0000000000000000 and ffffffffffffffff"), "{text}");
    assert!(
        text.ends_with("replay the feed from its beginning: until then opt-outs since are undone\n"),
        "{text}"
    );
    assert_eq!(world.stats()["listings"], 0);
    world.write("listings.csv", LISTINGS);
    world.ok(&["import", "index", "listings.csv"]);
    assert_eq!(world.stats()["listings"].as_u64().map(|count| count >= 4), Some(true));
    let again: Value = world.json(&["repair", "index", "--json"]);
    assert_eq!(again["ranges"], json!([]));
}
