//! Runs the service: as a demonstration if no directory is named.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use identity_service::{Config, Service, demo};
use tokio::signal::unix::{SignalKind, signal};
use unlisted::{QuotaPolicy, Secret};

#[derive(Parser)]
#[command(about = "A discovery service: the lookup half of the Matrix Identity Service API, with a budget")]
struct Args {
    /// The service's directory; without it, a demonstration in a directory that goes away. The secret is in the
    /// environment variable UNLISTED_SECRET, 64 hexadecimal digits.
    #[arg(long, requires = "operator_token")]
    dir: Option<PathBuf>,
    /// Where clients ask. Put a reverse proxy with TLS before it.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Where operators ask, on this machine.
    #[arg(long, default_value = "127.0.0.1:8091")]
    operators: SocketAddr,
    /// What operators show.
    #[arg(long, env = "IDENTITY_OPERATOR_TOKEN", hide_env_values = true)]
    operator_token: Option<String>,
    /// A reverse proxy appends the client's address to X-Forwarded-For.
    #[arg(long)]
    behind_proxy: bool,
    /// The kind of service that the quotas are for: signal, strict, messenger, social.
    #[arg(long, default_value = "messenger")]
    preset: String,
    /// Another quota, as SCOPE=BURST/REFILL with a refill an hour; SCOPE is caller, network, homeserver or everyone.
    #[arg(long)]
    quota: Vec<String>,
    /// error, warn, info, debug or trace.
    #[arg(long, default_value = "info")]
    log: tracing::Level,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_max_level(args.log).with_ansi(false).with_writer(std::io::stderr).init();
    let preset =
        QuotaPolicy::preset(&args.preset).ok_or("the presets are signal, strict, messenger and social")?;
    let quotas = args.quota.iter().try_fold(preset, |policy, text| policy.with_text(text))?;
    let for_demo = if args.dir.is_none() { Some(tempfile::tempdir()?) } else { None };
    let (dir, secret) = match (&for_demo, args.dir) {
        (Some(temporary), _) => (temporary.path().to_owned(), Secret::from_bytes([0xde; 32])),
        (None, dir) => (dir.unwrap_or_default(), Secret::from_env("UNLISTED_SECRET")?),
    };
    std::fs::create_dir_all(&dir)?;
    let service = Service::open(Config {
        dir,
        secret,
        operator_token: args.operator_token.unwrap_or_else(|| "demo-operator".to_owned()),
        quotas,
        listen: args.listen,
        operators: args.operators,
        behind_proxy: args.behind_proxy,
        drain: Duration::from_secs(10),
    })?;
    if for_demo.is_some() {
        demo::fill(service.registry()).map_err(|refusal| format!("{refusal:?}"))?;
    }
    service.run(terminated(), |clients, operators| {
        tracing::info!(%clients, %operators, demo = for_demo.is_some(), "serving");
    })?;
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
