//! A run: disclosures sorted by caller, origins, purpose and account, each once, in pages with checksums. Immutable.

use std::path::Path;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Folder;
use super::files::{Retiring, run_name};
use super::frame::{VERSION, bytes_at, check_header, damaged, put, u64_at};
use super::page::{PageReader, Step};
use super::row::{Filter, Group, Row, Shown, Token};
use crate::disk::MappedFile;
use crate::words::{Damage, Error, Result};

pub(super) const HEADER_LEN: usize = 128;
pub(super) const PAGE_LEN: usize = 8_192;
/// Checksum, bytes in use, zeros.
pub(super) const PAGE_HEAD: usize = 16;

const MAGIC: &[u8; 8] = b"UNLSTDRN";

/// What a run says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunHeader {
    /// The first and the last log whose rows it has.
    pub(super) lo: u64,
    pub(super) hi: u64,
    pub(super) rows: u64,
    pub(super) pages: u64,
    /// The earliest first time of a row.
    pub(super) first_ms: u64,
    /// The latest last time.
    pub(super) last_ms: u64,
    /// The earliest last time: when the first row may be forgotten.
    pub(super) oldest_ms: u64,
    /// Do accounts take 16 bytes? Otherwise each is a `u64`.
    pub(super) is_wide: bool,
}

impl RunHeader {
    /// A run without rows.
    pub(super) const fn empty(lo: u64, hi: u64, is_wide: bool) -> Self {
        Self { lo, hi, rows: 0, pages: 0, first_ms: u64::MAX, last_ms: 0, oldest_ms: u64::MAX, is_wide }
    }

    pub(super) fn count(&mut self, row: &Shown) {
        self.rows += 1;
        self.first_ms = self.first_ms.min(row.first_ms);
        self.last_ms = self.last_ms.max(row.last_ms);
        self.oldest_ms = self.oldest_ms.min(row.last_ms);
    }

    pub(super) fn encode(&self, index_id: &[u8; 16]) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let words = [self.lo, self.hi, self.rows, self.pages, self.first_ms, self.last_ms, self.oldest_ms];
        let words = words.map(u64::to_le_bytes);
        let version = u64::from(VERSION).to_le_bytes();
        put(&mut bytes, &[MAGIC, &version, index_id, words.as_flattened(), &[u8::from(self.is_wide)]]);
        let (summed, sum) = bytes.split_at_mut(HEADER_LEN - 8);
        sum.copy_from_slice(&xxh3_64(summed).to_le_bytes());
        bytes
    }

    fn decode(path: &Path, bytes: &[u8], index_id: &[u8; 16]) -> Result<Self> {
        check_header(path, bytes, (MAGIC, VERSION), HEADER_LEN, index_id)?;
        let found = bytes.len() as u64;
        let short = || damaged(path, 0, Damage::Length { expected: HEADER_LEN as u64, found });
        let word = |i: usize| u64_at(bytes, 32 + 8 * i).ok_or_else(short);
        let header = Self {
            lo: word(0)?,
            hi: word(1)?,
            rows: word(2)?,
            pages: word(3)?,
            first_ms: word(4)?,
            last_ms: word(5)?,
            oldest_ms: word(6)?,
            is_wide: word(7)? != 0,
        };
        let expected =
            header.pages.checked_mul(PAGE_LEN as u64).and_then(|len| len.checked_add(HEADER_LEN as u64));
        if expected != Some(found) {
            let expected = expected.unwrap_or(u64::MAX);
            return Err(damaged(path, found.min(expected), Damage::Length { expected, found }));
        }
        Ok(header)
    }

    /// What page checksums begin with, so that no page of another run passes.
    pub(super) fn salt(&self, index_id: &[u8; 16]) -> u64 {
        xxh3_64([*index_id, u128::from(self.lo).to_le_bytes(), u128::from(self.hi).to_le_bytes()].as_flattened())
    }
}

/// The checksum of page `number`, which covers everything behind it.
pub(super) fn page_sum(page: &[u8], number: u64, salt: u64) -> u64 {
    xxh3_64_with_seed(page.get(8..).unwrap_or_default(), salt ^ number)
}

/// An open run.
#[derive(Debug)]
pub(super) struct RunFile {
    header: RunHeader,
    salt: u64,
    map: MappedFile,
    file: Retiring,
}

impl RunFile {
    pub(super) fn open(folder: &Folder, lo: u64, hi: u64) -> Result<Self> {
        let path = folder.dir.join(run_name(lo, hi));
        let map = MappedFile::open(&folder.disk, &path)?;
        Self::over(folder, map, &path, (lo, hi))
    }

