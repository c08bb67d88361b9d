//! The files of the log: their names, which of them belong together, and the growing one.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::frame::{self, FOOTER_LEN, HEADER_LEN, LogHeader, SUM_LEN, Totals, damaged};
use super::run::RunFile;
use super::{Folder, Mark};
use crate::disk::{Disk, File, MappedEnd};
use crate::words::{Damage, Error, Result};

/// Numbers of logs are below this, which no writer reaches, so that counting on from one never overflows.
const MAX_SEQ: u64 = 1 << 62;

/// What is no file of the log, one that is named.
const TEMPORARY: &str = ".tmp";
/// In front of that, where it was made ahead.
const AHEAD: &str = ".ahead";

pub(super) fn log_name(seq: u64) -> String {
    format!("{seq:016x}.log")
}

pub(super) fn run_name(lo: u64, hi: u64) -> String {
    format!("{lo:016x}-{hi:016x}.run")
}

/// Removes a file when nobody reads it any more.
#[derive(Debug)]
pub(super) struct Retiring {
    pub(super) disk: Disk,
    pub(super) path: PathBuf,
    is_retired: AtomicBool,
}

impl Retiring {
    pub(super) fn new(disk: &Disk, path: PathBuf) -> Self {
        Self { disk: disk.clone(), path, is_retired: AtomicBool::new(false) }
    }

    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }
}

impl Drop for Retiring {
    fn drop(&mut self) {
        if self.is_retired.load(Ordering::Acquire)
            && let Err(error) = self.disk.remove_file(&self.path)
        {
            tracing::warn!(error = error.with_causes(), "a compacted log stays until the next open");
        }
    }
}

/// A log that grows no more.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) seq: u64,
    pub(super) salt: u64,
    pub(super) totals: Totals,
    /// Where its frames end.
    pub(super) end: u64,
    pub(super) file: Retiring,
}

impl LogFile {
    /// Looks at header and footer only.
    fn open(folder: &Folder, seq: u64) -> Result<Self> {
        let path = folder.dir.join(log_name(seq));
        let mut file = folder.disk.open(&path)?;
        let len = file.len().map_err(Error::io("ask the size of", &path))?;
        let expected = (HEADER_LEN + FOOTER_LEN) as u64;
        if len < expected {
            return Err(damaged(&path, 0, Damage::Length { expected, found: len }));
        }
        let mut bytes = [0; HEADER_LEN];
        file.read_exact(&mut bytes).map_err(Error::io("read", &path))?;
        let header = decode_header(&path, &bytes, folder, seq)?;
        let end = len - FOOTER_LEN as u64;
        let mut bytes = [0; FOOTER_LEN];
        file.seek(SeekFrom::Start(end)).map_err(Error::io("read", &path))?;
        file.read_exact(&mut bytes).map_err(Error::io("read", &path))?;
        let totals = Totals::decode(&bytes, end, header.salt)
            .ok_or_else(|| damaged(&path, end, Damage::Checksum { of: "the footer" }))?;
        Ok(Self { seq, salt: header.salt, totals, end, file: Retiring::new(&folder.disk, path) })
    }
}

fn decode_header(path: &Path, bytes: &[u8], folder: &Folder, seq: u64) -> Result<LogHeader> {
    let header = LogHeader::decode(path, bytes, &folder.index_id)?;
    if header.seq != seq {
        return Err(damaged(path, 32, Damage::Geometry { field: "the number of the log", found: header.seq }));
    }
    Ok(header)
}

/// A file that is older than the growing log.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Log(Arc<LogFile>),
    Run(Arc<RunFile>),
}

impl Part {
    /// The first and the last log whose rows it has.
    pub(super) fn span(&self) -> (u64, u64) {
        match self {
            Self::Log(log) => (log.seq, log.seq),
            Self::Run(run) => run.span(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Log(log) => log.end + FOOTER_LEN as u64,
            Self::Run(run) => run.bytes(),
        }
    }

    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::Log(log) => log.totals.rows,
            Self::Run(run) => run.rows(),
        }
    }

    pub(super) fn retire(&self) {
        match self {
            Self::Log(log) => log.file.retire(),
            Self::Run(run) => run.file().retire(),
        }
    }
}

