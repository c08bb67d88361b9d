//! A real cluster, nodes as processes of their own, and a model of what they must answer.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fleet::{Change, Feed, FeedOptions};
use serde_json::{Value, json};
use unlisted::{AccountId, OptIns, PhoneHash};

pub const SECRET: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";
pub const MAX_LAG: Duration = Duration::from_millis(1_000);
/// How long anything may take that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster of three primaries with a replica each, started and stopped by the script beside the package.
pub struct Valkey {
    pub home: PathBuf,
    pub servers: Vec<String>,
}

impl Valkey {
    pub fn start() -> Self {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fleet-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let mut valkey = Self { home, servers: Vec::new() };
        let printed = valkey.script("start", &["--port", "0"]);
        valkey.servers = printed.trim().split(',').map(str::to_owned).collect();
        valkey
    }

    pub fn script(&self, command: &str, more: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
        let dir = self.home.join("valkey");
        let ended =
            Command::new(script).arg(command).arg(dir).args(more).stderr(Stdio::inherit()).output().unwrap();
        assert!(ended.status.success(), "cluster {command}");
        String::from_utf8(ended.stdout).unwrap()
    }

    /// The feed as the host writes it: with patience for the disk of a machine that is busy with something else.
    pub fn feed(&self) -> Feed {
        self.feed_that_waits(1, PATIENCE)
    }

    pub fn feed_that_waits(&self, replicas: u32, wait: Duration) -> Feed {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap();
        Feed::new(FeedOptions { servers: self.servers.clone(), user: None, password: None, replicas, wait_ms })
    }

    /// The server that has the feed now, and a connection to it.
    pub fn primary(&self) -> (String, redis::Connection) {
        let holds_feed = |server: &String| {
            let client = redis::Client::open(format!("redis://{server}")).unwrap();
            let mut connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok()?;
            let asked = redis::cmd("XLEN").arg("{feed}:entries").query::<u64>(&mut connection);
            asked.is_ok().then(|| (server.clone(), connection))
        };
        self.servers.iter().find_map(holds_feed).expect("one of them has the feed")
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        self.script("stop", &["--remove"]);
        std::fs::remove_dir_all(&self.home).unwrap_or_default();
    }
}

/// What a node says to a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Found(BTreeSet<(String, String)>),
    Lagging,
}

/// A node as a process. It is killed when it is dropped, and its directory stays until the cluster goes.
pub struct Node {
    child: Child,
    pub address: SocketAddr,
    pub dir: PathBuf,
    pub name: String,
    pub log: Arc<Mutex<String>>,
}

impl Node {
    pub fn start(valkey: &Valkey, name: &str, more: &[&str]) -> Self {
        let dir = valkey.home.join(name);
        let budgets: &[&str] = if more.contains(&"--budgets") { &[] } else { &["--budgets", "own"] };
        let mut child = Command::new(env!("CARGO_BIN_EXE_fleet"))
            .args(["node", "--name", name, "--feed", &valkey.servers.join(",")])
            .args(["--max-lag-ms", &MAX_LAG.as_millis().to_string(), "--poll-ms", "50"])
            .arg("--dir")
            .arg(&dir)
            .args(["--quota", "caller=10000000/1000000"])
            .args(budgets)
            .args(more)
            .env("UNLISTED_SECRET", SECRET)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (log, (serving, served)) = (Arc::new(Mutex::new(String::new())), mpsc::channel());
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("serving address=") {
                    serving.send(address.parse::<SocketAddr>().unwrap()).unwrap_or_default();
                }
                *kept.lock().unwrap() += &(line + "\n");
            }
        });
        let Ok(address) = served.recv_timeout(PATIENCE) else { panic!("{name} ended:\n{}", log.lock().unwrap()) };
        Self { child, address, dir, name: name.to_owned(), log }
    }

    /// How it ended by itself, and its log.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                // The thread that reads it may be a moment behind.
                sleep(Duration::from_millis(100));
                return (status, self.log.lock().unwrap().clone());
            }
            sleep(Duration::from_millis(10));
        }
        panic!("{} should have ended", self.name);
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a request without waiting for the answer.
    pub fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n"
        );
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    pub fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        receive(self.send(method, path, body))
    }

    pub fn send_lookup(&self, numbers: &[String], purpose: &str) -> TcpStream {
        let question = json!({ "caller": "user-7", "purpose": purpose, "numbers": numbers });
        self.send("POST", "/lookup", &question.to_string())
    }

    pub fn lookup(&self, numbers: &[String], purpose: &str) -> Answer {
        answer(self.send_lookup(numbers, purpose))
    }

    pub fn metric(&self, name: &str) -> f64 {
        let (status, text) = self.request("GET", "/metrics", "");
        assert_eq!(status, 200);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    }

    /// The entry at which it stands.
    pub fn position(&self) -> String {
        let (_, text) = self.request("GET", "/metrics", "");
        let of = text.split_once("fleet_position{entry=\"").unwrap().1;
        of.split_once('"').unwrap().0.to_owned()
    }

    pub fn wait_for(&self, what: &str, test: impl Fn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !test(self) {
            assert!(begun.elapsed() < PATIENCE, "{}: {what}\n{}", self.name, self.log.lock().unwrap());
            sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }

    pub fn wait_until_at(&self, id: &str) -> Duration {
        self.wait_for(id, |node| node.position() == id && node.request("GET", "/health", "").0 == 200)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().ok();
    }
}

