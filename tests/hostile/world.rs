//! Everything that the engine writes, as bytes: an index with every kind of file, its backups, and what stands beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use unlisted::{
    AccountId, BackupMode, Caller, DisclosureQuery, Error, Index, ManualClock, OptIns, Options, Origin, Purpose,
    Quota, QuotaOverride, QuotaPolicy, Secret, VerifyDepth,
};

use crate::common::{START_MS, number};

pub const INDEX: &str = "index";
pub const BACKUP: &str = "backup";
pub const STREAM: &str = "stream.tar";
pub const EPOCH: &str = "epoch";
pub const SECRET: &str = "secret";
pub const RESTORED: &str = "restored";

/// Numbers that are asked for: some shown, some hidden, removed, a tripwire or nobody's.
const ASKED: u64 = 48;
const TRIPWIRE: u64 = 40;

/// Relative paths, with `/`, to contents.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What an index says, in a form that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    found: Vec<(usize, AccountId)>,
    disclosed: Vec<String>,
    watermark: Option<Vec<u8>>,
    suspended: bool,
    remaining: u64,
}

/// Who reads a file: an index that is opened and asked everything, or a restore of one of its backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Index,
    Backup,
    Stream,
}

/// A folder to put files into and to use them, in memory where there is such a place.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self(made.unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes everything as it was.
    pub fn fill(&self, files: &Files) {
        for item in fs::read_dir(self.0.path()).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        for (name, bytes) in files {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    /// Everything that is there.
    pub fn read(&self) -> Files {
        let mut files = Files::new();
        read_into(self.0.path(), "", &mut files);
        files
    }

    pub fn options(&self) -> Result<Options, Error> {
        Ok(options_later(Secret::from_file(self.path(SECRET))?))
    }

    /// Opens or restores what is there, and asks it everything.
    pub fn use_as(&self, reader: Reader) -> Result<Answers, Error> {
        let options = self.options()?;
        let index = match reader {
            Reader::Index => Index::open(self.path(INDEX), options.must_exist().epoch_file(self.path(EPOCH)))?,
            Reader::Backup => Index::restore(self.path(BACKUP), self.path(RESTORED), options)?,
            Reader::Stream => {
                let stream = fs::File::open(self.path(STREAM)).unwrap();
                Index::restore_from(stream, self.path(RESTORED), options)?
            }
        };
        ask_everything(&index)
    }
}

fn read_into(folder: &Path, name: &str, files: &mut Files) {
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        let name = format!("{name}{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            read_into(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(path).unwrap());
        }
    }
}

/// Those of whoever opens the files an hour after they were made.
pub fn options_later(secret: Secret) -> Options {
    options(secret, &Arc::new(ManualClock::at_wall_ms(START_MS + 3_600_000)))
}

/// Small tables, so that whatever asks for much memory is seen.
fn options(secret: Secret, clock: &Arc<ManualClock>) -> Options {
    let quota = |burst| Quota::per_hour(burst, 60).unwrap();
    let policy = QuotaPolicy::of_caller(quota(500)).with_everyone(quota(100_000));
    Options::new(secret)
        .clock(clock.clone())
        .background(false)
        .index_cache_bytes(1 << 20)
        .ledger_cache_bytes(1 << 20)
        .active_callers(256)
        .novelty_bytes(1 << 20)
        .activity_scopes(1_024)
        .import_memory_bytes(1 << 20)
        .segment_listings(1_000)
        .quotas(policy.with_origin("network", quota(5_000)).unwrap())
}

pub fn ada() -> Caller {
    Caller::new("ada").via(Origin::network([192, 0, 2, 1].into()))
}

/// Every way to read. What ada paid for before is free, also behind a restore, and is answered.
pub fn ask_everything(index: &Index) -> Result<Answers, Error> {
    let inspector = index.inspector();
    let rows: Result<Vec<_>, Error> = inspector.disclosures(&DisclosureQuery::new())?.collect();
    let mut disclosed: Vec<String> =
        rows?.iter().map(|row| format!("{} saw {:?}", row.caller, row.shown)).collect();
    disclosed.sort();
    let suspended = !inspector.standings(None, 10)?.is_empty();
    let remaining = index.budget(&ada())?.remaining;
    let found = find(index)?;
    index.stats()?;
    index.verify_to(VerifyDepth::Fast, |_, _| ())?;
    index.verify(|_, _| ())?;
    index.fold()?;
    index.compact_disclosures()?;
    assert_eq!(find(index)?, found, "a fold changes no answer");
    Ok(Answers { found, disclosed, watermark: index.watermark(), suspended, remaining })
}

