//! A page of a run: groups of rows, as short as they can be without reaching for another page.

use std::io::{self, Write};

use super::frame::bytes_at;
use super::row::{Filter, Group, MAX_ORIGINS, Origins, Shown};
use super::run::{PAGE_HEAD, PAGE_LEN, RunHeader, page_sum};
use crate::words::AccountId;

const MINUTE_MS: u64 = 60_000;
/// Count and bytes of a group's rows.
const COUNT_LEN: usize = 4;

fn put_varint(to: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u128> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(u128::from(first));
    }
    let mut value = u128::from(first & 0x7f);
    for shift in (7..128).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u128::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Times of a row: one byte if it was shown once, at the time of the first of its group. The last time is kept in
/// minutes, rounded up.
fn put_times(to: &mut Vec<u8>, base_ms: u64, row: &Shown) {
    let after = row.first_ms.wrapping_sub(base_ms) as i64;
    let zigzag = ((after << 1) ^ (after >> 63)) as u64;
    let again = row.last_ms > row.first_ms;
    put_varint(to, u128::from(zigzag) << 1 | u128::from(again));
    if again {
        put_varint(to, u128::from(row.last_ms.div_ceil(MINUTE_MS) - row.first_ms / MINUTE_MS));
    }
}

fn times(bytes: &[u8], at: &mut usize, base_ms: u64) -> Option<(u64, u64)> {
    let word = varint(bytes, at)?;
    let zigzag = u64::try_from(word >> 1).ok()?;
    let first_ms = base_ms.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg());
    if word & 1 == 0 {
        return Some((first_ms, first_ms));
    }
    let minutes = u64::try_from(varint(bytes, at)?).ok()?;
    let last_ms = (first_ms / MINUTE_MS).checked_add(minutes)?.saturating_mul(MINUTE_MS);
    Some((first_ms, last_ms.max(first_ms)))
}

/// The group on the page that rows are being added to.
struct Open {
    base_ms: u64,
    count_at: usize,
    count: u16,
    previous: u64,
}

/// Puts sorted rows into pages.
pub(super) struct PageWriter<W> {
    to: W,
    header: RunHeader,
    salt: u64,
    page: Vec<u8>,
    group: Group,
    open: Option<Open>,
}

impl<W: Write> PageWriter<W> {
    pub(super) fn new(to: W, header: RunHeader, salt: u64) -> Self {
        let page = Vec::with_capacity(2 * PAGE_LEN);
        Self { to, header, salt, page, group: Group::default(), open: None }
    }

    /// The rows that follow are of this group, which is greater than all before it.
    pub(super) fn begin(&mut self, group: Group) {
        self.close_group();
        self.group = group;
    }

    /// Adds a row whose account is greater than all before it in the group.
    pub(super) fn push(&mut self, row: &Shown) -> io::Result<()> {
        if !self.try_push(row) {
            self.finish_page()?;
            // An empty page holds any group with one row.
            self.try_push(row);
        }
        self.header.count(row);
        Ok(())
    }

    /// Adds a row if the page has room for it.
    fn try_push(&mut self, row: &Shown) -> bool {
        if self.page.is_empty() {
            self.page.resize(PAGE_HEAD, 0);
        }
        let len = self.page.len();
        let mut open = self.open.take().unwrap_or_else(|| self.put_head(row.first_ms));
        let has_head = open.count > 0;
        put_account(&mut self.page, row.account, open.previous, self.header.is_wide);
        put_times(&mut self.page, open.base_ms, row);
        let fits = self.page.len() <= PAGE_LEN;
        if fits {
            open.previous = low_half(row.account);
            open.count += 1;
        } else {
            self.page.truncate(len);
        }
        self.open = (fits || has_head).then_some(open);
        fits
    }

    /// Begins the group on the page.
    fn put_head(&mut self, base_ms: u64) -> Open {
        let Group { caller, origins, purpose } = &self.group;
        let origins = origins.tokens();
        self.page.extend_from_slice(caller);
        self.page.extend_from_slice(&[origins.len() as u8, *purpose]);
        self.page.extend_from_slice(origins.as_flattened());
        self.page.extend_from_slice(&base_ms.to_le_bytes());
        let count_at = self.page.len();
        self.page.extend_from_slice(&[0; COUNT_LEN]);
        Open { base_ms, count_at, count: 0, previous: 0 }
    }

    fn close_group(&mut self) {
        if let Some(open) = self.open.take() {
            let len = (self.page.len() - open.count_at - COUNT_LEN) as u16;
            let counts = [open.count.to_le_bytes(), len.to_le_bytes()];
            if let Some(to) = self.page.get_mut(open.count_at..open.count_at + COUNT_LEN) {
                to.copy_from_slice(counts.as_flattened());
            }
        }
    }

    fn finish_page(&mut self) -> io::Result<()> {
        self.close_group();
        let used = self.page.len() as u64;
        self.page.resize(PAGE_LEN, 0);
        if let Some(to) = self.page.get_mut(8..16) {
            to.copy_from_slice(&used.to_le_bytes());
        }
        let sum = page_sum(&self.page, self.header.pages, self.salt);
        if let Some(to) = self.page.get_mut(..8) {
            to.copy_from_slice(&sum.to_le_bytes());
        }
        self.to.write_all(&self.page)?;
        self.page.clear();
        self.header.pages += 1;
        Ok(())
    }

