//! Running the program, and what every run must keep to.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub const SECRET: &str = "5e5e5e5e00112233445566778899aabbccddeeff00112233445566778899aabb";
pub const OTHER_SECRET: &str = "a7a7a7a700112233445566778899aabbccddeeff00112233445566778899aabb";

/// The program, under the usual secret, in a folder of its own.
pub struct World {
    pub folder: tempfile::TempDir,
}

/// How a run ended.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    /// A folder without an index.
    pub fn bare() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A folder with an empty index in `index`.
    pub fn new() -> Self {
        let world = Self::bare();
        world.ok(&["init", "index"]);
        world
    }

    /// An index that holds the five listings of [`LISTINGS`].
    pub fn filled() -> Self {
        let world = Self::new();
        world.write("listings.csv", LISTINGS);
        world.ok(&["import", "index", "listings.csv"]);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        command(self.folder.path(), args)
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(&self.command(args).output().unwrap())
    }

    /// A run that reads `input` as its standard input.
    pub fn pipe(&self, args: &[&str], input: impl AsRef<[u8]>) -> Run {
        let mut child = self.command(args);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        // A program that fails early closes its end; that is for the test to judge.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Run::of(&output)
    }

    /// A run that must succeed; its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).success()
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    pub fn stats(&self) -> Value {
        self.json(&["stats", "index", "--json"])
    }

    /// What of the figures must be as it was when nothing changed.
    pub fn content(&self) -> Vec<Value> {
        let stats = self.stats();
        let fields = ["listings", "opted_in", "removed", "segments", "delta", "snapshot_version", "watermark"];
        fields.iter().map(|field| stats[field].clone()).collect()
    }

    /// The states and accounts that a lookup of these lines gives.
    pub fn lookup(&self, caller: &str, lines: &str) -> Vec<(String, Vec<String>)> {
        let run = self.pipe(&["lookup", "index", "--caller", caller, "--json"], lines);
        let answers: Vec<Value> = run.success().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (i, answer) in answers.iter().enumerate() {
            assert_eq!(answer["position"], i);
        }
        answers.iter().map(state_and_accounts).collect()
    }
}

pub fn state_and_accounts(answer: &Value) -> (String, Vec<String>) {
    let accounts = answer["accounts"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned());
    (answer["state"].as_str().unwrap().to_owned(), accounts.collect())
}

pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unlisted"));
    command.current_dir(folder).args(args).env("UNLISTED_SECRET", SECRET).stdin(Stdio::null());
    command
}

impl Run {
    /// Every run, however it ends, must not panic and must not show a secret or a number on standard error.
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let run = Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        for secret in [SECRET, OTHER_SECRET] {
            assert!(!run.stderr.contains(secret.get(..8).unwrap()), "a secret is shown: {}", run.stderr);
        }
        // Bounds and examples that messages quote are no one's numbers; paths and figures have fewer digits.
        let quoted = ["as in +14155550100", "18446744073709551615", "72057594037927935", "72057594037927936"];
        let rest = quoted.iter().fold(run.stderr.clone(), |text, quoted| text.replace(quoted, ""));
        let longest = rest.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
        assert!(longest < Some(10), "a number is shown: {}", run.stderr);
        run
    }

    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// The one line that tells a failure; nothing must be on standard output.
    #[track_caller]
    pub fn failure(self) -> String {
        assert_eq!(self.code, Some(1), "stdout {:?} stderr {:?}", self.stdout, self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert_eq!(self.stdout, "");
        self.stderr.strip_prefix("unlisted: ").unwrap().trim_end().to_owned()
    }

    /// The text of clap about arguments that make no sense.
    #[track_caller]
    pub fn usage(self) -> String {
        assert_eq!(self.code, Some(2), "{}", self.stderr);
        self.stderr
    }
}

pub fn gzip(content: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// A number found by contact sync, one of two accounts, one found by search only, and one found by nobody.
pub const LISTINGS: &str = "phone,account,opt_ins,version
+14155550100,42,contact-sync|search,1
+14155550101,43,contact-sync,1
+14155550101,0190b8d4-7a3c-7def-8123-456789abcdef,contact-sync,1
+14155550102,44,search,1
+14155550103,45,,1
";
