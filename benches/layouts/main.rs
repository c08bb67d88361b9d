//! Layouts of the table compared: prototypes in memory, probed by one and the same loop, beside the engine itself and
//! beside independent random cache lines.
//!
//!     cargo bench --features internals --bench layouts -- --listings 10000000,100000000
//!
//! `--groups 256,16` are the keys that a step of the batch loop works on, `--account 8` or `16` the bytes of an account (both if
//! it is not given), `--only PART` takes the layouts whose name contains it, `--index DIR` an index of `unlisted bench lookup --dir DIR` (for the
//! count of listings that it has), `--questions N` the keys of a pass. Every layout is checked against a hash map first.
//! `docs/PERFORMANCE.md`, "Layouts compared", has the figures and what follows from them.

mod check;
mod directory;
mod filter;
mod memory;
mod population;
mod probe;
mod region;
mod report;
mod shipped;
mod table;
mod timing;

use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use directory::{Directory, OptIns20, OptIns28, Tags8, Tags56, Words30};
use memory::RandomLines;
use population::{Key, MIXES};
use probe::{MAX_GROUP, Probe, Seen};
use report::{Asked, Row};
use table::Prototype;

/// Anything that goes wrong ends the run.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Keys of one probe.
const BATCH: usize = 512;
const PASSES: u64 = 3;
/// Bytes a listing of the memory that random lines are read of, at most: the largest layout takes as much.
const BYTES_AT_MOST: u64 = 56;

/// What is measured.
#[derive(Debug)]
struct Args {
    listings: Vec<u64>,
    questions: usize,
    groups: Vec<usize>,
    account: Option<usize>,
    only: Option<String>,
    index: Option<PathBuf>,
}

impl Args {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self {
            listings: vec![1_000_000],
            questions: 1 << 20,
            groups: vec![MAX_GROUP, 16],
            account: None,
            only: None,
            index: None,
        };
        // Cargo adds `--bench`.
        let mut args = args.filter(|arg| arg != "--bench");
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--listings" => parsed.listings = numbers(&value)?,
                "--groups" => parsed.groups = numbers(&value)?,
                "--account" => parsed.account = Some(value.parse()?),
                "--questions" => parsed.questions = value.parse()?,
                "--only" => parsed.only = Some(value),
                "--index" => parsed.index = Some(value.into()),
                _ => return Err(format!("there is no argument {name}").into()),
            }
        }
        // Whole slices of whole batches, so that every slice is as much work.
        parsed.questions = parsed.questions.next_multiple_of(timing::SLICE).max(timing::SLICE);
        Ok(parsed)
    }
}

/// `1,2,3`.
fn numbers<N: FromStr<Err = ParseIntError>>(list: &str) -> Result<Vec<N>> {
    Ok(list.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?)
}

/// Numbers asked, and how many of them are found.
type Questions = Vec<(Vec<u64>, u64)>;

/// What every layout is measured with.
struct Bench<'a> {
    args: &'a Args,
    listings: u64,
    questions: Questions,
    lines: RandomLines,
    rows: Vec<Row>,
}

fn main() -> Result<()> {
    let args = Args::parse(std::env::args().skip(1))?;
    for listings in &args.listings {
        let questions = MIXES.iter().map(|mix| mix.questions(args.questions, *listings)).collect();
        let lines = RandomLines::over((listings * BYTES_AT_MOST) as usize)?;
        let mut bench = Bench { args: &args, listings: *listings, questions, lines, rows: Vec::new() };
        bench.run()?;
        report::print_table(*listings, &bench.rows);
    }
    Ok(())
}