    /// Writes the last page; returns the header that tells of everything written.
    pub(super) fn finish(mut self) -> io::Result<(W, RunHeader)> {
        if self.page.len() > PAGE_HEAD {
            self.finish_page()?;
        }
        Ok((self.to, self.header))
    }
}

fn low_half(account: AccountId) -> u64 {
    account.as_u64().unwrap_or_default()
}

/// A wide account as it is; a narrow one as its distance from the one before.
fn put_account(to: &mut Vec<u8>, account: AccountId, previous: u64, is_wide: bool) {
    if is_wide {
        to.extend_from_slice(&account.to_bytes());
    } else {
        put_varint(to, u128::from(low_half(account).wrapping_sub(previous)));
    }
}

/// What comes next on a page.
pub(super) enum Step {
    /// The rows that follow are of this group. It may be the one before, which went on from another page.
    Group(Group),
    Row(Shown),
    /// The page is through.
    End,
    /// So is everything that the filter takes.
    Past,
}

/// Reads a page whose checksum is right. Errors are reasons: what no writer writes.
#[derive(Debug)]
pub(super) struct PageReader {
    page: Box<[u8]>,
    is_wide: bool,
    at: usize,
    used: usize,
    base_ms: u64,
    left: u16,
    group_end: usize,
    previous: u64,
}

impl PageReader {
    pub(super) fn new(page: &[u8], is_wide: bool) -> Result<Self, &'static str> {
        let used = bytes_at(page, 8).map(u64::from_le_bytes).and_then(|used| usize::try_from(used).ok());
        let used = used.filter(|used| (PAGE_HEAD..=page.len()).contains(used));
        let used = used.ok_or("a page uses more than there is")?;
        Ok(Self {
            page: page.get(..used).unwrap_or_default().into(),
            is_wide,
            at: PAGE_HEAD,
            used,
            base_ms: 0,
            left: 0,
            group_end: PAGE_HEAD,
            previous: 0,
        })
    }

    pub(super) fn next(&mut self, filter: &Filter) -> Result<Step, &'static str> {
        loop {
            while self.left > 0 {
                let row = self.row().ok_or("a row does not decode")?;
                if filter.takes_account(row.account) && filter.takes_times(row.first_ms, row.last_ms) {
                    return Ok(Step::Row(row));
                }
            }
            if self.at != self.group_end {
                return Err("a group has another length than it says");
            }
            if self.at == self.used {
                return Ok(Step::End);
            }
            let group = self.group_head().ok_or("a group does not decode")?;
            if filter.caller.is_some_and(|caller| group.caller > caller) {
                return Ok(Step::Past);
            }
            if filter.takes_group(&group) {
                return Ok(Step::Group(group));
            }
            (self.at, self.left) = (self.group_end, 0);
        }
    }

    fn group_head(&mut self) -> Option<Group> {
        let (page, at) = (&self.page, self.at);
        let caller = bytes_at(page, at)?;
        let [origins, purpose] = bytes_at(page, at + 16)?;
        let origins = usize::from(origins);
        if origins > MAX_ORIGINS {
            return None;
        }
        let end = at + 18 + 16 * origins;
        let (tokens, _) = page.get(at + 18..end)?.as_chunks();
        let tokens = Origins::new(tokens.iter().copied());
        self.base_ms = u64::from_le_bytes(bytes_at(page, end)?);
        self.left = u16::from_le_bytes(bytes_at(page, end + 8)?);
        let len = usize::from(u16::from_le_bytes(bytes_at(page, end + 10)?));
        self.at = end + 8 + COUNT_LEN;
        self.group_end = self.at + len;
        self.previous = 0;
        (self.group_end <= self.used).then_some(Group { caller, origins: tokens, purpose })
    }

    fn row(&mut self) -> Option<Shown> {
        let page = &self.page;
        let account = if self.is_wide {
            let bytes = bytes_at(page, self.at)?;
            self.at += 16;
            AccountId::from_bytes(bytes)
        } else {
            let distance = u64::try_from(varint(page, &mut self.at)?).ok()?;
            self.previous = self.previous.wrapping_add(distance);
            AccountId::from(self.previous)
        };
        let (first_ms, last_ms) = times(page, &mut self.at, self.base_ms)?;
        self.left -= 1;
        Some(Shown { account, first_ms, last_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_and_times_round_trip() {
        for value in [0, 1, 127, 128, 300, u128::from(u64::MAX), u128::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut at = 0;
            assert_eq!((varint(&bytes, &mut at), at), (Some(value), bytes.len()));
            assert!(varint(&bytes[..bytes.len() - 1], &mut 0).is_none());
        }
        for (base, first, last) in [
            (1_000, 1_000, 1_000),
            (90_000, 1_000, 1_001),
            (5, u64::MAX - 70_000, u64::MAX - 70_000),
            (1_795_000_000_123, 1_795_000_700_000, 1_795_100_000_000),
        ] {
            let row = Shown { account: AccountId::from(1), first_ms: first, last_ms: last };
            let mut bytes = Vec::new();
            put_times(&mut bytes, base, &row);
            let mut at = 0;
            let (again_first, again_last) = times(&bytes, &mut at, base).unwrap();
            assert_eq!((again_first, at), (first, bytes.len()));
            assert!(again_last >= last && again_last - last < MINUTE_MS, "{again_last} for {last}");
            assert!(first != last || bytes.len() <= 10);
        }
    }
}
