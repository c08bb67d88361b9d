//! What an import takes, what it refuses and where the refused goes.

use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::{LISTINGS, World, gzip};
use super::{UUID, found};

fn imported(text: &str) -> Value {
    let mut report: Value = serde_json::from_str(text).unwrap();
    assert!(report["seconds"].take().as_f64().unwrap() >= 0.0);
    report
}

fn counts(imported: u64, stale: u64, rejected: u64) -> Value {
    json!({"imported": imported, "stale": stale, "rejected": rejected, "seconds": null})
}

#[test]
fn files_pipes_and_gzip_say_the_same() {
    for (name, content) in [("listings.csv", LISTINGS.as_bytes().to_vec()), ("listings.gz", gzip(LISTINGS))] {
        let world = World::new();
        world.write(name, &content);
        assert_eq!(imported(&world.ok(&["import", "index", name, "--json"])), counts(5, 0, 0));
        assert_eq!(world.stats()["listings"], 5);
        // The same again changes nothing.
        assert_eq!(
            imported(&world.pipe(&["import", "index", "-", "--json"], &content).success()),
            counts(5, 5, 0)
        );
        assert_eq!(world.stats()["listings"], 5);
        assert!(!world.path("rejects.csv").exists() && !world.path(&format!("{name}.rejects.csv")).exists());
    }
    let world = World::new();
    let two = [gzip(LISTINGS), gzip("+14155550109,9,,1\n")].concat();
    let text = world.pipe(&["import", "index"], two).success();
    assert!(text.starts_with("6 listings imported (0 of them stale), 0 rejected, in "), "{text}");
}

#[test]
fn columns_in_any_order_and_hashes() {
    let world = World::new();
    // The first is the SHA-256 of +14155550100.
    let csv = format!(
        "version,note,opt_ins,phone_hash,account\r\n\
         1,\"two\nlines, \"\"quoted\"\"\",contact-sync,40d3f4e02db27d66cf4cfdda506c2c945f115a7955cc8491dda98ce5beabcda0,7\r\n\
         1,,,{},{UUID}\r\n",
        "AB".repeat(32)
    );
    world.write("hashes.csv", csv);
    assert_eq!(imported(&world.ok(&["import", "index", "hashes.csv", "--json"])), counts(2, 0, 0));
    assert_eq!(world.stats()["opted_in"], 1);
    assert_eq!(world.lookup("user-7", "+14155550100\n"), [found(&["7"])]);
}

#[test]
fn of_equal_versions_the_first_row_wins() {
    let world = World::new();
    let mut csv = String::from("phone,account,opt_ins,version\n");
    // More rows than one block, so that several threads have them.
    for i in 0..60_000 {
        csv.push_str(&format!("+1415{i:07},{i},contact-sync,5\n"));
    }
    for i in 0..60_000 {
        csv.push_str(&format!("+1415{i:07},{i},,5\n"));
    }
    assert_eq!(imported(&world.pipe(&["import", "index", "--json"], csv).success()), counts(120_000, 60_000, 0));
    assert_eq!(world.stats()["opted_in"], 60_000);
}

#[test]
fn bad_rows_are_located_and_kept() {
    let world = World::new();
    let mut csv = b"phone,account,opt_ins,version,note\n\
        +14155550100,42,contact-sync,1,good\n\
        \n\
        0415,42,contact-sync,1,bad phone\n\
        +14155550101,18446744073709551616,,1,bad account\n\
        +14155550102,42,everything,1,\"bad\nopt-ins\"\n\
        +14155550103,42,,-1,bad version\n\
        +14155550104,42,,1\n\
        +14155550105,42,,1,good\n"
        .to_vec();
    csv.extend(b"+1415\xff5550100,42,,1,no text\n");
    world.write("listings.csv", &csv);
    let run = world.run(&["import", "index", "listings.csv", "--json"]);
    assert!(
        run.stderr.starts_with(
            "unlisted: 6 rows rejected, see listings.csv.rejects.csv; the first is on line 4: column phone: expected"
        ),
        "{}",
        run.stderr
    );
    assert_eq!(imported(&run.success()), counts(2, 0, 6));

    let file = std::fs::read(world.path("listings.csv.rejects.csv")).unwrap();
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file.as_slice());
    let header: Vec<_> = reader.byte_headers().unwrap().iter().map(<[u8]>::to_vec).collect();
    assert_eq!(header.join(&b','), b"line,reason,phone,account,opt_ins,version,note");
    let rows: Vec<_> = reader.byte_records().map(Result::unwrap).collect();
    let expected = [
        ("4", "column phone: expected a plus sign", "bad phone"),
        ("5", "column account: account id is out of range", "bad account"),
        ("6", "column opt_ins: expected nothing, or names joined by '|'", "bad\nopt-ins"),
        ("8", "column version: expected a whole number", "bad version"),
        ("9", "expected 5 fields, found 4", "1"),
        ("11", "column phone: is not UTF-8", "no text"),
    ];
    assert_eq!(rows.len(), expected.len());
    for (row, (line, reason, last)) in rows.iter().zip(expected) {
        assert_eq!(&row[0], line.as_bytes());
        assert!(row[1].starts_with(reason.as_bytes()), "{row:?}");
        assert_eq!(&row[row.len() - 1], last.as_bytes());
    }
    assert_eq!(&rows[5][2], b"+1415\xff5550100");
}

