//! The operators' port: what the host tells of its accounts, levers, health, figures and the page. It listens on this machine
//! only, and everything needs the operators' token.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use unlisted::{Caller, Index};

use crate::accounts::Accounts;
use crate::keys::Address;
use crate::metrics::Metrics;
use crate::page::{self, Search};
use crate::registry::{NewAccount, OldAddress, Registry};
use crate::session::bearer;
use crate::{Refusal, blocking, with_fallbacks};

const MAX_FEED_BYTES: usize = 16 << 20;
/// The page is text: no script, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'";

/// What operators may do: everything.
#[derive(Clone)]
pub struct Operator {
    pub index: Index,
    pub registry: Arc<Registry>,
    pub accounts: Arc<Accounts>,
    pub metrics: Arc<Metrics>,
}

#[derive(Deserialize)]
struct Suspension {
    mxid: String,
    #[serde(default)]
    reason: String,
}

pub fn router(operator: Operator, token: &str) -> Router {
    let (post, delete) = (MethodFilter::POST, MethodFilter::DELETE);
    let accounts = change(post, |operator, new: Vec<NewAccount>| operator.registry.put(&new).map(nothing))
        .merge(change(delete, |operator, mxids: Vec<String>| operator.registry.remove(&mxids).map(nothing)));
    let tokens = change(delete, |operator, old: Vec<String>| operator.registry.remove_tokens(&old).map(nothing));
    let addresses =
        change(delete, |operator, old: Vec<OldAddress>| operator.registry.remove_addresses(&old).map(nothing));
    let tripwires = change(post, |operator, numbers: Vec<Address>| {
        Ok(json!({ "set": operator.registry.set_tripwires(&numbers)? }))
    });
    let suspensions = change(post, |operator, Suspension { mxid, reason }| {
        Ok(nothing(operator.index.suspend(&operator.caller(&mxid), &reason)?))
    })
    .merge(change(delete, |operator, Suspension { mxid, .. }| {
        Ok(json!({ "was_suspended": operator.index.reinstate(&operator.caller(&mxid))? }))
    }));
    let routes = Router::new()
        .route("/", get(show_page))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/_unlisted/v1/accounts", accounts)
        .route("/_unlisted/v1/tokens", tokens)
        .route("/_unlisted/v1/addresses", addresses)
        .route("/_unlisted/v1/tripwires", tripwires)
        .route("/_unlisted/v1/suspensions", suspensions);
    with_fallbacks(routes)
        .with_state(operator)
        .layer(from_fn_with_state(blake3::hash(token.as_bytes()), check_token))
        .layer(DefaultBodyLimit::max(MAX_FEED_BYTES))
}

/// A route that reads JSON and changes something.
fn change<T: DeserializeOwned + 'static>(
    method: MethodFilter,
    work: fn(&Operator, T) -> Result<Value, Refusal>,
) -> MethodRouter<Operator> {
    on(method, move |State(operator): State<Operator>, body: Bytes| async move {
        blocking(move || work(&operator, Refusal::parse(&body)?)).await.map(Json)
    })
}

fn nothing((): ()) -> Value {
    json!({})
}

async fn check_token(State(expected): State<blake3::Hash>, request: Request, next: Next) -> Response {
    let given = bearer(request.headers()).map(str::to_owned);
    // A browser sends a password along with whatever a page elsewhere makes it send, so that it is good for reading only.
    let given = given.or_else(|| password(request.headers()).filter(|_| request.method() == Method::GET));
    // Digests of it are compared, in constant time.
    if given.is_some_and(|token| blake3::hash(token.as_bytes()) == expected) {
        return next.run(request).await;
    }
    ([(WWW_AUTHENTICATE, "Basic realm=\"operators\"")], Refusal::unauthorized()).into_response()
}

fn password(headers: &HeaderMap) -> Option<String> {
    let encoded = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

async fn show_page(State(operator): State<Operator>, Query(search): Query<Search>) -> Result<Response, Refusal> {
    let html = blocking(move || page::render(&operator, &search)).await?;
    Ok(([(CONTENT_SECURITY_POLICY, POLICY)], Html(html)).into_response())
}

/// Whether lookups and changes are taken: after a failed write they are not, until a restart.
async fn health(State(operator): State<Operator>) -> Result<Json<Value>, Refusal> {
    blocking(move || Ok(operator.index.health()?)).await?;
    Ok(Json(json!({ "healthy": true })))
}

async fn metrics(State(operator): State<Operator>) -> Result<Response, Refusal> {
    let text = blocking(move || Ok(operator.metrics.render(&operator.index.stats()?))).await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

impl Operator {
    /// The caller that a Matrix user is, by its account alone.
    pub fn caller(&self, mxid: &str) -> Caller {
        Caller::of_account(self.accounts.keys.account(mxid))
    }
}
