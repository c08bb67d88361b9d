//! What the system says about memory. Where it does not say, there is no answer and not a guess.

use std::fs;

/// Bytes that this process could still have without pushing anything else out: free memory, and what caches would
/// give back. A limit of the process's control group counts too.
pub(crate) fn available_bytes() -> Option<u64> {
    let available = kib_of(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?.saturating_mul(1 << 10);
    // In a container, this is the container's own group.
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Some(limit.map_or(available, |limit: u64| available.min(limit)))
}

/// How often the calling thread has waited for a page of a file or of swapped memory so far.
pub(crate) fn major_faults() -> Option<u64> {
    major_faults_in(&fs::read_to_string("/proc/thread-self/stat").ok()?)
}

fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The twelfth field. The second, the name of the thread, may hold anything, closing parentheses included.
fn major_faults_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_kernel_are_understood() {
        assert_eq!(kib_of("MemTotal:  9 kB\nMemAvailable:   17 kB\n", "MemAvailable:"), Some(17));
        assert_eq!(kib_of("MemTotal:  9 kB\n", "MemAvailable:"), None);
        assert_eq!(kib_of("MemAvailable: x kB\n", "MemAvailable:"), None);
        let stat = "812 (a) b) R 1 812 812 0 -1 4194304 1234 5 67 8 0 0 0";
        assert_eq!(major_faults_in(stat), Some(67));
        assert_eq!(major_faults_in("812 (a) R 1 812"), None);
        assert_eq!(major_faults_in(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells() {
        assert!(available_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(major_faults().is_some());
    }
}
