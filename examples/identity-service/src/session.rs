//! Who asks: a bearer token that an account has, from a network, as a user of a homeserver.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use axum::middleware::Next;
use axum::response::Response;
use unlisted::{AccountId, Caller, Origin};

use crate::accounts::Accounts;
use crate::{HOMESERVER, Refusal};

/// What a request says of itself: a token, not yet looked up, and the network it came from.
pub struct Claim {
    token: String,
    network: Origin,
}

/// An account that asks.
pub struct Session {
    pub account: AccountId,
    pub mxid: String,
    /// Whom its lookups are charged to: the account, its network, and the homeserver that vouches for it, since whoever runs
    /// a homeserver can have as many users as it likes.
    pub caller: Caller,
}

impl Claim {
    pub fn authenticate(&self, accounts: &Accounts) -> Result<Session, Refusal> {
        let account = accounts.of_token(accounts.keys.token(&self.token))?.ok_or_else(Refusal::unauthorized)?;
        let mxid = accounts.users(std::iter::once(account))?.into_iter().flatten().next();
        let mxid = mxid.ok_or_else(Refusal::unauthorized)?;
        Ok(Session { account, caller: caller_of(account, &mxid).via(self.network.clone()), mxid })
    }
}

/// A caller by its account and its homeserver, wherever it comes from.
pub fn caller_of(account: AccountId, mxid: &str) -> Caller {
    let homeserver = mxid.split_once(':').and_then(|(_, name)| Origin::named(HOMESERVER, name).ok());
    homeserver.into_iter().fold(Caller::of_account(account), Caller::via)
}

/// The token of `Authorization: Bearer`. One in the query, which old clients send, would end up in logs and is not read.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

impl<S: Send + Sync> FromRequestParts<S> for Claim {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let token = bearer(&parts.headers).ok_or_else(Refusal::unauthorized)?.to_owned();
        let from =
            parts.extensions.get::<CameFrom>().ok_or_else(|| Refusal::internal("the client has no address"))?;
        Ok(Self { token, network: Origin::network(from.0) })
    }
}

/// The address that a request came from.
#[derive(Clone, Copy)]
struct CameFrom(IpAddr);

/// Notes where a request came from. Behind a reverse proxy that is what the proxy appended last to `X-Forwarded-For`; what a
/// client wrote there itself stands before it.
pub async fn note_origin(
    State(behind_proxy): State<bool>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let from = if behind_proxy { forwarded(request.headers()) } else { peer(request.extensions()) };
    let from = from.ok_or_else(|| Refusal::invalid_param("the proxy did not say for whom it asks"))?;
    request.extensions_mut().insert(CameFrom(from));
    Ok(next.run(request).await)
}

fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
}

fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}
