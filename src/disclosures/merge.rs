//! Sorted rows from several files, each disclosure once.

use crate::words::{AccountId, Result};

use super::files::{LogFile, Part};
use super::query::LogReader;
use super::row::{Filter, Group, Row};
use super::run::RunReader;

/// The rows of a log, sorted, in memory: 32 bytes for each.
struct SortedLog {
    groups: Vec<Group>,
    /// Group, account, time, in reverse order: the next row is the last.
    rows: Vec<(u32, AccountId, u64)>,
}

impl SortedLog {
    fn read(log: &LogFile) -> Result<Self> {
        let reader = LogReader::sealed(log)?;
        let mut groups = Vec::new();
        reader.for_each(|frame| groups.push(frame.group))?;
        groups.sort_unstable();
        groups.dedup();
        // No more than the file can hold: the footer may say anything.
        let said = usize::try_from(log.totals.rows).unwrap_or(usize::MAX);
        let mut rows = Vec::with_capacity(said.min(reader.len() / size_of::<AccountId>()));
        reader.for_each(|frame| {
            let group = groups.partition_point(|group| *group < frame.group) as u32;
            rows.extend(frame.accounts().map(|account| (group, account, frame.at_ms)));
        })?;
        rows.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Self { groups, rows })
    }

    fn next(&mut self) -> Option<Row> {
        let (group, account, at_ms) = self.rows.pop()?;
        let group = *self.groups.get(group as usize)?;
        Some(Row { group, account, first_ms: at_ms, last_ms: at_ms })
    }
}

enum Source {
    Log(SortedLog),
    Run(Box<RunReader>),
}

impl Source {
    fn next(&mut self) -> Result<Option<Row>> {
        match self {
            Self::Log(log) => Ok(log.next()),
            Self::Run(run) => run.next(),
        }
    }
}

/// Rows of several files in order. Repeated disclosures are one row, with the first and the last time.
pub(super) struct Merge {
    sources: Vec<(Row, Source)>,
    is_wide: bool,
}

impl Merge {
    pub(super) fn new(parts: &[Part]) -> Result<Self> {
        let mut sources = Vec::with_capacity(parts.len());
        let mut is_wide = false;
        for part in parts {
            let mut source = match part {
                Part::Log(log) => {
                    let log = SortedLog::read(log)?;
                    is_wide |= log.rows.iter().any(|(_, account, _)| account.as_u64().is_none());
                    Source::Log(log)
                }
                Part::Run(run) => {
                    is_wide |= run.header().is_wide;
                    Source::Run(Box::new(RunReader::new(run.clone(), Filter::ALL)?))
                }
            };
            sources.extend(source.next()?.map(|row| (row, source)));
        }
        Ok(Self { sources, is_wide })
    }

    /// Does any account need 16 bytes?
    pub(super) const fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// The next disclosure.
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let Some(mut merged) = self.pop_least()? else { return Ok(None) };
        while self.sources.iter().any(|(row, _)| row.id() == merged.id()) {
            if let Some(row) = self.pop_least()? {
                merged.absorb(&row);
            }
        }
        Ok(Some(merged))
    }

    /// Few sources are merged at a time, so the least is found by looking at all.
    fn pop_least(&mut self) -> Result<Option<Row>> {
        let heads = self.sources.iter().enumerate();
        let Some((at, _)) = heads.min_by(|(_, (a, _)), (_, (b, _))| a.id().cmp(&b.id())) else { return Ok(None) };
        let Some((head, source)) = self.sources.get_mut(at) else { return Ok(None) };
        let row = *head;
        match source.next()? {
            Some(next) => *head = next,
            None => drop(self.sources.swap_remove(at)),
        }
        Ok(Some(row))
    }
}
