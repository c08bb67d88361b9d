//! What runs showed: a table for people, a line of JSON for each protection.

use serde::Serialize;

use super::engine::Run;
use super::plan::{NONE, Size};
use super::scenario::{Conduct, Scenario};
use crate::error::CliError;
use crate::output::{Out, grouped};

/// The numbers that were matched at Twitter in 2019.
pub const WANTED: u64 = 17_000_000;
const COLUMNS: usize = 8;

/// A protection in a scenario, at the full size of the attack.
#[derive(Serialize)]
struct Row<'a> {
    scenario: &'a str,
    seed: u64,
    protection: &'a str,
    /// Distinct numbers that the attack wanted answered.
    asked: u64,
    answered: u64,
    /// What of them is answered at most, by arithmetic.
    closed_form: u64,
    /// Accounts that were found.
    disclosed: u64,
    /// The same as a share of what is disclosed without a protection, if that was replayed.
    disclosed_share: Option<f64>,
    /// Days until 17 million accounts were disclosed, or will be at the last pace.
    days: Option<f64>,
    honest_lookups: u64,
    /// The share of honest lookups in which something was deferred.
    honest_deferred_share: f64,
    /// The same of those who share a carrier's network with a third of all users.
    carrier_deferred_share: f64,
    /// One account, network and honest user stands for so many.
    scale: u64,
    /// One number of the attack stands for so many.
    number_scale: u64,
}

pub struct Report<'a> {
    pub scenario: &'static Scenario,
    pub size: Size,
    pub runs: &'a [Run],
}

/// So many digits that a reader can compare, and no more.
fn rounded(value: f64, digits: i32) -> f64 {
    let by = 10_f64.powi(digits);
    (value * by).round() / by
}

/// A count in thousands, millions or thousand millions.
pub fn short(count: u64) -> String {
    let units = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| count >= *unit) else { return count.to_string() };
    let value = count as f64 / unit as f64;
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {name}")
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        p if p < 0.001 => "< 0.001 %".to_owned(),
        p if p < 1.0 => format!("{p:.3} %"),
        p if p < 10.0 => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

fn days(days: Option<f64>) -> String {
    match days {
        None => "never".to_owned(),
        Some(days) if days < 100.0 => format!("{days:.1}"),
        Some(days) => grouped(days.round() as u64),
    }
}

impl Report<'_> {
    fn unprotected(&self) -> Option<u64> {
        self.runs.iter().find(|run| run.plan.protection == NONE).map(Run::total)
    }

    fn row<'a>(&self, run: &'a Run) -> Row<'a> {
        let share = self.unprotected().filter(|all| *all > 0).map(|all| run.total() as f64 / all as f64);
        Row {
            scenario: self.scenario.name,
            seed: self.size.seed,
            protection: run.plan.protection,
            asked: run.asked,
            answered: run.answered,
            closed_form: run.plan.full(run.plan.at_most()),
            disclosed: run.total(),
            disclosed_share: share.map(|share| rounded(share, 6)),
            days: run.days_to(WANTED).map(|days| rounded(days, 1)),
            honest_lookups: run.honest.lookups,
            honest_deferred_share: rounded(run.honest.share(), 6),
            carrier_deferred_share: rounded(run.carrier.share(), 6),
            scale: self.size.scale,
            number_scale: run.plan.factor,
        }
    }

    pub fn json(&self, out: &mut Out) -> Result<(), CliError> {
        self.runs.iter().try_for_each(|run| out.json(&self.row(run)))
    }

    /// What is replayed, at which scale, and a row for each protection.
    pub fn text(&self) -> Vec<String> {
        let mut lines = self.heading();
        lines.push(String::new());
        let table = self.table();
        let width = |at: usize| table.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..COLUMNS).map(|at| width(at).unwrap_or_default()).collect();
        for row in &table {
            let cells = row.iter().zip(&widths).enumerate();
            let cells: Vec<String> = cells
                .map(|(at, (cell, width))| match at {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                })
                .collect();
            lines.push(cells.join("  "));
        }
        lines.push(String::new());
        lines.extend(self.legend());
        lines
    }

    fn heading(&self) -> Vec<String> {
        let (scenario, size) = (self.scenario, self.size);
        let listed = scenario.listed_ppm as f64 / 1e6;
        let mut lines = vec![
            format!("{}: {}", scenario.name, scenario.what),
            format!(
                "{} days, {} accounts in {} networks, {} numbers of which {} are listed. Seed {}.",
                scenario.days,
                grouped(scenario.accounts),
                grouped(scenario.networks),
                short(scenario.numbers),
                percent(listed),
                size.seed
            ),
            format!(
                "Scale: 1 in {} accounts and networks, each with its whole quota, and 1/{0} of the quota of everyone.",
                grouped(size.scale)
            ),
        ];
        if let Some(run) = self.runs.iter().find(|run| run.plan.protection == NONE) {
            lines.push(format!(
                "Without protection 1 in {} numbers of an account. All figures are multiplied back.",
                grouped(run.plan.factor / size.scale)
            ));
        }
        lines.push(format!(
            "{} honest users (for {}) sync each night; a third are behind one carrier's network, a third in offices.",
            grouped(size.users),
            grouped(size.users * size.scale)
        ));
        lines
    }

    fn table(&self) -> Vec<[String; COLUMNS]> {
        let head =
            ["protection", "asked", "answered", "closed form", "disclosed", "of none", "days to 17 M", "deferred"];
        let head = head.map(str::to_owned);
        let rows = self.runs.iter().map(|run| {
            let row = self.row(run);
            [
                row.protection.to_owned(),
                short(row.asked),
                short(row.answered),
                short(row.closed_form),
                short(row.disclosed),
                row.disclosed_share.map_or("-".to_owned(), percent),
                days(row.days),
                percent(row.honest_deferred_share),
            ]
        });
        std::iter::once(head).chain(rows).collect()
    }

    fn legend(&self) -> Vec<String> {
        let mut lines = vec![
            "closed form: what arithmetic lets the attack have at most. days: measured, or at the last pace. deferred: \
             of honest"
                .to_owned(),
            "lookups, those in which something had to wait; of those behind the carrier's network:".to_owned(),
        ];
        let carrier =
            self.runs.iter().map(|run| format!("{} {}", run.plan.protection, percent(run.carrier.share())));
        lines.push(format!("{}.", carrier.collect::<Vec<_>>().join(", ")));
        if self.scenario.conduct == Conduct::Hopping {
            lines.push("A number counts once, however many endpoints it was asked through.".to_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (count, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.00 k"),
            (92_000, "92.0 k"),
            (820_000, "820 k"),
            (9_996_000, "10.0 M"),
            (2_000_000_000, "2.00 G"),
            (62_449_920_000, "62.4 G"),
        ] {
            assert_eq!(short(count), expected);
        }
        for (share, expected) in
            [(0.0, "0 %"), (0.000_001, "< 0.001 %"), (0.009_2, "0.920 %"), (0.082, "8.20 %"), (1.0, "100.0 %")]
        {
            assert_eq!(percent(share), expected);
        }
        assert_eq!([days(None), days(Some(60.04)), days(Some(3_999.7))], ["never", "60.0", "4,000"]);
    }
}
