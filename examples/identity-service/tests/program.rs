//! The program itself: it serves until it is told to stop.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

#[test]
fn it_ends_well_when_it_is_told_to() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_identity-service"))
        .args(["--listen", "127.0.0.1:0", "--operators", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(program.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("serving") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it served");
    }
    let clients = line.split("clients=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let found = common::send(clients, "GET", "/_matrix/identity/v2/account", Some("demo-token-of-ada"), "");
    assert_eq!(found.json().get("user_id").unwrap(), "@ada:example.org");
    assert!(Command::new("kill").arg(program.id().to_string()).status().unwrap().success());
    assert!(program.wait().unwrap().success());
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("WARN") && !rest.contains("ERROR"), "{rest}");
}

#[test]
fn it_does_not_start_without_a_secret_or_under_an_unknown_preset() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    for args in [&["--dir", dir, "--operator-token", "x"][..], &["--preset", "generous"], &["--dir", dir]] {
        let ended = Command::new(env!("CARGO_BIN_EXE_identity-service"))
            .args(args)
            .env_remove("UNLISTED_SECRET")
            .env_remove("IDENTITY_OPERATOR_TOKEN")
            .output()
            .unwrap();
        assert!(!ended.status.success(), "{args:?}");
    }
}
