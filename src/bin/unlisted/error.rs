//! Everything that can go wrong in the program. No variant holds a secret or a telephone number: a place in the
//! input is told by its line.

use std::error::Error;
use std::io;

use thiserror::Error;
use unlisted::SecretError;

use crate::csv_rows::Flaw;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The library refused.
    #[error(transparent)]
    Index(#[from] unlisted::Error),
    /// No usable secret.
    #[error(transparent)]
    Secret(SecretError),
    /// The path is left out: who gives the secret where its file is expected should not see it printed.
    #[error("the secret file could not be read")]
    SecretFile(#[source] io::Error),
    /// A file of the user's.
    #[error("could not {action} {name}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file, or what stands for it.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Standard output does not take what we write.
    #[error("could not write to standard output")]
    Output(#[source] io::Error),
    /// Standard output does not take what we write as JSON.
    #[error("could not write JSON to standard output")]
    Json(#[source] serde_json::Error),
    /// A file without even a header line.
    #[error("{name} is empty: expected a header line that names the columns")]
    EmptyCsv {
        /// The file.
        name: String,
    },
    /// The header is not one that can be used.
    #[error("the header of {name} {problem}")]
    Header {
        /// The file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something that is a single row by the rules of CSV, and too long to be one.
    #[error("line {line} of {name}: the row does not end within {limit} bytes; is a quotation mark missing?")]
    RowTooLong {
        /// The file.
        name: String,
        /// Where the row begins.
        line: u64,
        /// The bound.
        limit: usize,
    },
    /// A row that stops the command.
    #[error("line {line} of {name}: {flaw}; {consequence}")]
    BadRow {
        /// The file.
        name: String,
        /// Where the row begins.
        line: u64,
        /// What is wrong with it.
        flaw: Flaw,
        /// What was and was not done.
        consequence: String,
    },
    /// An account that is none.
    #[error("{place}: {reason}; nothing was done")]
    BadAccount {
        /// Which argument or line.
        place: String,
        /// Why.
        reason: unlisted::ParseAccountError,
    },
    /// What the caller is said to have as its own number is none.
    #[error("--own-number: {0}")]
    OwnNumber(String),
    /// A tripwire, or a range to choose tripwires from, that is none.
    #[error("line {line} of {name}: {reason}; nothing was done")]
    BadLine {
        /// The file.
        name: String,
        /// Which line.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Arguments that are well-formed and make no sense together.
    #[error("{0}")]
    BadArguments(&'static str),
    /// The rejects would overwrite what is being read.
    #[error("the rejects file is the file to import: choose another with --rejects")]
    RejectsOverInput,
    /// A thread of the program panicked: a bug.
    #[error("a thread ended by a panic: this is a bug")]
    Panicked,
    /// The demonstration found a claim that does not hold.
    #[error("the demonstration failed: expected that {0}")]
    Claim(&'static str),
    /// An attack that cannot be made so much smaller.
    #[error(
        "{scenario} has {accounts} accounts in {networks} networks: --scale must divide both, {scale} does not"
    )]
    Scale {
        /// The attack.
        scenario: &'static str,
        /// What was wanted.
        scale: u64,
        /// Its accounts.
        accounts: u64,
        /// And networks.
        networks: u64,
    },
    /// The engine gave more than the quotas say.
    #[error(
        "the index answered {answered} numbers under {protection}, and its quotas allow {at_most}: this is a bug"
    )]
    MoreThanAllowed {
        /// What the quotas are called.
        protection: &'static str,
        /// Numbers answered, as simulated.
        answered: u64,
        /// What arithmetic says.
        at_most: u64,
    },
    /// The shipped sample does not read.
    #[error("the shipped sample does not read: {0}")]
    Sample(String),
}

impl CliError {
    /// A closure for `map_err` on an operation on a file.
    pub fn file(action: &'static str, name: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let name = name.to_owned();
        move |source| Self::File { action, name, source }
    }

    /// Did the reader of standard output go away?
    pub fn is_closed_pipe(&self) -> bool {
        match self {
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Json(error) => error.io_error_kind() == Some(io::ErrorKind::BrokenPipe),
            _ => false,
        }
    }

    /// This error and its causes, without line breaks or other control characters from file names.
    pub fn in_one_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let next = error.to_string();
            // Some errors already end with their cause.
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text.replace(char::is_control, " ")
    }
}

impl From<SecretError> for CliError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::File { source, .. } => Self::SecretFile(source),
            other => Self::Secret(other),
        }
    }
}
