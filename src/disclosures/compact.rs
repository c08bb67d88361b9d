//! Compaction: sealed logs become runs, runs of a size become one, and what is to be forgotten goes.

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::erased::Erased;
use super::files::{Part, run_name};
use super::merge::Merge;
use super::page::{PageWriter, Step};
use super::row::{Filter, Group};
use super::run::{HEADER_LEN, PAGE_LEN, RunFile, RunHeader, RunReader};
use super::{DisclosureLog, Folder};
use crate::disk::File;
use crate::words::{AccountId, Damage, Error, Result};

/// Neighbours of one size that are worth merging. A row is then written about once for each fourfold growth of the log.
const FAN: usize = 4;
/// A run is rewritten when its oldest row is past the retention by this share of it, and not for every row anew.
/// Queries leave out what is past the retention to the millisecond.
const SLACK: u64 = 16;

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Compaction {
    /// Sealed logs that became runs.
    pub(crate) logs: usize,
    /// Rows past their retention, or of erased accounts, that went.
    pub(crate) forgotten: u64,
}

/// What a rewrite leaves out.
struct Forget<'a> {
    /// Rows shown last before this moment.
    before_ms: u64,
    /// Rows of these accounts, in parts that are not newer than their erasure.
    accounts: &'a Erased,
}

impl Forget<'_> {
    fn has_erased(&self, account: AccountId, newest: u64) -> bool {
        self.accounts.get(&account).is_some_and(|up_to| newest <= *up_to)
    }
}

impl DisclosureLog {
    /// How long a row stays in the files after it was shown last, in milliseconds.
    pub(crate) const fn longest_ms(&self) -> u64 {
        self.retention_ms.saturating_add(self.retention_ms / SLACK)
    }

    /// Is there anything to compact?
    pub(crate) fn is_compact(&self) -> bool {
        let no_logs = self.writer.with(|state| !state.parts.iter().any(|part| matches!(part, Part::Log(_))));
        no_logs && self.erased.get().is_empty()
    }

    /// Compacts what is sealed by now, the growing log too if `all` says so. Lookups and queries go on meanwhile.
    pub(crate) fn compact(&self, now_ms: u64, all: bool) -> Result<Compaction> {
        let _one = self.compaction.lock();
        if all {
            self.writer.seal()?;
        }
        let erased = self.erased.get();
        let forget = Forget { before_ms: now_ms.saturating_sub(self.retention_ms), accounts: &erased };
        let mut done = Compaction::default();
        // Before anything is merged, so that no file mixes rows that an erasure meant with later ones.
        for part in self.parts() {
            let is_log = matches!(part, Part::Log(_));
            if is_log || self.is_worth_forgetting(&part, &forget)? {
                done.forgotten += self.replace(&[part], &forget)?;
                done.logs += usize::from(is_log);
            }
        }
        if !erased.is_empty() {
            self.erased.done(self.writer.folder(), &erased)?;
        }
        loop {
            let parts = self.parts();
            let Some(worth) = worth_merging(&parts).and_then(|range| parts.get(range)) else { return Ok(done) };
            done.forgotten += self.replace(worth, &forget)?;
        }
    }

    /// Hides every row of these accounts, durably; the next compaction takes them out of the files.
    pub(crate) fn erase(&self, accounts: &[AccountId]) -> Result<()> {
        let _one = self.compaction.lock();
        let up_to = self.writer.seal()?;
        if self.parts().is_empty() {
            return Ok(());
        }
        self.erased.add(self.writer.folder(), accounts, up_to)
    }

    fn parts(&self) -> Vec<Part> {
        self.writer.with(|state| state.parts.clone())
    }

