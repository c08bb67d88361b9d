//! Hostile bytes in every file that the engine reads: a typed error that names the file, or the right answer; never a panic,
//! never a wrong answer, never memory out of proportion.
//!
//! An ordinary run tries some changes of each file. `UNLISTED_HOSTILE=all` tries every truncation and every byte, of small files
//! with every bit changed; a number `n` instead of `all` tries every n-th of those. See `docs/RELIABILITY.md`.

#[path = "hostile/allocations.rs"]
mod allocations;
#[path = "hostile/claims.rs"]
mod claims;
mod common;
#[path = "hostile/kinds.rs"]
mod kinds;
#[path = "hostile/live.rs"]
mod live;
#[path = "hostile/memory.rs"]
mod memory;
// What reads and writes pages with checksums is not public.
#[cfg(feature = "internals")]
#[path = "hostile/rows.rs"]
mod rows;
#[path = "hostile/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use kinds::{KINDS, Kind, Verdict};
use world::{Answers, Files, Place, Reader};

#[global_allocator]
static ALLOCATOR: allocations::Watched = allocations::Watched;

static FILES: LazyLock<Files> = LazyLock::new(world::files);

/// Threads that try changes, each in a place of its own.
const THREADS: usize = 2;
/// Changed bytes and cuts of one file that an ordinary run tries.
const CHANGES: usize = 16;
const CUTS: usize = 6;
/// Damages of several bytes at once of one file that an ordinary run tries.
const DAMAGES: u32 = 2;

/// Which part of all changes is wanted: every n-th. `None` in an ordinary run.
fn every() -> Option<usize> {
    let value = std::env::var("UNLISTED_HOSTILE").ok()?;
    Some(if value == "all" { 1 } else { value.parse().expect("UNLISTED_HOSTILE is `all` or a number") })
}

fn is_exhaustive() -> bool {
    every().is_some()
}

/// What is done to a file.
#[derive(Debug, Clone)]
enum Change {
    /// It ends here.
    Cut(usize),
    /// One byte has these bits changed.
    Byte(usize, u8),
    /// One more byte.
    Longer,
    /// Several bytes are others.
    Bytes(Vec<(prop::sample::Index, u8)>),
}

impl Change {
    fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        match self {
            Self::Cut(len) => bytes.truncate(*len),
            Self::Byte(at, bits) => bytes[*at] ^= bits,
            Self::Longer => bytes.push(0),
            Self::Bytes(changes) => {
                for (at, value) in changes {
                    let len = bytes.len().max(1);
                    bytes.get_mut(at.index(len)).into_iter().for_each(|byte| *byte = *value);
                }
            }
        }
        bytes
    }

    const fn at(&self) -> Option<u64> {
        match self {
            Self::Byte(at, _) => Some(*at as u64),
            _ => None,
        }
    }
}

/// Every cut and every changed byte, or some of them, spread over the file and denser where headers are.
fn changes(len: usize) -> Vec<Change> {
    let all = is_exhaustive();
    let step = |count: usize| if all { 1 } else { (len / count).max(1) };
    let first = len.min(if all { 0 } else { CHANGES });
    let mut changes = vec![Change::Longer];
    changes.extend((0..len).step_by(step(CUTS)).map(Change::Cut));
    // An odd distance from the end, so that not only the first byte of each number is met.
    let spread = (0..len).rev().step_by(step(CHANGES));
    for at in spread.chain((0..first).map(|i| i * i % len.min(512))) {
        match all && len <= 32 << 10 {
            true => changes.extend((0..8).map(|bit| Change::Byte(at, 1 << bit))),
            false => changes.push(Change::Byte(at, 1 << (at % 8))),
        }
    }
    changes
}

/// Puts the changed file among the others and uses it. A panic is a finding like any other.
fn attempt(place: &Place, path: &str, kind: &Kind, change: &Change, right: &Answers) -> Result<(), String> {
    let bytes = &FILES[path];
    let changed = change.apply(bytes);
    if changed == *bytes {
        return Ok(());
    }
    place.fill(&FILES);
    std::fs::write(place.path(path), changed).unwrap();
    judge(path, kind, change, right, &place.path(path), || place.use_as(kind.reader))
}

