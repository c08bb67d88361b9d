//! Every kind of file, by where it is: who reads it, and what a change of it may lead to.

use std::path::Path;

use unlisted::Error;

use crate::Change;
use crate::world::{Answers, EPOCH, Reader, SECRET, STREAM};

/// What a damaged file may lead to, besides an error that names it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: whatever is changed is found.
    Found,
    /// The right answer, where nothing that counts was changed.
    FoundIfUsed,
    /// The right answer always: nobody reads it.
    NotRead,
}

pub struct Kind {
    pub name: &'static str,
    /// Where it is; a `*` is any part of one name.
    pattern: &'static str,
    pub verdict: Verdict,
    /// What has the file in it.
    pub reader: Reader,
    /// What is behind its end is what a crash left of a frame, and is cut.
    grows: bool,
    /// How far from the changed byte an error may say that it is; `None` where the format cannot know.
    within_bytes: Option<u64>,
}

const fn of_index(name: &'static str, pattern: &'static str) -> Kind {
    Kind { name, pattern, verdict: Verdict::Found, reader: Reader::Index, grows: false, within_bytes: None }
}

const fn of_backup(name: &'static str, pattern: &'static str) -> Kind {
    Kind { reader: Reader::Backup, ..of_index(name, pattern) }
}

const fn not_read(name: &'static str, pattern: &'static str) -> Kind {
    Kind { verdict: Verdict::NotRead, ..of_index(name, pattern) }
}

/// What `docs/FORMAT.md` names. A file is of the first kind whose pattern it has.
pub const KINDS: [Kind; 25] = [
    not_read("segment that nothing names", "index/segments/*-77.seg"),
    of_index("segment", "index/segments/*.seg").within(4_096),
    of_index("database of the index", "index/index.redb").or_unused(),
    of_index("database of the ledger", "index/ledger.redb").or_unused(),
    Kind { grows: true, ..of_index("growing log", "index/disclosures/*3.log").within(1_024) },
    of_index("sealed log", "index/disclosures/*.log").within(1_024),
    of_index("run", "index/disclosures/*.run").within(8_192),
    of_index("erased accounts", "index/disclosures/erased").within(1_024),
    of_index("epoch file", EPOCH).within(48),
    not_read("epoch file that is being written", "epoch.tmp"),
    of_index("secret", SECRET).or_unused(),
    of_backup("manifest of a backup", "backup/BACKUP").within(4_096),
    of_backup("copy of a database", "backup/*.redb"),
    of_backup("copy of a segment", "backup/segments/*.seg").within(4_096),
    of_backup("copy of a log", "backup/disclosures/*.log"),
    of_backup("copy of a run", "backup/disclosures/*.run"),
    of_backup("copy of the erased accounts", "backup/disclosures/growing-*"),
    // What it holds has the checksums of the manifest; its own padding has none.
    Kind { reader: Reader::Stream, ..of_index("stream", STREAM) }.or_unused(),
    not_read("lock", "index/LOCK"),
    Kind { reader: Reader::Backup, ..not_read("lock of a backup", "backup/LOCK") },
    not_read("quarantine", "index/quarantine/*.seg"),
    not_read("database that is being made", "index/*.redb.tmp"),
    not_read("segment or log that is being written", "index/*/*.tmp"),
    not_read("block of an import", "index/import-*/*.part"),
    not_read("database that is being copied", "index/.unlisted-*/*.redb"),
];

impl Kind {
    const fn or_unused(self) -> Self {
        Self { verdict: Verdict::FoundIfUsed, ..self }
    }

    const fn within(self, bytes: u64) -> Self {
        Self { within_bytes: Some(bytes), ..self }
    }

    /// The kind of a file.
    pub fn of(path: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| {
            let (pattern, parts) = (kind.pattern.split('/'), path.split('/'));
            pattern.clone().count() == parts.clone().count() && pattern.zip(parts).all(|(p, part)| has(p, part))
        })
    }

    /// Says what is wrong with what came of a changed file.
    pub fn judge(
        &self,
        outcome: &Result<Answers, Error>,
        right: &Answers,
        path: &Path,
        change: &Change,
    ) -> Result<(), String> {
        let may_be_cut = self.grows && matches!(change, Change::Longer);
        let error = match outcome {
            Ok(answers) if answers != right => return Err(format!("a wrong answer: {answers:?}")),
            Ok(_) if self.verdict == Verdict::Found && !may_be_cut => return Err("it was not found".to_owned()),
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if self.verdict == Verdict::NotRead {
            return Err(format!("nobody should have read it: {error}"));
        }
        self.judge_error(error, path, change.at()).map_err(|why| format!("{why}: {error:?}"))
    }

    fn judge_error(&self, error: &Error, path: &Path, at: Option<u64>) -> Result<(), String> {
        match error {
            Error::Damaged { path: named, offset, .. } => {
                if !names(named, path) {
                    return Err("another file is named".to_owned());
                }
                match (self.within_bytes, at) {
                    (Some(within), Some(at)) if offset.abs_diff(at) > within => {
                        Err("another place is named".to_owned())
                    }
                    _ => Ok(()),
                }
            }
            Error::ForeignFormat { path: named, .. }
            | Error::NewerFormat { path: named, .. }
            | Error::DamagedRow { path: named, .. }
            | Error::Database { path: named, .. }
            | Error::Io { path: named, .. }
            | Error::DisclosuresMissing { path: named }
            | Error::DisclosuresForeign { path: named }
            | Error::EpochFileForeign { path: named }
            | Error::BackupIncomplete { path: named } => match names(named, path) {
                true => Ok(()),
                false => Err("another file is named".to_owned()),
            },
            // The folder, for it says how far the log goes.
            Error::DisclosuresOlder { dir, .. } if path.starts_with(dir) => Ok(()),
            // What the databases know of each other: which of the two is wrong nobody can tell.
            Error::LedgerOlder { .. } | Error::IndexOlder { .. } if path.extension() == Some("redb".as_ref()) => {
                Ok(())
            }
            // Whoever gave the secret may have given it as the path, so that no error repeats it.
            Error::Secret(_) | Error::WrongSecret { .. } if self.name == "secret" => Ok(()),
            _ => Err("an error of another kind".to_owned()),
        }
    }
}

/// Does an error name this file? Of a stream it names what is in it.
fn names(named: &Path, path: &Path) -> bool {
    named == path || (path.ends_with(STREAM) && named.starts_with("the stream"))
}

/// Is the name what the pattern says?
fn has(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => name.strip_prefix(start).is_some_and(|name| name.ends_with(end)),
    }
}