    /// Checks header and length. Pages are checked when they are read.
    pub(super) fn over(folder: &Folder, map: MappedFile, path: &Path, span: (u64, u64)) -> Result<Self> {
        let header = RunHeader::decode(path, map.as_ref(), &folder.index_id)?;
        if (header.lo, header.hi) != span {
            return Err(damaged(path, 32, Damage::Geometry { field: "the first log of a run", found: header.lo }));
        }
        Ok(Self {
            header,
            salt: header.salt(&folder.index_id),
            map,
            file: Retiring::new(&folder.disk, path.to_owned()),
        })
    }

    pub(super) const fn span(&self) -> (u64, u64) {
        (self.header.lo, self.header.hi)
    }

    pub(super) const fn rows(&self) -> u64 {
        self.header.rows
    }

    pub(super) const fn header(&self) -> &RunHeader {
        &self.header
    }

    pub(super) const fn file(&self) -> &Retiring {
        &self.file
    }

    /// The whole file.
    pub(super) fn content(&self) -> &[u8] {
        self.map.as_ref()
    }

    pub(super) const fn bytes(&self) -> u64 {
        HEADER_LEN as u64 + self.header.pages * PAGE_LEN as u64
    }

    const fn offset(page: u64) -> u64 {
        HEADER_LEN as u64 + page * PAGE_LEN as u64
    }

    /// A page whose checksum is right.
    fn page(&self, number: u64) -> Result<&[u8]> {
        let at = usize::try_from(Self::offset(number)).unwrap_or(usize::MAX);
        let page = at.checked_add(PAGE_LEN).and_then(|end| self.map.as_ref().get(at..end)).unwrap_or_default();
        if u64_at(page, 0) != Some(page_sum(page, number, self.salt)) {
            return Err(self.flaw(number, Damage::Checksum { of: "a page of disclosures" }));
        }
        Ok(page)
    }

    fn flaw(&self, page: u64, what: Damage) -> Error {
        damaged(&self.file.path, Self::offset(page), what)
    }

    /// The last page that does not begin behind the caller's rows. Every page begins with a group, so with a caller.
    fn first_page_of(&self, caller: &Token) -> Result<u64> {
        let (mut low, mut high) = (0, self.header.pages);
        while low < high {
            let middle = low + (high - low) / 2;
            let first = bytes_at::<16>(self.page(middle)?, PAGE_HEAD).unwrap_or_default();
            if first < *caller { low = middle + 1 } else { high = middle }
        }
        Ok(low.saturating_sub(1))
    }
}

/// Goes through the rows of a run that a filter takes.
#[derive(Debug)]
pub(super) struct RunReader {
    run: std::sync::Arc<RunFile>,
    filter: Filter,
    next_page: u64,
    page: Option<PageReader>,
    group: Group,
}

impl RunReader {
    pub(super) fn new(run: std::sync::Arc<RunFile>, filter: Filter) -> Result<Self> {
        let header = run.header;
        let none = !filter.takes_times(header.first_ms, header.last_ms) || header.pages == 0;
        let next_page = match filter.caller {
            _ if none => header.pages,
            Some(caller) => run.first_page_of(&caller)?,
            None => 0,
        };
        Ok(Self { run, filter, next_page, page: None, group: Group::default() })
    }

    /// The next row with its group.
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        loop {
            match self.step()? {
                Step::Group(group) => self.group = group,
                Step::Row(shown) => return Ok(Some(shown.to(self.group))),
                Step::End | Step::Past => return Ok(None),
            }
        }
    }

    /// The next group or row, or the end of the run.
    pub(super) fn step(&mut self) -> Result<Step> {
        loop {
            let Some(reader) = &mut self.page else {
                if self.next_page >= self.run.header.pages {
                    return Ok(Step::End);
                }
                let page = self.run.page(self.next_page)?;
                let number = self.next_page;
                let reader = PageReader::new(page, self.run.header.is_wide);
                self.page = Some(reader.map_err(|reason| self.run.flaw(number, Damage::Disclosure { reason }))?);
                self.next_page += 1;
                continue;
            };
            match reader.next(&self.filter) {
                Ok(Step::End) => self.page = None,
                Ok(Step::Past) => {
                    self.page = None;
                    self.next_page = self.run.header.pages;
                }
                Ok(step) => return Ok(step),
                Err(reason) => {
                    return Err(self.run.flaw(self.next_page - 1, Damage::Disclosure { reason }));
                }
            }
        }
    }
}
