//! Rows, and who beats whom.

use serde::Serialize;

use crate::args::Args;
use crate::child::{Ask, Figures};
use crate::store::Result;
use crate::stores::{PUBLIC, RAW};

/// What is known of one contestant.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    pub version: String,
    /// Answers "maybe" or "no" and nothing else.
    pub filter_only: bool,
    pub listings: u64,
    pub load_per_s: f64,
    /// Were the rows sorted before the clock began?
    pub presorted: bool,
    pub load_threads: u64,
    pub load_peak_rss_mb: Option<f64>,
    pub bytes_per_entry: f64,
    pub ns_per_key: Vec<Ask>,
    pub batch_of_one_ns: f64,
    /// An independent random cache line, in the same process.
    pub random_line_ns: f64,
    pub open_and_warm_s: f64,
    /// Of the process that asked.
    pub peak_rss_mb: Option<f64>,
    /// Columns in which it is better than the raw probe of unlisted.
    pub beats_unlisted_raw: Vec<String>,
    /// Columns in which it is better than the public lookup.
    pub beats_unlisted_public: Vec<String>,
    /// Why there are no figures, or why they are not to be trusted.
    pub error: Option<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    listings: u64,
    batch: u64,
    threads: u64,
    seed: u64,
    cores: usize,
    /// In the order in which they ran.
    rows: &'a [Row],
}

impl Row {
    pub fn new(name: &str, listings: u64, figures: Figures) -> Self {
        let mut row = Self::failed(name, listings, String::new());
        let (Some(load), Some(query)) = (figures.load, figures.query) else {
            return Self::failed(name, listings, "a process printed no figures".to_owned());
        };
        row.version = figures.facts.version;
        row.filter_only = figures.facts.maybe;
        row.presorted = figures.facts.presorted;
        row.load_threads = figures.facts.load_threads;
        row.load_per_s = listings as f64 / load.load_s;
        row.load_peak_rss_mb = load.load_peak_rss_mb;
        row.bytes_per_entry = load.bytes as f64 / listings as f64;
        row.ns_per_key = query.asked;
        row.batch_of_one_ns = query.batch_of_one_ns;
        row.random_line_ns = query.random_line_ns;
        row.open_and_warm_s = query.open_and_warm_s;
        row.peak_rss_mb = query.peak_rss_mb;
        row.error = None;
        row
    }

    pub fn failed(name: &str, listings: u64, error: String) -> Self {
        Self {
            name: name.to_owned(),
            version: String::new(),
            filter_only: false,
            listings,
            load_per_s: 0.0,
            presorted: false,
            load_threads: 0,
            load_peak_rss_mb: None,
            bytes_per_entry: 0.0,
            ns_per_key: Vec::new(),
            batch_of_one_ns: 0.0,
            random_line_ns: 0.0,
            open_and_warm_s: 0.0,
            peak_rss_mb: None,
            beats_unlisted_raw: Vec::new(),
            beats_unlisted_public: Vec::new(),
            error: Some(error),
        }
    }

    /// Every column in which less is better; the loads a second are turned over.
    fn columns(&self) -> Vec<(String, Option<f64>)> {
        let mut columns = vec![
            ("load_per_s".to_owned(), Some(1.0 / self.load_per_s)),
            ("bytes_per_entry".to_owned(), Some(self.bytes_per_entry)),
            ("batch_of_one_ns".to_owned(), Some(self.batch_of_one_ns)),
            ("peak_rss_mb".to_owned(), self.peak_rss_mb),
        ];
        columns.extend(self.ns_per_key.iter().map(|ask| (column_of(ask), Some(ask.ns_per_key))));
        columns
    }

    fn better_than(&self, other: &Self) -> Vec<String> {
        let theirs = other.columns();
        let better = |(name, own): &(String, Option<f64>)| {
            let theirs = theirs.iter().find(|(column, _)| column == name).and_then(|(_, figure)| *figure);
            own.zip(theirs).is_some_and(|(own, theirs)| own < theirs)
        };
        self.columns().into_iter().filter(better).map(|(name, _)| name).collect()
    }