/// Who ada finds, for the purpose that all are listed for.
pub fn find(index: &Index) -> Result<Vec<(usize, AccountId)>, Error> {
    let numbers: Vec<_> = (0..ASKED).map(number).collect();
    let reply = index.lookup(&ada(), Purpose::Search, &numbers)?;
    Ok(reply.matches().map(|found| (found.position, found.account)).collect())
}

fn put(index: &Index, numbers: std::ops::Range<u64>, version: u64) {
    let filled = index.update(|batch| {
        batch.watermark(version.to_be_bytes())?;
        numbers.clone().try_for_each(|i| match i % 5 {
            0 => batch.put(number(i), AccountId::from(i), OptIns::empty(), version),
            1 => batch.remove(number(i), AccountId::from(i), version),
            _ => batch.put(number(i), AccountId::from(i), OptIns::SEARCH, version),
        })
    });
    filled.unwrap();
}

fn fill(place: &Place) {
    fs::write(place.path(SECRET), format!("{}\n", "5e".repeat(32))).unwrap();
    let clock = Arc::new(ManualClock::at_wall_ms(START_MS));
    let secret = Secret::from_file(place.path(SECRET)).unwrap();
    let options = || options(secret.clone(), &clock).epoch_file(place.path(EPOCH)).create_epoch_file();
    let index = Index::open(place.path(INDEX), options()).unwrap();
    put(&index, 0..30, 1);
    index.fold().unwrap();
    index.set_tripwires([number(TRIPWIRE)]).unwrap();
    find(&index).unwrap();
    index.lookup(&Caller::new("bob"), Purpose::Search, &[number(2), number(3)]).unwrap();
    index.suspend(&Caller::new("eve"), "asked too much").unwrap();
    let own = QuotaOverride::fixed(Quota::per_hour(900, 9).unwrap());
    index.set_quota_of(&ada(), Some((own, Duration::ZERO))).unwrap();
    let policy = QuotaPolicy::of_caller(Quota::per_hour(400, 50).unwrap());
    index.set_quotas(policy.with_origin("network", Quota::per_hour(5_000, 70).unwrap()).unwrap()).unwrap();
    // A run, a sealed log with erased accounts, and a growing one.
    index.compact_disclosures().unwrap();
    clock.advance(Duration::from_secs(100));
    find(&index).unwrap();
    index.erase_account(AccountId::from(2)).unwrap();
    clock.advance(Duration::from_secs(100));
    find(&index).unwrap();
    drop(index);
    // In the log of changes, not folded.
    let index = Index::open(place.path(INDEX), options()).unwrap();
    put(&index, 25..36, 2);
    find(&index).unwrap();
    index.backup(place.path(BACKUP), BackupMode::Copied).unwrap();
    let stream = fs::File::create(place.path(STREAM)).unwrap();
    index.backup_to(stream).unwrap();
    drop(index);
}

/// What a crash may leave, and a repair.
fn add_leftovers(files: &mut Files) {
    let segment = files.iter().find(|(name, _)| name.starts_with("index/segments/")).unwrap().1.clone();
    for name in ["quarantine/0000.0-1.seg", "segments/0000.0-77.seg", "segments/0000.0-78.seg.tmp"] {
        files.insert(format!("{INDEX}/{name}"), segment.clone());
    }
    for name in ["index.redb.tmp", "ledger.redb.tmp", "disclosures/0000000000000009.log.tmp", "import-3/0.part"] {
        files.insert(format!("{INDEX}/{name}"), b"not finished".to_vec());
    }
    files.insert(format!("{EPOCH}.tmp"), b"not finished".to_vec());
    for folder in [".unlisted-stream-1", ".unlisted-repair-1"] {
        files.insert(format!("{INDEX}/{folder}/index.redb"), b"not finished".to_vec());
    }
}

/// All files of a closed index with every kind of them.
pub fn files() -> Files {
    let place = Place::new();
    fill(&place);
    let mut files = place.read();
    add_leftovers(&mut files);
    files
}