fn receive(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What came of a lookup: nothing but an answer, or a refusal for the lag.
pub fn answer(stream: TcpStream) -> Answer {
    let (status, body) = receive(stream);
    let body: Value = serde_json::from_str(&body).unwrap();
    match status {
        200 => {
            assert_eq!(body["deferred"], json!([]), "the test's budget is wide");
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let pair = |found: &Value| (text(&found["number"]), text(&found["account"]));
            Answer::Found(body["found"].as_array().unwrap().iter().map(pair).collect())
        }
        503 => {
            assert!(body["error"].as_str().unwrap().contains("behind the host's feed"), "{body}");
            assert_eq!(body.as_object().unwrap().len(), 1, "a refusal says nothing else: {body}");
            Answer::Lagging
        }
        _ => panic!("{status}: {body}"),
    }
}

pub fn number(i: u64) -> String {
    format!("+1415555{i:04}")
}

pub fn hash(i: u64) -> PhoneHash {
    PhoneHash::of_e164(&number(i)).unwrap()
}

pub const NUMBERS: u64 = 200;

/// What the feed says: the host's own table.
#[derive(Default)]
pub struct Host {
    listings: BTreeMap<(u64, u64), OptIns>,
    version: u64,
    random: u64,
    pub published: u64,
    pub last_id: String,
}

impl Host {
    fn random(&mut self, below: u64) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    /// The version of a change that this host makes elsewhere.
    pub fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    pub fn set(&mut self, feed: &mut Feed, number: u64, account: u64, opt_ins: OptIns) {
        self.version += 1;
        self.listings.insert((number, account), opt_ins);
        let change = Change::Set {
            number: hash(number),
            account: AccountId::from(account),
            opt_ins,
            version: self.version,
        };
        self.publish(feed, &change);
    }

    /// Some change to one of few accounts, so that they meet.
    pub fn change_something(&mut self, feed: &mut Feed) {
        let (number, account) = (self.random(NUMBERS), self.random(100));
        match self.random(200) {
            0 => {
                self.listings.retain(|(_, of), _| *of != account);
                self.version += 1;
                self.publish(feed, &Change::Erase { account: AccountId::from(account), version: self.version });
            }
            1..=20 => {
                self.version += 1;
                self.listings.remove(&(number, account));
                let (number, account) = (hash(number), AccountId::from(account));
                self.publish(feed, &Change::Remove { number, account, version: self.version });
            }
            kind => {
                let opt_ins = [OptIns::empty(), OptIns::SEARCH, OptIns::CONTACT_SYNC | OptIns::SEARCH];
                self.set(feed, number, account, opt_ins[kind as usize % 3]);
            }
        }
    }

    fn publish(&mut self, feed: &mut Feed, change: &Change) {
        self.last_id = feed.publish(change).unwrap();
        self.published += 1;
    }

    /// Every number for two purposes, on every node, as the table says; how many were compared.
    pub fn compare(&self, nodes: &[&Node]) -> usize {
        let numbers: Vec<String> = (0..NUMBERS).map(number).collect();
        let mut compared = 0;
        for (purpose, bit) in [("search", OptIns::SEARCH), ("contact-sync", OptIns::CONTACT_SYNC)] {
            let shown = self.listings.iter().filter(|(_, opt_ins)| opt_ins.contains(bit));
            let expected = shown.map(|((i, account), _)| (number(*i), AccountId::from(*account).to_string()));
            let expected = Answer::Found(expected.collect());
            for node in nodes {
                node.wait_until_at(&self.last_id);
                assert_eq!(node.lookup(&numbers, purpose), expected, "{} for {purpose}", node.name);
                compared += numbers.len();
            }
        }
        compared
    }
}
