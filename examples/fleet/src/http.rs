//! How the host asks a node, on loopback: whoever reaches the port is the host, which has authenticated its callers.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use unlisted::{BackupMode, Caller, Discovery, Error, Index, Origin, PhoneHash, Purpose};

use crate::follower::Progress;

/// What the port has.
pub(crate) struct Asked {
    discovery: Discovery,
    /// For health, metrics and backups.
    index: Index,
    max_lag: Duration,
    backup: PathBuf,
    progress: Arc<Progress>,
    answered: AtomicU64,
    lagging: AtomicU64,
    failed: AtomicU64,
}

impl Asked {
    pub(crate) fn new(index: &Index, max_lag: Duration, backup: PathBuf, progress: Arc<Progress>) -> Self {
        let (discovery, index) = (index.discovery(), index.clone());
        let [answered, lagging, failed] = Default::default();
        Self { discovery, index, max_lag, backup, progress, answered, lagging, failed }
    }
}

pub(crate) fn router(asked: Asked) -> Router {
    Router::new()
        .route("/lookup", post(lookup))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/backup", post(backup))
        .with_state(Arc::new(asked))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// Whom the host has authenticated.
    caller: String,
    /// Where from.
    network: Option<std::net::IpAddr>,
    purpose: String,
    /// In international form.
    numbers: Vec<String>,
}

/// Numbers with their accounts, and those that the caller has no budget for now.
async fn lookup(State(asked): State<Arc<Asked>>, Json(question): Json<Question>) -> Response {
    blocking(move || {
        let reply = ask(&asked.discovery, &question);
        let counter = match &reply {
            Ok(_) => &asked.answered,
            Err(Error::Lagging { .. }) => &asked.lagging,
            Err(_) => &asked.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        reply
    })
    .await
}

fn ask(discovery: &Discovery, question: &Question) -> Result<Value, Error> {
    let numbers: Vec<&str> = question.numbers.iter().map(String::as_str).collect();
    let hashes: Result<Vec<PhoneHash>, _> = numbers.iter().map(|number| PhoneHash::of_e164(number)).collect();
    let mut caller = Caller::new(&question.caller);
    if let Some(network) = question.network {
        caller = caller.via(Origin::network(network));
    }
    let reply = discovery.lookup(&caller, question.purpose.parse::<Purpose>()?, &hashes?)?;
    let number = |position: usize| numbers.get(position).copied().unwrap_or_default();
    let found = reply
        .matches()
        .map(|found| json!({ "number": number(found.position), "account": found.account.to_string() }));
    Ok(json!({
        "found": found.collect::<Vec<_>>(),
        "deferred": reply.deferred().map(number).collect::<Vec<_>>(),
        "charged": reply.charged(),
        "remaining": reply.remaining(),
        "retry_after_s": reply.retry_after().map(|wait| wait.as_secs().saturating_add(1)),
    }))
}

/// Whether a load balancer should send lookups here. Beyond the lag it should not, and nobody should restart the node for it.
async fn health(State(asked): State<Arc<Asked>>) -> Response {
    blocking(move || asked.index.health().map(|()| json!({ "lag_s": lag_s(&asked.index) }))).await
}

/// Copies the index into the node's directory, for a node that begins with it.
async fn backup(State(asked): State<Arc<Asked>>) -> Response {
    blocking(move || {
        let report = asked.index.backup(&asked.backup, BackupMode::Linked)?;
        Ok(json!({ "dir": asked.backup, "snapshot_version": report.snapshot_version }))
    })
    .await
}

/// Prometheus' text format. A lag that is not known is infinite, so that an alert above a bound sees it.
async fn metrics(State(asked): State<Arc<Asked>>) -> String {
    let progress = &asked.progress;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut out = String::new();
    for (name, kind, value) in [
        ("unlisted_lag_seconds", "gauge", lag_s(&asked.index).map_or("+Inf".to_owned(), |lag| lag.to_string())),
        ("unlisted_max_lag_seconds", "gauge", asked.max_lag.as_secs_f64().to_string()),
        ("fleet_entries_applied_total", "counter", read(&progress.applied).to_string()),
        ("fleet_changes_stale_total", "counter", read(&progress.stale).to_string()),
        ("fleet_failed_reads_total", "counter", read(&progress.failed_reads).to_string()),
        ("fleet_lookups_answered_total", "counter", read(&asked.answered).to_string()),
        ("fleet_lookups_lagging_total", "counter", read(&asked.lagging).to_string()),
        ("fleet_lookups_failed_total", "counter", read(&asked.failed).to_string()),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(out, "# TYPE {name} {kind}\n{name} {value}");
    }
    let watermark = asked.index.watermark().unwrap_or_default();
    let position = String::from_utf8_lossy(&watermark);
    let _ = writeln!(out, "# TYPE fleet_position gauge\nfleet_position{{entry=\"{position}\"}} 1");
    out
}

fn lag_s(index: &Index) -> Option<f64> {
    index.lag().map(|lag| lag.as_secs_f64())
}

/// Runs what waits for the disk on a thread that may wait.
async fn blocking(work: impl FnOnce() -> Result<Value, Error> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(error)) => refusal(&error),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn refusal(error: &Error) -> Response {
    let status = match error {
        // Another node may answer.
        Error::Lagging { .. } | Error::Fleet(_) | Error::Poisoned { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::Suspended { .. } => StatusCode::FORBIDDEN,
        Error::E164(_) | Error::Purpose(_) | Error::EmptyCaller | Error::CallerIdTooLong { .. } => {
            StatusCode::BAD_REQUEST
        }
        Error::BatchTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let body = Json(json!({ "error": error.to_string() }));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        (status, [(RETRY_AFTER, "1")], body).into_response()
    } else {
        (status, body).into_response()
    }
}
