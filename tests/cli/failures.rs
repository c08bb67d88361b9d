//! Every failure is one line that says what was expected, an exit code, and an index as it was before.

use std::process::Command;

use super::support::{OTHER_SECRET, Run, SECRET, World, command, gzip};

/// One command of each kind that opens an index.
const COMMANDS: [&[&str]; 13] = [
    &["import", "index", "listings.csv"],
    &["lookup", "index", "numbers.txt", "--caller", "user-7"],
    &["update", "index", "feed.csv"],
    &["erase", "index", "42"],
    &["stats", "index"],
    &["fold", "index"],
    &["verify", "index"],
    &["exposed", "index", "--caller", "user-7"],
    &["callers", "index"],
    &["backup", "index", "backup"],
    &["verify", "index", "--fast"],
    &["held", "index", "42"],
    &["vacuum", "index"],
];

fn world() -> World {
    let world = World::filled();
    world.write("numbers.txt", "+14155550100\n");
    world.write("feed.csv", "op,phone,account,opt_ins,version\nput,+14155550107,47,,1\n");
    world
}

/// Runs every command under changed circumstances; all must fail alike and change nothing.
fn all_fail(world: &World, change: impl Fn(&mut Command), expected: &str) {
    let before = world.content();
    for args in COMMANDS {
        let mut run = world.command(args);
        change(&mut run);
        let error = Run::of(&run.output().unwrap()).failure();
        assert!(error.starts_with(expected), "{args:?}: {error}");
    }
    assert_eq!(world.content(), before);
}

#[test]
fn secrets() {
    let world = world();
    let variable = "UNLISTED_SECRET";
    all_fail(
        &world,
        |run| {
            run.env(variable, OTHER_SECRET);
        },
        "wrong secret: index was created under another",
    );
    all_fail(
        &world,
        |run| {
            run.env_remove(variable);
        },
        "the environment variable UNLISTED_SECRET is not set",
    );
    let malformed = "a secret is 64 hexadecimal digits, found ";
    for text in [&SECRET[..63], &SECRET.replace('5', "x"), "", &SECRET.repeat(2)] {
        all_fail(
            &world,
            |run| {
                run.env(variable, text);
            },
            malformed,
        );
    }
    all_fail(
        &world,
        |run| {
            run.env(variable, "0".repeat(64));
        },
        "the secret is all zeros",
    );
    for init in [Some(""), None] {
        let mut run = world.command(&["init", "second"]);
        match init {
            Some(text) => run.env(variable, text),
            None => run.env_remove(variable),
        };
        Run::of(&run.output().unwrap()).failure();
        assert!(!world.path("second").exists());
    }
}

#[test]
fn secret_files() {
    let world = world();
    world.write("secret", format!("{SECRET}\n"));
    world.write("other", OTHER_SECRET);
    let with = |file: &str| {
        let mut run = world.command(&["stats", "index", "--secret-file", file]);
        Run::of(&run.env_remove("UNLISTED_SECRET").output().unwrap())
    };
    assert!(with("secret").success().contains("listings"));
    // The file stands above the environment.
    let error = world.run(&["--secret-file", "other", "stats", "index"]).failure();
    assert!(error.starts_with("wrong secret"), "{error}");
    assert!(with("missing").failure().starts_with("the secret file could not be read: "));
    // Who gives the secret itself where its file is expected does not see it again.
    assert!(with(SECRET).failure().starts_with("the secret file could not be read: "));
}

#[test]
fn a_directory_in_use() {
    let world = world();
    let before = world.content();
    let secret = unlisted::Secret::from_hex(SECRET).unwrap();
    let index = unlisted::Index::open(world.path("index"), unlisted::Options::new(secret)).unwrap();
    for args in COMMANDS {
        assert_eq!(world.run(args).failure(), "index is in use by another process", "{args:?}");
    }
    assert_eq!(world.run(&["init", "index"]).failure(), "index is in use by another process");
    drop(index);
    assert_eq!(world.content(), before);
}

