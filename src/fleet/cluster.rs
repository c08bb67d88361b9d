//! Which server has which slot, open connections to each, and calls that find their server.
//!
//! The client's own cluster mode cannot say that two commands go over one connection, which `WAITAOF` needs: it waits for
//! what was written before it on its own connection. So connections are kept here, one call at a time on each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use redis::{ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use super::options::FleetOptions;
use super::server::{Address, Link, refused};
use super::slots::SLOTS;
use crate::words::FleetError;

/// How often a call looks for its server anew: the slot moved, or a replica took over.
const TRIES: usize = 3;
/// The cluster is not asked more often than this who has which slot.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);
/// Connections kept open to one server.
const KEPT: usize = 32;
/// What a node calls, loaded into servers that do not have it.
const FUNCTIONS: &str = include_str!("functions.lua");
/// Digits of the digest of it that its names carry.
const DIGEST_DIGITS: usize = 12;

/// The primary of each run of slots.
#[derive(Debug, Default)]
struct Routes(Vec<(u16, u16, Address)>);

impl Routes {
    fn of(&self, slot: u16) -> Option<&Address> {
        self.0.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).map(|(_, _, address)| address)
    }
}

/// What a call came to.
type Answers = Vec<RedisResult<Value>>;

/// The cluster, as this node sees it.
pub(super) struct Cluster {
    options: FleetOptions,
    seeds: Vec<Address>,
    routes: ArcSwap<Routes>,
    idle: Mutex<HashMap<Address, Vec<Link>>>,
    /// When the routes were asked for last.
    refreshed: Mutex<Option<Instant>>,
    calls: AtomicU64,
    /// The digest of the functions in their names.
    digest: String,
}

