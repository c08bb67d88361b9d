//! How long the slow ones took.

use serde::Serialize;

/// Percentiles of durations, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Percentiles {
    pub count: usize,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

impl Percentiles {
    pub fn of(mut durations_ns: Vec<u64>) -> Self {
        durations_ns.sort_unstable();
        let at = |share: f64| {
            let last = durations_ns.len().saturating_sub(1);
            let place = (last as f64 * share).round() as usize;
            durations_ns.get(place).copied().unwrap_or_default() as f64 / 1e3
        };
        Self { count: durations_ns.len(), p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0) }
    }

    pub fn text(&self) -> String {
        format!("{:.0} / {:.0} / {:.0} us of {}", self.p50_us, self.p99_us, self.max_us, self.count)
    }
}
