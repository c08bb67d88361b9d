//! Memory in huge pages where the kernel gives them, and what independent random lines of it cost.

use std::hint::black_box;

use memmap2::MmapMut;

use super::population::SplitMix;
use super::timing;

/// Bytes of a cache line.
pub const LINE: usize = 64;

/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// So many bytes of zeros at least. Whole huge pages: the kernel lets only those begin where a huge page does.
pub fn zeroed(len: usize) -> std::io::Result<MmapMut> {
    let memory = MmapMut::map_anon(len.max(LINE).next_multiple_of(HUGE_PAGE))?;
    // A kernel without huge pages refuses; every figure is then that of small ones.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    Ok(memory)
}

/// Memory to read random lines of.
pub struct RandomLines(MmapMut);

impl RandomLines {
    /// So many bytes, touched.
    pub fn over(len: usize) -> std::io::Result<Self> {
        let mut memory = zeroed(len)?;
        memory.fill(1);
        Ok(Self(memory))
    }

    /// Nanoseconds for a line, over the first `len` bytes. The processor may have as many under way as it can.
    pub fn ns(&self, len: usize, seed: u64) -> f64 {
        let lines = (len.min(self.0.len()) / LINE) as u64;
        timing::median_ns(timing::SLICES, timing::SLICE, |slice| {
            let mut random = SplitMix(seed << 48 ^ slice as u64);
            let line = |_| self.0.get(random.below(lines) as usize * LINE).copied().map_or(0, u64::from);
            black_box((0..timing::SLICE).map(line).sum::<u64>());
        })
    }
}
