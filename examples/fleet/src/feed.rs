//! The feed: a Valkey stream, of which every follower knows the last entry that it applied.
//!
//! Entries are trimmed from the front only. So an entry that is still there vouches for all that came after it, and an index
//! goes on only from an entry that is there: otherwise something may be missing, and it would not know what. For an index
//! that has applied nothing, that entry is the first one, with which every feed begins.

use std::time::Duration;

use redis::streams::{StreamId, StreamRangeReply};
use redis::{Cmd, Connection, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, RedisResult, cmd};

use crate::{Change, Error};

/// The entry that every feed begins with.
pub const BEGINNING: &str = "0-1";
/// In one slot of a cluster: what is between the braces decides.
const ENTRIES: &str = "{feed}:entries";
const FOLLOWERS: &str = "{feed}:followers";
/// How long a server may take to connect, or to answer what waits for nothing.
const ANSWER_MS: u64 = 500;
const MAX_REDIRECTS: usize = 3;

/// Where the feed is.
#[derive(Debug, Clone, clap::Args)]
pub struct FeedOptions {
    /// Servers of the cluster, with commas between them. Others are found through them.
    #[arg(long = "feed", env = "FEED", value_name = "HOST:PORT,...", value_delimiter = ',', required = true)]
    pub servers: Vec<String>,
    /// A user of the server's; the default user otherwise.
    #[arg(long = "feed-user", value_name = "NAME")]
    pub user: Option<String>,
    /// Its password.
    #[arg(long = "feed-password", env = "FEED_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub password: Option<String>,
    /// Replicas that must have on disk what is published.
    #[arg(long = "feed-replicas", value_name = "COUNT", default_value_t = 1)]
    pub replicas: u32,
    /// Milliseconds that replicas may take for it. A node that waits longer refuses meanwhile, a host may have the time.
    #[arg(long = "feed-wait-ms", value_name = "MS", default_value_t = 500)]
    pub wait_ms: u64,
}

/// A feed, through one connection at a time.
pub struct Feed {
    options: FeedOptions,
    /// Which server to ask: the one that answered last, or where it sent us.
    server: String,
    connection: Option<Connection>,
}

/// What the feed holds after a position.
pub struct Page {
    pub entries: Vec<Entry>,
    /// Whether there was nothing behind them when they were read.
    pub is_last: bool,
}

/// A change, and where in the feed it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub change: Change,
}

impl Feed {
    /// Connects when it is first needed.
    pub fn new(options: FeedOptions) -> Self {
        let server = options.servers.first().cloned().unwrap_or_default();
        Self { options, server, connection: None }
    }

    /// Begins a feed where there is none.
    pub fn begin(&mut self) -> Result<(), Error> {
        let begun = self.write::<String>(cmd("XADD").arg(ENTRIES).arg(BEGINNING).arg("change").arg("begin"));
        match begun {
            // Whether by an id that is taken or by one that is behind: there is a feed.
            Err(Error::Feed(error)) if error.to_string().contains("equal or smaller") => Ok(()),
            begun => begun.map(|_| ()),
        }
    }

    /// Publishes a change; it is on disk twice when this returns its id. After an error it may be in the feed or not: publish
    /// it once more, since a change with a version that is known does nothing.
    pub fn publish(&mut self, change: &Change) -> Result<String, Error> {
        // Into a feed that was lost nothing is written that would pass for one.
        let id = self
            .write::<Option<String>>(cmd("XADD").arg(ENTRIES).arg("NOMKSTREAM").arg("*").arg(change.fields()))?;
        id.ok_or(Error::NoFeed)
    }

