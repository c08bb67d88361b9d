//! What the machine itself gives: random cache lines, sequential writes, and the peak of our memory.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::commands::generate::SplitMix;
use crate::error::CliError;

const LINE: usize = 64;
/// Lines read in each pass, over all threads.
const LINES_READ: u64 = 16_000_000;

/// Nanoseconds for an independent random cache line over so much memory, on so many threads at once. The
/// processor may have as many lines under way as it can; huge pages are asked for where the kernel gives them.
pub fn random_line_ns(bytes: u64, threads: u64) -> Result<f64, CliError> {
    let failed = |source| CliError::File { action: "map", name: "anonymous memory".to_owned(), source };
    let len = usize::try_from(bytes).unwrap_or(usize::MAX).max(LINE << 10);
    let mut memory = memmap2::MmapMut::map_anon(len).map_err(failed)?;
    #[cfg(target_os = "linux")]
    // A kernel without huge pages refuses; the figure is then that of small ones, as for everything else here.
    let _ = memory.advise(memmap2::Advice::HugePage);
    memory.fill(1);
    let memory: &[u8] = &memory;
    let lines = (len / LINE) as u64;
    let pass = |seed: u64| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let work = |thread: u64| {
                let mut random = SplitMix(seed ^ thread << 32);
                let line = |_| memory.get(random.below(lines) as usize * LINE).copied().map_or(0, u64::from);
                std::hint::black_box((0..LINES_READ / threads).map(line).sum::<u64>());
            };
            let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
            workers.into_iter().for_each(|worker| drop(worker.join()));
        });
        start.elapsed().as_secs_f64() * 1e9 / LINES_READ as f64
    };
    Ok(super::median((0..3).map(pass).collect()))
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
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
