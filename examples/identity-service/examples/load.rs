//! Load for an identity server, of this package or another: the same people, the same callers, the same questions.
//!
//! `load fill`       lists people with this package's service, through its operators' port
//! `load sync`       callers who sync their address books again and again
//! `load enumerate`  one caller who goes through the number space

#[path = "../tests/common/http.rs"]
mod http;

use std::error::Error;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Parser, Subcommand};
use http::{Answer, Client};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
struct Args {
    /// The server.
    #[arg(long)]
    server: SocketAddr,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Fill {
        #[arg(long)]
        operator_token: String,
        /// Every other number of the space up to twice this is somebody's.
        #[arg(long)]
        people: u64,
        #[arg(long)]
        callers: u64,
    },
    Sync {
        #[arg(long)]
        callers: u64,
        /// Addresses of a book.
        #[arg(long, default_value_t = 250)]
        book: u64,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    Enumerate {
        /// Addresses of a question.
        #[arg(long, default_value_t = 1_000)]
        batch: u64,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
}

fn main() -> Fallible<()> {
    let Args { server, what } = Args::parse();
    match what {
        What::Fill { operator_token, people, callers } => fill(server, &operator_token, people, callers),
        What::Sync { callers, book, seconds } => sync(server, callers, book, Duration::from_secs(seconds)),
        What::Enumerate { batch, seconds } => enumerate(server, batch, Duration::from_secs(seconds)),
    }
}

/// The numbers of the space, in order.
fn number(i: u64) -> String {
    format!("1415{i:07}")
}

fn token(caller: u64) -> String {
    format!("load-token-{caller}")
}

fn send(client: &mut Client, method: &str, path: &str, token: &str, body: &Value) -> Fallible<Answer> {
    let authorization = format!("authorization: Bearer {token}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    Ok(client.send(method, path, &[&authorization, "content-type: application/json"], &body)?)
}

fn fill(server: SocketAddr, operator_token: &str, people: u64, callers: u64) -> Fallible<()> {
    let mut client = Client::connect(server)?;
    let callers = (0..callers).map(|i| json!({ "mxid": format!("@caller{i}:example.org"), "token": token(i) }));
    let people = (0..people).map(|i| {
        let address = json!({ "medium": "msisdn", "address": number(2 * i), "discoverable": true });
        json!({ "mxid": format!("@user{i}:example.org"), "addresses": [address] })
    });
    let all: Vec<Value> = callers.chain(people).collect();
    for some in all.chunks(20_000) {
        let answer = send(&mut client, "POST", "/_unlisted/v1/accounts", operator_token, &json!(some))?;
        if answer.status != 200 {
            return Err(answer.body.into());
        }
    }
    Ok(())
}

/// A caller with a connection.
struct Caller {
    client: Client,
    token: String,
    pepper: String,
}

impl Caller {
    fn connect(server: SocketAddr, caller: u64) -> Fallible<Self> {
        let (mut client, token) = (Client::connect(server)?, token(caller));
        let details = send(&mut client, "GET", "/_matrix/identity/v2/hash_details", &token, &Value::Null)?.json();
        let pepper = details.get("lookup_pepper").and_then(Value::as_str).ok_or("no pepper")?.to_owned();
        Ok(Self { client, token, pepper })
    }

    fn question(&self, numbers: impl Iterator<Item = u64>) -> Value {
        let hash = |i| URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{} msisdn {}", number(i), self.pepper)));
        json!({ "algorithm": "sha256", "pepper": self.pepper, "addresses": numbers.map(hash).collect::<Vec<_>>() })
    }

    fn ask(&mut self, question: &Value) -> Fallible<Answer> {
        send(&mut self.client, "POST", "/_matrix/identity/v2/lookup", &self.token, question)
    }
}

fn sync(server: SocketAddr, callers: u64, book: u64, time: Duration) -> Fallible<()> {
    let syncs = |caller| -> Fallible<(Vec<Duration>, u64)> {
        let mut asker = Caller::connect(server, caller)?;
        let question = asker.question(caller * book..(caller + 1) * book);
        let (since, mut took, mut found) = (Instant::now(), Vec::new(), 0);
        while since.elapsed() < time {
            let asked = Instant::now();
            let answer = asker.ask(&question)?;
            took.push(asked.elapsed());
            let mappings = answer.json();
            let mappings = mappings.get("mappings").and_then(Value::as_object).ok_or(answer.body)?;
            found = mappings.len() as u64;
        }
        Ok((took, found))
    };
    let all = thread::scope(|scope| {
        let threads: Vec<_> = (0..callers).map(|caller| scope.spawn(move || syncs(caller))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a caller panicked")?)
            .collect::<Fallible<Vec<_>>>()
    })?;
    let mut took: Vec<Duration> = all.iter().flat_map(|(took, _)| took).copied().collect();
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default().as_secs_f64() * 1e3;
    let lookups_per_s = took.len() as f64 / time.as_secs_f64();
    println!(
        "{}",
        json!({ "callers": callers, "book": book, "found_of_a_book": all.first().map(|(_, found)| found),
            "lookups_per_s": lookups_per_s.round(), "addresses_per_s": (lookups_per_s * book as f64).round(),
            "median_ms": at(50), "p99_ms": at(99) })
    );
    Ok(())
}

fn enumerate(server: SocketAddr, batch: u64, time: Duration) -> Fallible<()> {
    let mut caller = Caller::connect(server, 0)?;
    let (since, mut answered, mut found, mut limit) = (Instant::now(), 0, 0, None);
    let mut next = 0;
    while since.elapsed() < time && limit.is_none() {
        let question = caller.question(next..next + batch);
        let answer = caller.ask(&question)?;
        let body = answer.json();
        let waits_ms = |field: &str| body.get(field).and_then(Value::as_u64);
        let deferred = body.get("org.unlisted.deferred").and_then(Value::as_array).map_or(0, Vec::len) as u64;
        limit = waits_ms("retry_after_ms").or_else(|| waits_ms("org.unlisted.retry_after_ms"));
        if answer.status == 200 {
            answered += batch - deferred;
            found += body.get("mappings").and_then(Value::as_object).map_or(0, serde_json::Map::len);
        } else if answer.status != 429 {
            return Err(answer.body.into());
        }
        next += batch;
    }
    let seconds = since.elapsed().as_secs_f64();
    let at_that_pace = limit.is_none().then(|| (answered as f64 / seconds * 3_600.0).round());
    println!(
        "{}",
        json!({ "seconds": seconds, "answered": answered, "found": found, "refused_for_ms": limit,
            "answered_in_an_hour_at_that_pace": at_that_pace })
    );
    Ok(())
}
