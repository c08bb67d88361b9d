//! One program for both sides: `node` answers lookups, the other commands are what the host does with its feed.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use fleet::{Budgets, Change, Config, Feed, FeedOptions, Node, with_causes};
use tokio::signal::unix::{SignalKind, signal};
use unlisted::{AccountId, OptIns, PhoneHash, QuotaPolicy, Secret};

#[derive(Parser)]
#[command(about = "Nodes that follow one feed of changes, and the feed")]
enum Args {
    /// Runs a node. The secret is in the environment variable UNLISTED_SECRET, 64 hexadecimal digits, the same for all nodes.
    Node(NodeArgs),
    /// Begins the feed, if there is none.
    Begin(FeedOptions),
    /// Publishes a change, and prints the id of its entry.
    Publish {
        #[command(flatten)]
        feed: FeedOptions,
        #[command(subcommand)]
        change: ChangeArgs,
    },
    /// Drops the entries that all nodes have applied, and prints how many.
    Trim(FeedOptions),
    /// Keeps nothing any more for a node that is gone.
    Forget {
        #[command(flatten)]
        feed: FeedOptions,
        /// Its name.
        node: String,
    },
}

#[derive(clap::Args)]
struct NodeArgs {
    /// The node's directory.
    #[arg(long)]
    dir: PathBuf,
    /// What the feed knows it by: one for each node.
    #[arg(long)]
    name: String,
    /// Where it is asked, on this machine.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A backup of another node, to begin with.
    #[arg(long)]
    restore_from: Option<PathBuf>,
    /// Whose budgets it spends.
    #[arg(long, value_enum, default_value = "fleet")]
    budgets: Budgets,
    /// How far behind the feed it still answers, in milliseconds.
    #[arg(long, default_value_t = 3_000)]
    max_lag_ms: u64,
    /// How long it waits at the end of the feed, in milliseconds.
    #[arg(long, default_value_t = 100)]
    poll_ms: u64,
    /// Another quota, as SCOPE=BURST/REFILL with a refill an hour; SCOPE is caller, network or everyone.
    #[arg(long)]
    quota: Vec<String>,
    #[command(flatten)]
    feed: FeedOptions,
}

/// A version that is not given is now, in milliseconds: enough for one publisher.
#[derive(Subcommand)]
enum ChangeArgs {
    /// What an account agrees to be found for by a number: contact-sync|search, or '' for nothing.
    Set { number: String, account: AccountId, opt_ins: String, version: Option<u64> },
    /// The account no longer has the number.
    Remove { number: String, account: AccountId, version: Option<u64> },
    /// The account is gone.
    Erase { account: AccountId, version: Option<u64> },
}

impl ChangeArgs {
    fn change(self) -> Result<Change, Box<dyn Error>> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        Ok(match self {
            Self::Set { number, account, opt_ins, version } => Change::Set {
                number: PhoneHash::of_e164(&number)?,
                account,
                opt_ins: OptIns::from_names(&opt_ins)?,
                version: version.unwrap_or(now_ms),
            },
            Self::Remove { number, account, version } => Change::Remove {
                number: PhoneHash::of_e164(&number)?,
                account,
                version: version.unwrap_or(now_ms),
            },
            Self::Erase { account, version } => Change::Erase { account, version: version.unwrap_or(now_ms) },
        })
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = error.downcast_ref::<fleet::Error>().map_or_else(|| error.to_string(), with_causes);
            tracing::error!(error, "it ends");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    match args {
        Args::Node(args) => run_node(args)?,
        Args::Begin(feed) => Feed::new(feed).begin()?,
        Args::Publish { feed, change } => {
            writeln!(std::io::stdout(), "{}", Feed::new(feed).publish(&change.change()?)?)?;
        }
        Args::Trim(feed) => writeln!(std::io::stdout(), "{}", Feed::new(feed).trim()?)?,
        Args::Forget { feed, node } => {
            if !Feed::new(feed).forget(&node)? {
                return Err(format!("the feed knows no node {node}").into());
            }
        }
    }
    Ok(())
}

fn run_node(args: NodeArgs) -> Result<(), Box<dyn Error>> {
    let quotas = args.quota.iter().try_fold(QuotaPolicy::messenger(), |policy, text| policy.with_text(text))?;
    let node = Node::open(Config {
        dir: args.dir,
        secret: Secret::from_env("UNLISTED_SECRET")?,
        quotas,
        max_lag: Duration::from_millis(args.max_lag_ms),
        poll: Duration::from_millis(args.poll_ms),
        name: args.name,
        restore_from: args.restore_from,
        budgets: args.budgets,
        feed: args.feed,
        listen: args.listen,
    })?;
    node.run(terminated(), |address| tracing::info!(%address, "serving"))?;
    Ok(())
}

/// SIGTERM or ctrl-c.
async fn terminated() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
