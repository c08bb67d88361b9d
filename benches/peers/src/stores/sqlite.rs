//! SQLite through rusqlite.
//!
//! As its documentation advises: a `WITHOUT ROWID` table, made for small rows with a key that is no integer; one
//! transaction and one prepared statement for the load, in key order; `cache_size` with room for everything; prepared
//! statements kept, and one read transaction for a batch. While it loads there is no journal: a load that fails is begun
//! anew, as with every contestant. Memory mapping was not taken: it ends at 2 GiB.

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use unlisted::PhoneHash;

use crate::population::{Key, Row, found, keys_of};
use crate::store::{Place, Reader, Result, Source, Store};

const QUESTION: &str = "SELECT value FROM entries WHERE key = ?1";

/// A connection's cache is its own, so that each reader opens the file again.
pub struct Sqlite(Place);

pub struct SqliteReader {
    connection: Connection,
    accounts: Vec<[u8; 16]>,
}

fn connect(place: &Place, flags: OpenFlags) -> Result<Connection> {
    let connection =
        Connection::open_with_flags(place.dir.join("entries.sqlite"), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // A negative number is KiB.
    connection.pragma_update(None, "cache_size", -i64::try_from(place.cache_bytes() >> 10)?)?;
    Ok(connection)
}

impl Store for Sqlite {
    const NAME: &'static str = "sqlite";
    const SOURCE: Source = Source::Sorted;
    const ON_DISK: bool = true;
    type Batch = Vec<Key>;
    type Reader<'a> = SqliteReader;

    fn version() -> String {
        rusqlite::version().to_owned()
    }

    fn load(place: &Place, rows: &[Row]) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut connection = connect(place, flags)?;
        connection.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
             CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;",
        )?;
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO entries (key, value) VALUES (?1, ?2)")?;
            for row in rows {
                insert.execute((row.key.as_slice(), row.value.as_slice()))?;
            }
        }
        transaction.commit()?;
        Ok(Self(place.clone()))
    }

    fn open(place: &Place) -> Result<Self> {
        Ok(Self(place.clone()))
    }

    fn prepare(&self, hashes: &[PhoneHash]) -> Vec<Key> {
        keys_of(hashes)
    }

    fn reader(&self) -> Result<SqliteReader> {
        let connection = connect(&self.0, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // Nobody else has the file; with it, no lock is taken and no change looked for with each transaction.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        Ok(SqliteReader { connection, accounts: Vec::new() })
    }
}

impl Reader for SqliteReader {
    type Batch = Vec<Key>;

    fn warm(&mut self) -> Result<()> {
        self.connection.query_row("SELECT sum(length(value)) FROM entries", (), |row| row.get::<_, i64>(0))?;
        Ok(())
    }

    fn probe(&mut self, batch: &Vec<Key>) -> Result<u64> {
        self.accounts.clear();
        let transaction = self.connection.unchecked_transaction()?;
        {
            let mut question = transaction.prepare_cached(QUESTION)?;
            for key in batch {
                let answer = question.query_row((key.as_slice(),), |row| Ok(found(row.get_ref(0)?.as_blob()?)));
                self.accounts.extend(answer.optional()?.flatten());
            }
        }
        transaction.commit()?;
        Ok(self.accounts.len() as u64)
    }
}