#[test]
fn no_index() {
    let world = world();
    let elsewhere = tempfile::tempdir().unwrap();
    for file in ["listings.csv", "numbers.txt", "feed.csv"] {
        std::fs::copy(world.path(file), elsewhere.path().join(file)).unwrap();
    }
    let try_all = |there: &str| {
        for args in COMMANDS {
            let error = Run::of(&command(elsewhere.path(), args).output().unwrap()).failure();
            assert!(error.starts_with(there), "{args:?}: {error}");
        }
    };
    try_all("index holds no index: create one first");
    assert!(!elsewhere.path().join("index").exists());
    std::fs::create_dir(elsewhere.path().join("index")).unwrap();
    try_all("index holds no index: create one first");
    assert_eq!(std::fs::read_dir(elsewhere.path().join("index")).unwrap().count(), 0);

    let before = world.content();
    assert_eq!(world.run(&["init", "index"]).failure(), "index already holds an index");
    assert_eq!(world.content(), before);
}

#[test]
fn a_damaged_segment() {
    let world = world();
    let segments = world.path("index/segments");
    let file = std::fs::read_dir(&segments).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&file, &bytes).unwrap();
    let error = world.run(&["verify", "index"]).failure();
    assert!(error.contains(" is damaged at byte "), "{error}");
    std::fs::write(&file, &bytes[..middle]).unwrap();
    let error = world.run(&["stats", "index"]).failure();
    assert!(error.contains(" is damaged at byte "), "{error}");
}

#[test]
fn bad_arguments() {
    let world = world();
    let before = world.content();
    let lookup = ["lookup", "index", "numbers.txt", "--caller", "user-7"];
    for (args, expected) in [
        (&["--purpose", "spying"][..], "unknown purpose \"spying\": expected one of contact-sync"),
        (&["--network", "198.51.0.0/16"], "is wider than the unit of a network quota, which is /24"),
        (&["--network", "home"], "expected a network as an IP address or prefix"),
        (&["--origin", "device"], "expected KIND=VALUE"),
        (&["--origin", "everyone=x"], "is reserved"),
        (&["--origin", "device="], "the value of an origin has 1 to 256 bytes"),
        (&["--budget", "1"], "--budget"),
    ] {
        let error = world.run(&[&lookup[..], args].concat()).usage();
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    for (quota, expected) in [
        ("50000/6", "expected SCOPE=BURST/REFILL"),
        ("caller=50000", "expected a quota as BURST/REFILL"),
        ("caller=0/6", "a quota has a burst of 1 to"),
        ("caller=10/0", "a quota refills 1 to"),
        ("A B=10/5", "the scope of a quota is caller, everyone or a kind of origin"),
    ] {
        let run = world.command(&["init", "second", "--quota", quota]).output().unwrap();
        let text = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2));
        assert!(text.contains(expected) && !text.contains("panicked"), "{quota}: {text}");
        assert!(!world.path("second").exists());
    }
    assert!(world.run(&["lookup", "index"]).usage().contains("--caller"));
    assert!(world.run(&["erase", "index"]).usage().contains("ACCOUNT"));
    assert!(world.run(&["generate"]).usage().contains("--listings"));
    assert_eq!(world.content(), before);
}

#[test]
fn callers_that_cannot_be() {
    let world = world();
    for command in [&["lookup", "index", "numbers.txt"][..], &["exposed", "index"]] {
        let error = world.run(&[command, &["--caller", ""]].concat()).failure();
        assert_eq!(error, "the caller id is empty");
    }
    let long = "x".repeat(300);
    let error = world.run(&["lookup", "index", "numbers.txt", "--caller", &long]).failure();
    assert!(error.starts_with("a caller id has at most 256 bytes, found 300"), "{error}");
    let mut args = vec!["lookup", "index", "numbers.txt", "--caller", "user-7"];
    let origins: Vec<String> = (0..9).map(|i| format!("kind-{i}=x")).collect();
    args.extend(origins.iter().flat_map(|origin| ["--origin", origin.as_str()]));
    assert!(world.run(&args).failure().starts_with("a caller has at most 8 origins, found 9"));
    // Nothing was charged for any of it.
    let run = world.pipe(&["lookup", "index", "--caller", "user-7"], "");
    assert!(run.success().contains("charged 0, remaining 50,000"));
}