/// How frames get into the file. Either way they are in the page cache then, where they outlive the process.
#[derive(Debug)]
enum Way {
    /// Into blocks that are reserved ahead; small ones into a map of them, without a system call. The file is longer than its
    /// frames, by zeros.
    Ahead(Option<MappedEnd>),
    /// By a write that makes the file longer.
    Write,
}

/// Bytes that are reserved at once: few enough to be nobody's loss, and a system call for some thousand lookups.
const RESERVED_AT_ONCE: u64 = 1 << 20;

/// Bytes from which on frames are written into what is reserved. The first store to a page of a map is a fault, and each
/// sync takes the page back, for which it interrupts the other cores; few small frames meet a new page, large ones do
/// every time, and a write of theirs costs less.
const WRITTEN_FROM: usize = 1 << 10;

/// The log that grows.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) seq: u64,
    pub(super) salt: u64,
    /// May its frames have short accounts?
    pub(super) has_short: bool,
    /// Where its frames end.
    pub(super) len: u64,
    pub(super) totals: Totals,
    way: Way,
}

/// A log that is on the device with its header, under a name that no open takes for a log.
#[derive(Debug)]
pub(super) struct Prepared {
    active: Active,
    temporary: PathBuf,
}

impl Prepared {
    /// Makes the log of this number. Whoever makes it ahead, while another may make the same, says so.
    pub(super) fn create(folder: &Folder, seq: u64, is_ahead: bool) -> Result<Self> {
        let path = folder.dir.join(log_name(seq));
        let ahead = if is_ahead { AHEAD } else { "" };
        let temporary = folder.dir.join(format!("{}{ahead}{TEMPORARY}", log_name(seq)));
        let (bytes, header) = LogHeader::encode(&folder.index_id, seq);
        let mut file = folder.disk.create(&temporary)?;
        file.write_all(&bytes).map_err(Error::io("write", &temporary))?;
        file.sync_all().map_err(Error::io("sync", &temporary))?;
        let (len, totals) = (HEADER_LEN as u64, Totals::NONE);
        let LogHeader { salt, has_short, .. } = header;
        let active = Active { file: Arc::new(file), path, seq, salt, has_short, len, totals, way: Way::Write };
        Ok(Self { active, temporary })
    }

    /// Gives it its name, durably. Everything before it is sealed.
    fn appear(self, folder: &Folder) -> Result<Active> {
        folder.disk.rename(&self.temporary, &self.active.path)?;
        Ok(self.active)
    }

    /// It is not needed.
    pub(super) fn discard(self, folder: &Folder) -> Result<()> {
        folder.disk.remove_file(&self.temporary)
    }
}

impl Active {
    /// A log without frames. It appears with its header, durably.
    pub(super) fn create(folder: &Folder, seq: u64) -> Result<Self> {
        Prepared::create(folder, seq, false)?.appear(folder)
    }

    /// The log behind this one, which is sealed: the one that was made ahead, if there is one.
    pub(super) fn successor(&self, folder: &Folder, prepared: Option<Prepared>) -> Result<Self> {
        let seq = self.seq + 1;
        let prepared = prepared.filter(|prepared| prepared.active.seq == seq).map(Ok);
        prepared.unwrap_or_else(|| Prepared::create(folder, seq, false))?.appear(folder)
    }

    /// Reserves room ahead of the frames from now on, where the system can.
    pub(super) fn reserve_ahead(&mut self) {
        self.way = Way::Ahead(None);
    }

    /// Puts frames behind the last. A log ends at `log_bytes`: nothing is reserved beyond.
    pub(super) fn append(&mut self, frames: &[u8], log_bytes: u64) -> Result<()> {
        if !self.put(frames, log_bytes)? {
            self.file.write_all_at(self.len, frames).map_err(Error::io("write", &self.path))?;
        }
        self.len += frames.len() as u64;
        Ok(())
    }

