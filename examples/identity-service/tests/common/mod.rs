//! A service on ports of its own, in this process.

#![allow(dead_code, reason = "no test uses all of it")]

pub mod http;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Answer, Client};
use identity_service::{Config, Error, Service};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedSender;
use unlisted::{QuotaPolicy, Secret};

pub const OPERATOR: &str = "token-of-the-operators";
pub const SECRET: [u8; 32] = [0x5e; 32];
pub const LOOKUP: &str = "/_matrix/identity/v2/lookup";
pub const DISCOVERABLE: &str = "/_unlisted/v1/discoverable";
pub const FOUND_ME: &str = "/_unlisted/v1/found-me";
pub const ACCOUNTS: &str = "/_unlisted/v1/accounts";

/// A number or an e-mail address, as its medium and itself.
pub type Address<'a> = (&'a str, &'a str);

pub const ADAS_PHONE: Address<'_> = ("msisdn", "14155550100");
pub const ADAS_EMAIL: Address<'_> = ("email", "ada@example.org");
pub const BOBS_PHONE: Address<'_> = ("msisdn", "14155550101");

pub struct Running {
    pub clients: SocketAddr,
    pub operators: SocketAddr,
    pub pepper: String,
    stop: UnboundedSender<()>,
    thread: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Serves what is in `dir`, with these quotas beside very large ones.
    pub fn start(dir: &Path, quotas: &[&str]) -> Self {
        Self::start_with(dir, quotas, |_| ())
    }

    pub fn start_with(dir: &Path, quotas: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let large = QuotaPolicy::default().with_text("caller=1000000/1000000").unwrap();
        let large = large.with_text("network=1000000/1000000").unwrap();
        let mut config = Config {
            dir: dir.to_owned(),
            secret: Secret::from_bytes(SECRET),
            operator_token: OPERATOR.to_owned(),
            quotas: quotas.iter().fold(large, |policy, text| policy.with_text(text).unwrap()),
            listen: "127.0.0.1:0".parse().unwrap(),
            operators: "127.0.0.1:0".parse().unwrap(),
            behind_proxy: false,
            drain: Duration::from_secs(10),
        };
        change(&mut config);
        let service = Service::open(config).unwrap();
        let (stop, mut stopped) = tokio::sync::mpsc::unbounded_channel();
        let (started, addresses) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let stopped = async move { stopped.recv().await.unwrap_or_default() };
            service.run(stopped, |clients, operators| started.send((clients, operators)).unwrap())
        });
        let (clients, operators) = addresses.recv_timeout(Duration::from_secs(20)).unwrap();
        Self { clients, operators, pepper: String::new(), stop, thread }
    }

    /// With Ada, who is found by both of her addresses, Bob, who is not, and Eve, who has none.
    pub fn with_people(dir: &Path, quotas: &[&str]) -> Self {
        let mut running = Self::start(dir, quotas);
        let address = |(medium, address): Address<'_>, discoverable: Option<bool>| json!({ "medium": medium, "address": address, "discoverable": discoverable });
        let people = json!([
            { "mxid": "@ada:example.org", "token": "token-of-ada",
              "addresses": [address(ADAS_PHONE, Some(true)), address(ADAS_EMAIL, Some(true))] },
            { "mxid": "@bob:example.org", "token": "token-of-bob", "addresses": [address(BOBS_PHONE, None)] },
            { "mxid": "@eve:example.net", "token": "token-of-eve" },
        ]);
        assert_eq!(running.operate("POST", ACCOUNTS, &people).status, 200);
        running.learn_pepper("token-of-eve");
        running
    }

    pub fn learn_pepper(&mut self, token: &str) {
        let details = self.ask("GET", "/_matrix/identity/v2/hash_details", Some(token), "").json();
        self.pepper = details["lookup_pepper"].as_str().unwrap().to_owned();
    }

    pub fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
        send(self.clients, method, path, token, body)
    }

    pub fn operate(&self, method: &str, path: &str, body: &Value) -> Answer {
        send(self.operators, method, path, Some(OPERATOR), &body.to_string())
    }

    pub fn hash(&self, (medium, address): Address<'_>) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{address} {medium} {}", self.pepper)))
    }

    pub fn question(&self, addresses: &[Address<'_>]) -> Value {
        let hashes: Vec<String> = addresses.iter().map(|address| self.hash(*address)).collect();
        json!({ "algorithm": "sha256", "pepper": self.pepper, "addresses": hashes })
    }

    pub fn lookup(&self, token: &str, addresses: &[Address<'_>]) -> Answer {
        self.ask("POST", LOOKUP, Some(token), &self.question(addresses).to_string())
    }

    /// Who is found by an address.
    pub fn found(&self, token: &str, address: Address<'_>) -> Option<String> {
        let answer = self.lookup(token, &[address]);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["mappings"][self.hash(address)].as_str().map(str::to_owned)
    }

    pub fn set_discoverable(&self, token: &str, (medium, address): Address<'_>, on: bool) -> Answer {
        let body = json!({ "medium": medium, "address": address, "discoverable": on });
        self.ask("PUT", DISCOVERABLE, Some(token), &body.to_string())
    }

    /// Stops it and waits until the index is closed.
    pub fn stop(self) {
        self.tell_to_stop();
        self.wait();
    }

    pub fn tell_to_stop(&self) {
        self.stop.send(()).unwrap();
    }

    pub fn wait(self) {
        self.thread.join().unwrap().unwrap();
    }
}

pub fn send(to: SocketAddr, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
    let authorization = token.map(|token| format!("authorization: Bearer {token}"));
    let headers: Vec<&str> = authorization.iter().map(String::as_str).collect();
    Client::connect(to).unwrap().send(method, path, &headers, body).unwrap()
}