#[test]
fn rejects_go_where_they_are_sent_and_nowhere_else() {
    let world = World::new();
    let csv = "phone,account,opt_ins,version\nx,1,,1\n";
    world.pipe(&["import", "index"], csv).success();
    assert!(world.read("rejects.csv").starts_with("line,reason,phone,account,opt_ins,version\n2,"));
    world.pipe(&["import", "index", "--rejects", "other.csv"], csv).success();
    assert_eq!(world.read("other.csv"), world.read("rejects.csv"));
    world.write("listings.csv", csv);
    let error = world.run(&["import", "index", "listings.csv", "--rejects", "./listings.csv"]).failure();
    assert!(error.starts_with("the rejects file is the file to import"), "{error}");
    assert_eq!(world.read("listings.csv"), csv);
    let error = world.pipe(&["import", "index", "--rejects", "missing/folder.csv"], csv).failure();
    assert!(error.starts_with("could not create missing/folder.csv: "), "{error}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(world.path("rejects.csv")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn strict_imports_nothing() {
    let world = World::filled();
    let before = world.content();
    let mut csv = String::from("phone,account,opt_ins,version\n");
    for i in 0..100_000 {
        csv.push_str(&format!("+1415{i:07},{i},,{}\n", if i == 70_000 { "none" } else { "5" }));
    }
    csv.push_str("also bad\n");
    let error = world.pipe(&["import", "index", "--strict", "--json"], csv).failure();
    assert!(error.starts_with("line 70002 of standard input: column version: expected a whole number"), "{error}");
    assert!(error.ends_with("; nothing was imported"), "{error}");
    assert_eq!(world.content(), before);
    assert!(!world.path("rejects.csv").exists());
    assert!(world.run(&["import", "index", "x.csv", "--strict", "--rejects", "y"]).usage().contains("--rejects"));
}

#[test]
fn files_that_cannot_be_read_whole_import_nothing() {
    let world = World::filled();
    let before = world.content();
    let csv = world.ok(&["generate", "--listings", "50000"]);
    let whole = gzip(&csv);
    world.write("cut.csv.gz", &whole[..whole.len() / 2]);
    world.write("no-trailer.csv.gz", &whole[..whole.len() - 8]);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    world.write("flipped.csv.gz", flipped);
    world.write("empty.csv", "");
    world.write("blank.csv", "\n\r\n\n");
    world.write("headless.csv", "+14155550100,42,,1\n+14155550101,43,,1\n");
    world.write("half.csv", "phone,account,opt_ins\n+14155550100,42,\n");
    world.write("twice.csv", "phone,phone,account,opt_ins,version\n");
    world.write("quote.csv", format!("phone,account,opt_ins,version\n\"{}", csv.repeat(2)));
    std::fs::create_dir(world.path("folder")).unwrap();
    for (name, expected) in [
        ("cut.csv.gz", "could not read cut.csv.gz: "),
        ("no-trailer.csv.gz", "could not read no-trailer.csv.gz: "),
        ("flipped.csv.gz", "could not read flipped.csv.gz: "),
        ("empty.csv", "empty.csv is empty: expected a header line that names the columns"),
        ("blank.csv", "blank.csv is empty: expected a header line that names the columns"),
        ("headless.csv", "the header of headless.csv has no column phone and no column phone_hash"),
        ("half.csv", "the header of half.csv has no column version"),
        ("twice.csv", "the header of twice.csv has the column phone twice"),
        (
            "quote.csv",
            "line 2 of quote.csv: the row does not end within 1048576 bytes; is a quotation mark missing?",
        ),
        ("folder", "could not read folder: "),
        ("missing.csv", "could not open missing.csv: "),
    ] {
        let error = world.run(&["import", "index", name]).failure();
        assert!(error.starts_with(expected), "{name}: {error}");
        assert_eq!(world.content(), before, "{name}");
    }
}

/// Is there a folder of temporary files in the index?
fn half_done(world: &World) -> bool {
    let names = std::fs::read_dir(world.path("index")).unwrap().map(|item| item.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).any(|name| name.starts_with("import-"))
}

/// Killed in the middle, an import leaves nothing that is seen and nothing that is in the way.
#[test]
fn a_killed_import_never_was() {
    let world = World::filled();
    let before = world.content();
    let csv = world.ok(&["generate", "--listings", "600000"]);
    let (first, rest) = csv.split_at(csv.len() / 4 * 3);

    let mut command = world.command(&["import", "index", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(first.as_bytes()).unwrap();
    assert!(half_done(&world), "the import is under way");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdin);
    assert_eq!(world.content(), before);
    assert!(!half_done(&world));

    // Killed at some later moment: while segments are built, or just after the end.
    let mut command = world.command(&["import", "index", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(first.as_bytes()).unwrap();
    stdin.write_all(rest.as_bytes()).unwrap();
    drop(stdin);
    thread::sleep(Duration::from_millis(150));
    child.kill().unwrap();
    child.wait().unwrap();
    let listings = world.stats()["listings"].as_u64().unwrap();
    assert!(listings == 5 || listings > 590_000, "{listings}");

    let report = imported(&world.pipe(&["import", "index", "--strict", "--json"], &csv).success());
    assert_eq!(report["imported"], 600_000);
    let listings = world.stats()["listings"].as_u64().unwrap();
    assert_eq!(world.json(&["verify", "index", "--json"])["listings"], listings);
    assert_eq!(world.lookup("user-7", "+14155550100\n"), [found(&["42"])]);
}
