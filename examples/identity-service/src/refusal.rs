//! What a client is told when it gets no answer, in Matrix's form.

use std::fmt::Display;
use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A Matrix error: a status, and `errcode` and `error` in a JSON object. It holds nothing of what was asked.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    body: Value,
    retry_after_s: Option<u64>,
}

impl Refusal {
    fn of(status: StatusCode, body: Value) -> Self {
        Self { status, body, retry_after_s: None }
    }

    pub fn new(status: StatusCode, errcode: &str, error: impl Display) -> Self {
        Self::of(status, json!({ "errcode": errcode, "error": error.to_string() }))
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", "no token, or one that nobody has")
    }

    pub fn invalid_param(error: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", error)
    }

    pub fn invalid_pepper(pepper: &str) -> Self {
        let error = "unknown pepper: ask for the hash details again";
        let body = json!({ "errcode": "M_INVALID_PEPPER", "error": error, "algorithm": "sha256", "lookup_pepper": pepper });
        Self::of(StatusCode::BAD_REQUEST, body)
    }

    pub fn limit_exceeded(retry_after: Duration) -> Self {
        let retry_after_ms = whole_ms(retry_after);
        let error = "the budget is spent";
        let body = json!({ "errcode": "M_LIMIT_EXCEEDED", "error": error, "retry_after_ms": retry_after_ms });
        let retry_after_s = Some(retry_after_ms.div_ceil(1_000));
        Self { retry_after_s, ..Self::of(StatusCode::TOO_MANY_REQUESTS, body) }
    }

    /// What went wrong is the operator's to know.
    pub fn internal(error: impl Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "the service failed; nothing was revealed")
    }

    /// Reads a request. What is wrong with it is told by its place, without its text.
    pub fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Self> {
        serde_json::from_slice(body).map_err(|error| {
            let errcode = if error.is_data() { "M_BAD_JSON" } else { "M_NOT_JSON" };
            let place = format!("not what was expected at line {}, column {}", error.line(), error.column());
            Self::new(StatusCode::BAD_REQUEST, errcode, place)
        })
    }
}

/// Rounded up: who waits so long does not come too early.
pub fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl From<unlisted::Error> for Refusal {
    fn from(error: unlisted::Error) -> Self {
        use unlisted::Error;
        match error {
            Error::Suspended { .. } => Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", error),
            Error::BatchTooLarge { .. } | Error::UpdateTooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", error)
            }
            Error::TripwireListed | Error::ReasonTooLong { .. } => Self::invalid_param(error),
            error => Self::internal(error.with_causes()),
        }
    }
}

impl From<redb::Error> for Refusal {
    fn from(error: redb::Error) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
