//! Processes that are killed: what was acknowledged is there, what was not is there whole or not at all, and no
//! budget comes back.
//!
//! The parent starts this same test binary as a child that runs a history decided by a seed and prints each step
//! when it returned. `UNLISTED_KILLS` asks for more rounds.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use unlisted::{
    AccountId, Caller, Index, Listing, OptIns, Options, PhoneHash, Purpose, Quota, QuotaPolicy, Version,
};

use crate::common;

const CHILD_DIR: &str = "UNLISTED_CRASH_DIR";
const CHILD_SEED: &str = "UNLISTED_CRASH_SEED";
const CHILD_START: &str = "UNLISTED_CRASH_START";
/// Steps of each thread to begin with, separated by commas: the child is to run threads.
const CHILD_THREADS: &str = "UNLISTED_CRASH_THREADS";
const NUMBERS: u64 = 40;
const BURST: u64 = 1_000_000;

fn kills() -> u64 {
    std::env::var("UNLISTED_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

fn random(seed: u64, step: u64, what: u64) -> u64 {
    let mut x = seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ what.wrapping_mul(0xd1b5_4a32_d192_ed03);
    for _ in 0..3 {
        x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    x ^ (x >> 29)
}

/// What step `step` writes: number, account, opt-ins, version. Versions grow, so every row is newer.
fn rows(seed: u64, step: u64) -> Vec<(u64, u64, OptIns, u64)> {
    let count = 1 + random(seed, step, 0) % 12;
    let row = |i| {
        let bits = random(seed, step, 100 + i) as u8;
        let opt_ins = OptIns::from_bits_truncate(if bits & 0x80 == 0 { bits } else { 0 });
        (random(seed, step, 200 + i) % NUMBERS, random(seed, step, 300 + i) % 3, opt_ins, 1 + step * 100 + i)
    };
    (0..count).map(row).collect()
}

#[derive(PartialEq)]
enum Kind {
    Update,
    Import,
    Fold,
    Lookup,
}

fn kind(seed: u64, step: u64) -> Kind {
    match random(seed, step, 1) % 10 {
        0 => Kind::Fold,
        1 | 2 => Kind::Import,
        3 | 4 => Kind::Lookup,
        _ => Kind::Update,
    }
}

/// Distinct numbers that a lookup step asks for.
fn asked(seed: u64, step: u64) -> u64 {
    1 + random(seed, step, 2) % NUMBERS
}

fn open(dir: &Path) -> Index {
    let quotas = QuotaPolicy::of_caller(Quota::per_hour(BURST, 1).unwrap());
    // Nothing is free, so that what was spent can be told from the steps.
    let options = Options::new(common::secret()).background(false).quotas(quotas).novelty_window(Duration::ZERO);
    Index::open(dir, options).unwrap()
}

fn run(index: &Index, seed: u64, step: u64) {
    let rows = rows(seed, step);
    match kind(seed, step) {
        Kind::Update => {
            index
                .update(|batch| {
                    batch.watermark(step.to_be_bytes())?;
                    rows.iter().try_for_each(|(number, account, opt_ins, version)| {
                        batch.put(common::number(*number), AccountId::from(*account), *opt_ins, *version)
                    })
                })
                .unwrap();
        }
        Kind::Import => {
            let listing = |(number, account, opt_ins, version): &(u64, u64, OptIns, u64)| Listing {
                hash: common::number(*number),
                account: AccountId::from(*account),
                opt_ins: *opt_ins,
                version: Version::new(*version).unwrap(),
            };
            index.import(rows.iter().map(listing)).unwrap();
        }
        Kind::Fold => {
            index.fold().unwrap();
        }
        Kind::Lookup => {
            let hashes: Vec<PhoneHash> = (0..asked(seed, step)).map(common::number).collect();
            index.lookup(&Caller::new("spender"), Purpose::Search, &hashes).unwrap();
        }
    }
}

/// The child: not a test of its own, it does nothing unless the parent asks.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let number = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (seed, start) = (number(CHILD_SEED), number(CHILD_START));
    let index = open(Path::new(&dir));
    if let Ok(starts) = std::env::var(CHILD_THREADS) {
        return run_threads(&index, starts.split(',').map(|start| start.parse().unwrap()));
    }
    for step in start.. {
        run(&index, seed, step);
        println!("\ndone {step}");
        std::io::stdout().flush().unwrap();
    }
}

/// Runs a child until it is killed; returns the last step it acknowledged.
fn run_child(dir: &Path, seed: u64, start: u64, life: Duration) -> Option<u64> {
    let env = [(CHILD_SEED, seed.to_string()), (CHILD_START, start.to_string())];
    kill_child(dir, &env, life).last().and_then(|step| step.parse().ok())
}

/// Runs a child until it is killed; returns what it said was done.
fn kill_child(dir: &Path, env: &[(&str, String)], life: Duration) -> Vec<String> {
    let mut child = common::child(module_path!())
        .env(CHILD_DIR, dir)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.filter_map(|line| line.strip_prefix("done ").map(str::to_owned)).collect()
    });
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// Numbers of each thread. A step gives all of them the same opt-ins, which name the step.
const OF_THREAD: u64 = 7;

fn opt_ins_of_step(step: u64) -> OptIns {
    OptIns::from_bits_truncate((1 + step % 63) as u8)
}

/// Threads whose updates share commits, while another folds.
fn run_threads(index: &Index, starts: impl Iterator<Item = u64>) {
    let threads = starts.enumerate().map(|(thread, start)| {
        let index = index.clone();
        std::thread::spawn(move || {
            for step in start.. {
                index
                    .update(|batch| {
                        (0..OF_THREAD).try_for_each(|i| {
                            let number = common::number(1_000 + thread as u64 * OF_THREAD + i);
                            batch.put(number, AccountId::from(i), opt_ins_of_step(step), step + 1)
                        })
                    })
                    .unwrap();
                println!("\ndone {thread} {step}");
            }
        })
    });
    let _threads: Vec<_> = threads.collect();
    loop {
        index.fold().unwrap();
        std::thread::sleep(Duration::from_millis(7));
    }
}

#[test]
fn a_killed_process_loses_no_update_of_a_shared_commit() {
    const THREADS: usize = 6;
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let mut next = [0_u64; THREADS];
    for round in 0..kills() {
        let life = Duration::from_millis(30 + random(7, round, 9) % 300);
        let starts = next.map(|step| step.to_string()).join(",");
        let env = [(CHILD_SEED, "0".to_owned()), (CHILD_START, "0".to_owned()), (CHILD_THREADS, starts)];
        for line in kill_child(dir.path(), &env, life) {
            // A line may be cut short by the kill, but then it is the last one and its number too small.
            let Some((thread, step)) = line.split_once(' ') else { continue };
            if let (Ok(thread), Ok(step)) = (thread.parse::<usize>(), step.parse::<u64>()) {
                next[thread] = next[thread].max(step + 1);
            }
        }
        let index = open(dir.path());
        for (thread, next) in next.iter_mut().enumerate() {
            let of_number = |i| {
                let number = common::number(1_000 + thread as u64 * OF_THREAD + i);
                let shown = |purpose| !common::ask(&index, purpose, &[number]).is_empty();
                Purpose::ALL.into_iter().filter(|purpose| shown(*purpose)).map(OptIns::from).collect::<OptIns>()
            };
            let found: Vec<OptIns> = (0..OF_THREAD).map(of_number).collect();
            let all = |opt_ins: OptIns| found.iter().all(|of_number| *of_number == opt_ins);
            let before = next.checked_sub(1).map_or(OptIns::empty(), opt_ins_of_step);
            if !all(before) {
                assert!(all(opt_ins_of_step(*next)), "round {round}, thread {thread}, step {next}: {found:?}");
                *next += 1;
            }
        }
        index.verify(|_, _| ()).unwrap();
    }
    assert!(next.iter().sum::<u64>() > 0, "no child lived long enough to do anything");
}

type Model = BTreeMap<(u64, u64), OptIns>;

/// The listings after all steps up to `end`, exclusive.
fn model(seed: u64, end: u64) -> Model {
    let mut model = Model::new();
    for step in (0..end).filter(|step| matches!(kind(seed, *step), Kind::Update | Kind::Import)) {
        for (number, account, opt_ins, _) in rows(seed, step) {
            model.insert((number, account), opt_ins);
        }
    }
    model
}

fn answers(model: &Model, purpose: Purpose) -> Vec<(usize, AccountId)> {
    let shown = model.iter().filter(|(_, opt_ins)| common::is_shown(**opt_ins, purpose));
    shown.map(|((number, account), _)| (*number as usize, AccountId::from(*account))).collect()
}

/// What the index answers now, for every purpose.
fn found(index: &Index) -> Vec<Vec<(usize, AccountId)>> {
    let all: Vec<PhoneHash> = (0..NUMBERS).map(common::number).collect();
    Purpose::ALL.into_iter().map(|purpose| common::ask(index, purpose, &all)).collect()
}

fn charged(seed: u64, end: u64) -> u64 {
    (0..end).filter(|step| kind(seed, *step) == Kind::Lookup).map(|step| asked(seed, step)).sum()
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged_and_no_budget_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let seed = 0x5eed;
    drop(open(dir.path()));
    let (mut next, mut acknowledged) = (0, 0);
    for round in 0..kills() {
        let life = Duration::from_millis(30 + random(seed, round, 9) % 400);
        if let Some(step) = run_child(dir.path(), seed, next, life) {
            next = step + 1;
            acknowledged += 1;
        }
        let index = open(dir.path());
        let all = |end| Purpose::ALL.map(|purpose| answers(&model(seed, end), purpose)).to_vec();
        // The step that was under way may be in whole, and then it is not run again.
        let now = found(&index);
        let with_next = all(next + 1);
        if now != all(next) {
            assert_eq!(now, with_next, "round {round}: neither with nor without step {next}");
            next += 1;
        }
        let reply = index.lookup(&Caller::new("spender"), Purpose::Search, &[]).unwrap();
        // Refills by wall time between two rounds are far below one number: one an hour.
        let spent = BURST - reply.remaining();
        assert!(spent >= charged(seed, next), "round {round}: {spent} spent of {}", charged(seed, next));
        index.verify(|_, _| ()).unwrap();
        drop(index);
    }
    assert!(acknowledged > 0, "no child lived long enough to do anything");
    println!("{} kills, {next} steps acknowledged", kills());
}
