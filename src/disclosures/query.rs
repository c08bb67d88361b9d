//! Going through the log, file by file, never more than one of them in memory.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use super::DisclosureLog;
use super::erased::Erased;
use super::files::{Active, LogFile, Part};
use super::frame::{self, HEADER_LEN, damaged};
use super::row::{Filter, Group, Row, Token};
use super::run::RunReader;
use crate::disk::File;
use crate::words::{AccountId, Damage, Error, Result};

/// The frames of a log, in memory.
#[derive(Debug)]
pub(super) struct LogReader {
    path: PathBuf,
    salt: u64,
    bytes: Vec<u8>,
    /// The next frame.
    at: usize,
    group: Option<Group>,
    at_ms: u64,
    /// Accounts of the frame that were not given back yet.
    accounts: std::ops::Range<usize>,
    account_len: usize,
}

impl LogReader {
    pub(super) fn sealed(log: &LogFile) -> Result<Self> {
        let path = log.file.path.clone();
        Self::new(log.file.disk.open(&path)?, path, log.end, log.salt)
    }

    /// Reads the first `end` bytes.
    fn new(file: File, path: PathBuf, end: u64, salt: u64) -> Result<Self> {
        let mut bytes = Vec::with_capacity(usize::try_from(end).unwrap_or(0));
        file.take(end).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        if bytes.len() as u64 != end {
            let found = bytes.len() as u64;
            return Err(damaged(&path, found, Damage::Length { expected: end, found }));
        }
        let (at, group, accounts) = (HEADER_LEN, None, 0..0);
        Ok(Self { path, salt, bytes, at, group, at_ms: 0, accounts, account_len: 1 })
    }

    /// Visits every frame: its group, its time, its accounts.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&frame::Frame<'_>)) -> Result<()> {
        let mut at = HEADER_LEN;
        while at < self.bytes.len() {
            let frame = frame::decode(&self.bytes, at, self.salt).ok_or_else(|| self.flaw(at))?;
            visit(&frame);
            at = frame.end;
        }
        Ok(())
    }

    fn flaw(&self, at: usize) -> Error {
        damaged(&self.path, at as u64, Damage::Checksum { of: "a frame" })
    }

    fn next(&mut self, filter: &Filter) -> Result<Option<Row>> {
        loop {
            if let Some(group) = self.group {
                while let Some(at) = (!self.accounts.is_empty()).then_some(self.accounts.start) {
                    self.accounts.start = at + self.account_len;
                    let bytes = self.bytes.get(at..self.accounts.start);
                    let Some(account) = bytes.and_then(frame::account_of) else { break };
                    if filter.takes_account(account) {
                        let (first_ms, last_ms) = (self.at_ms, self.at_ms);
                        return Ok(Some(Row { group, account, first_ms, last_ms }));
                    }
                }
                self.group = None;
            }
            if self.at >= self.bytes.len() {
                return Ok(None);
            }
            let frame = frame::decode(&self.bytes, self.at, self.salt).ok_or_else(|| self.flaw(self.at))?;
            if filter.takes_group(&frame.group) && filter.takes_times(frame.at_ms, frame.at_ms) {
                self.group = Some(frame.group);
                self.at_ms = frame.at_ms;
                let end = frame.end - frame::SUM_LEN;
                self.account_len = frame.account_len;
                self.accounts = end - self.account_len * frame.rows()..end;
            }
            self.at = frame.end;
        }
    }
}

enum Reader {
    Log(LogReader),
    Run(RunReader),
}

/// Rows of the log that a filter takes, as the log was when it was asked; oldest file first.
pub(crate) struct Rows {
    parts: VecDeque<Part>,
    active: Option<(File, PathBuf, u64, u64, u64)>,
    reader: Option<Reader>,
    /// The newest log whose rows the reader has.
    newest: u64,
    filter: Filter,
    erased: Arc<Erased>,
    has_failed: bool,
}

impl Rows {
    fn open_next(&mut self) -> Result<bool> {
        if let Some(part) = self.parts.pop_front() {
            self.newest = part.span().1;
            self.reader = match &part {
                Part::Run(run) => Some(Reader::Run(RunReader::new(run.clone(), self.filter)?)),
                Part::Log(log) if self.filter.takes_times(log.totals.first_ms, log.totals.last_ms) => {
                    Some(Reader::Log(LogReader::sealed(log)?))
                }
                Part::Log(_) => None,
            };
            return Ok(true);
        }
        let Some((file, path, seq, len, salt)) = self.active.take() else { return Ok(false) };
        self.newest = seq;
        self.reader = Some(Reader::Log(LogReader::new(file, path, len, salt)?));
        Ok(true)
    }

    fn try_next(&mut self) -> Result<Option<Row>> {
        loop {
            let row = match &mut self.reader {
                Some(Reader::Log(reader)) => reader.next(&self.filter)?,
                Some(Reader::Run(reader)) => reader.next()?,
                None => None,
            };
            match row {
                Some(row) if self.erased.get(&row.account).is_some_and(|up_to| self.newest <= *up_to) => {}
                Some(row) => return Ok(Some(row)),
                None => {
                    self.reader = None;
                    if !self.open_next()? {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row>;

    /// The next row; after an error nothing more.
    fn next(&mut self) -> Option<Result<Row>> {
        if self.has_failed {
            return None;
        }
        let next = self.try_next();
        self.has_failed = next.is_err();
        next.transpose()
    }
}

impl DisclosureLog {
    /// Rows that the filter takes and that are not past their retention. A disclosure that was repeated since the last
    /// compaction comes as often as it was made.
    pub(crate) fn rows(&self, filter: Filter, now_ms: u64) -> Result<Rows> {
        let since_ms = filter.since_ms.max(now_ms.saturating_sub(self.retention_ms));
        self.snapshot(Filter { since_ms, ..filter })
    }

    fn snapshot(&self, filter: Filter) -> Result<Rows> {
        // The accounts first: an erasure that comes in between is not seen, or seen whole.
        let erased = self.erased.get();
        let (parts, active) = self.writer.with(|state| {
            let Active { path, seq, len, salt, .. } = &state.active;
            // Opened under the lock: a log that is sealed later may be compacted and gone.
            let file = self.writer.folder().disk.open(path);
            (state.parts.iter().cloned().collect(), file.map(|file| (file, path.clone(), *seq, *len, *salt)))
        });
        let active = Some(active?);
        Ok(Rows { parts, active, reader: None, newest: 0, filter, erased, has_failed: false })
    }

    /// Every row there is, past its retention or not.
    pub(super) fn rows_of_all(&self) -> Result<Rows> {
        self.snapshot(Filter::ALL)
    }

    /// What was shown to a caller: for each account and purpose, when first and when last.
    pub(crate) fn shown_to(&self, caller: Token, now_ms: u64) -> Result<BTreeMap<(AccountId, u8), (u64, u64)>> {
        let mut shown = BTreeMap::new();
        for row in self.rows(Filter { caller: Some(caller), ..Filter::ALL }, now_ms)? {
            let row = row?;
            let times = shown.entry((row.account, row.group.purpose)).or_insert((row.first_ms, row.last_ms));
            *times = (times.0.min(row.first_ms), times.1.max(row.last_ms));
        }
        Ok(shown)
    }
}
