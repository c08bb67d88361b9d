//! A discovery service over [`unlisted`]: the lookup half of the Matrix Identity Service API, with a budget for each caller.
//!
//! Each part of it is given what it may do and no more: the Matrix routes a [`unlisted::Discovery`], which can look up, the
//! users' routes their own choices and one question to the disclosure log, the operators' port everything.

mod accounts;
pub mod demo;
mod keys;
mod matrix;
mod metrics;
mod operator;
mod page;
mod refusal;
mod registry;
mod session;
mod user;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::cors::{Any, CorsLayer};
use tower_http::timeout::TimeoutLayer;
use unlisted::{Index, Options, QuotaPolicy, Secret};

pub use refusal::Refusal;
pub use registry::{NewAccount, Registry};
pub use session::Session;

/// The kind of origin that a homeserver is: `--quota homeserver=BURST/REFILL`.
pub const HOMESERVER: &str = "homeserver";
/// 10,000 addresses of 43 characters, in quotes.
const MAX_BODY_BYTES: usize = 512 << 10;
const MAX_REQUEST: Duration = Duration::from_secs(30);
/// Lookups that may wait for the disk at once.
const BLOCKING_THREADS: usize = 64;

/// How a service is run.
pub struct Config {
    /// Its directory, which it owns.
    pub dir: PathBuf,
    pub secret: Secret,
    pub operator_token: String,
    pub quotas: QuotaPolicy,
    /// Where clients ask.
    pub listen: SocketAddr,
    /// Where operators ask: an address of this machine.
    pub operators: SocketAddr,
    /// Whether every request comes through a reverse proxy, which says from where.
    pub behind_proxy: bool,
    /// How long requests under way may take when the service stops.
    pub drain: Duration,
}

/// Why a service did not start or did not end well.
#[derive(Debug, Error)]
pub enum Error {
    #[error("the index could not be used")]
    Index(#[from] unlisted::Error),
    #[error("the map of accounts could not be used")]
    Accounts(#[from] redb::Error),
    #[error("operators must be served on a loopback address, not on {0}")]
    NotLoopback(SocketAddr),
    #[error("could not listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the server failed")]
    Serve(#[source] std::io::Error),
}

/// A service that is open and not yet served.
pub struct Service {
    /// Dropped last, and with it the last handle: a clean close, which gives leases back.
    index: Index,
    registry: Arc<Registry>,
    public: Router,
    operators: Router,
    config: Config,
}

impl Service {
    pub fn open(config: Config) -> Result<Self, Error> {
        if !config.operators.ip().is_loopback() {
            return Err(Error::NotLoopback(config.operators));
        }
        let metrics = Arc::new(metrics::Metrics::default());
        let noted = metrics.clone();
        let options = Options::new(config.secret.clone())
            .quotas(config.quotas.clone())
            .on_event(move |event| noted.note(event));
        let index = Index::open(config.dir.join("index"), options)?;
        // What the command line says holds, and what callers spent stays spent.
        if index.quotas() != config.quotas {
            index.set_quotas(config.quotas.clone())?;
        }
        let keys = keys::Keys::new(&config.secret);
        let accounts = Arc::new(accounts::Accounts::open(&config.dir.join("accounts.redb"), keys)?);
        let registry = Registry::new(index.clone(), accounts.clone());

        let lookups =
            matrix::Lookups { discovery: index.discovery(), accounts: accounts.clone(), metrics: metrics.clone() };
        let users = user::Users {
            choices: registry.choices(),
            found_me: user::FoundMe::new(index.inspector()),
            accounts: accounts.clone(),
        };
        let operator = operator::Operator { index: index.clone(), registry: registry.clone(), accounts, metrics };
        let metrics = operator.metrics.clone();
        let public = with_fallbacks(matrix::router(lookups).merge(user::router(users)))
            .layer(from_fn_with_state(config.behind_proxy, session::note_origin))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(cors());
        let operators = operator::router(operator, &config.operator_token);
        let [public, operators] = [public, operators].map(|router| observed(router, &metrics));
        Ok(Self { index, registry, public, operators, config })
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Serves until `stop` is there and the requests under way are answered; the index is closed when it returns.
    pub fn run(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
        started: impl FnOnce(SocketAddr, SocketAddr),
    ) -> Result<(), Error> {
        let Self { index, registry, public, operators, config } = self;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.max_blocking_threads(BLOCKING_THREADS).enable_all().build().map_err(Error::Serve)?;
        drop(registry);
        let served = runtime.block_on(serve(public, operators, &config, stop, started));
        // What still runs after that holds the index open, and the process is about to end.
        runtime.shutdown_timeout(config.drain);
        drop(index);
        served
    }
}

async fn serve(
    public: Router,
    operators: Router,
    config: &Config,
    stop: impl Future<Output = ()> + Send + 'static,
    started: impl FnOnce(SocketAddr, SocketAddr),
) -> Result<(), Error> {
    let (public_at, public_listener) = listen(config.listen).await?;
    let (operators_at, operators_listener) = listen(config.operators).await?;
    started(public_at, operators_at);
    let (stopping, stopped) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        stopping.send_replace(true);
    });
    let server = |listener, router: Router| {
        let mut stopped = stopped.clone();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).with_graceful_shutdown(async move {
            // An error means that nobody can stop it any more: then it stops.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        })
    };
    let servers = async {
        tokio::try_join!(
            server(public_listener, public).into_future(),
            server(operators_listener, operators).into_future(),
        )
    };
    let late = async {
        let _ = stopped.clone().wait_for(|stopped| *stopped).await;
        tokio::time::sleep(config.drain).await;
    };
    tokio::select! {
        served = servers => served.map(|_| ()).map_err(Error::Serve),
        () = late => {
            tracing::warn!("requests that took too long are cut off");
            Ok(())
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(SocketAddr, TcpListener), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

/// Answers where there is no route. It comes before all layers, so that they hold there too.
fn with_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    let nothing = |status| async move { Refusal::new(status, "M_UNRECOGNIZED", "there is nothing here") };
    router
        .fallback(move || nothing(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(move || nothing(StatusCode::METHOD_NOT_ALLOWED))
}

/// What every request has: a bound on its time, a count, a line in the log.
fn observed(router: Router, metrics: &Arc<metrics::Metrics>) -> Router {
    router
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, MAX_REQUEST))
        .layer(from_fn_with_state(metrics.clone(), metrics::observe))
}

/// Clients in browsers come from anywhere and bring their token themselves.
fn cors() -> CorsLayer {
    let methods = [Method::GET, Method::POST, Method::PUT];
    CorsLayer::new().allow_origin(Any).allow_methods(methods).allow_headers([AUTHORIZATION, CONTENT_TYPE])
}

/// Runs what waits for the disk where it may wait. A lookup takes microseconds as long as it stays within a lease and in memory,
/// but it may have to commit to the ledger, and then all that this thread of the server has to do would wait with it. Those who
/// wait at the same time share a commit, so that a thread each is what makes them cheap.
///
/// If the client goes away meanwhile the call goes on: what was charged was recorded.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::internal("a thread panicked: this is a bug")))
}
