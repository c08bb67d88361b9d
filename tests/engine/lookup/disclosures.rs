//! Who was shown to whom: what an operator is told, under restarts, kills, erasures and a disk that refuses.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use unlisted::{
    AccountId, Caller, DisclosureQuery, DisclosureSync, Error, Exposure, Index, OptIns, Options, Origin,
    PhoneHash, Purpose,
};

use crate::common::{self, START_MS, number};

const CHILD_DIR: &str = "UNLISTED_DISCLOSE_DIR";
const CHILD_SEED: &str = "UNLISTED_DISCLOSE_SEED";
const CHILD_ROLE: &str = "UNLISTED_DISCLOSE_ROLE";
const NUMBERS: u64 = 200;

fn caller(i: u64) -> Caller {
    Caller::new(format!("caller-{i}"))
}

fn network(i: u8) -> Origin {
    Origin::network([198, 51, i, 7].into())
}

/// `NUMBERS` numbers that are shown for search, each to an account of its own.
fn fill(index: &Index) {
    let put = |batch: &mut unlisted::UpdateBatch| {
        (0..NUMBERS).try_for_each(|i| batch.put(number(i), AccountId::from(i), OptIns::SEARCH, 1))
    };
    index.update(put).unwrap();
}

fn ask(index: &Index, caller: &Caller, numbers: std::ops::Range<u64>) -> Result<Vec<AccountId>, Error> {
    let hashes: Vec<PhoneHash> = numbers.map(number).collect();
    let reply = index.lookup(caller, Purpose::Search, &hashes)?;
    Ok(reply.matches().map(|found| found.account).collect())
}

fn rows(index: &Index, query: &DisclosureQuery) -> Vec<Exposure> {
    index.inspector().disclosures(query).unwrap().map(Result::unwrap).collect()
}

/// The accounts of the rows that match, sorted.
fn accounts(index: &Index, query: &DisclosureQuery) -> Vec<u64> {
    let accounts: BTreeSet<_> = rows(index, query).iter().filter_map(|row| row.shown.account.as_u64()).collect();
    accounts.into_iter().collect()
}

#[test]
fn operators_are_told_by_caller_origin_account_and_window() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let mut index = common::open(dir.path(), &clock);
    fill(&index);
    let day = Duration::from_secs(86_400);
    ask(&index, &caller(1).via(network(1)), 0..3).unwrap();
    clock.advance(day);
    ask(&index, &caller(1).via(network(2)), 2..5).unwrap();
    clock.advance(day);
    ask(&index, &caller(2).via(network(2)).via(Origin::named("device", "d").unwrap()), 4..6).unwrap();
    let day_ms = day.as_millis() as u64;
    for round in 0..3 {
        match round {
            1 => drop(index.compact_disclosures().unwrap()),
            2 => {
                drop(index);
                index = common::open(dir.path(), &clock);
            }
            _ => {}
        }
        let query = DisclosureQuery::new;
        assert_eq!(accounts(&index, &query()), [0, 1, 2, 3, 4, 5]);
        assert_eq!(accounts(&index, &query().caller(&caller(1))), [0, 1, 2, 3, 4]);
        assert_eq!(accounts(&index, &query().caller(&caller(3))), [0; 0]);
        assert_eq!(accounts(&index, &query().origin(network(1))), [0, 1, 2]);
        assert_eq!(accounts(&index, &query().origin(network(2))), [2, 3, 4, 5]);
        let device = Origin::named("device", "d").unwrap();
        assert_eq!(accounts(&index, &query().origin(device).caller(&caller(2))), [4, 5]);
        let second_day = query().since_ms(START_MS + day_ms).until_ms(START_MS + 2 * day_ms);
        assert_eq!(accounts(&index, &second_day), [2, 3, 4]);
        let who: BTreeSet<_> =
            rows(&index, &query().account(AccountId::from(4))).iter().map(|row| row.caller).collect();
        assert_eq!(who, [1, 2].map(|i| index.inspector().token_of(&caller(i))).into());
        let seen = index.inspector().disclosed_to(&caller(1)).unwrap();
        let times: Vec<_> = seen.iter().map(|row| (row.first_at_ms - START_MS) / day_ms).collect();
        assert_eq!((seen.len(), times), (5, vec![0, 0, 0, 1, 1]));
        assert!(seen.iter().all(|row| row.purpose() == Some(Purpose::Search)));
        let again = seen[2];
        assert!(again.last_at_ms >= START_MS + day_ms && again.last_at_ms < START_MS + day_ms + 60_000);
    }
}

