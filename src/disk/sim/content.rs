//! The bytes of a file: as they read, as they are on the disk, and what is on its way there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Random, SECTOR_LEN};

/// Bytes that the model keeps together; a disk keeps sectors together.
pub(super) const PAGE_LEN: usize = 4096;
const SECTORS: usize = PAGE_LEN / SECTOR_LEN;

type Page = [u8; PAGE_LEN];

/// Bytes, of which pages that are zeros take no memory.
#[derive(Debug, Clone, Default)]
struct Image {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    live: Image,
    durable: Image,
    /// What pages were since the last sync, oldest first. `None` is zeros.
    written: BTreeMap<u64, Vec<Option<Arc<Page>>>>,
    /// Lengths since the last sync.
    lens: Vec<u64>,
}

impl Content {
    pub(super) const fn len(&self) -> u64 {
        self.live.len
    }

    pub(super) fn used_pages(&self) -> usize {
        self.live.pages.len()
    }

    /// Pages that a write needs and the file does not have yet.
    pub(super) fn missing_pages(&self, offset: u64, len: usize) -> usize {
        pages_of(offset, len).filter(|page| !self.live.pages.contains_key(page)).count()
    }

    /// As many bytes as there are, up to all of `to`.
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> usize {
        let len = usize::try_from(self.live.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(to.len());
        let to = to.get_mut(..len).unwrap_or_default();
        for (page, inside, part) in parts(offset, to) {
            match self.live.pages.get(&page).and_then(|bytes| bytes.get(inside..inside + part.len())) {
                Some(bytes) => part.copy_from_slice(bytes),
                None => part.fill(0),
            }
        }
        len
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = 0;
        for page in pages_of(offset, bytes.len()) {
            let mut next = self.live.pages.get(&page).map_or([0; PAGE_LEN], |page| **page);
            let inside = (offset + at as u64) as usize % PAGE_LEN;
            let len = (PAGE_LEN - inside).min(bytes.len() - at);
            if let (Some(to), Some(from)) = (next.get_mut(inside..inside + len), bytes.get(at..at + len)) {
                to.copy_from_slice(from);
            }
            at += len;
            self.put(page, Some(Arc::new(next)));
        }
        if offset + bytes.len() as u64 > self.live.len {
            self.live.len = offset + bytes.len() as u64;
            self.lens.push(self.live.len);
        }
    }

    fn put(&mut self, page: u64, bytes: Option<Arc<Page>>) {
        self.written.entry(page).or_default().push(bytes.clone());
        self.live.set(page, bytes);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.live.len {
            let cut = len.div_ceil(PAGE_LEN as u64);
            let gone: Vec<u64> = self.live.pages.range(cut..).map(|(page, _)| *page).collect();
            gone.into_iter().for_each(|page| self.put(page, None));
            let inside = len as usize % PAGE_LEN;
            if inside > 0
                && let Some(last) = self.live.pages.get(&(cut - 1))
            {
                let mut last = **last;
                last.iter_mut().skip(inside).for_each(|byte| *byte = 0);
                self.put(cut - 1, Some(Arc::new(last)));
            }
        }
        self.live.len = len;
        self.lens.push(len);
    }

    pub(super) fn sync(&mut self) {
        for (page, versions) in std::mem::take(&mut self.written) {
            self.durable.set(page, versions.into_iter().next_back().flatten());
        }
        self.durable.len = self.live.len;
        self.lens.clear();
    }

    /// What a sync that failed leaves: what was written is there or not, and counts as synced.
    pub(super) fn sync_in_part(&mut self, random: Random) {
        self.durable = self.survivor(random);
        self.written.clear();
        self.lens.clear();
    }

    pub(super) fn crash(&self, random: Random) -> Self {
        let survivor = self.survivor(random);
        Self { live: survivor.clone(), durable: survivor, written: BTreeMap::new(), lens: Vec::new() }
    }

    fn survivor(&self, random: Random) -> Image {
        let mut left = self.durable.clone();
        for (page, versions) in &self.written {
            let before = self.durable.pages.get(page).cloned();
            left.set(*page, torn(*page, before, versions, random));
        }
        if let Some(last) = self.lens.last()
            && random.survives(u64::MAX, 0)
        {
            let at = random.at(u64::MAX, 1);
            left.len =
                if at.is_multiple_of(4) { pick(&self.lens, at / 4).copied().unwrap_or(*last) } else { *last };
        }
        left.cut();
        left
    }
}

impl Image {
    fn set(&mut self, page: u64, bytes: Option<Arc<Page>>) {
        match bytes {
            Some(bytes) => self.pages.insert(page, bytes),
            None => self.pages.remove(&page),
        };
    }

    /// Nothing is behind the end: a file that grows gets zeros.
    fn cut(&mut self) {
        let end = self.len;
        self.pages.retain(|page, _| *page * (PAGE_LEN as u64) < end);
        let inside = end as usize % PAGE_LEN;
        if inside > 0
            && let Some(last) = self.pages.get_mut(&(end / PAGE_LEN as u64))
        {
            Arc::make_mut(last).iter_mut().skip(inside).for_each(|byte| *byte = 0);
        }
    }
}

/// A page each of whose sectors is as it was at some moment since the sync, more likely at the last.
fn torn(
    page: u64,
    before: Option<Arc<Page>>,
    versions: &[Option<Arc<Page>>],
    random: Random,
) -> Option<Arc<Page>> {
    let mut left = before.as_deref().copied().unwrap_or([0; PAGE_LEN]);
    for sector in 0..SECTORS {
        let at = page * SECTORS as u64 + sector as u64;
        if !random.survives(at, 0) {
            continue;
        }
        let which = random.at(at, 1);
        let chosen = if which.is_multiple_of(4) { pick(versions, which / 4) } else { versions.last() };
        let bytes = chosen.and_then(Option::as_deref).unwrap_or(&[0; PAGE_LEN]);
        let range = sector * SECTOR_LEN..(sector + 1) * SECTOR_LEN;
        if let (Some(to), Some(from)) = (left.get_mut(range.clone()), bytes.get(range)) {
            to.copy_from_slice(from);
        }
    }
    Some(Arc::new(left))
}

fn pick<T>(from: &[T], which: u64) -> Option<&T> {
    from.get(which as usize % from.len().max(1))
}

pub(super) fn pages_of(offset: u64, len: usize) -> std::ops::Range<u64> {
    let end = offset + len as u64;
    offset / PAGE_LEN as u64..if len == 0 { offset / PAGE_LEN as u64 } else { end.div_ceil(PAGE_LEN as u64) }
}

/// A slice that begins at an offset, page by page: the page, where in it, the bytes.
fn parts(offset: u64, bytes: &mut [u8]) -> impl Iterator<Item = (u64, usize, &mut [u8])> {
    let first = PAGE_LEN - offset as usize % PAGE_LEN;
    let (head, rest) = bytes.split_at_mut(first.min(bytes.len()));
    let mut at = offset;
    std::iter::once(head).chain(rest.chunks_mut(PAGE_LEN)).map(move |part| {
        let (page, inside) = (at / PAGE_LEN as u64, at as usize % PAGE_LEN);
        at += part.len() as u64;
        (page, inside, part)
    })
}
