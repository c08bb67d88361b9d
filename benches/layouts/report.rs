//! Figures as JSON lines, and as a table at the end.

use serde_json::json;

use super::population::MIXES;
use super::timing::median;

/// The figures of one set of questions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    pub ns_per_key: f64,
    pub random_line_ns: f64,
    /// Of a key, on average: filter passed, slots read, spill areas looked into.
    pub passed: f64,
    pub slots: f64,
    pub spills: f64,
}

/// The figures of one layout.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: &'static str,
    pub listings: u64,
    /// Keys of a group of the batch loop.
    pub group: usize,
    /// Bytes of a slot; `None` for the engine, whose file is counted.
    pub slot_len: Option<usize>,
    pub bytes_per_listing: f64,
    pub filter_bytes_per_listing: f64,
    pub directory_bytes_per_listing: f64,
    pub spilled: f64,
    /// In the order of [`MIXES`].
    pub asked: Vec<Asked>,
}

impl Row {
    /// One line of JSON, as soon as it is known.
    pub fn print_json(&self) {
        let asked: Vec<_> = MIXES
            .iter()
            .zip(&self.asked)
            .map(|(mix, asked)| {
                json!({
                    "asked": mix.name(),
                    "ns_per_key": asked.ns_per_key,
                    "random_line_ns": asked.random_line_ns,
                    "random_lines": asked.ns_per_key / asked.random_line_ns,
                    "passed": asked.passed,
                    "slots": asked.slots,
                    "spills": asked.spills,
                })
            })
            .collect();
        let row = json!({
            "layout": self.name,
            "listings": self.listings,
            "group": self.group,
            "slot_len": self.slot_len,
            "bytes_per_listing": self.bytes_per_listing,
            "filter_bytes_per_listing": self.filter_bytes_per_listing,
            "directory_bytes_per_listing": self.directory_bytes_per_listing,
            "spilled": self.spilled,
            "asked": asked,
        });
        println!("{row}");
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![
            self.name.to_owned(),
            self.group.to_string(),
            self.slot_len.map_or_else(|| "-".to_owned(), |len| len.to_string()),
            format!("{:.1}", self.bytes_per_listing),
            format!("{:.1}", self.filter_bytes_per_listing + self.directory_bytes_per_listing),
        ];
        let ratio =
            |asked: &Asked| format!("{:.1} ({:.2})", asked.ns_per_key, asked.ns_per_key / asked.random_line_ns);
        cells.extend(self.asked.iter().map(ratio));
        cells.push(format!("{:.1}", median(self.asked.iter().map(|asked| asked.random_line_ns).collect())));
        cells
    }
}

/// Nanoseconds a key and, in brackets, in independent random lines of the same run over as much memory.
pub fn print_table(listings: u64, rows: &[Row]) {
    let mut table = vec![vec![
        "layout".to_owned(),
        "group".to_owned(),
        "slot".to_owned(),
        "bytes".to_owned(),
        "small".to_owned(),
    ]];
    table[0].extend(MIXES.iter().map(|mix| mix.name()));
    table[0].push("line ns".to_owned());
    table.extend(rows.iter().map(Row::cells));
    let widths: Vec<usize> = (0..table[0].len())
        .map(|column| table.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    println!("\n{listings} listings");
    for line in &table {
        let cells =
            line.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
                if i == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
        println!("{}", cells.collect::<Vec<_>>().join("  "));
    }
}
