//! A node: an index of its own, a thread that follows the feed, and a port on which it is asked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use unlisted::{FleetOptions, Index, Options, QuotaPolicy, Secret};

use crate::follower::{Follower, Progress};
use crate::http::{self, Asked};
use crate::{Error, Feed, FeedOptions};

/// How long a call to the fleet's ledger may take. A replica's disk has to keep up within it, also with what a first node writes
/// when it makes the ledger.
const LEDGER_CALL: Duration = Duration::from_secs(5);

/// How a node is run.
pub struct Config {
    /// Its directory, with the index and its backup.
    pub dir: PathBuf,
    /// The same for all nodes.
    pub secret: Secret,
    pub quotas: QuotaPolicy,
    /// Beyond which it refuses.
    pub max_lag: Duration,
    /// How long it waits at the end of the feed: well below the lag.
    pub poll: Duration,
    /// What the feed knows it by; no other node has the same name.
    pub name: String,
    /// A backup of another node, to begin with if this one has no index yet.
    pub restore_from: Option<PathBuf>,
    pub budgets: Budgets,
    pub feed: FeedOptions,
    /// Where the host asks, on this machine.
    pub listen: SocketAddr,
}

/// Whose budgets a node spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Budgets {
    /// The fleet's: one ledger on the cluster that has the feed.
    Fleet,
    /// The fleet's, which is made if it is not there: for the first node, the first time.
    NewFleet,
    /// Its own: a caller who reaches three nodes has three.
    Own,
}

/// A node that is open and does not follow yet.
pub struct Node {
    index: Index,
    config: Config,
}

/// How a node opens its index.
fn options(config: &Config) -> Options {
    let options = Options::new(config.secret.clone()).quotas(config.quotas.clone()).max_lag(config.max_lag);
    let feed = &config.feed;
    let mut fleet = FleetOptions::new(&feed.servers).replicas(feed.replicas).call_timeout(LEDGER_CALL);
    if let Some(password) = &feed.password {
        fleet = fleet.credentials(feed.user.as_deref().unwrap_or("default"), password.as_str());
    }
    match config.budgets {
        Budgets::Fleet => options.fleet(fleet),
        Budgets::NewFleet => options.fleet(fleet.create()),
        Budgets::Own => options,
    }
}

impl Node {
    pub fn open(config: Config) -> Result<Self, Error> {
        std::fs::create_dir_all(&config.dir).map_err(Error::io("make the node's directory"))?;
        let dir = config.dir.join("index");
        let index = match &config.restore_from {
            // A start that was interrupted left all of it or nothing.
            Some(backup) if !dir.exists() => Index::restore(backup, &dir, options(&config))?,
            _ => Index::open(&dir, options(&config))?,
        };
        // What the command line says holds, and what callers spent stays spent.
        if index.quotas() != config.quotas {
            index.set_quotas(config.quotas.clone())?;
        }
        Ok(Self { index, config })
    }

    /// Follows and answers until `stop` is there, or until it cannot follow any more.
    pub fn run(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
        started: impl FnOnce(SocketAddr),
    ) -> Result<(), Error> {
        let Self { index, config } = self;
        let progress = Arc::new(Progress::default());
        let follower = Follower {
            index: index.clone(),
            feed: Feed::new(config.feed.clone()),
            name: config.name.clone(),
            poll: config.poll,
        };
        let (stop_following, stopped) = mpsc::channel();
        let (ended, end) = oneshot::channel::<()>();
        let following = std::thread::spawn({
            let progress = progress.clone();
            move || {
                let followed = follower.run(&progress, &stopped);
                // Nobody may be left to hear it.
                let _ = ended.send(());
                followed
            }
        });
        let asked = Asked::new(&index, config.max_lag, config.dir.join("backup"), progress);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let served = runtime.map_err(Error::io("start the server's threads")).and_then(|runtime| {
            runtime.block_on(async {
                let listener = TcpListener::bind(config.listen).await.map_err(Error::io("listen"))?;
                started(listener.local_addr().map_err(Error::io("listen"))?);
                let either = async move {
                    tokio::select! {
                        () = stop => {}
                        // Also if the thread panicked.
                        _ = end => {}
                    }
                };
                let server = axum::serve(listener, http::router(asked)).with_graceful_shutdown(either);
                server.await.map_err(Error::io("serve"))
            })
        });
        drop(stop_following);
        let followed = following.join().unwrap_or(Err(Error::Panicked));
        // The last handle: a clean close, which gives leases back.
        drop(index);
        followed.and(served)
    }
}