/// Says what is wrong with what comes of a changed file, which is at `at`.
fn judge(
    path: &str,
    kind: &Kind,
    change: &Change,
    right: &Answers,
    at: &Path,
    use_it: impl FnOnce() -> Result<Answers, unlisted::Error>,
) -> Result<(), String> {
    let Ok(outcome) = catch_unwind(AssertUnwindSafe(use_it)) else {
        return Err(format!("{path} ({}), {change:?}: a panic", kind.name));
    };
    kind.judge(&outcome, right, at, change).map_err(|why| format!("{path} ({}), {change:?}: {why}", kind.name))
}

#[test]
fn every_file_is_of_one_kind_and_every_kind_has_a_file() {
    let unknown: Vec<_> = FILES.keys().filter(|path| Kind::of(path).is_none()).collect();
    assert!(unknown.is_empty(), "no kind of file in `tests/hostile/kinds.rs` has {unknown:?}");
    FILES.iter().for_each(|(path, bytes)| println!("{path}: {} bytes", bytes.len()));
    for kind in &KINDS {
        let has = FILES.keys().any(|path| Kind::of(path).is_some_and(|of| of.name == kind.name));
        assert!(has, "there is no file of the kind {:?}", kind.name);
    }
}

#[test]
fn every_cut_and_every_changed_byte_is_an_error_or_the_right_answer() {
    let every = every();
    // Those that are wanted, of what nobody reads a few; made as they are needed, since they take more room than may be asked for.
    let of_file = |(path, bytes): (&'static String, &Vec<u8>)| {
        let kind = Kind::of(path).unwrap();
        let rest = changes(bytes.len()).into_iter().filter(move |change| {
            let at = change.at().unwrap_or_default() as usize;
            kind.verdict != Verdict::NotRead || at.is_multiple_of(64)
        });
        rest.map(move |change| (path, kind, change))
    };
    let work = Mutex::new(FILES.iter().flat_map(of_file).step_by(every.unwrap_or(1)));
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).next();
    let tried = AtomicUsize::new(0);
    let found: Vec<String> = std::thread::scope(|scope| {
        let run = || {
            // An ordinary run uses the system's disk. Many changes are tried on one in memory, if there is one.
            let place = Place::new();
            let memory = every.and_then(|_| memory::Memory::new());
            let mut found = Vec::new();
            while let Some((path, kind, change)) = next() {
                tried.fetch_add(1, Ordering::Relaxed);
                let judged = match &memory {
                    Some(memory) => memory.attempt(path, kind, &change),
                    None => attempt(&place, path, kind, &change, right(kind.reader)),
                };
                found.extend(judged.err());
            }
            found
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    println!("{} changes of {} files, {}", tried.into_inner(), FILES.len(), memory::tried());
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
    allocations::check("a changed file");
}

/// What the files say as they are, by who reads them.
fn right(reader: Reader) -> &'static Answers {
    static RIGHT: LazyLock<[Answers; 3]> = LazyLock::new(|| {
        let place = Place::new();
        [Reader::Index, Reader::Backup, Reader::Stream].map(|reader| {
            place.fill(&FILES);
            place.use_as(reader).unwrap()
        })
    });
    &RIGHT[reader as usize]
}

#[test]
fn damage_of_many_bytes_is_an_error_or_the_right_answer() {
    let place = Place::new();
    let cases = every().map_or(DAMAGES, |every| (2_000 / every as u32).max(DAMAGES));
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 2..64);
    let mut tried = 0;
    for path in FILES.keys() {
        let kind = Kind::of(path).unwrap();
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        let done = TestRunner::new(config).run(&damage, |bytes| {
            let outcome = attempt(&place, path, kind, &Change::Bytes(bytes), right(kind.reader));
            outcome.map_err(TestCaseError::fail)
        });
        done.unwrap_or_else(|error| panic!("{path}: {error}"));
        tried += cases;
    }
    println!("{tried} damages of {} files", FILES.len());
    allocations::check("a damaged file");
}
