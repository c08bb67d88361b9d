//! A small file outside the directory that says how far the ledger was, so that a restored one is found out.
//!
//! Index and ledger note each other's progress, which finds an older copy of one of them out, and not an older copy of
//! both. What no backup of the directory can bring back is what is not in it.

use std::io::Write;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::Options;
use crate::database::MAX_COUNTER;
use crate::disk::Disk;
use crate::ledger::RedbLedger;
use crate::words::{Damage, Error, Result};

const MAGIC: &[u8; 8] = b"unlstep1";
/// Magic, ledger, epoch, transactions, checksum.
const LEN: usize = 8 + 16 + 8 + 8 + 8;
/// How often the file follows the transactions of a running index.
const NOTE_EVERY_NS: u64 = 60_000_000_000;

/// How far a ledger was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    ledger_id: [u8; 16],
    epoch: u64,
    commits: u64,
}

/// The file, and when it was written last.
pub(super) struct EpochFile {
    disk: Disk,
    path: PathBuf,
    noted: Mutex<(Note, u64)>,
}

impl EpochFile {
    /// Compares the file, if there is to be one, with a ledger that was opened just now. A ledger that is behind it
    /// was restored: it is refused, or all its budgets are emptied.
    pub(super) fn open(options: &Options, ledger: &RedbLedger) -> Result<Option<Self>> {
        let Some(path) = options.epoch_file.clone() else { return Ok(None) };
        let state = ledger.state();
        let now = Note { ledger_id: state.ledger_id, epoch: state.epoch, commits: state.commits };
        match read(&options.disk, &path)? {
            None if now.epoch > 0 && !options.create_epoch_file => return Err(Error::EpochFileMissing { path }),
            None => {}
            Some(seen) if seen.ledger_id != now.ledger_id => return Err(Error::EpochFileForeign { path }),
            Some(seen) if (seen.epoch, seen.commits) > (now.epoch, now.commits) => {
                if !options.exhaust_if_restored {
                    return Err(Error::LedgerRestored {
                        path: ledger.path().to_owned(),
                        found: now.commits,
                        expected: seen.commits,
                    });
                }
                tracing::warn!("the ledger was restored from an older copy: all budgets begin at nothing");
                ledger.exhaust()?;
                // The next opening must not take the same ledger for a restored one again.
                ledger.skip_to(seen.epoch, seen.commits)?;
            }
            Some(_) => {}
        }
        Ok(Some(Self { disk: options.disk.clone(), path, noted: Mutex::new((now, 0)) }))
    }

    /// Writes down how far the ledger is, durably; not more often than once a minute, unless it has to be.
    pub(super) fn note(&self, ledger: &RedbLedger, now_ns: u64, is_pressing: bool) -> Result<()> {
        let mut noted = self.noted.lock();
        if !is_pressing && now_ns.saturating_sub(noted.1) < NOTE_EVERY_NS {
            return Ok(());
        }
        let epoch = ledger.state().epoch;
        let note = Note { ledger_id: noted.0.ledger_id, epoch, commits: ledger.commits() };
        if note != noted.0 || is_pressing {
            write(&self.disk, &self.path, &note)?;
        }
        *noted = (note, now_ns);
        Ok(())
    }
}

fn encode(note: &Note) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LEN);
    bytes.extend(MAGIC);
    bytes.extend(note.ledger_id);
    bytes.extend(note.epoch.to_le_bytes());
    bytes.extend(note.commits.to_le_bytes());
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    bytes
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Note> {
    let damaged = |what| Error::Damaged { path: path.to_owned(), offset: 0, what };
    let length = || damaged(Damage::Length { expected: LEN as u64, found: bytes.len() as u64 });
    if !bytes.starts_with(MAGIC) {
        return Err(Error::ForeignFormat { path: path.to_owned(), expected: "an unlisted epoch file" });
    }
    if bytes.len() != LEN {
        return Err(length());
    }
    let (content, checksum) = bytes.split_last_chunk::<8>().ok_or_else(length)?;
    if xxh3_64(content).to_le_bytes() != *checksum {
        return Err(damaged(Damage::Checksum { of: "the file" }));
    }
    let (ledger_id, rest) =
        content.get(MAGIC.len()..).and_then(|rest| rest.split_first_chunk::<16>()).ok_or_else(length)?;
    let (numbers, _) = rest.as_chunks::<8>();
    let [epoch, commits] = numbers else { return Err(length()) };
    let [epoch, commits] = [epoch, commits].map(|number| u64::from_le_bytes(*number));
    if epoch.max(commits) >= MAX_COUNTER {
        return Err(damaged(Damage::Geometry { field: "a counter", found: epoch.max(commits) }));
    }
    Ok(Note { ledger_id: *ledger_id, epoch, commits })
}

fn read(disk: &Disk, path: &Path) -> Result<Option<Note>> {
    // One byte more, which tells a longer file.
    disk.read(path, LEN as u64 + 1)?.map(|bytes| decode(path, &bytes)).transpose()
}

fn write(disk: &Disk, path: &Path, note: &Note) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = disk.create(&temporary)?;
    file.write_all(&encode(note)).map_err(Error::io("write", &temporary))?;
    file.sync_all().map_err(Error::io("sync", &temporary))?;
    disk.rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_round_trip_and_any_change_is_found() {
        let note = Note { ledger_id: [7; 16], epoch: 3, commits: 1 << 40 };
        let bytes = encode(&note);
        assert_eq!(bytes.len(), LEN);
        let path = Path::new("epoch");
        assert_eq!(decode(path, &bytes).unwrap(), note);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(decode(path, &changed).is_err(), "byte {at}");
            assert!(decode(path, &bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
