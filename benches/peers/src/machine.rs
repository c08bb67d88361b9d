//! What the machine gives: random cache lines, and the memory and disk that something takes.

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use crate::population::SplitMix;
use crate::store::Result;

const LINE: usize = 64;
/// Lines read in each pass, over all threads.
const LINES_READ: u64 = 16_000_000;

/// Nanoseconds for an independent random cache line over so much memory, on so many threads at once, in huge pages
/// where the kernel gives them.
pub fn random_line_ns(bytes: u64, threads: u64) -> Result<f64> {
    let len = usize::try_from(bytes)?.max(LINE << 10);
    let mut memory = memmap2::MmapMut::map_anon(len)?;
    #[cfg(target_os = "linux")]
    // A kernel without huge pages refuses; the figure is then that of small ones.
    let _ = memory.advise(memmap2::Advice::HugePage);
    memory.fill(1);
    let memory: &[u8] = &memory;
    let lines = (len / LINE) as u64;
    let pass = |seed: u64| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut random = SplitMix(seed ^ thread << 32);
                    let line = |_| u64::from(memory[random.below(lines) as usize * LINE]);
                    black_box((0..LINES_READ / threads).map(line).sum::<u64>());
                });
            }
        });
        start.elapsed().as_secs_f64() * 1e9 / LINES_READ as f64
    };
    Ok(median((0..3).map(pass).collect()))
}

/// The most memory this process had in RAM, pages of mapped files included, in megabytes.
pub fn peak_rss_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// Lets the peak begin again at what is in use now.
pub fn forget_peak_rss() -> Result<()> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}

/// Bytes that a folder takes on the disk: blocks, not lengths, because some stores make sparse files.
pub fn disk_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    each_file(folder, &mut |path| {
        sum += fs::metadata(path)?.blocks() * 512;
        Ok(())
    })?;
    Ok(sum)
}

/// Syncs every file of a folder, so that all contestants end their load equally durable.
pub fn sync_files(folder: &Path) -> Result<()> {
    each_file(folder, &mut |path| Ok(File::open(path)?.sync_all()?))
}

fn each_file(folder: &Path, work: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    for item in fs::read_dir(folder)? {
        let path = item?.path();
        if path.is_dir() {
            each_file(&path, work)?;
        } else {
            work(&path)?;
        }
    }
    Ok(())
}

/// The middle of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
