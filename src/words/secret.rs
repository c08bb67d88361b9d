//! The secret that keys the index. It is never stored with the index, printed, or logged.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The 32-byte secret of an index. Zeroised on drop; `Debug` prints nothing of it.
///
/// Without it a stolen directory is worthless; with it the phone space can be enumerated. Keep it in a key
/// store, not beside the index, and make it with a random generator: it is used as it is, not stretched.
///
/// ```
/// use unlisted::Secret;
/// let secret = Secret::from_hex(&"ab".repeat(32))?;
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// assert!(Secret::from_hex("too short").is_err());
/// # Ok::<(), unlisted::SecretError>(())
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

/// Why there is no secret. No variant carries what was found.
///
/// ```
/// use unlisted::{Secret, SecretError};
/// assert!(matches!(Secret::from_hex("feed"), Err(SecretError::NotHex { found: 4 })));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The environment variable is not set, or not text.
    #[error("the environment variable {name} is not set: expected the secret as 64 hexadecimal digits")]
    NotSet {
        /// The variable.
        name: String,
    },
    /// Not 64 hexadecimal digits.
    #[error("a secret is 64 hexadecimal digits, found {found} characters or a non-hexadecimal one")]
    NotHex {
        /// Characters found.
        found: usize,
    },
    /// All zeros: a placeholder, not a secret.
    #[error("the secret is all zeros: a placeholder, not a random secret")]
    Placeholder,
    /// The file could not be read.
    #[error("the secret file {} could not be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// More is not read of a file: 64 digits and white space.
const MAX_FILE_LEN: usize = 4 << 10;

impl Secret {
    /// A secret from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits; white space around them is allowed.
    ///
    /// # Errors
    /// [`SecretError::NotHex`]; [`SecretError::Placeholder`] for 64 zeros.
    pub fn from_hex(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let mut bytes = Self([0; 32]);
        hex::decode_to_slice(text, &mut bytes.0)
            .map_err(|_| SecretError::NotHex { found: text.chars().count() })?;
        if bytes.0 == [0; 32] {
            return Err(SecretError::Placeholder);
        }
        Ok(bytes)
    }

    /// Reads the secret from an environment variable.
    ///
    /// # Errors
    /// [`SecretError::NotSet`], or as [`Secret::from_hex`].
    pub fn from_env(name: &str) -> Result<Self, SecretError> {
        let text = std::env::var(name).map_err(|_| SecretError::NotSet { name: name.to_owned() })?;
        Self::from_hex(&Zeroizing::new(text))
    }

    /// Reads the secret from a file that holds 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`SecretError::File`], or as [`Secret::from_hex`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SecretError> {
        let path = path.as_ref();
        // Room for all of it at once, so that no part is left where the text grew.
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_LEN));
        let read =
            std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_LEN as u64).read_to_string(&mut text));
        read.map_err(|source| SecretError::File { path: path.to_owned(), source })?;
        if text.len() == MAX_FILE_LEN {
            return Err(SecretError::NotHex { found: MAX_FILE_LEN });
        }
        Self::from_hex(&text)
    }

    /// A key for the host's own use beside the index, such as for a table of its own: 32 bytes that depend on the secret and on
    /// what they are for, and from which neither the secret nor any key of the index follows.
    ///
    /// `purpose` is a constant of the host, not data: one for each use, with the host's name in it.
    ///
    /// ```
    /// use unlisted::Secret;
    /// let secret = Secret::from_hex(&"ab".repeat(32))?;
    /// let sessions = secret.derive("example.org 2026-11 session tokens");
    /// assert_eq!(sessions, secret.derive("example.org 2026-11 session tokens"));
    /// assert_ne!(sessions, secret.derive("example.org 2026-11 addresses"));
    /// # Ok::<(), unlisted::SecretError>(())
    /// ```
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        // The index's own contexts begin otherwise.
        blake3::derive_key(&format!("host of unlisted: {purpose}"), &self.0)
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_secrets_are_typed_errors_without_their_text() {
        assert!(matches!(Secret::from_hex(&"0".repeat(64)), Err(SecretError::Placeholder)));
        assert!(matches!(Secret::from_env("UNLISTED_NOT_SET_ANYWHERE"), Err(SecretError::NotSet { .. })));
        assert!(matches!(Secret::from_file("/nonexistent"), Err(SecretError::File { .. })));
        let error = Secret::from_hex("feedface").unwrap_err();
        assert!(matches!(error, SecretError::NotHex { found: 8 }));
        assert!(!error.to_string().contains("feedface"));
    }

    #[test]
    fn a_large_file_is_no_secret_and_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        assert!(matches!(Secret::from_file(file.path()), Err(SecretError::NotHex { found: MAX_FILE_LEN })));
    }

    #[test]
    fn keys_of_the_host_are_none_of_the_index() {
        let secret = Secret::from_bytes([7; 32]);
        let own = "unlisted 2026-11 callers and origins";
        assert_ne!(secret.derive(own), blake3::derive_key(own, secret.bytes()));
        assert_ne!(secret.derive("a"), Secret::from_bytes([8; 32]).derive("a"));
        assert_ne!(&secret.derive(""), secret.bytes());
    }

    #[test]
    fn white_space_around_is_allowed() {
        let text = format!(" {}\n", "ab".repeat(32));
        assert_eq!(Secret::from_hex(&text).unwrap().bytes(), &[0xab; 32]);
    }
}
