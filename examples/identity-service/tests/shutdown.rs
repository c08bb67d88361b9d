//! A service that is told to stop while everybody asks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::http::Client;
use common::*;
use unlisted::{AccountId, Caller, Index, Options, Secret};

const BURST: u64 = 1_000_000;

#[test]
fn what_was_begun_is_answered_and_the_books_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    // It refills so slowly that what is left says what was spent.
    let service = Running::with_people(dir.path(), &["caller=1000000/1"]);
    let clients = service.clients;
    // Alone: two who pay for the same new number at the same moment may both pay.
    assert!(service.found("token-of-eve", ADAS_PHONE).is_some());
    let (answered, cut) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (answered, cut, service) = (&answered, &cut, &service);
            scope.spawn(move || {
                let Ok(mut client) = Client::connect(clients) else { return };
                for round in 0.. {
                    let number = format!("1415{:07}", thread * 100_000 + round);
                    let question = service.question(&[("msisdn", &number), ADAS_PHONE]).to_string();
                    let token = ["authorization: Bearer token-of-eve"];
                    match client.send("POST", LOOKUP, &token, &question) {
                        Ok(answer) => {
                            assert_eq!(answer.status, 200, "{}", answer.body);
                            assert!(answer.body.contains("@ada:example.org"));
                            answered.fetch_add(1, Ordering::Relaxed);
                            if answer.header("connection") == Some("close") {
                                return;
                            }
                        }
                        // A question that met a connection which was about to be closed was not taken.
                        Err(_) => {
                            cut.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                    }
                }
            });
        }
        thread::sleep(Duration::from_millis(500));
        service.tell_to_stop();
    });
    service.wait();
    assert!(Client::connect(clients).is_err(), "the port is free");
    let (answered, cut) = (answered.into_inner(), cut.into_inner());
    assert!(answered > 50, "{answered}");

    // The directory is free at once, and leases were given back: what is missing is what was answered.
    let index =
        Index::open(dir.path().join("index"), Options::new(Secret::from_bytes(SECRET)).must_exist()).unwrap();
    let budget = index.budget(&Caller::of_account(eve(&index))).unwrap();
    let spent = BURST - budget.scopes[0].remaining;
    assert!((answered + 1..=answered + 1 + cut).contains(&spent), "{spent} spent, {answered} answered, {cut} cut");
}

/// Eve's account, made as the service makes it.
fn eve(index: &Index) -> AccountId {
    let ids = Secret::from_bytes(SECRET).derive("identity-service 2026-11 account ids");
    let mut id = [0; 16];
    blake3::Hasher::new_keyed(&ids).update(b"@eve:example.net").finalize_xof().fill(&mut id);
    let account = AccountId::from_bytes(id);
    assert_eq!(index.inspector().disclosed_to(&Caller::of_account(account)).unwrap().len(), 1, "not Eve");
    account
}