    fn figure(&self, column: &str, text: String) -> String {
        let mark =
            |beaten: &[String], mark: &'static str| if beaten.iter().any(|b| b == column) { mark } else { "" };
        format!("{text}{}{}", mark(&self.beats_unlisted_raw, "*"), mark(&self.beats_unlisted_public, "+"))
    }
}

fn column_of(ask: &Ask) -> String {
    format!("ns_per_key_at_{}", ask.hit_ratio)
}

/// Notes where a row is better than those of unlisted, and where it answered something else.
pub fn compare(rows: &mut [Row]) {
    let find = |name: &str| rows.iter().find(|row| row.name == name && row.error.is_none()).cloned();
    let (raw, public) = (find(RAW), find(PUBLIC));
    for row in rows.iter_mut().filter(|row| row.error.is_none()) {
        let is_own = [RAW, PUBLIC].contains(&row.name.as_str());
        if let Some(raw) = &raw {
            row.error = disagreement(row, raw);
            if !is_own {
                row.beats_unlisted_raw = row.better_than(raw);
            }
        }
        if let Some(public) = public.as_ref().filter(|_| !is_own) {
            row.beats_unlisted_public = row.better_than(public);
        }
    }
}

/// Exact stores find the same, and a filter at least as much.
fn disagreement(row: &Row, raw: &Row) -> Option<String> {
    let wrong = row.ns_per_key.iter().zip(&raw.ns_per_key).find(|(own, theirs)| {
        let comparable = own.questions == theirs.questions;
        let right = if row.filter_only { own.hits >= theirs.hits } else { own.hits == theirs.hits };
        comparable && !right
    });
    let (own, theirs) = wrong?;
    Some(format!("found {} where unlisted found {}, at {} hits", own.hits, theirs.hits, own.hit_ratio))
}

/// As JSON or as a table.
pub fn print(args: &Args, rows: &[Row]) -> Result<()> {
    if args.json {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let report = Report {
            listings: args.listings,
            batch: args.batch,
            threads: args.threads,
            seed: args.seed,
            cores,
            rows,
        };
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print_table(args, rows);
    }
    Ok(())
}

fn print_table(args: &Args, rows: &[Row]) {
    let mut head: Vec<String> = ["", "load/s", "presorted", "bytes/entry"].map(str::to_owned).into();
    head.extend(args.hit_ratios.iter().map(|ratio| format!("ns/key {:.0} %", ratio * 100.0)));
    head.extend(["one, ns", "line, ns", "RSS MB", "version"].map(str::to_owned));
    let mut table = vec![head];
    for row in rows.iter().filter(|row| !row.ns_per_key.is_empty()) {
        let name = if row.filter_only { format!("({})", row.name) } else { row.name.clone() };
        let mut line = vec![
            name,
            row.figure("load_per_s", format!("{:.0}", row.load_per_s)),
            if row.presorted { "yes" } else { "no" }.to_owned(),
            row.figure("bytes_per_entry", format!("{:.1}", row.bytes_per_entry)),
        ];
        let asked = row.ns_per_key.iter();
        line.extend(asked.map(|ask| row.figure(&column_of(ask), format!("{:.1}", ask.ns_per_key))));
        line.push(row.figure("batch_of_one_ns", format!("{:.0}", row.batch_of_one_ns)));
        line.push(format!("{:.1}", row.random_line_ns));
        line.push(
            row.figure("peak_rss_mb", row.peak_rss_mb.map_or_else(|| "-".to_owned(), |mb| format!("{mb:.0}"))),
        );
        line.push(row.version.clone());
        table.push(line);
    }
    let columns = table.first().map_or(0, Vec::len);
    let width =
        |column: usize| table.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for line in &table {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        println!("{}", cells.join("  "));
    }
    println!("* better than `{RAW}`   + better than `{PUBLIC}`   (a filter, which answers maybe or no)");
    for row in rows {
        if let Some(error) = &row.error {
            println!("{}: {error}", row.name);
        }
    }
}
