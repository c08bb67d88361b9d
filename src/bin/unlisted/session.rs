//! The secret, and opening an index with it.

use std::path::{Path, PathBuf};

use unlisted::{Index, Options, Secret};

use crate::error::CliError;

/// The environment variable that holds the secret.
const SECRET_VARIABLE: &str = "UNLISTED_SECRET";
/// The environment variable that names the epoch file.
const EPOCH_FILE_VARIABLE: &str = "UNLISTED_EPOCH_FILE";
/// Most numbers of one lookup, and most changes of one update.
pub const BATCH: usize = 10_000;

/// Where this run of the program takes its secret from.
pub struct Session {
    secret_file: Option<PathBuf>,
    epoch_file: Option<PathBuf>,
}

impl Session {
    pub fn new(secret_file: Option<&Path>, epoch_file: Option<&Path>) -> Self {
        let named = || std::env::var_os(EPOCH_FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self {
            secret_file: secret_file.map(Path::to_owned),
            epoch_file: epoch_file.map(Path::to_owned).or_else(named),
        }
    }

    /// Options with the secret. Nothing happens in the background: a command does what it says and ends.
    pub fn options(&self) -> Result<Options, CliError> {
        let secret = match &self.secret_file {
            Some(path) => Secret::from_file(path)?,
            None => Secret::from_env(SECRET_VARIABLE)?,
        };
        let options = Options::new(secret).max_batch(BATCH).background(false);
        Ok(self.epoch_file.iter().fold(options, Options::epoch_file))
    }

    /// Opens an index that exists.
    pub fn open(&self, dir: &Path) -> Result<Index, CliError> {
        Ok(Index::open(dir, self.options()?.must_exist())?)
    }
}