    /// Reserves room for frames and puts them there if they are small; `false` if they are to be written.
    fn put(&mut self, frames: &[u8], log_bytes: u64) -> Result<bool> {
        let Way::Ahead(end) = &mut self.way else { return Ok(false) };
        if !end.as_ref().is_some_and(|end| end.has_room(self.len, frames.len())) {
            let ahead = log_bytes.saturating_sub(self.len).min(RESERVED_AT_ONCE).max(frames.len() as u64);
            *end = MappedEnd::reserve(&self.file, self.len, usize::try_from(ahead).unwrap_or(usize::MAX));
        }
        match end {
            Some(end) => Ok(frames.len() < WRITTEN_FROM && end.put(self.len, frames)),
            None => self.write_on().map(|()| false),
        }
    }

    /// Gives back what is reserved behind the last frame. What follows is written there.
    pub(super) fn write_on(&mut self) -> Result<()> {
        // The map first: it must not reach behind the end of its file.
        if matches!(std::mem::replace(&mut self.way, Way::Write), Way::Ahead(_)) {
            self.file.set_len(self.len).map_err(Error::io("cut", &self.path))?;
        }
        Ok(())
    }

    /// Writes the footer and syncs. Returns the sealed log and the footer's length.
    pub(super) fn seal(&mut self, folder: &Folder) -> Result<(LogFile, u64)> {
        self.write_on()?;
        let footer = self.totals.encode(self.len, self.salt);
        self.file.write_all_at(self.len, &footer).map_err(Error::io("write", &self.path))?;
        // All of it: the file may have become shorter.
        self.file.sync_all().map_err(Error::io("sync", &self.path))?;
        let file = Retiring::new(&folder.disk, self.path.clone());
        let log = LogFile { seq: self.seq, salt: self.salt, totals: self.totals, end: self.len, file };
        Ok((log, footer.len() as u64))
    }

    /// Opens the newest log, cutting what a crash left of its last frames. One that was sealed just before the
    /// crash gets its successor.
    fn recover(folder: &Folder, seq: u64, mark: Mark) -> Result<(Option<LogFile>, Self)> {
        let path = folder.dir.join(log_name(seq));
        let mut file = folder.disk.open_to_write(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        let LogHeader { salt, has_short, .. } = decode_header(&path, &bytes, folder, seq)?;
        let (end, totals) = walk(&bytes, salt);
        let end_of_log = end as u64;
        // Zeros at the end are room that was reserved, or what a power failure left of the last frames.
        let found_len = end_of_log.max(len_without_zeros(&bytes));
        if (seq, found_len) < (mark.seq, mark.len) {
            let (dir, expected, expected_len) = (folder.dir.clone(), mark.seq, mark.len);
            return Err(Error::DisclosuresOlder { dir, found: seq, found_len, expected, expected_len });
        }
        let cut_to = |len: u64| match bytes.len() as u64 == len {
            true => Ok(()),
            false => file.set_len(len).map_err(Error::io("cut", &path)),
        };
        let footer = bytes.get(end..).unwrap_or_default().first_chunk::<FOOTER_LEN>();
        let behind = end_of_log + FOOTER_LEN as u64;
        if footer.is_some_and(|footer| Totals::decode(footer, end_of_log, salt) == Some(totals))
            && found_len <= behind
        {
            // Its successor may not be there before it is.
            cut_to(behind)?;
            file.sync_all().map_err(Error::io("sync", &path))?;
            let log = LogFile { seq, salt, totals, end: end_of_log, file: Retiring::new(&folder.disk, path) };
            return Ok((Some(log), Self::create(folder, seq + 1)?));
        }
        if found_len > end_of_log {
            let known = seq == mark.seq && end_of_log < mark.len;
            if known || frame::is_vouched_for(&bytes, end, salt) {
                return Err(damaged(&path, end_of_log, Damage::Checksum { of: "a frame" }));
            }
            let bytes = found_len - end_of_log;
            tracing::warn!(bytes, "cut the end of the disclosure log that a crash had left unfinished");
        }
        cut_to(end_of_log)?;
        // What a killed process wrote may not be on the device yet, and is about to be counted on.
        file.sync_all().map_err(Error::io("sync", &path))?;
        let (len, way) = (end_of_log, Way::Write);
        Ok((None, Self { file: Arc::new(file), path, seq, salt, has_short, len, totals, way }))
    }
}

/// Where the last bytes that are not all zeros end. A frame ends with a checksum of eight bytes.
fn len_without_zeros(bytes: &[u8]) -> u64 {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| (last + 1).next_multiple_of(SUM_LEN).min(bytes.len())) as u64
}

