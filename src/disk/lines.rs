//! Memory in whole cache lines, in huge pages where the kernel gives them.
//!
//! A table that is read at random misses the TLB with every read if its pages are small, which on a virtual machine
//! costs as much as the memory itself.

use memmap2::MmapMut;

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;
/// Bytes from which on memory is mapped on its own: a huge page.
const MAPPED_FROM: usize = 2 << 20;

/// Lines that begin as zeros.
pub(crate) struct Lines(Memory);

enum Memory {
    Heap(Vec<Line>),
    Mapped(MmapMut),
}

/// As an element of a vector, it begins where a cache line does.
#[derive(Clone)]
#[repr(align(64))]
struct Line([u8; LINE]);

impl Lines {
    /// So many lines of zeros.
    pub(crate) fn zeroed(count: usize) -> Self {
        let len = count.saturating_mul(LINE);
        if len >= MAPPED_FROM
            && let Ok(map) = MmapMut::map_anon(len)
        {
            // A kernel without huge pages refuses, and the memory works as it is.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Self(Memory::Mapped(map));
        }
        Self(Memory::Heap(vec![Line([0; LINE]); count]))
    }

    /// How many lines there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Memory::Heap(lines) => lines.len(),
            Memory::Mapped(map) => map.len() / LINE,
        }
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&[u8; LINE]> {
        match &self.0 {
            Memory::Heap(lines) => lines.get(at).map(|line| &line.0),
            Memory::Mapped(map) => map.as_chunks().0.get(at),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut [u8; LINE]> {
        match &mut self.0 {
            Memory::Heap(lines) => lines.get_mut(at).map(|line| &mut line.0),
            Memory::Mapped(map) => map.as_chunks_mut().0.get_mut(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn lines_are_zeros_until_they_are_written_and_begin_where_cache_lines_do() {
        for count in [0, 1, 100, MAPPED_FROM / LINE, MAPPED_FROM / LINE * 3] {
            let mut lines = Lines::zeroed(count);
            assert_eq!(
                (lines.len(), lines.get(count).is_none(), lines.get_mut(count).is_none()),
                (count, true, true)
            );
            for at in BTreeSet::from([0, count / 2, count.saturating_sub(1)]).into_iter().filter(|at| *at < count)
            {
                assert_eq!(lines.get(at), Some(&[0; LINE]));
                *lines.get_mut(at).unwrap() = [at as u8 | 1; LINE];
                assert_eq!(lines.get(at), Some(&[at as u8 | 1; LINE]));
                assert_eq!(lines.get(at).unwrap().as_ptr() as usize % LINE, 0);
            }
        }
    }
}
