//! Where the demonstration's index lives, and the secret made for it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use unlisted::{Error, Index, Options, QuotaPolicy, Secret};

use crate::error::CliError;
use crate::input::shown;

/// The directory of the index, with a random secret.
pub struct Home {
    dir: PathBuf,
    secret: Secret,
    temporary: bool,
}

impl Home {
    /// A temporary directory, or one to keep, whose secret is then put into a file beside it.
    pub fn make(keep: Option<&Path>) -> Result<Self, CliError> {
        let secret = random()?;
        match keep {
            Some(dir) => {
                write_secret(&secret_path(dir), &secret)?;
                Ok(Self { dir: dir.to_owned(), secret: Secret::from_bytes(secret), temporary: false })
            }
            None => {
                let [a, b, c, d, ..] = random()?;
                let name = format!("unlisted-demo-{}", hex::encode([a, b, c, d]));
                let dir = std::env::temp_dir().join(name);
                fs::create_dir(&dir).map_err(CliError::file("create", &shown(&dir)))?;
                Ok(Self { dir, secret: Secret::from_bytes(secret), temporary: true })
            }
        }
    }

    /// Makes the index.
    pub fn create(&self, quotas: QuotaPolicy) -> Result<Index, CliError> {
        Ok(Index::open(&self.dir, self.options().must_create().quotas(quotas))?)
    }

    /// Opens it again.
    pub fn reopen(&self) -> Result<Index, CliError> {
        Ok(Index::open(&self.dir, self.options().must_exist())?)
    }

    fn options(&self) -> Options {
        Options::new(self.secret.clone()).background(false)
    }

    /// What a person has to type to look at the index afterwards.
    pub fn command(&self) -> Option<String> {
        let path = secret_path(&self.dir);
        (!self.temporary)
            .then(|| format!("unlisted --secret-file {} stats {}", path.display(), self.dir.display()))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.temporary {
            // A folder that stays behind in the temporary folder is no reason to fail.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn random() -> Result<[u8; 32], CliError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random { reason: error.to_string() })?;
    Ok(bytes)
}

/// Beside the index, never inside it.
fn secret_path(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".secret");
    PathBuf::from(name)
}

fn write_secret(path: &Path, secret: &[u8; 32]) -> Result<(), CliError> {
    let mut options = OpenOptions::new();
    // A secret that is there may be the key of another index.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let failed = || CliError::file("create", &shown(path));
    let mut file = options.open(path).map_err(failed())?;
    writeln!(file, "{}", hex::encode(secret)).map_err(failed())
}
