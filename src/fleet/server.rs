//! One connection to one server, and whether that server is fit to keep a ledger.

use std::fmt;
use std::time::Duration;

use redis::{
    Client, ClientTlsConfig, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, Value,
};

use super::options::{FleetOptions, Tls};
use crate::words::FleetError;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// Reads `host:port`; the host may be an IPv6 address in brackets.
    pub(super) fn parse(text: &str) -> Result<Self, FleetError> {
        let bad = || FleetError::BadOptions { reason: format!("{text:?} is not host:port") };
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        if host.is_empty() {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }

    pub(super) fn unavailable(&self, reason: impl fmt::Display) -> FleetError {
        FleetError::Unavailable { address: self.to_string(), reason: reason.to_string() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// An open connection. One that failed is dropped, since what it would read next is not known.
pub(super) struct Link {
    connection: Connection,
    address: Address,
}

impl Link {
    /// Connects, and checks that the server is one that can keep a ledger.
    pub(super) fn open(options: &FleetOptions, address: &Address) -> Result<Self, FleetError> {
        let client = client(options, address)?;
        let connection =
            client.get_connection_with_timeout(options.call_timeout).map_err(|error| refused(address, &error))?;
        let mut link = Self { connection, address: address.clone() };
        link.set_timeout(Some(options.call_timeout))?;
        link.check(options)?;
        Ok(link)
    }

    fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), FleetError> {
        let set = self.connection.set_read_timeout(timeout);
        set.and_then(|()| self.connection.set_write_timeout(timeout))
            .map_err(|error| self.address.unavailable(error))
    }

    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// Sends commands in one go; an answer for each.
    pub(super) fn send(&mut self, commands: &mut Pipeline) -> Result<Vec<RedisResult<Value>>, RedisError> {
        commands.ignore_errors();
        commands.query(&mut self.connection)
    }

    /// Is it new enough, part of a cluster, and set up to lose nothing?
    fn check(&mut self, options: &FleetOptions) -> Result<(), FleetError> {
        let mut commands = redis::pipe();
        for section in ["server", "cluster", "memory", "persistence"] {
            commands.cmd("INFO").arg(section);
        }
        let answers = self.send(&mut commands).map_err(|error| refused(&self.address, &error))?;
        let mut info = String::new();
        for answer in answers {
            let text = answer.and_then(|value| Ok(redis::from_redis_value::<String>(value)?));
            info.push_str(&text.map_err(|error| refused(&self.address, &error))?);
        }
        check_info(&self.address, &info, options.replicas)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}

fn client(options: &FleetOptions, address: &Address) -> Result<Client, FleetError> {
    let Address { host, port } = address.clone();
    let addr = match options.tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    };
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some((user, password)) = &options.credentials {
        settings = settings.set_username(user).set_password(password.as_str());
    }
    let bad = |error: RedisError| FleetError::BadOptions { reason: error.to_string() };
    let info = addr.into_connection_info().map_err(bad)?.set_redis_settings(settings);
    match &options.tls {
        None => Client::open(info),
        Some(tls) => Client::build_with_tls(info, certificates(tls)),
    }
    .map_err(bad)
}

fn certificates(tls: &Tls) -> TlsCertificates {
    let client = tls.client.as_ref();
    TlsCertificates {
        client_tls: client.map(|(certificate, key)| ClientTlsConfig {
            client_cert: certificate.clone(),
            client_key: key.to_vec(),
        }),
        root_cert: tls.authority.clone(),
    }
}

/// A server that does not let this user in, or one that is not there.
pub(super) fn refused(address: &Address, error: &RedisError) -> FleetError {
    let is_denied = error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED"));
    match is_denied {
        true => FleetError::Denied { address: address.to_string(), reason: error.to_string() },
        false => address.unavailable(error),
    }
}

/// What `INFO` has to say of a server that keeps a ledger.
fn check_info(address: &Address, info: &str, replicas: u32) -> Result<(), FleetError> {
    let value = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.trim_end().split_once(':'));
        lines.find_map(|(key, value)| (key == name).then_some(value))
    };
    let (found, least) = match (value("valkey_version"), value("redis_version")) {
        (Some(valkey), _) => (valkey, (8, 0)),
        (None, redis) => (redis.unwrap_or("unknown"), (7, 2)),
    };
    let address_text = || address.to_string();
    let mut parts = found.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < least {
        return Err(FleetError::OldServer { address: address_text(), found: found.to_owned() });
    }
    if value("cluster_enabled") != Some("1") {
        return Err(FleetError::NotACluster { address: address_text() });
    }
    let mut wanted = vec![("maxmemory_policy", "noeviction")];
    if replicas > 0 {
        wanted.push(("aof_enabled", "1"));
    }
    for (setting, wanted) in wanted {
        let found = value(setting).unwrap_or("unknown");
        if found != wanted {
            let found = found.to_owned();
            return Err(FleetError::UnsafeServer { address: address_text(), setting, found, wanted });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Address {
        Address { host: "h".to_owned(), port: 1 }
    }

    const GOOD: &str = "redis_version:7.2.4\r\nvalkey_version:9.1.2\r\ncluster_enabled:1\r\n\
        maxmemory_policy:noeviction\r\naof_enabled:1\r\n";

    #[test]
    fn addresses_are_read() {
        let v6 = Address::parse("[::1]:7101").unwrap();
        assert_eq!((v6.host.as_str(), v6.port, v6.to_string().as_str()), ("::1", 7101, "[::1]:7101"));
        assert_eq!(Address::parse("cache.example:6379").unwrap().to_string(), "cache.example:6379");
        for bad in ["", "h", "h:", ":1", "h:0", "h:65536", "h:x"] {
            assert!(matches!(Address::parse(bad), Err(FleetError::BadOptions { .. })), "{bad}");
        }
    }

    #[test]
    fn a_server_that_would_lose_charges_is_refused() {
        assert!(check_info(&at(), GOOD, 1).is_ok());
        let with = |old: &str, new: &str| check_info(&at(), &GOOD.replace(old, new), 1);
        assert!(matches!(with("9.1.2", "7.9.9"), Err(FleetError::OldServer { .. })));
        assert!(matches!(with("valkey_version:9.1.2\r\n", ""), Ok(())));
        assert!(matches!(
            check_info(&at(), &GOOD.replace("valkey_version:9.1.2\r\n", "").replace("7.2.4", "7.0.15"), 1),
            Err(FleetError::OldServer { found, .. }) if found == "7.0.15"
        ));
        assert!(matches!(with("cluster_enabled:1", "cluster_enabled:0"), Err(FleetError::NotACluster { .. })));
        assert!(matches!(with("noeviction", "allkeys-lru"), Err(FleetError::UnsafeServer { setting, .. })
            if setting == "maxmemory_policy"));
        assert!(matches!(with("aof_enabled:1", "aof_enabled:0"), Err(FleetError::UnsafeServer { .. })));
        assert!(check_info(&at(), &GOOD.replace("aof_enabled:1", "aof_enabled:0"), 0).is_ok());
        assert!(check_info(&at(), "", 1).is_err());
    }
}
