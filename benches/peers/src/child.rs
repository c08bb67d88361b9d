//! A child process: one contestant, loaded or asked, and its figures as JSON on standard output.

use std::hint::black_box;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use unlisted::PhoneHash;

use crate::args::{Args, Phase};
use crate::machine;
use crate::population;
use crate::store::{Answers, Place, Reader, Result, Source, Store};

const PASSES: u64 = 3;
/// Random lines are read over as much memory as this for each listing: what unlisted takes.
const BYTES_PER_LISTING: u64 = 40;

/// What is known of a contestant without running it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    pub version: String,
    pub presorted: bool,
    pub load_threads: u64,
    pub maybe: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadFigures {
    pub load_s: f64,
    pub bytes: u64,
    /// With the rows that were loaded.
    pub load_peak_rss_mb: Option<f64>,
}

/// One hit ratio.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ask {
    pub hit_ratio: f64,
    pub ns_per_key: f64,
    /// Keys of a pass.
    pub questions: u64,
    /// Keys found in the passes that count.
    pub hits: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueryFigures {
    pub asked: Vec<Ask>,
    pub batch_of_one_ns: f64,
    pub open_and_warm_s: f64,
    pub peak_rss_mb: Option<f64>,
    pub random_line_ns: f64,
}

/// What a child prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    pub facts: Facts,
    pub load: Option<LoadFigures>,
    pub query: Option<QueryFigures>,
}

/// Runs a phase of a contestant.
pub fn run<S: Store>(args: &Args, phase: Phase) -> Result<Figures> {
    let dir = args.dir.clone().ok_or("a child process needs --dir")?;
    let place = Place { dir, listings: args.listings };
    let mut figures = Figures {
        facts: Facts {
            version: S::version(),
            presorted: S::SOURCE == Source::Sorted,
            load_threads: S::LOAD_THREADS,
            maybe: S::ANSWERS == Answers::Maybe,
        },
        load: None,
        query: None,
    };
    let start = Instant::now();
    let store = if phase == Phase::Query {
        S::open(&place)?
    } else {
        let (store, load) = load::<S>(&place)?;
        figures.load = Some(load);
        machine::forget_peak_rss()?;
        store
    };
    if phase != Phase::Load {
        figures.query = Some(query(args, &store, start)?);
    }
    drop(store);
    // Some stores write what is left when they are closed.
    if let Some(load) = figures.load.as_mut().filter(|_| S::ON_DISK) {
        load.bytes = machine::disk_bytes(&place.dir)?;
    }
    Ok(figures)
}

fn load<S: Store>(place: &Place) -> Result<(S, LoadFigures)> {
    let rows = match S::SOURCE {
        Source::Itself => Vec::new(),
        source => population::rows(place.listings, source == Source::Sorted),
    };
    let start = Instant::now();
    let store = S::load(place, &rows)?;
    if S::ON_DISK {
        machine::sync_files(&place.dir)?;
    }
    let load_s = start.elapsed().as_secs_f64();
    let figures = LoadFigures { load_s, bytes: store.memory_bytes(), load_peak_rss_mb: machine::peak_rss_mb() };
    Ok((store, figures))
}

fn query<S: Store>(args: &Args, store: &S, start: Instant) -> Result<QueryFigures> {
    let mut readers: Vec<S::Reader<'_>> = (0..args.threads).map(|_| store.reader()).collect::<Result<_>>()?;
    readers.iter_mut().try_for_each(Reader::warm)?;
    let open_and_warm_s = start.elapsed().as_secs_f64();
    let mut asked = Vec::new();
    for (number, hit_ratio) in args.hit_ratios.iter().enumerate() {
        asked.push(ask(args, store, &mut readers, *hit_ratio, number as u64)?);
    }
    let batch_of_one_ns = singles(args, store, &mut readers)?;
    drop(readers);
    let peak_rss_mb = machine::peak_rss_mb();
    let random_line_ns = machine::random_line_ns(args.listings * BYTES_PER_LISTING, args.threads)?;
    Ok(QueryFigures { asked, batch_of_one_ns, open_and_warm_s, peak_rss_mb, random_line_ns })
}

/// A seed for each pass of each hit ratio: no key is asked twice on purpose, or a cache of the processor would answer.
const fn seed_of(args: &Args, ratio: u64, pass: u64) -> u64 {
    args.seed.wrapping_mul(0x9e37_79b9).wrapping_add(ratio << 8).wrapping_add(pass)
}

fn ask<S: Store>(
    args: &Args,
    store: &S,
    readers: &mut [S::Reader<'_>],
    hit_ratio: f64,
    ratio: u64,
) -> Result<Ask> {
    let questions = args.questions;
    let mut figures = Vec::new();
    let mut hits = 0;
    for pass in 0..=PASSES {
        let hashes = population::questions(questions, args.listings, hit_ratio, seed_of(args, ratio, pass));
        let batches: Vec<_> = hashes.chunks(args.batch as usize).map(|batch| store.prepare(batch)).collect();
        drop(hashes);
        let (ns, found) = timed(readers, &batches)?;
        // The first pass touches what was never touched.
        if pass > 0 {
            figures.push(ns / questions as f64);
            hits += found;
        }
    }
    Ok(Ask { hit_ratio, ns_per_key: machine::median(figures), questions, hits })
}

/// Asks all batches, each thread its share. Returns the nanoseconds it took altogether, and what was found.
fn timed<R: Reader + Send>(readers: &mut [R], batches: &[R::Batch]) -> Result<(f64, u64)>
where
    R::Batch: Sync,
{
    let threads = readers.len();
    let start = Instant::now();
    let found = std::thread::scope(|scope| {
        let workers: Vec<_> = readers
            .iter_mut()
            .enumerate()
            .map(|(thread, reader)| {
                scope.spawn(move || -> Result<u64> {
                    let share = batches.iter().skip(thread).step_by(threads);
                    share.map(|batch| reader.probe(batch)).sum()
                })
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        ended
            .into_iter()
            .map(|ended| ended.unwrap_or_else(|_| Err("a reader panicked".into())))
            .sum::<Result<u64>>()
    })?;
    Ok((start.elapsed().as_secs_f64() * 1e9, found))
}

/// The median of single questions, on one thread. The clock's own reading, some 20 to 40 ns, is in it.
fn singles<S: Store>(args: &Args, store: &S, readers: &mut [S::Reader<'_>]) -> Result<f64> {
    let ratio = args.hit_ratios.first().copied().unwrap_or(0.5);
    let hashes: Vec<PhoneHash> =
        population::questions(S::SINGLES, args.listings, ratio, seed_of(args, u64::from(u32::MAX), 0));
    let batches: Vec<_> = hashes.chunks(1).map(|one| store.prepare(one)).collect();
    let reader = readers.first_mut().ok_or("there is no reader")?;
    let mut figures = Vec::with_capacity(batches.len());
    for batch in &batches {
        let start = Instant::now();
        black_box(reader.probe(batch)?);
        figures.push(start.elapsed().as_secs_f64() * 1e9);
    }
    Ok(machine::median(figures))
}
