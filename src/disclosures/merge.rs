//! Sorted rows from several files, group by group, each disclosure once.

use crate::words::{AccountId, Result};

use super::files::{LogFile, Part};
use super::page::Step;
use super::query::LogReader;
use super::row::{Filter, Group, Shown};
use super::run::RunReader;

/// The rows of a log, sorted, in memory: 24 bytes for each.
struct SortedLog {
    /// Each with where its rows end.
    groups: std::vec::IntoIter<(Group, usize)>,
    /// Account and time, group behind group.
    rows: Vec<(AccountId, u64)>,
    /// The next row.
    at: usize,
    /// Where the rows of the group end.
    end: usize,
}

impl SortedLog {
    fn read(log: &LogFile) -> Result<Self> {
        let reader = LogReader::sealed(log)?;
        // First with how many rows a frame has, then with how many of them all, then with where they begin.
        let mut groups: Vec<(Group, usize)> = Vec::new();
        reader.for_each(|frame| groups.push((frame.group, frame.rows())))?;
        groups.sort_unstable();
        groups.dedup_by(|(group, rows), (before, all)| {
            let is_same = group == before;
            *all += if is_same { *rows } else { 0 };
            is_same
        });
        let mut len = 0;
        for (_, rows) in &mut groups {
            (*rows, len) = (len, len + *rows);
        }
        let mut rows = vec![(AccountId::from(0), 0); len];
        reader.for_each(|frame| {
            let group = groups.partition_point(|(group, _)| *group < frame.group);
            let Some((_, at)) = groups.get_mut(group) else { return };
            let places = rows.get_mut(*at..*at + frame.rows()).unwrap_or_default();
            places.iter_mut().zip(frame.accounts()).for_each(|(to, account)| *to = (account, frame.at_ms));
            *at += frame.rows();
        })?;
        // All are in place: where the next would go is where the group ends.
        let mut begin = 0;
        for (_, end) in &groups {
            rows.get_mut(begin..*end).unwrap_or_default().sort_unstable();
            begin = *end;
        }
        Ok(Self { groups: groups.into_iter(), rows, at: 0, end: 0 })
    }

    fn step(&mut self) -> Step {
        if self.at == self.end {
            let Some((group, end)) = self.groups.next() else { return Step::End };
            self.end = end;
            return Step::Group(group);
        }
        let Some((account, at_ms)) = self.rows.get(self.at).copied() else { return Step::End };
        self.at += 1;
        Step::Row(Shown { account, first_ms: at_ms, last_ms: at_ms })
    }
}

enum Rows {
    Log(SortedLog),
    Run(Box<RunReader>),
}

/// The rows of a file, of which the next is known.
struct Source {
    rows: Rows,
    group: Group,
    head: Shown,
}

/// What a step of a source led to.
#[derive(PartialEq, Eq)]
enum Next {
    SameGroup,
    OtherGroup,
    End,
}

impl Source {
    /// `None` if there are no rows.
    fn new(rows: Rows) -> Result<Option<Self>> {
        let head = Shown { account: AccountId::from(0), first_ms: 0, last_ms: 0 };
        let mut source = Self { rows, group: Group::default(), head };
        Ok((source.advance()? != Next::End).then_some(source))
    }

    fn advance(&mut self) -> Result<Next> {
        let mut next = Next::SameGroup;
        loop {
            let step = match &mut self.rows {
                Rows::Log(log) => log.step(),
                Rows::Run(run) => run.step()?,
            };
            match step {
                // It goes on from the page before.
                Step::Group(group) if group == self.group => {}
                Step::Group(group) => {
                    self.group = group;
                    next = Next::OtherGroup;
                }
                Step::Row(head) => {
                    self.head = head;
                    return Ok(next);
                }
                Step::End | Step::Past => return Ok(Next::End),
            }
        }
    }
}

/// Rows of several files in order, group by group. Repeated disclosures are one row, with the first and the last time.
pub(super) struct Merge {
    /// Those that have rows of the group that is being merged.
    here: Vec<Source>,
    /// Those whose next group is a later one.
    later: Vec<Source>,
    is_wide: bool,
}

impl Merge {
    pub(super) fn new(parts: &[Part]) -> Result<Self> {
        let mut later = Vec::with_capacity(parts.len());
        let mut is_wide = false;
        for part in parts {
            let rows = match part {
                Part::Log(log) => {
                    let log = SortedLog::read(log)?;
                    is_wide |= log.rows.iter().any(|(account, _)| account.as_u64().is_none());
                    Rows::Log(log)
                }
                Part::Run(run) => {
                    is_wide |= run.header().is_wide;
                    Rows::Run(Box::new(RunReader::new(run.clone(), Filter::ALL)?))
                }
            };
            later.extend(Source::new(rows)?);
        }
        Ok(Self { here: Vec::new(), later, is_wide })
    }

    /// Does any account need 16 bytes?
    pub(super) const fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// The next group. All rows of the one before were taken.
    pub(super) fn next_group(&mut self) -> Option<Group> {
        let group = self.later.iter().map(|source| source.group).min()?;
        self.here.extend(self.later.extract_if(.., |source| source.group == group));
        Some(group)
    }

    /// The next disclosure of the group.
    pub(super) fn next(&mut self) -> Result<Option<Shown>> {
        // Few sources are merged at a time, so the least is found by looking at all.
        let heads = self.here.iter().enumerate();
        let Some((at, _)) = heads.min_by_key(|(_, source)| source.head.account) else { return Ok(None) };
        let Some(mut merged) = self.take(at)? else { return Ok(None) };
        while let Some(at) = self.here.iter().position(|source| source.head.account == merged.account) {
            if let Some(again) = self.take(at)? {
                merged.absorb(&again);
            }
        }
        Ok(Some(merged))
    }

    /// Takes the next row of a source.
    fn take(&mut self, at: usize) -> Result<Option<Shown>> {
        let Some(source) = self.here.get_mut(at) else { return Ok(None) };
        let row = source.head;
        match source.advance()? {
            Next::SameGroup => {}
            Next::OtherGroup => self.later.push(self.here.swap_remove(at)),
            Next::End => drop(self.here.swap_remove(at)),
        }
        Ok(Some(row))
    }
}