#[test]
fn rows_are_forgotten_after_their_retention_and_with_their_account() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let options = || common::options(&clock).disclosure_retention(Duration::from_secs(3_600));
    let index = Index::open(dir.path(), options()).unwrap();
    fill(&index);
    ask(&index, &caller(1), 0..4).unwrap();
    index.erase_account(AccountId::from(2)).unwrap();
    // At once for whoever asks, and after a compaction for whoever reads the files.
    assert_eq!(accounts(&index, &DisclosureQuery::new()), [0, 1, 3]);
    assert_eq!(index.stats().unwrap().disclosures, 4);
    drop(index);
    let index = Index::open(dir.path(), options()).unwrap();
    assert_eq!(accounts(&index, &DisclosureQuery::new()), [0, 1, 3]);
    assert_eq!(index.compact_disclosures().unwrap().forgotten, 1);
    assert_eq!(index.stats().unwrap().disclosures, 3);
    assert_eq!(accounts(&index, &DisclosureQuery::new()), [0, 1, 3]);
    // An account that is listed again is on record again.
    index.update(|batch| batch.put(number(2), AccountId::from(2), OptIns::SEARCH, 9)).unwrap();
    clock.advance(Duration::from_secs(1_800));
    ask(&index, &caller(1), 2..3).unwrap();
    assert_eq!(accounts(&index, &DisclosureQuery::new()), [0, 1, 2, 3]);
    clock.advance(Duration::from_secs(1_801));
    assert_eq!(accounts(&index, &DisclosureQuery::new()), [2]);
    assert_eq!(index.inspector().disclosed_to(&caller(1)).unwrap().len(), 1);
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(accounts(&index, &DisclosureQuery::new()), [0; 0]);
    assert_eq!(index.compact_disclosures().unwrap().forgotten, 4);
    assert_eq!((index.stats().unwrap().disclosures, index.verify(|_, _| ()).unwrap().disclosures), (0, 0));
}

#[test]
fn what_is_off_is_said_and_what_cannot_work_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let clock = common::clock();
    let options = |sync| common::options(&clock).disclosure_sync(sync);
    for sync_within_ms in [0, 60_001] {
        let opened = Index::open(dir.path(), options(DisclosureSync::Written { sync_within_ms }));
        assert!(matches!(opened, Err(Error::BadOption { name: "disclosure_sync", .. })));
    }
    for (sync, expected) in [(DisclosureSync::Synced, 3), (DisclosureSync::Off, 3), (DisclosureSync::default(), 6)]
    {
        let index = Index::open(dir.path(), options(sync)).unwrap();
        fill(&index);
        assert_eq!(index.stats().unwrap().disclosure_sync, sync);
        assert_eq!(ask(&index, &caller(1), 0..3).unwrap().len(), 3);
        assert_eq!(rows(&index, &DisclosureQuery::new()).len(), expected, "{sync:?}");
    }
}

#[test]
fn a_log_that_is_gone_foreign_or_older_does_not_open() {
    let clock = common::clock();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let index = common::open(dir.path(), &clock);
        fill(&index);
        ask(&index, &caller(1), 0..4).unwrap();
        dir
    };
    let (dir, other) = (make(), make());
    let (ours, theirs) = (dir.path().join("disclosures"), other.path().join("disclosures"));
    let reopen = || Index::open(dir.path(), common::options(&clock));
    let log = "0000000000000001.log";
    let old = fs::read(ours.join(log)).unwrap();
    ask(&reopen().unwrap(), &caller(1), 0..9).unwrap();
    let good = fs::read(ours.join(log)).unwrap();

    fs::write(ours.join(log), &old).unwrap();
    assert!(matches!(reopen(), Err(Error::DisclosuresOlder { .. })));
    fs::copy(theirs.join(log), ours.join(log)).unwrap();
    assert!(matches!(reopen(), Err(Error::DisclosuresForeign { .. })));
    fs::remove_file(ours.join(log)).unwrap();
    assert!(matches!(reopen(), Err(Error::DisclosuresMissing { .. })));
    fs::remove_dir(&ours).unwrap();
    let error = reopen().unwrap_err();
    assert!(matches!(&error, Error::DisclosuresMissing { path } if *path == ours), "{error}");
    fs::create_dir(&ours).unwrap();
    fs::write(ours.join(log), &good).unwrap();
    assert_eq!(reopen().unwrap().inspector().disclosed_to(&caller(1)).unwrap().len(), 9);
}

/// The child: not a test of its own, it does nothing unless a parent asks.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    match std::env::var(CHILD_ROLE).unwrap().as_str() {
        "killed" => show_until_killed(Path::new(&dir)),
        _ => show_until_the_disk_is_full(Path::new(&dir)),
    }
}

