//! The process that runs the others, one after another, in an order shuffled by the seed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::args::{Args, Phase};
use crate::child::Figures;
use crate::population::SplitMix;
use crate::report::{self, Row};
use crate::store::Result;
use crate::stores::{self, Contestant, PUBLIC, RAW, ROCKSDB};

/// A child with `--contestant`, the parent without.
pub fn main(args: &Args) -> Result<()> {
    let contestants = stores::all();
    if args.list {
        contestants.iter().for_each(|contestant| println!("{}", contestant.name));
        return Ok(());
    }
    if let (Some(name), Some(phase)) = (&args.contestant, args.phase) {
        let contestant = contestants.iter().find(|contestant| contestant.name == *name);
        let figures = contestant.ok_or_else(|| unknown(name))?.run(args, phase)?;
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    let chosen = shuffled(choose(contestants, &args.only)?, args.seed);
    let mut rows: Vec<Row> = chosen.iter().map(|contestant| row(args, contestant)).collect();
    report::compare(&mut rows);
    report::print(args, &rows)
}

fn unknown(name: &str) -> String {
    format!("there is no contestant `{name}`; --list prints them")
}

/// Those named, and the rows that they are held against.
fn choose(contestants: Vec<Contestant>, only: &[String]) -> Result<Vec<Contestant>> {
    if let Some(name) = only.iter().find(|name| !contestants.iter().any(|contestant| contestant.name == **name)) {
        return Err(unknown(name).into());
    }
    let wanted = |name: &str| only.is_empty() || [RAW, PUBLIC].contains(&name) || only.iter().any(|o| o == name);
    Ok(contestants.into_iter().filter(|contestant| wanted(contestant.name)).collect())
}

fn shuffled(mut contestants: Vec<Contestant>, seed: u64) -> Vec<Contestant> {
    let mut random = SplitMix(seed);
    for i in (1..contestants.len()).rev() {
        contestants.swap(i, random.below(i as u64 + 1) as usize);
    }
    contestants
}

/// The figures of a contestant, or what went wrong: one that fails does not spoil the run of the others.
fn row(args: &Args, contestant: &Contestant) -> Row {
    eprintln!("{} ...", contestant.name);
    match measured(args, contestant) {
        Ok(figures) => Row::new(contestant.name, args.listings, figures),
        Err(error) => Row::failed(contestant.name, args.listings, error.to_string()),
    }
}

fn measured(args: &Args, contestant: &Contestant) -> Result<Figures> {
    let program = program_of(contestant)?;
    let base = args.dir.clone().unwrap_or_else(env::temp_dir);
    let folder = Folder::create(base.join(format!("unlisted-peers-{}", std::process::id())))?;
    let child = |phase| child(&program, args, contestant.name, phase, &folder.0);
    if !contestant.on_disk {
        return child(Phase::Both);
    }
    let loaded = child(Phase::Load)?;
    Ok(Figures { load: loaded.load, ..child(Phase::Query)? })
}

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}

fn child(program: &Path, args: &Args, name: &str, phase: Phase, dir: &Path) -> Result<Figures> {
    let mut command = Command::new(program);
    command.args(["--contestant", name, "--phase", phase.name()]).arg("--dir").arg(dir);
    let numbers = [
        ("--listings", args.listings),
        ("--threads", args.threads),
        ("--batch", args.batch),
        ("--questions", args.questions),
        ("--seed", args.seed),
    ];
    for (flag, number) in numbers {
        command.args([flag, &number.to_string()]);
    }
    for ratio in &args.hit_ratios {
        command.args(["--hit-ratio", &ratio.to_string()]);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the process that should {} ended with {}", phase.name(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The program to run a contestant with: this one, but for RocksDB, which is built first if it is not there.
fn program_of(contestant: &Contestant) -> Result<PathBuf> {
    let own = env::current_exe()?;
    if contestant.name != ROCKSDB || cfg!(feature = "rocksdb") {
        return Ok(own);
    }
    let folder = own.parent().ok_or("this program is in no folder")?;
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--features", "rocksdb", "--bin", "peer-rocksdb", "--manifest-path", manifest]);
    // `target/release` or `target/debug`: the same as this program's.
    if folder.ends_with("release") {
        command.arg("--release");
    }
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    eprintln!("building RocksDB, which takes minutes the first time");
    // Standard output is for the table.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err(
            "RocksDB could not be built: it needs a C++ compiler and libclang (Debian: libclang-dev)".into()
        );
    }
    Ok(folder.join("peer-rocksdb"))
}