    /// Up to `most` entries after `position`, and notes for [`Feed::trim`] that this follower is there.
    ///
    /// All that was published before this call is in the feed that is read: the note was written to a primary that a replica
    /// still follows. One that was cut off and replaced, and does not know it yet, cannot say that nothing happened.
    pub fn read(&mut self, follower: &str, position: &str, most: usize) -> Result<Page, Error> {
        self.write::<u64>(cmd("HSET").arg(FOLLOWERS).arg(follower).arg(position))?;
        // On the same connection, and with none there is nothing to ask.
        let Some(mut connection) = self.connection.take() else { return Err(Error::NoFeed) };
        let range: StreamRangeReply = cmd("XRANGE")
            .arg(ENTRIES)
            .arg(position)
            .arg("+")
            .arg("COUNT")
            .arg(most.saturating_add(1))
            .query(&mut connection)?;
        self.connection = Some(connection);
        let Some((_, after)) = range.ids.split_first().filter(|(first, _)| first.id == position) else {
            return Err(Error::Gap { position: position.to_owned() });
        };
        let entry = |entry: &StreamId| Ok(Entry { id: entry.id.clone(), change: Change::read(entry)? });
        Ok(Page { entries: after.iter().map(entry).collect::<Result<_, Error>>()?, is_last: after.len() < most })
    }

    /// Drops what every follower has applied, and says how many entries that were. A follower that is gone for good keeps the
    /// feed from being trimmed until [`Feed::forget`].
    pub fn trim(&mut self) -> Result<u64, Error> {
        let positions: Vec<String> = self.query(cmd("HVALS").arg(FOLLOWERS))?;
        let oldest = positions.iter().filter_map(|position| {
            let (ms, number) = position.split_once('-')?;
            Some((ms.parse::<u64>().ok()?, number.parse::<u64>().ok()?))
        });
        match oldest.min() {
            // The entry at which the last of them stands stays.
            Some((ms, number)) => self.write(cmd("XTRIM").arg(ENTRIES).arg("MINID").arg(format!("{ms}-{number}"))),
            None => Ok(0),
        }
    }

    /// Takes a follower that is gone off the list of those for whom the feed is kept; says whether it was there.
    pub fn forget(&mut self, follower: &str) -> Result<bool, Error> {
        self.write(cmd("HDEL").arg(FOLLOWERS).arg(follower))
    }

    /// Writes, and waits until the write is on disk here and at replicas.
    fn write<T: FromRedisValue>(&mut self, write: &Cmd) -> Result<T, Error> {
        let value = self.query(write)?;
        let expected = self.options.replicas;
        let Some(mut connection) = self.connection.take() else { return Err(Error::NoFeed) };
        let (local, replicas): (u32, u32) =
            cmd("WAITAOF").arg(1).arg(expected).arg(self.options.wait_ms).query(&mut connection)?;
        self.connection = Some(connection);
        if local == 0 || replicas < expected {
            return Err(Error::NotReplicated { replicas, expected });
        }
        Ok(value)
    }

    /// Asks the primary that has the feed. A connection on which anything failed is not used again: a late answer would be
    /// taken for the next one's.
    fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Error> {
        let mut redirects = 0;
        loop {
            let answer = self.connect().and_then(|mut connection| {
                let value = command.query(&mut connection)?;
                Ok((value, connection))
            });
            match answer {
                Ok((value, connection)) => {
                    self.connection = Some(connection);
                    return Ok(value);
                }
                Err(error) => match error.redirect_node() {
                    Some((server, _)) if redirects < MAX_REDIRECTS => {
                        server.clone_into(&mut self.server);
                        redirects += 1;
                    }
                    _ => {
                        self.try_another();
                        return Err(error.into());
                    }
                },
            }
        }
    }

    fn connect(&mut self) -> RedisResult<Connection> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let mut login = RedisConnectionInfo::default();
        if let Some(user) = &self.options.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.options.password {
            login = login.set_password(password);
        }
        let server = format!("redis://{}", self.server).into_connection_info()?.set_redis_settings(login);
        // Longer than replicas are waited for, or the answer would never be heard.
        let answer = Duration::from_millis(self.options.wait_ms.saturating_add(ANSWER_MS));
        let connection = redis::Client::open(server)?.get_connection_with_timeout(answer)?;
        connection.set_read_timeout(Some(answer))?;
        connection.set_write_timeout(Some(answer))?;
        Ok(connection)
    }

    /// The next server of those that are known, after one that failed.
    fn try_another(&mut self) {
        let servers = &self.options.servers;
        let at = servers.iter().position(|server| *server == self.server).map_or(0, |at| at + 1);
        if let Some(next) = servers.iter().cycle().nth(at) {
            next.clone_into(&mut self.server);
        }
    }
}