impl Cluster {
    /// Finds the servers.
    pub(super) fn connect(options: &FleetOptions) -> Result<Self, FleetError> {
        let seeds = options.addresses.iter().map(|text| Address::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let cluster = Self {
            options: options.clone(),
            seeds,
            routes: ArcSwap::default(),
            idle: Mutex::default(),
            refreshed: Mutex::new(None),
            calls: AtomicU64::new(0),
            digest: digest(),
        };
        cluster.refresh()?;
        Ok(cluster)
    }

    /// The name of one of the functions.
    pub(super) fn function(&self, name: &str) -> String {
        format!("unlisted_{}_{name}", self.digest)
    }

    /// Calls to servers so far.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Who has a slot, as far as is known.
    pub(super) fn primary_of(&self, slot: u16) -> Option<Address> {
        self.routes.load().of(slot).cloned()
    }

    /// The slots of each primary.
    pub(super) fn slots_by_primary(&self) -> Vec<Vec<u16>> {
        let mut slots: HashMap<Address, Vec<u16>> = HashMap::new();
        for (first, last, address) in &self.routes.load().0 {
            slots.entry(address.clone()).or_default().extend(*first..=*last);
        }
        slots.into_values().collect()
    }

    /// Sends commands for keys of one slot to whoever has it, over one connection. A server that was not reached at all, or
    /// that says that the slot is elsewhere, is looked for again; a call whose answer was lost is not repeated, since it may
    /// have been carried out.
    ///
    /// With `durable`, the last answer is that of `WAITAOF`, which goes out once the others are back: a replica that reads what
    /// it has to write and the question whether it is on its disk in one go answers the question first, with no, and then
    /// says nothing for a second.
    pub(super) fn send(
        &self,
        slot: u16,
        commands: &mut Pipeline,
        durable: bool,
    ) -> Result<(Answers, Address), FleetError> {
        let mut trouble = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                self.refresh()?;
            }
            let Some(address) = self.primary_of(slot) else {
                trouble = Some(FleetError::Unavailable {
                    address: format!("the primary of slot {slot}"),
                    reason: "no server has it now".to_owned(),
                });
                continue;
            };
            let mut link = match self.link(&address) {
                Ok(link) => link,
                Err(error @ FleetError::Unavailable { .. }) => {
                    trouble = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.calls.fetch_add(1, Ordering::Relaxed);
            let answers = match self.ask_over(&mut link, commands, durable) {
                Ok(answers) => answers,
                Err(error) => {
                    // Others may have noticed less: the next call asks again who has the slot.
                    self.forget(&address);
                    return Err(refused(&address, &error));
                }
            };
            let again = answers.iter().filter_map(|answer| answer.as_ref().err()).find_map(Again::of);
            match again {
                None => {
                    self.keep(link);
                    return Ok((answers, address));
                }
                Some(Again::Load) => self.load_functions(&mut link)?,
                Some(Again::Elsewhere) => {}
            }
            self.keep(link);
            trouble = Some(address.unavailable("it does not have the slot any more"));
        }
        Err(trouble.unwrap_or_else(|| self.nobody("no try was made".to_owned())))
    }

    fn ask_over(&self, link: &mut Link, commands: &mut Pipeline, durable: bool) -> Result<Answers, RedisError> {
        let mut answers = link.send(commands)?;
        if durable && answers.iter().all(Result::is_ok) {
            let wait_ms = u64::try_from(self.options.call_timeout.as_millis() * 3 / 4).unwrap_or(u64::MAX).max(1);
            let mut wait = redis::pipe();
            wait.cmd("WAITAOF").arg(1).arg(self.options.replicas).arg(wait_ms);
            answers.extend(link.send(&mut wait)?);
        }
        Ok(answers)
    }

    /// Runs something over one connection to a server.
    pub(super) fn with<T>(
        &self,
        address: &Address,
        run: impl FnOnce(&mut Link) -> Result<T, RedisError>,
    ) -> Result<T, FleetError> {
        let mut link = self.link(address)?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let done = run(&mut link).map_err(|error| refused(address, &error))?;
        self.keep(link);
        Ok(done)
    }

    /// Loads the functions into a server.
    fn load_functions(&self, link: &mut Link) -> Result<(), FleetError> {
        let mut load = redis::pipe();
        load.cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(FUNCTIONS.replace("DIGEST", &self.digest));
        self.calls.fetch_add(1, Ordering::Relaxed);
        let address = link.address().clone();
        let answers = link.send(&mut load).map_err(|error| refused(&address, &error))?;
        for answer in answers {
            answer.map_err(|error| refused(&address, &error))?;
        }
        Ok(())
    }

    fn link(&self, address: &Address) -> Result<Link, FleetError> {
        let idle = self.idle.lock().get_mut(address).and_then(Vec::pop);
        match idle {
            Some(link) => Ok(link),
            None => Link::open(&self.options, address),
        }
    }

    fn keep(&self, link: Link) {
        let mut idle = self.idle.lock();
        let links = idle.entry(link.address().clone()).or_default();
        if links.len() < KEPT {
            links.push(link);
        }
    }

    /// Drops the connections to a server, and looks for who has its slots at the next call.
    fn forget(&self, address: &Address) {
        self.idle.lock().remove(address);
        if let Err(error) = self.refresh() {
            tracing::debug!(error = error.to_string(), "nobody says who has which slot");
        }
    }

    /// Asks who has which slot: the servers that were named, and those that are known.
    fn refresh(&self) -> Result<(), FleetError> {
        let wanted_at = Instant::now();
        let mut refreshed = self.refreshed.lock();
        if refreshed.is_some_and(|at| at > wanted_at) {
            return Ok(()); // by somebody else meanwhile
        }
        if refreshed.is_some_and(|at| at.elapsed() < REFRESH_PAUSE) && !self.routes.load().0.is_empty() {
            std::thread::sleep(REFRESH_PAUSE);
        }
        let routes = self.routes.load();
        let mut asked: Vec<&Address> = Vec::new();
        let mut trouble = None;
        for address in self.seeds.iter().chain(routes.0.iter().map(|(_, _, address)| address)) {
            if asked.contains(&address) {
                continue;
            }
            asked.push(address);
            match self.ask(address) {
                Ok(routes) if !routes.0.is_empty() => {
                    self.routes.store(Arc::new(routes));
                    *refreshed = Some(Instant::now());
                    return Ok(());
                }
                Ok(_) => trouble = Some(address.unavailable("it knows of no slot")),
                Err(error @ FleetError::Unavailable { .. }) => trouble = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(trouble.unwrap_or_else(|| self.nobody("none was asked".to_owned())))
    }

    fn nobody(&self, reason: String) -> FleetError {
        FleetError::Unavailable { address: self.options.addresses.join(", "), reason }
    }

    fn ask(&self, address: &Address) -> Result<Routes, FleetError> {
        let answer = self.with(address, |link| {
            let mut ask = redis::pipe();
            ask.cmd("CLUSTER").arg("SLOTS");
            link.send(&mut ask)?.pop().unwrap_or(Ok(Value::Nil))
        })?;
        routes_of(answer, address)
    }
}

fn digest() -> String {
    let digest = blake3::hash(FUNCTIONS.as_bytes());
    digest.to_hex().chars().take(DIGEST_DIGITS).collect()
}

/// Why a call is worth another try.
enum Again {
    /// The slot is on another server, or will be.
    Elsewhere,
    /// The server does not have the functions.
    Load,
}

impl Again {
    fn of(error: &RedisError) -> Option<Self> {
        match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown,
            ) => Some(Self::Elsewhere),
            _ if error.detail().is_some_and(|detail| detail.contains("Function not found")) => Some(Self::Load),
            _ => None,
        }
    }
}

/// Reads `CLUSTER SLOTS`: first and last slot, then the primary and its replicas, each as host, port and more.
fn routes_of(answer: Value, asked: &Address) -> Result<Routes, FleetError> {
    let damaged = || FleetError::Damaged { what: "list of slots", reason: format!("{asked} sent another shape") };
    let Value::Array(runs) = answer else { return Err(damaged()) };
    let mut routes = Vec::with_capacity(runs.len());
    for run in runs {
        let Value::Array(run) = run else { return Err(damaged()) };
        let [first, last, Value::Array(primary), ..] = run.as_slice() else { return Err(damaged()) };
        let slot = |value: &Value| match value {
            Value::Int(slot) => u16::try_from(*slot).ok().filter(|slot| *slot < SLOTS),
            _ => None,
        };
        let [host, Value::Int(port), ..] = primary.as_slice() else { return Err(damaged()) };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() => {
                std::str::from_utf8(host).map_err(|_| damaged())?.to_owned()
            }
            // A server that does not know how it is called is called as it was.
            Value::Nil | Value::BulkString(_) => asked.host.clone(),
            _ => return Err(damaged()),
        };
        let port = u16::try_from(*port).map_err(|_| damaged())?;
        let (first, last) = slot(first).zip(slot(last)).ok_or_else(damaged)?;
        routes.push((first, last, Address { host, port }));
    }
    Ok(Routes(routes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn slots_are_read_and_damage_is_told() {
        let asked = Address { host: "asked".to_owned(), port: 1 };
        let server = |host, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let run = |first, last, host, port| {
            Value::Array(vec![Value::Int(first), Value::Int(last), server(host, port), server(text("replica"), 9)])
        };
        let answer = Value::Array(vec![run(0, 99, text("a"), 7101), run(100, 16_383, Value::Nil, 7102)]);
        let routes = routes_of(answer, &asked).unwrap();
        assert_eq!(routes.of(99).unwrap().to_string(), "a:7101");
        assert_eq!(routes.of(100).unwrap().to_string(), "asked:7102");
        for bad in [
            Value::Nil,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![run(0, 16_384, text("a"), 1)]),
            Value::Array(vec![run(-1, 5, text("a"), 1)]),
            Value::Array(vec![run(0, 5, text("a"), 70_000)]),
            Value::Array(vec![run(0, 5, Value::BulkString(vec![0xff]), 1)]),
        ] {
            assert!(matches!(routes_of(bad, &asked), Err(FleetError::Damaged { .. })));
        }
    }
}
