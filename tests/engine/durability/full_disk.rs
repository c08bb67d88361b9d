//! Writes that fail: nothing is half done, the failure is said, and the part that failed refuses from then on.
//!
//! The child process may write no file larger than a limit (`ulimit -f`), which makes a real write fail in the
//! middle of a real transaction. Only where there is a Unix shell.

#![cfg(unix)]

use std::path::Path;
use std::process::Command;

use unlisted::{AccountId, Caller, Error, Index, OptIns, PhoneHash, Purpose};

use crate::common;

const CHILD_DIR: &str = "UNLISTED_FULL_DIR";
const CHILD_ROLE: &str = "UNLISTED_FULL_ROLE";

fn open(dir: &Path) -> Index {
    Index::open(dir, common::options(&common::clock())).unwrap()
}

/// The child: not a test of its own, it does nothing unless the parent asks.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let index = open(Path::new(&dir));
    match std::env::var(CHILD_ROLE).unwrap().as_str() {
        "updates" => fill_the_index(&index),
        "together" => fill_the_index_together(&index),
        _ => fill_the_ledger(&index),
    }
    println!("\nchild saw it");
}

fn put(index: &Index, first: u64) -> Result<unlisted::UpdateReport, Error> {
    index.update(|batch| {
        (first..first + 500)
            .try_for_each(|i| batch.put(common::number(i), AccountId::from(i), OptIns::ALL_PURPOSES, 1))
    })
}

fn fill_the_index(index: &Index) {
    assert!(index.health().is_ok());
    let mut acknowledged = 0;
    let error = loop {
        match put(index, acknowledged * 500) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    println!("\nacknowledged {acknowledged}");
    assert!(matches!(error, Error::Database { .. }), "{error}");
    assert!(matches!(put(index, 9_000_000), Err(Error::Poisoned { what: "index", .. })));
    assert!(matches!(index.health(), Err(Error::Poisoned { what: "index", .. })));
    // What failed is not visible, what was acknowledged is, and lookups go on.
    let hashes: Vec<PhoneHash> =
        (acknowledged * 500 - 500..acknowledged * 500 + 500).map(common::number).collect();
    assert_eq!(common::ask(index, Purpose::Search, &hashes).len(), 500);
}

/// Threads whose updates share commits. Thread `t` writes numbers from `t` million on.
fn fill_the_index_together(index: &Index) {
    let threads: Vec<_> = (1..=8_u64)
        .map(|thread| {
            let index = index.clone();
            std::thread::spawn(move || {
                let first = thread * 1_000_000;
                let failed = |i| put(&index, first + i * 500).err().map(|error| (i, error));
                let (acknowledged, error) = (0..).find_map(failed).unwrap();
                assert!(matches!(put(&index, 90_000_000 + first), Err(Error::Poisoned { what: "index", .. })));
                let hashes: Vec<PhoneHash> =
                    (0..500).map(|i| common::number(first + acknowledged * 500 + i)).collect();
                assert!(common::ask(&index, Purpose::Search, &hashes).is_empty(), "what failed is not visible");
                println!("\nthread {thread} {acknowledged}");
                error
            })
        })
        .collect();
    let errors: Vec<Error> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let failed = errors.iter().filter(|error| matches!(error, Error::Database { .. })).count();
    let poisoned = errors.iter().filter(|error| matches!(error, Error::Poisoned { what: "index", .. })).count();
    assert_eq!(
        (failed, poisoned),
        (1, 7),
        "one transaction failed, and all that were in it or behind it: {errors:?}"
    );
}

fn fill_the_ledger(index: &Index) {
    let known = common::number(1);
    index.update(|batch| batch.put(known, AccountId::from(1), OptIns::ALL_PURPOSES, 1)).unwrap();
    let ask = |caller: u64| index.lookup(&Caller::new(format!("caller-{caller}")), Purpose::Search, &[known]);
    let error = (0..).find_map(|caller| ask(caller).err()).unwrap();
    assert!(matches!(error, Error::Database { .. }), "{error}");
    assert!(matches!(ask(0), Err(Error::Poisoned { what: "ledger", .. })));
    assert!(matches!(index.health(), Err(Error::Poisoned { what: "ledger", .. })));
    // Nothing is revealed, and opt-outs go on.
    assert_eq!(index.set_opt_ins(known, AccountId::from(1), OptIns::empty(), 2).unwrap().applied, 1);
}

/// Runs the child with files of at most so many KiB; returns what it printed.
fn run(dir: &Path, role: &str, limit_kib: u64) -> String {
    // A shell counts in blocks of 512 bytes or 1 KiB; ignoring the signal turns it into an error of the write.
    let script = "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"";
    let output = Command::new("bash")
        .args(["-c", script, &limit_kib.to_string()])
        .arg(std::env::current_exe().unwrap())
        .args(common::only_test(module_path!(), "child"))
        .env(CHILD_DIR, dir)
        .env(CHILD_ROLE, role)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("child saw it"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn a_failed_update_changes_nothing_and_poisons_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let size = std::fs::metadata(dir.path().join("index.redb")).unwrap().len();
    let text = run(dir.path(), "updates", size / 1_024 + 600);
    let acknowledged: u64 = text.lines().find_map(|l| l.strip_prefix("acknowledged ")).unwrap().parse().unwrap();
    let index = open(dir.path());
    assert_eq!(index.stats().unwrap().listings, acknowledged * 500);
    assert_eq!(put(&index, acknowledged * 500).unwrap().applied, 500);
}

#[test]
fn a_failed_commit_fails_every_update_that_shared_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let size = std::fs::metadata(dir.path().join("index.redb")).unwrap().len();
    let text = run(dir.path(), "together", size / 1_024 + 2_000);
    let index = open(dir.path());
    for thread in 1..=8_u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("thread {thread} ")));
        let acknowledged: u64 = line.unwrap().parse().unwrap();
        let first = thread * 1_000_000;
        let hashes = |count: u64| (first..first + count * 500).map(common::number).collect::<Vec<_>>();
        let found = common::ask(&index, Purpose::Search, &hashes(acknowledged + 1)).len() as u64;
        // The last one failed, so it is in whole or not at all.
        assert!([acknowledged * 500, acknowledged * 500 + 500].contains(&found), "thread {thread}: {found}");
    }
    index.verify(|_, _| ()).unwrap();
}

#[test]
fn a_failed_charge_reveals_nothing_and_poisons_the_ledger_but_not_the_index() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len() / 1_024;
    // The index's own file must still fit, so the ledger has to grow past it.
    run(dir.path(), "charges", size("ledger.redb").max(size("index.redb")) + 64);
    let index = open(dir.path());
    assert!(common::ask(&index, Purpose::Search, &[common::number(1)]).is_empty(), "the opt-out is in");
}
