//! The one error type of the index. Every variant says what was expected, what was found, and where.

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{
    AccountId, Caller, Damage, DisclosureMode, EmailError, OriginError, ParseAccountError, ParseQuotaError,
    Purpose, SecretError, ShardError, Suspension, UnknownMode, UnknownPurpose, VersionError,
};
use crate::phone::E164Error;

/// The result of an operation on the index.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the index did not happen. Nothing was changed and nothing was revealed.
///
/// ```
/// use unlisted::{Caller, Error, Index, Options, Purpose, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let error = index.lookup(&Caller::new(""), Purpose::Search, &[]).unwrap_err();
/// assert!(matches!(error, Error::EmptyCaller));
/// assert_eq!(error.with_causes(), "the caller id is empty");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The ledger of the fleet gave nothing.
    #[cfg(feature = "valkey")]
    #[error("the fleet: {0}")]
    Fleet(#[from] super::FleetError),
    /// The directory holds no index, and none was to be created.
    #[error("{} holds no index: create one first", dir.display())]
    NotAnIndex {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory already holds an index, and a new one was wanted.
    #[error("{} already holds an index", dir.display())]
    AlreadyExists {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory is open in another process, or twice in this one.
    #[error("{} is in use by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The index was made under another secret.
    #[error("wrong secret: {} was created under another one", dir.display())]
    WrongSecret {
        /// The directory.
        dir: PathBuf,
    },
    /// A file is of no kind this crate writes.
    #[error("{} is not {expected}: its first bytes are something else", path.display())]
    ForeignFormat {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// A file was written by a later version of this crate.
    #[error("{} has format version {found}; this build reads up to {supported}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: u32,
        /// Newest version this build reads.
        supported: u32,
    },
    /// A file was changed, cut short, or damaged.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What was expected and found.
        what: Damage,
    },
    /// A row in a database file does not decode.
    #[error("{} is damaged: a row of table {table:?} does not decode: {reason}", path.display())]
    DamagedRow {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// What was wrong.
        reason: &'static str,
    },
    /// The ledger is gone. A fresh one would refill every budget.
    #[error("the ledger {} is missing: restore it; a fresh ledger would refill every budget", path.display())]
    LedgerMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The ledger belongs to another index.
    #[error("the ledger {} belongs to another index", path.display())]
    LedgerForeign {
        /// The file.
        path: PathBuf,
    },
    /// The ledger is an older copy. Using it would refill budgets.
    #[error("the ledger {} is an older copy: it ends at transaction {found}, the index knows of {expected}", path.display())]
    LedgerOlder {
        /// The file.
        path: PathBuf,
        /// Transactions in the ledger.
        found: u64,
        /// Transactions that the index knows of.
        expected: u64,
    },
    /// The ledger is older than the epoch file says: index and ledger were restored together. Using it would refill
    /// budgets.
    #[error(
        "the ledger {} was restored from an older copy: it ends at transaction {found}, the epoch file knows of \
         {expected}", path.display()
    )]
    LedgerRestored {
        /// The ledger.
        path: PathBuf,
        /// Transactions in the ledger.
        found: u64,
        /// Transactions that the epoch file knows of.
        expected: u64,
    },
    /// The epoch file is gone. Without it a restored ledger cannot be told from the newest one.
    #[error("the epoch file {} is missing: restore it, or have it made if this ledger is the newest", path.display())]
    EpochFileMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The epoch file belongs to another index.
    #[error("the epoch file {} belongs to another index", path.display())]
    EpochFileForeign {
        /// The file.
        path: PathBuf,
    },
    /// The index is older than its ledger, so opt-outs may be lost.
    #[error(
        "the index {} is an older copy: epoch {found_epoch}, version {found_version}, but its ledger has seen epoch \
         {expected_epoch}, version {expected_version}", path.display()
    )]
    IndexOlder {
        /// The file.
        path: PathBuf,
        /// How often the index says it was opened.
        found_epoch: u64,
        /// How often the ledger says it was opened.
        expected_epoch: u64,
        /// Changes in the index.
        found_version: u64,
        /// Changes that the ledger knows of.
        expected_version: u64,
    },
    /// A file of the disclosure log is gone, and with it the record of who was shown to whom.
    #[error("{} is missing from the disclosure log: restore it", path.display())]
    DisclosuresMissing {
        /// What should be there.
        path: PathBuf,
    },
    /// The disclosure log belongs to another index.
    #[error("{} belongs to the disclosure log of another index", path.display())]
    DisclosuresForeign {
        /// The file.
        path: PathBuf,
    },
    /// The disclosure log is an older copy: it ends before what the index knows of.
    #[error(
        "the disclosure log in {} is an older copy: it ends at byte {found_len} of log {found}, the index knows of \
         byte {expected_len} of log {expected}", dir.display()
    )]
    DisclosuresOlder {
        /// The folder.
        dir: PathBuf,
        /// The newest log.
        found: u64,
        /// Bytes in it.
        found_len: u64,
        /// The log that was newest when the index last looked.
        expected: u64,
        /// Bytes that were in it.
        expected_len: u64,
    },
    /// A database has a table that this build does not know, so a copy of it would not be whole.
    #[error("{} has a table {table:?} that this build does not know", path.display())]
    UnknownTable {
        /// The file.
        path: PathBuf,
        /// The table.
        table: String,
    },
    /// The folder holds no finished backup, or something else than backups.
    #[error("{} holds no backup, or something else beside it", dir.display())]
    NotABackup {
        /// The folder.
        dir: PathBuf,
    },
    /// The backup is of another index.
    #[error("{} is a backup of another index", path.display())]
    BackupForeign {
        /// The manifest of the backup.
        path: PathBuf,
    },
    /// The backup was made after the index was last written, so it is of a copy that went its own way.
    #[error("{} is of version {found}, and the index is at {expected}: it is of another copy", path.display())]
    BackupNewer {
        /// The manifest of the backup.
        path: PathBuf,
        /// Snapshot version of the backup.
        found: u64,
        /// Snapshot version of the index.
        expected: u64,
    },
    /// A file that the manifest of a backup names is not there.
    #[error("the backup is not whole: {} is missing", path.display())]
    BackupIncomplete {
        /// The file.
        path: PathBuf,
    },
    /// A restore needs a directory that does not exist or is empty.
    #[error("{} is not empty: restore into a new directory, and swap the two", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// A caller needs an id.
    #[error("the caller id is empty")]
    EmptyCaller,
    /// The caller id is too long.
    #[error("a caller id has at most {} bytes, found {len}", Caller::MAX_ID_LEN)]
    CallerIdTooLong {
        /// Bytes given.
        len: usize,
    },
    /// Too many origins.
    #[error("a caller has at most {} origins, found {found}", Caller::MAX_ORIGINS)]
    TooManyOrigins {
        /// Origins given.
        found: usize,
    },
    /// Too many numbers of the caller's own.
    #[error("a caller has at most {} numbers of its own, found {found}", Caller::MAX_OWN_NUMBERS)]
    TooManyOwnNumbers {
        /// Numbers given.
        found: usize,
    },
    /// The lookup asks for a laxer mode than the purpose has. Nothing was charged.
    #[error("{purpose} is answered {configured} or stricter, and the lookup asks for {asked}")]
    LaxerMode {
        /// The purpose.
        purpose: Purpose,
        /// The mode that the index was opened with for it.
        configured: DisclosureMode,
        /// The mode that was asked for.
        asked: DisclosureMode,
    },
    /// The batch is over the configured bound and can never be answered.
    #[error("a lookup asks for at most {limit} numbers, found {len}")]
    BatchTooLarge {
        /// Numbers asked.
        len: usize,
        /// The bound.
        limit: usize,
    },
    /// The caller, or an origin that it comes through, is suspended. Nothing was charged.
    #[error("the {scope} is suspended and may not look anything up")]
    Suspended {
        /// `caller`, or the kind of the origin.
        scope: String,
    },
    /// The index is further behind the host's feed than it may be, or nobody has said how far it is since it was opened. Nothing
    /// was revealed.
    #[error(
        "the index is {} behind the host's feed, and answers up to {limit:?}", found.map_or_else(
            || "an unknown time".to_owned(), |lag| format!("{lag:?}"))
    )]
    Lagging {
        /// How far behind; `None` before the first report since the index was opened.
        found: Option<Duration>,
        /// [`Options::max_lag`](crate::Options::max_lag).
        limit: Duration,
    },
    /// The moment that was reported is of another index, or from before this one was opened.
    #[error("this moment of the feed is of another index, or from before this one was opened")]
    ForeignMoment,
    /// The reason of a suspension is too long.
    #[error("the reason of a suspension has at most {} bytes, found {len}", Suspension::MAX_REASON_LEN)]
    ReasonTooLong {
        /// Bytes given.
        len: usize,
    },
    /// The update batch is over the bound.
    #[error("an update has at most {limit} changes, found {len}")]
    UpdateTooLarge {
        /// Changes in the batch.
        len: usize,
        /// The bound.
        limit: usize,
    },
    /// The one id that no account may have: tripwires are listed under it.
    #[error("account {} is reserved: no account may have it", AccountId::RESERVED)]
    ReservedAccount,
    /// A tripwire has to be a number that nobody has. Which of them is listed is not told.
    #[error(
        "a tripwire must be a number that nobody has: one of these is listed, or was until lately; none was set"
    )]
    TripwireListed,
    /// The index is at its configured size. Opt-outs, removals and erasures still work.
    #[error(
        "the index is at its size limit: {used_bytes} of {limit_bytes} bytes; opt-outs and removals still work"
    )]
    SizeLimit {
        /// Bytes used.
        used_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// Segments that are to be resident need more memory than there is.
    #[error("resident segments need {needed_bytes} bytes of memory, and {available_bytes} are available")]
    NotEnoughMemory {
        /// Bytes of the segments.
        needed_bytes: u64,
        /// Bytes that the system, or the options, can give.
        available_bytes: u64,
    },
    /// The watermark of the host's feed is too long.
    #[error("a watermark has at most {limit} bytes, found {len}")]
    WatermarkTooLong {
        /// Bytes given.
        len: usize,
        /// The bound.
        limit: usize,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {reason}")]
    Random {
        /// Why.
        reason: String,
    },
    /// A write failed earlier, so what is on disk is not known. Open the index again.
    #[error("the {what} refuses since an earlier write failed: {cause}; open the index again")]
    Poisoned {
        /// Which part.
        what: &'static str,
        /// The first failure.
        cause: String,
    },
    /// An option is out of its range.
    #[error("the option {name} is out of range: expected {expected}, found {found}")]
    BadOption {
        /// The option.
        name: &'static str,
        /// The range.
        expected: &'static str,
        /// What was given.
        found: u64,
    },
    /// The source of an import failed.
    #[error("the source of the import failed")]
    ImportSource(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A thread of this index panicked: a bug.
    #[error("a thread of the index ended by a panic while it was to {during}: this is a bug")]
    Panicked {
        /// What it was doing.
        during: &'static str,
    },
    /// A file operation failed.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A database file failed.
    #[error("could not {action} in {}", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// The database library panicked, as it may on pages that somebody made with their checksums.
    #[error(
        "the database library panicked while it was to {action} in {}: open it with `check_databases`, which finds pages \
         that it did not write", path.display()
    )]
    DatabasePanicked {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// Not a phone number in international form.
    #[error(transparent)]
    E164(#[from] E164Error),
    /// Not an e-mail address.
    #[error(transparent)]
    Email(#[from] EmailError),
    /// Not a version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Not an account id.
    #[error(transparent)]
    Account(#[from] ParseAccountError),
    /// Not an origin.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// Not a purpose.
    #[error(transparent)]
    Purpose(#[from] UnknownPurpose),
    /// Not a disclosure mode.
    #[error(transparent)]
    Mode(#[from] UnknownMode),
    /// Not a quota.
    #[error(transparent)]
    Quota(#[from] ParseQuotaError),
    /// No secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A ticket, an answer or the move of a range was refused.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

impl Error {
    /// A closure for `map_err` on a file operation.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// A closure for `map_err` on a database operation.
    pub(crate) fn database<E: Into<redb::Error>>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self + use<E> {
        let path = path.to_owned();
        move |source| Self::Database { action, path, source: Box::new(source.into()) }
    }

    /// This error and all its causes in one line.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
