//! The lookup half of the Matrix Identity Service API, version 2.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use unlisted::{Discovery, Purpose};

use crate::accounts::Accounts;
use crate::keys::read_hash;
use crate::metrics::Metrics;
use crate::refusal::whole_ms;
use crate::session::Claim;
use crate::{Refusal, blocking};

/// What these routes may do: look up, at a price.
#[derive(Clone)]
pub struct Lookups {
    pub discovery: Discovery,
    pub accounts: Arc<Accounts>,
    pub metrics: Arc<Metrics>,
}

#[derive(Deserialize)]
struct Question {
    algorithm: String,
    pepper: String,
    addresses: Vec<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    mappings: BTreeMap<&'a str, String>,
    /// What the budget did not cover, for clients that know of it.
    #[serde(rename = "org.unlisted.deferred", skip_serializing_if = "Vec::is_empty")]
    deferred: Vec<&'a str>,
    #[serde(rename = "org.unlisted.retry_after_ms", skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

pub fn router(lookups: Lookups) -> Router {
    Router::new()
        .route("/_matrix/identity/v2", get(|| async { Json(json!({})) }))
        .route("/_matrix/identity/versions", get(|| async { Json(json!({ "versions": ["v1.1"] })) }))
        .route("/_matrix/identity/v2/account", get(account))
        .route("/_matrix/identity/v2/hash_details", get(hash_details))
        .route("/_matrix/identity/v2/lookup", post(lookup))
        .with_state(lookups)
}

/// Clients ask it to find out whether their token is still good.
async fn account(State(lookups): State<Lookups>, claim: Claim) -> Result<Json<Value>, Refusal> {
    let session = blocking(move || claim.authenticate(&lookups.accounts)).await?;
    Ok(Json(json!({ "user_id": session.mxid })))
}

async fn hash_details(State(lookups): State<Lookups>, claim: Claim) -> Result<Json<Value>, Refusal> {
    let details = json!({ "algorithms": ["sha256"], "lookup_pepper": lookups.accounts.keys.pepper() });
    blocking(move || claim.authenticate(&lookups.accounts)).await?;
    Ok(Json(details))
}

async fn lookup(State(lookups): State<Lookups>, claim: Claim, body: Bytes) -> Result<Json<Value>, Refusal> {
    blocking(move || lookups.answer(&claim, &body)).await.map(Json)
}

impl Lookups {
    fn answer(&self, claim: &Claim, body: &[u8]) -> Result<Value, Refusal> {
        // Nothing is read for strangers.
        let session = claim.authenticate(&self.accounts)?;
        let question: Question = Refusal::parse(body)?;
        if question.algorithm != "sha256" {
            return Err(Refusal::invalid_param("the algorithms are: sha256"));
        }
        if question.pepper != self.accounts.keys.pepper() {
            return Err(Refusal::invalid_pepper(self.accounts.keys.pepper()));
        }
        let asked = question.addresses.iter().filter_map(|text| Some((text.as_str(), read_hash(text)?)));
        let (texts, hashes): (Vec<_>, Vec<_>) = asked.unzip();
        let reply = self.discovery.lookup(&session.caller, Purpose::ContactSync, &hashes)?;
        self.metrics.count(&reply, hashes.len());

        let text = |position: usize| texts.get(position).copied();
        let deferred: Vec<_> = reply.deferred().filter_map(text).collect();
        if let Some(retry_after) = reply.retry_after().filter(|_| deferred.len() == texts.len()) {
            return Err(Refusal::limit_exceeded(retry_after));
        }
        let users = self.accounts.users(reply.matches().map(|found| found.account))?;
        let found = reply.matches().zip(users);
        let mappings = found.filter_map(|(found, mxid)| Some((text(found.position)?, mxid?))).collect();
        let retry_after_ms = reply.retry_after().map(whole_ms);
        serde_json::to_value(Answer { mappings, deferred, retry_after_ms }).map_err(Refusal::internal)
    }
}
