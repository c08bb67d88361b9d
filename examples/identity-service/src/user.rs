//! What Matrix has no route for and a user is owed: to be findable or not, and to learn by whom it was found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use unlisted::{Caller, DisclosureQuery, Inspector};

use crate::accounts::Accounts;
use crate::keys::Address;
use crate::registry::Choices;
use crate::session::{Claim, Session};
use crate::{Refusal, blocking};

const HOUR_MS: u64 = 3_600_000;
/// Finders that a user is told of, the latest.
const MOST_FINDERS: usize = 1_000;

/// What these routes may do: change a user's own choices, and read what concerns it.
#[derive(Clone)]
pub struct Users {
    pub choices: Choices,
    pub found_me: FoundMe,
    pub accounts: Arc<Accounts>,
}

/// The operator's door, opened for one question only: who was shown this account?
#[derive(Clone)]
pub struct FoundMe {
    inspector: Inspector,
    /// It reads the whole disclosure log, so it is answered to one user at a time.
    turn: Arc<Semaphore>,
}

/// Somebody who was shown the user. He is a number in this list and nothing else: his name is his own business, and a number
/// that were the same in two users' lists would let them find out that they have a friend in common. So would exact times.
#[derive(Serialize)]
struct Finder {
    finder: usize,
    first_hour_ms: u64,
    last_hour_ms: u64,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(flatten)]
    address: Address,
    discoverable: bool,
}

pub fn router(users: Users) -> Router {
    Router::new()
        .route("/_unlisted/v1/discoverable", put(set_discoverable))
        .route("/_unlisted/v1/found-me", get(found_me))
        .with_state(users)
}

async fn set_discoverable(State(users): State<Users>, claim: Claim, body: Bytes) -> Result<Json<Value>, Refusal> {
    let set = move || {
        let session = claim.authenticate(&users.accounts)?;
        let Choice { address, discoverable } = Refusal::parse(&body)?;
        users.choices.set_discoverable(&session, &address, discoverable)?;
        Ok(Json(json!({ "discoverable": discoverable })))
    };
    blocking(set).await
}

async fn found_me(State(users): State<Users>, claim: Claim) -> Result<Json<Value>, Refusal> {
    let read = move || {
        let session = claim.authenticate(&users.accounts)?;
        Ok(Json(json!({ "found_me": users.found_me.of(&session)? })))
    };
    blocking(read).await
}

impl FoundMe {
    pub fn new(inspector: Inspector) -> Self {
        Self { inspector, turn: Arc::new(Semaphore::new(1)) }
    }

    fn of(&self, session: &Session) -> Result<Vec<Finder>, Refusal> {
        let turn = self.turn.try_acquire();
        let _turn = turn.map_err(|_| Refusal::limit_exceeded(Duration::from_secs(1)))?;
        let own = self.inspector.token_of(&Caller::of_account(session.account));
        let mut times = BTreeMap::new();
        for row in self.inspector.disclosures(&DisclosureQuery::new().account(session.account))? {
            let row = row?;
            let (first, last) = times.entry(row.caller).or_insert((u64::MAX, 0));
            *first = row.shown.first_at_ms.min(*first);
            *last = row.shown.last_at_ms.max(*last);
        }
        times.remove(&own);
        let mut times: Vec<(u64, u64)> = times.into_values().collect();
        times.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(b.0.cmp(&a.0)));
        let hour = |ms: u64| ms - ms % HOUR_MS;
        let finder =
            |(finder, (first, last))| Finder { finder, first_hour_ms: hour(first), last_hour_ms: hour(last) };
        Ok((1..).zip(times).take(MOST_FINDERS).map(finder).collect())
    }
}