#[test]
fn accounts_that_cannot_be() {
    let world = world();
    let before = world.content();
    let error = world.run(&["erase", "index", "42", "18446744073709551616"]).failure();
    assert!(error.starts_with("account 2 on the command line: account id is out of range"), "{error}");
    let error = world.run(&["erase", "index", "+14155550100"]).failure();
    assert!(error.starts_with("account 1 on the command line: account id is neither"), "{error}");
    let error = world.pipe(&["erase", "index", "-"], "42\n\nnobody\n").failure();
    assert!(error.starts_with("line 3 of standard input: account id is neither"), "{error}");
    assert!(error.ends_with("; nothing was done"), "{error}");
    let error = world.run(&["held", "index", "+14155550100"]).failure();
    assert!(error.starts_with("the account on the command line: account id is neither"), "{error}");
    assert_eq!(world.content(), before);
}

#[test]
fn feeds_that_cannot_be() {
    let world = world();
    let before = world.content();
    let header = "op,phone,account,opt_ins,version\n";
    for (row, expected) in [
        ("push,+14155550100,42,,2", "column op: expected put, remove or set-opt-ins; nothing was applied"),
        ("put,0171 2345678,42,,2", "column phone: expected a plus sign"),
        ("put,+14155550100,x,,2", "column account: account id is neither"),
        ("put,+14155550100,42,all,2", "column opt_ins: expected nothing, or names"),
        ("put,+14155550100,42,,2.5", "column version: expected a whole number of 0 to 72057594037927935"),
        ("remove,+14155550100,42", "expected 5 fields, found 3; nothing was applied"),
    ] {
        let feed = format!("{header}put,+14155550108,48,contact-sync,1\n{row}\n");
        let error = world.pipe(&["update", "index", "--watermark", "x"], feed).failure();
        assert!(error.starts_with(&format!("line 3 of standard input: {expected}")), "{error}");
    }
    let listings = "phone,account,opt_ins,version\n+14155550100,42,,2\n";
    let error = world.pipe(&["update", "index"], listings).failure();
    assert_eq!(error, "the header of standard input has no column op");
    let cut = gzip(format!("{header}{}", "put,+14155550108,48,contact-sync,1\n".repeat(2_000)));
    let error = world.pipe(&["update", "index"], &cut[..cut.len() - 20]).failure();
    assert!(error.starts_with("could not read standard input: "), "{error}");
    let long = "x".repeat(5_000);
    let error = world.run(&["update", "index", "feed.csv", "--watermark", &long]).failure();
    assert!(error.starts_with("a watermark has at most 4096 bytes, found 5000"), "{error}");
    assert_eq!(world.content(), before);
}

#[test]
fn a_number_in_the_wrong_place_is_not_repeated() {
    let world = world();
    for args in [
        &["lookup", "index", "+14155550100", "--caller", "user-7"][..],
        &["import", "index", "+1 (415) 555-0100"],
        &["update", "index", "4155550100"],
        &["import", "index", SECRET],
    ] {
        let error = world.run(args).failure();
        assert!(error.starts_with("could not open the file given: "), "{error}");
    }
}

#[test]
fn standard_output_that_is_full() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let world = world();
    let run = world.command(&["stats", "index"]).stdout(full).output().unwrap();
    assert!(Run::of(&run).failure().starts_with("could not write to standard output: "));
}
