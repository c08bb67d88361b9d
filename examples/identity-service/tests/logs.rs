//! Nothing that must not be in a log is in it, whatever is switched on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// In every form in which it could be printed.
fn forms(bytes: &[u8]) -> Vec<String> {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let unpadded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let list = format!("{bytes:?}");
    vec![hex.to_uppercase(), hex, STANDARD.encode(bytes), unpadded, list[1..list.len() - 1].to_owned()]
}

#[test]
fn a_whole_session_at_the_finest_level_says_nothing() {
    let captured = Captured::default();
    let writer = captured.clone();
    // What other crates log through `log` is captured too.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();

    tracing::trace!(target: "finest", "is captured");
    let dir = tempfile::tempdir().unwrap();
    let service = Running::with_people(dir.path(), &["caller=4/60"]);
    let book = [ADAS_PHONE, ADAS_EMAIL, BOBS_PHONE, ("msisdn", "14155550777")];
    service.operate("POST", "/_unlisted/v1/tripwires", &json!([{ "medium": "msisdn", "address": "14155550777" }]));
    assert_eq!(service.lookup("token-of-eve", &book).status, 200);
    assert_eq!(service.lookup("token-of-eve", &[("msisdn", "14155550888")]).status, 429);
    assert_eq!(service.lookup("token-that-is-wrong", &book).status, 401);
    let broken = format!("{{\"addresses\": [\"{}\", }}", service.hash(ADAS_PHONE));
    assert_eq!(service.ask("POST", LOOKUP, Some("token-of-eve"), &broken).status, 400);
    assert_eq!(
        service.ask("GET", "/_matrix/identity/v2/account?access_token=token-in-query", None, "").status,
        401
    );
    assert_eq!(service.ask("GET", "/14155550100/ada@example.org", None, "").status, 404);
    assert_eq!(service.set_discoverable("token-of-ada", ADAS_EMAIL, false).status, 200);
    assert_eq!(service.ask("GET", FOUND_ME, Some("token-of-ada"), "").status, 200);
    let suspension = json!({ "mxid": "@eve:example.net", "reason": "asked for 14155550777" });
    assert_eq!(service.operate("POST", "/_unlisted/v1/suspensions", &suspension).status, 200);
    assert_eq!(service.lookup("token-of-eve", &book).status, 403);
    for path in ["/", "/?account=%40ada%3Aexample.org&caller=%40eve%3Aexample.net", "/metrics", "/health"] {
        assert_eq!(service.operate("GET", path, &Value::Null).status, 200);
    }
    service.operate("DELETE", ACCOUNTS, &json!(["@ada:example.org"]));
    let hashes =
        book.map(|(medium, address)| Sha256::digest(format!("{address} {medium} {}", service.pepper)).to_vec());
    service.stop();

    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    for seen in ["/_matrix/identity/v2/lookup", "status=429", "caller_exhausted", "tripwire", "TRACE finest"] {
        assert!(log.contains(seen), "the log was not captured: no {seen} in {} bytes", log.len());
    }
    let texts = ["token-", OPERATOR, "4155550", "ada@", "example.org", "example.net"].map(str::to_owned);
    let secrets = [forms(&SECRET), forms(OPERATOR.as_bytes()), forms(b"token-of-eve")].concat();
    let hashes = hashes.iter().flat_map(|hash| forms(hash));
    for text in texts.into_iter().chain(secrets).chain(hashes) {
        let line = log.lines().find(|line| line.contains(&text));
        assert_eq!(line, None, "{text:?} is in the log");
    }
}
