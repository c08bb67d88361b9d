//! Who is doing what and since when, and what the process takes: read from `/proc`.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What a thread is at whose work is over.
pub const OVER: &str = "over";

/// One thread of the load.
#[derive(Debug)]
pub struct Hand {
    name: &'static str,
    /// What it is at, and since when.
    at: Mutex<(&'static str, Instant)>,
    done: AtomicU64,
}

impl Hand {
    /// The thread begins something.
    pub fn begins(&self, what: &'static str) {
        *self.at.lock().unwrap() = (what, Instant::now());
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// All threads of a load.
#[derive(Debug, Default)]
pub struct Watch {
    hands: Mutex<Vec<Arc<Hand>>>,
}

impl Watch {
    pub fn hand(&self, name: &'static str) -> Arc<Hand> {
        let hand = Arc::new(Hand { name, at: Mutex::new(("starting", Instant::now())), done: AtomicU64::new(0) });
        self.hands.lock().unwrap().push(hand.clone());
        hand
    }

    pub fn hands(&self) -> Vec<Arc<Hand>> {
        self.hands.lock().unwrap().clone()
    }

    /// What every thread is at, if one has been at the same for so long.
    pub fn stuck(&self, now: Instant, patience: Duration) -> Option<String> {
        let hands = self.hands();
        let since = |hand: &Arc<Hand>| now.saturating_duration_since(hand.at.lock().unwrap().1);
        let is_over = |hand: &Arc<Hand>| hand.at.lock().unwrap().0 == OVER;
        if hands.iter().all(|hand| is_over(hand) || since(hand) < patience) {
            return None;
        }
        let mut dump = String::from("a thread is at the same for too long:\n");
        for hand in &hands {
            let what = hand.at.lock().unwrap().0;
            let _ = writeln!(dump, "  {:<12} {:>8} done, for {:?}: {what}", hand.name, hand.done(), since(hand));
        }
        Some(dump)
    }

    /// Ends the whole process, with a dump, if a thread is stuck: nobody could join it.
    pub fn guard(self: &Arc<Self>, patience: Duration) -> Guard {
        let (watch, stop) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let until = stop.clone();
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                if let Some(dump) = watch.stuck(Instant::now(), patience) {
                    // Past the capture of tests, which ends with the process.
                    let _ = io::Write::write_all(&mut io::stderr(), format!("{dump}{}", kernel_view()).as_bytes());
                    std::process::exit(101);
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        Guard { stop, thread: Some(thread) }
    }
}

/// Dropping it ends the watch.
pub struct Guard {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the system says of every thread of the process: its state, and what it waits for.
fn kernel_view() -> String {
    let mut text = String::from("threads as the system sees them:\n");
    for item in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(item.path().join(name)).unwrap_or_default();
        let state = read("stat").rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?');
        let _ =
            writeln!(text, "  {:<16} {state} {} {}", read("comm").trim(), read("wchan"), read("syscall").trim());
    }
    text
}

/// What a process, and the folder of its index, take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub resident_bytes: u64,
    pub handles: u64,
    pub maps: u64,
    pub threads: u64,
    pub disk_bytes: u64,
    pub files: u64,
}

impl Usage {
    pub fn now(dir: &Path) -> Self {
        let status = fs::read_to_string("/proc/self/status").expect("the system has /proc");
        let figure = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a known line");
            line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).expect("a figure")
        };
        let (files, disk_bytes) = size_of(dir);
        Self {
            resident_bytes: figure("VmRSS:") << 10,
            handles: fs::read_dir("/proc/self/fd").expect("the system has /proc").count() as u64,
            maps: fs::read_to_string("/proc/self/maps").expect("the system has /proc").lines().count() as u64,
            threads: figure("Threads:"),
            disk_bytes,
            files,
        }
    }

    /// The most of each.
    pub fn most(self, other: Self) -> Self {
        Self {
            resident_bytes: self.resident_bytes.max(other.resident_bytes),
            handles: self.handles.max(other.handles),
            maps: self.maps.max(other.maps),
            threads: self.threads.max(other.threads),
            disk_bytes: self.disk_bytes.max(other.disk_bytes),
            files: self.files.max(other.files),
        }
    }
}

/// Files in a folder and those inside, and their bytes. What goes meanwhile counts for nothing.
fn size_of(dir: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for item in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = item.metadata() else { continue };
        let (files, bytes) = if metadata.is_dir() { size_of(&item.path()) } else { (1, metadata.len()) };
        sum = (sum.0 + files, sum.1 + bytes);
    }
    sum
}
