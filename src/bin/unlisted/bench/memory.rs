//! What the machine itself gives: random cache lines, sequential writes, and the peak of our memory.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::pace;
use crate::commands::generate::SplitMix;
use crate::error::CliError;

const LINE: usize = 64;
/// Lines read in each pass, over all threads.
const LINES_READ: usize = 4 << 20;
/// Lines read between two looks at the clock.
const LINES_AT_ONCE: usize = 512;

/// Memory that random lines leave to everything else, segments apart.
const LEFT_FREE: u64 = 4 << 30;
/// Memory of random lines where segments leave none: more than any cache holds or any processor has pages of at hand.
const RANDOM_BYTES_AT_LEAST: u64 = 4 << 30;

/// Memory to read random lines of.
pub struct RandomLines(memmap2::MmapMut);

impl RandomLines {
    /// As much memory as segments of so many bytes take, if both fit; what larger segments need is not taken from them.
    pub fn beside(segment_bytes: u64) -> Result<Self, CliError> {
        let total = meminfo_bytes("MemTotal:").map_or(0, |bytes| bytes as u64);
        let room = total.saturating_sub(segment_bytes).saturating_sub(LEFT_FREE);
        Self::over(segment_bytes.min(room.max(RANDOM_BYTES_AT_LEAST)))
    }

    /// So many bytes, touched; huge pages are asked for where the kernel gives them.
    fn over(bytes: u64) -> Result<Self, CliError> {
        let failed = |source| CliError::File { action: "map", name: "anonymous memory".to_owned(), source };
        let len = usize::try_from(bytes).unwrap_or(usize::MAX).max(LINE << 10);
        let mut memory = memmap2::MmapMut::map_anon(len).map_err(failed)?;
        #[cfg(target_os = "linux")]
        // A kernel without huge pages refuses; the figure is then that of small ones, as for everything else here.
        let _ = memory.advise(memmap2::Advice::HugePage);
        memory.fill(1);
        Ok(Self(memory))
    }

    /// Nanoseconds for an independent random line, on so many threads at once. The processor may have as many lines
    /// under way as it can.
    pub fn ns(&self, threads: u64, seed: u64) -> Result<f64, CliError> {
        let lines = (self.0.len() / LINE) as u64;
        pace::ns_per_unit(threads, LINES_READ / LINES_AT_ONCE, LINES_AT_ONCE, pace::SLICE_UNITS, |i| {
            let mut random = SplitMix(seed << 48 ^ i as u64);
            let line = |_| self.0.get(random.below(lines) as usize * LINE).copied().map_or(0, u64::from);
            std::hint::black_box((0..LINES_AT_ONCE).map(line).sum::<u64>());
            Ok(())
        })
        .map(|pace| pace.median_ns)
    }
}

/// Megabytes a second that the disk takes in one file, synced at its end.
pub fn sequential_write_mb_per_s(dir: &Path, bytes: u64) -> Result<f64, CliError> {
    let path = dir.join("sequential-write.tmp");
    let failed = |source| CliError::File { action: "write", name: path.display().to_string(), source };
    let chunk = vec![0xa5_u8; 4 << 20];
    let start = Instant::now();
    let mut file = File::create(&path).map_err(failed)?;
    let chunks = bytes.div_ceil(chunk.len() as u64).max(1);
    for _ in 0..chunks {
        file.write_all(&chunk).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_file(&path).map_err(failed)?;
    Ok((chunks * chunk.len() as u64) as f64 / 1e6 / seconds)
}

/// The most memory this process had in RAM, mapped files included, in megabytes; `None` where the system does not
/// tell.
pub fn peak_rss_mb() -> Option<f64> {
    status_bytes("VmHWM:").map(|bytes| bytes / 1e6)
}

/// The memory this process has in RAM now, mapped files included, in bytes.
pub fn rss_bytes() -> Option<f64> {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> Option<f64> {
    bytes_in("/proc/self/status", name)
}

fn meminfo_bytes(name: &str) -> Option<f64> {
    bytes_in("/proc/meminfo", name)
}

fn bytes_in(file: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}

/// Lets the page cache go of every file in a folder that nobody has mapped.
pub fn forget_files(folder: &Path) -> Result<(), CliError> {
    let failed = |source| CliError::File { action: "read", name: folder.display().to_string(), source };
    for item in fs::read_dir(folder).map_err(failed)? {
        let file = File::open(item.map_err(failed)?.path()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}