fn options() -> Options {
    common::options(&common::clock())
}

/// Looks up and prints what was answered, compacting now and then.
fn show_until_killed(dir: &Path) {
    let seed: u64 = std::env::var(CHILD_SEED).unwrap().parse().unwrap();
    let index = Index::open(dir, options()).unwrap();
    for step in 0_u64.. {
        let (who, first) = (step % 7, (seed * 31 + step * 13) % (NUMBERS - 20));
        let shown = ask(&index, &caller(who), first..first + 20).unwrap();
        let shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
        println!("\nshown {who} {}", shown.join(" "));
        std::io::stdout().flush().unwrap();
        if step % 64 == 40 {
            index.compact_disclosures().unwrap();
        }
    }
}

fn start(dir: &Path, role: &str, seed: u64) -> Command {
    let mut command = common::child(module_path!());
    command.env(CHILD_DIR, dir).env(CHILD_ROLE, role).env(CHILD_SEED, seed.to_string()).stdout(Stdio::piped());
    command
}

#[test]
fn everything_that_a_killed_process_answered_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    fill(&Index::open(dir.path(), options()).unwrap());
    let mut answered: BTreeSet<(u64, u64)> = BTreeSet::new();
    for round in 0..8 {
        let mut child = start(dir.path(), "killed", round).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.filter(|line| line.starts_with("shown ")).collect::<Vec<String>>()
        });
        std::thread::sleep(Duration::from_millis(60 + 37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        // The last line may be cut short; every whole word of it but the last is an answer all the same.
        for line in reader.join().unwrap() {
            let words: Vec<&str> = line.split(' ').skip(1).collect();
            let (who, shown) = words.split_first().unwrap();
            let whole = if shown.len() == 20 { shown } else { shown.split_last().unwrap().1 };
            answered.extend(whole.iter().map(|account| (who.parse().unwrap(), account.parse().unwrap())));
        }
        let index = Index::open(dir.path(), options()).unwrap();
        let mut recorded = BTreeSet::new();
        for who in 0..7 {
            let rows = index.inspector().disclosed_to(&caller(who)).unwrap();
            recorded.extend(rows.iter().filter_map(|row| Some((who, row.account.as_u64()?))));
        }
        let lost: Vec<_> = answered.difference(&recorded).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} of {} answers", answered.len());
        index.verify(|_, _| ()).unwrap();
    }
    assert!(!answered.is_empty(), "no child lived long enough to answer");
}

/// The log may grow no further than a limit that both databases are below.
fn show_until_the_disk_is_full(dir: &Path) {
    let index = Index::open(dir, options()).unwrap();
    let error = (0..).find_map(|i| ask(&index, &caller(i % 3), 0..NUMBERS).err()).unwrap();
    assert!(matches!(error, Error::Io { action: "write", .. }), "{error}");
    // Now nothing is told apart: who would be shown nobody is refused as well, and nobody is charged.
    let before = index.stats().unwrap().looked_up;
    for numbers in [0..1, 5_000..5_001] {
        let refused = ask(&index, &caller(9), numbers);
        assert!(matches!(refused, Err(Error::Poisoned { what: "disclosure log", .. })), "{refused:?}");
    }
    assert_eq!(index.stats().unwrap().looked_up, before);
    assert!(matches!(index.health(), Err(Error::Poisoned { what: "disclosure log", .. })));
    // Opt-outs go on.
    assert_eq!(index.set_opt_ins(number(1), AccountId::from(1), OptIns::empty(), 2).unwrap().applied, 1);
    println!("\nchild saw it");
}

#[cfg(unix)]
#[test]
fn a_disk_that_refuses_a_record_reveals_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fill(&Index::open(dir.path(), options()).unwrap());
    let len = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len() / 1_024;
    // Ignoring the signal turns the limit into an error of the write. A shell counts in KiB or half of them.
    let limit = (4 * len("index.redb").max(len("ledger.redb"))).max(6_000);
    let child = start(dir.path(), "full", 0);
    let mut shell = Command::new("bash");
    shell.args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &limit.to_string()]);
    shell.arg(child.get_program()).args(child.get_args());
    shell.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("child saw it"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    // What was written whole is there, what was torn is cut, and lookups are answered again.
    let index = Index::open(dir.path(), options()).unwrap();
    assert_eq!(index.inspector().disclosed_to(&caller(1)).unwrap().len() as u64, NUMBERS);
    assert_eq!(ask(&index, &caller(1), 0..3).unwrap().len(), 2, "the opt-out is in");
}