    fn is_worth_forgetting(&self, part: &Part, forget: &Forget<'_>) -> Result<bool> {
        let Part::Run(run) = part else { return Ok(false) };
        if run.header().oldest_ms < forget.before_ms.saturating_sub(self.retention_ms / SLACK) {
            return Ok(true);
        }
        if forget.accounts.is_empty() {
            return Ok(false);
        }
        let mut reader = RunReader::new(run.clone(), Filter::ALL)?;
        while let Some(row) = reader.next()? {
            if forget.has_erased(row.account, part.span().1) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts one run in the place of neighbours. Returns how many rows were forgotten.
    fn replace(&self, parts: &[Part], forget: &Forget<'_>) -> Result<u64> {
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return Ok(0) };
        let (lo, hi) = (first.span().0, last.span().1);
        let folder = self.writer.folder();
        let merge = Merge::new(parts)?;
        let header = RunHeader::empty(lo, hi, merge.is_wide());
        let mut forgotten = 0;
        let run = folder.disk.publish_streamed(
            &folder.dir,
            &run_name(lo, hi),
            |path, file| write_run(folder, path, file, header, merge, forget).map(|gone| forgotten = gone),
            |path, map| {
                let run = Arc::new(RunFile::over(folder, map, path, (lo, hi))?);
                verify(&run, path).map(|()| run)
            },
        )?;
        self.writer.with(|state| {
            let is_inside = |part: &Part| part.span().0 >= lo && part.span().1 <= hi;
            let at = state.parts.iter().position(is_inside).unwrap_or(state.parts.len());
            state.parts.retain(|part| !is_inside(part));
            state.parts.insert(at, Part::Run(run));
        });
        // A run that was rewritten in its own place has the name of its successor.
        let renamed = parts.iter().filter(|part| matches!(part, Part::Log(_)) || part.span() != (lo, hi));
        renamed.for_each(Part::retire);
        Ok(forgotten)
    }
}

/// Writes the rows of a merge that are not to be forgotten; returns how many are.
fn write_run(
    folder: &Folder,
    path: &Path,
    file: &mut File,
    header: RunHeader,
    mut merge: Merge,
    forget: &Forget<'_>,
) -> Result<u64> {
    let error = || Error::io("write", path);
    let mut to = BufWriter::with_capacity(16 * PAGE_LEN, &mut *file);
    to.write_all(&[0; HEADER_LEN]).map_err(error())?;
    let mut pages = PageWriter::new(to, header, header.salt(&folder.index_id));
    let mut forgotten = 0;
    while let Some(group) = merge.next_group() {
        pages.begin(group);
        while let Some(row) = merge.next()? {
            if row.last_ms < forget.before_ms || forget.has_erased(row.account, header.hi) {
                forgotten += 1;
            } else {
                pages.push(&row).map_err(error())?;
            }
        }
    }
    let (mut to, header) = pages.finish().map_err(error())?;
    to.flush().map_err(error())?;
    drop(to);
    file.seek(SeekFrom::Start(0)).map_err(error())?;
    file.write_all(&header.encode(&folder.index_id)).map_err(error())?;
    Ok(forgotten)
}

/// Reads a run as a query would: every page, every row, in order.
fn verify(run: &Arc<RunFile>, path: &Path) -> Result<()> {
    let mut reader = RunReader::new(run.clone(), Filter::ALL)?;
    let mut rows = 0;
    let mut group: Option<Group> = None;
    let mut previous: Option<AccountId> = None;
    loop {
        let is_behind = match reader.step()? {
            // It goes on from the page before.
            Step::Group(next) if group == Some(next) => true,
            Step::Group(next) => {
                previous = None;
                group.replace(next).is_none_or(|group| group < next)
            }
            Step::Row(row) => {
                rows += 1;
                previous.replace(row.account).is_none_or(|previous| previous < row.account)
            }
            Step::End | Step::Past => break,
        };
        if !is_behind {
            let what = Damage::Disclosure { reason: "it is not behind the one before it" };
            return Err(super::frame::damaged(path, 0, what));
        }
    }
    if rows == run.rows() {
        return Ok(());
    }
    Err(super::frame::damaged(path, 48, Damage::Geometry { field: "the number of rows", found: run.rows() }))
}

/// A run's size, in powers of [`FAN`].
fn level(part: &Part) -> u32 {
    part.bytes().div_ceil(PAGE_LEN as u64).max(1).ilog(FAN as u64)
}

/// Neighbours to merge next: a run that is empty or smaller than the one behind it, or [`FAN`] of a size. Logs are not meant:
/// they become runs first.
fn worth_merging(parts: &[Part]) -> Option<std::ops::Range<usize>> {
    let runs = parts.iter().take_while(|part| matches!(part, Part::Run(_)));
    // A run that everything was forgotten of keeps its place only until a neighbour takes it over.
    let levels: Vec<u32> = runs.map(|part| if part.rows() == 0 { 0 } else { 1 + level(part) }).collect();
    let small = |older: u32, newer: u32| older < newer || older == 0;
    let grown = levels.array_windows().position(|[older, newer]| small(*older, *newer)).map(|at| at..at + 2);
    let equal = levels.windows(FAN).position(|levels| levels.iter().min() == levels.iter().max());
    grown.or_else(|| equal.map(|at| at..at + FAN))
}

#[cfg(test)]
mod tests {
    #[test]
    fn levels_grow_by_the_fan() {
        assert_eq!([1_u64, 3, 4, 15, 16, 64].map(|pages| pages.ilog(super::FAN as u64)), [0, 0, 1, 1, 2, 3]);
    }
}