impl Bench<'_> {
    fn run(&mut self) -> Result<()> {
        let temporary = tempfile::tempdir()?;
        let dir = self.args.index.clone().unwrap_or_else(|| temporary.path().to_owned());
        self.engine("the engine's raw probe", &dir)?;
        let lens = [8, 16].into_iter().filter(|len| self.args.account.is_none_or(|only| only == *len));
        for account_len in lens.collect::<Vec<_>>() {
            self.prototype::<Tags56<false>>("filter, 56 tags (ships)", account_len, true)?;
            self.prototype::<Tags56<true>>("filter, 56 tags apart", account_len, true)?;
            self.prototype::<Tags8<4>>("filter, 4 x 8 tags in a line", account_len, true)?;
            self.prototype::<Tags8<1>>("filter, 8 tags in front", account_len, true)?;
            self.prototype::<Words30<false>>("filter, 30 fingerprints", account_len, true)?;
            self.prototype::<Words30<true>>("30 fingerprints apart", account_len, false)?;
            self.prototype::<OptIns20<true>>("20 with opt-ins apart", account_len, false)?;
            self.prototype::<OptIns28<true>>("28 with opt-ins apart", account_len, false)?;
            self.prototype::<OptIns28<false>>("28 with opt-ins", account_len, false)?;
        }
        // What differs between the two is the machine's noise.
        self.engine("the engine's raw probe again", &dir)
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.args.only.as_ref().is_none_or(|part| name.contains(part))
    }

    fn add(&mut self, row: Row) {
        row.print_json();
        self.rows.push(row);
    }

    fn prototype<D: Directory>(&mut self, name: &'static str, account_len: usize, filtered: bool) -> Result<()> {
        if !self.is_wanted(name) {
            return Ok(());
        }
        let prototype = Prototype::<D>::build(self.listings, account_len, filtered, population::entry)?;
        for group in self.args.groups.clone() {
            check::run::<D>(account_len, filtered, group)?;
            let row = self.row(name, &prototype, account_len, group)?;
            self.add(row);
        }
        Ok(())
    }

    fn row<D: Directory>(
        &self,
        name: &'static str,
        prototype: &Prototype<D>,
        account_len: usize,
        group: usize,
    ) -> Result<Row> {
        let bytes_per_listing = prototype.bytes_a_listing();
        let (filter_bytes_per_listing, directory_bytes_per_listing) = prototype.small_bytes_a_listing();
        let mut asked = Vec::new();
        for (numbers, hits) in &self.questions {
            let keys: Vec<Key> = numbers.iter().map(|i| population::key(*i)).collect();
            let batches: Vec<&[Key]> = keys.chunks(BATCH).collect();
            let mut probe = Probe::new(group);
            let mut figures = self.passes(batches.len(), *hits, bytes_per_listing, |batch| {
                probe.run(prototype, batches[batch]);
                Ok(probe.found.len() as u64)
            })?;
            figures.note(probe.seen, keys.len() as u64 * (PASSES + 1));
            asked.push(figures);
        }
        Ok(Row {
            name,
            listings: self.listings,
            group,
            slot_len: Some(8 + account_len + 8),
            bytes_per_listing,
            filter_bytes_per_listing,
            directory_bytes_per_listing,
            spilled: prototype.spilled as f64 / self.listings as f64,
            asked,
        })
    }

    /// The engine, over files that are mapped. Its overlay is empty.
    fn engine(&mut self, name: &'static str, dir: &Path) -> Result<()> {
        if !self.is_wanted(name) {
            return Ok(());
        }
        let index = shipped::open(dir, self.listings, BATCH)?;
        let bytes_per_listing = index.stats()?.segment_bytes as f64 / self.listings as f64;
        let mut asked = Vec::new();
        for (numbers, hits) in &self.questions {
            let batches = shipped::batches(&index, numbers, BATCH);
            let probe = |batch: usize| shipped::probe(&index, &batches[batch]);
            asked.push(self.passes(batches.len(), *hits, bytes_per_listing, probe)?);
        }
        self.add(Row {
            name,
            listings: self.listings,
            group: MAX_GROUP,
            slot_len: None,
            bytes_per_listing,
            filter_bytes_per_listing: 0.0,
            directory_bytes_per_listing: 0.0,
            spilled: 0.0,
            asked,
        });
        Ok(())
    }

    /// Probes all batches, pass by pass, with random lines over as much memory after each. The first pass touches what
    /// was never touched and does not count.
    fn passes(
        &self,
        batches: usize,
        hits: u64,
        bytes_per_listing: f64,
        mut probe: impl FnMut(usize) -> Result<u64>,
    ) -> Result<Asked> {
        const BATCHES: usize = timing::SLICE / BATCH;
        let (mut probes, mut lines) = (Vec::new(), Vec::new());
        let len = (bytes_per_listing * self.listings as f64) as usize;
        for pass in 0..=PASSES {
            let mut found = Ok(0);
            let ns = timing::median_ns(batches / BATCHES, timing::SLICE, |slice| {
                for batch in slice * BATCHES..(slice + 1) * BATCHES {
                    found = found
                        .as_ref()
                        .map_err(ToString::to_string)
                        .and_then(|sum| probe(batch).map(|more| sum + more).map_err(|error| error.to_string()));
                }
            });
            if found? != hits {
                return Err("a pass found more or less than was asked for".into());
            }
            let line = self.lines.ns(len, pass);
            if pass > 0 {
                probes.push(ns);
                lines.push(line);
            }
        }
        let (ns_per_key, random_line_ns) = (timing::median(probes), timing::median(lines));
        Ok(Asked { ns_per_key, random_line_ns, ..Asked::default() })
    }
}

impl Asked {
    fn note(&mut self, seen: Seen, keys: u64) {
        let of_key = |count: u64| count as f64 / keys as f64;
        (self.passed, self.slots, self.spills) = (of_key(seen.passed), of_key(seen.slots), of_key(seen.spills));
    }
}
