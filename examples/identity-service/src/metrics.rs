//! Figures for Prometheus. No label names a caller, an account or a number.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use unlisted::{Event, Reply, Stats};

#[derive(Default)]
pub struct Metrics {
    /// By route and status: how many, and how long all of them took.
    requests: Mutex<BTreeMap<(String, u16), (u64, Duration)>>,
    asked: AtomicU64,
    charged: AtomicU64,
    found: AtomicU64,
    deferred: AtomicU64,
    events: Mutex<BTreeMap<&'static str, u64>>,
}

/// Counts a request and writes its line in the log: the route as it is declared, never the path, a header or a body.
pub async fn observe(
    State(metrics): State<Arc<Metrics>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let since = Instant::now();
    let response = next.run(request).await;
    let (route, status) = (route.as_ref().map_or("none", MatchedPath::as_str), response.status().as_u16());
    let took = since.elapsed();
    tracing::info!(route, status, took_us = took.as_micros(), "answered");
    let mut requests = metrics.requests.lock();
    let (count, sum) = requests.entry((route.to_owned(), status)).or_default();
    *count += 1;
    *sum += took;
    drop(requests);
    response
}

impl Metrics {
    pub fn count(&self, reply: &Reply, asked: usize) {
        let add = |to: &AtomicU64, numbers: u64| to.fetch_add(numbers, Ordering::Relaxed);
        add(&self.asked, asked as u64);
        add(&self.charged, reply.charged());
        add(&self.found, reply.matches().len() as u64);
        add(&self.deferred, reply.deferred().count() as u64);
    }

    pub fn note(&self, event: &Event<'_>) {
        let name = match event {
            Event::CallerExhausted { .. } => "caller_exhausted",
            Event::OriginExhausted { .. } => "origin_exhausted",
            Event::EveryoneExhausted { .. } => "everyone_exhausted",
            Event::Suspended { .. } => "suspended",
            Event::TripwireHit { .. } => "tripwire",
            Event::Suspicious { .. } => "suspicious",
            Event::Refused { .. } => "refused",
            _ => "other",
        };
        *self.events.lock().entry(name).or_default() += 1;
        tracing::warn!(event = name, "the index tells");
    }

    /// All of it in Prometheus' text format.
    pub fn render(&self, stats: &Stats) -> String {
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, samples: Vec<(String, f64)>| {
            // Writing to a string does not fail.
            let _ = writeln!(out, "# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let requests = self.requests.lock().clone();
        let labels = |route: &str, status: u16| format!("{{route=\"{route}\",status=\"{status}\"}}");
        let counts = requests.iter().map(|((route, status), (count, _))| (labels(route, *status), *count as f64));
        family("identity_requests_total", "counter", counts.collect());
        let sums = requests.iter().map(|((route, status), (_, sum))| (labels(route, *status), sum.as_secs_f64()));
        family("identity_request_seconds_total", "counter", sums.collect());
        let numbers = [
            ("asked", &self.asked),
            ("charged", &self.charged),
            ("found", &self.found),
            ("deferred", &self.deferred),
        ];
        let numbers =
            numbers.map(|(of, count)| (format!("{{of=\"{of}\"}}"), count.load(Ordering::Relaxed) as f64));
        family("identity_numbers_total", "counter", numbers.to_vec());
        let events = self.events.lock().clone();
        let events = events.iter().map(|(event, count)| (format!("{{event=\"{event}\"}}"), *count as f64));
        family("identity_events_total", "counter", events.collect());
        for (name, value) in [
            ("unlisted_listings", stats.listings),
            ("unlisted_opted_in", stats.opted_in),
            ("unlisted_tripwires", stats.tripwires),
            ("unlisted_disclosures", stats.disclosures),
            ("unlisted_index_bytes", stats.index_bytes + stats.segment_bytes),
            ("unlisted_ledger_bytes", stats.ledger_bytes),
            ("unlisted_disclosure_bytes", stats.disclosure_bytes),
        ] {
            family(name, "gauge", vec![(String::new(), value as f64)]);
        }
        out
    }
}