/// Goes through the frames; returns where they end and what they hold.
fn walk(bytes: &[u8], salt: u64) -> (usize, Totals) {
    let (mut at, mut totals) = (HEADER_LEN, Totals::NONE);
    while let Some(frame) = frame::decode(bytes, at, salt) {
        totals.add(frame.rows(), frame.at_ms);
        at = frame.end;
    }
    (at, totals)
}

/// Numbers in the name of a file: the span of a run, or twice the number of a log.
fn parse_name(name: &str) -> Option<(u64, u64)> {
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let span = match name.strip_suffix(".run") {
        Some(span) => span.split_once('-').and_then(|(lo, hi)| Some((number(lo)?, number(hi)?)))?,
        None => number(name.strip_suffix(".log")?).map(|seq| (seq, seq))?,
    };
    let ours = if name.ends_with(".log") { log_name(span.0) } else { run_name(span.0, span.1) };
    (name == ours && span.0 <= span.1 && span.0 > 0 && span.1 < MAX_SEQ).then_some(span)
}

struct Named {
    span: (u64, u64),
    is_log: bool,
}

/// Lists the folder, without temporary files, which go.
fn list(Folder { disk, dir, .. }: &Folder) -> Result<Vec<Named>> {
    let mut found = Vec::new();
    for name in disk.list(dir)? {
        if name.ends_with(TEMPORARY) {
            disk.remove_file(&dir.join(name))?;
        } else if let Some(span) = parse_name(&name) {
            found.push(Named { span, is_log: name.ends_with(".log") });
        }
    }
    // Of files that begin alike the widest first, and of equal spans the run: it was made of the log.
    found.sort_by_key(|named| (named.span.0, std::cmp::Reverse(named.span.1), named.is_log));
    Ok(found)
}

/// Opens all files of the log. What a finished compaction left behind goes; a file that is missing in between is an
/// error.
pub(super) fn open_all(folder: &Folder, mark: Mark) -> Result<(Vec<Part>, Active)> {
    if !folder.disk.exists(&folder.dir)? {
        return Err(Error::DisclosuresMissing { path: folder.dir.clone() });
    }
    // A killed process may have left a run or a log whose name is not durable yet. It is about to be counted on: logs
    // that a run covers go.
    folder.disk.sync_dir(&folder.dir)?;
    let mut parts = Vec::new();
    let mut leftovers = Vec::new();
    let mut next = 1;
    let mut newest = None;
    for named in list(folder)? {
        let (lo, hi) = named.span;
        let name = if named.is_log { log_name(lo) } else { run_name(lo, hi) };
        if hi < next {
            leftovers.push(folder.dir.join(name));
            continue;
        }
        if lo != next {
            return Err(Error::DisclosuresMissing { path: folder.dir.join(log_name(next)) });
        }
        if let Some(seq) = newest.take() {
            parts.push(Part::Log(Arc::new(LogFile::open(folder, seq)?)));
        }
        if named.is_log {
            newest = Some(lo);
        } else {
            parts.push(Part::Run(Arc::new(RunFile::open(folder, lo, hi)?)));
        }
        next = hi + 1;
    }
    // A run covers sealed logs only, and the growing one is always there.
    let seq = newest.ok_or_else(|| Error::DisclosuresMissing { path: folder.dir.join(log_name(next)) })?;
    let (sealed, active) = Active::recover(folder, seq, mark)?;
    parts.extend(sealed.map(|log| Part::Log(Arc::new(log))));
    leftovers.iter().try_for_each(|path| folder.disk.remove_file(path))?;
    Ok((parts, active))
}

/// Makes the folder with its first log. What an interrupted creation left goes.
pub(super) fn create(folder: &Folder) -> Result<()> {
    folder.disk.remove_dir_all(&folder.dir)?;
    folder.disk.create_dir_all(&folder.dir)?;
    Active::create(folder, 1).map(drop)
}
