//! The secret, and opening an index with it.

use std::path::{Path, PathBuf};

use unlisted::{Index, Options, Secret};

use crate::error::CliError;

/// The environment variable that holds the secret.
const SECRET_VARIABLE: &str = "UNLISTED_SECRET";
/// Most numbers of one lookup, and most changes of one update.
pub const BATCH: usize = 10_000;

/// Where this run of the program takes its secret from.
pub struct Session {
    secret_file: Option<PathBuf>,
}

impl Session {
    pub fn new(secret_file: Option<&Path>) -> Self {
        Self { secret_file: secret_file.map(Path::to_owned) }
    }

    /// Options with the secret. Nothing happens in the background: a command does what it says and ends.
    pub fn options(&self) -> Result<Options, CliError> {
        let secret = match &self.secret_file {
            Some(path) => Secret::from_file(path)?,
            None => Secret::from_env(SECRET_VARIABLE)?,
        };
        Ok(Options::new(secret).max_batch(BATCH).background(false))
    }

    /// Opens an index that exists.
    pub fn open(&self, dir: &Path) -> Result<Index, CliError> {
        Ok(Index::open(dir, self.options()?.must_exist())?)
    }
}
