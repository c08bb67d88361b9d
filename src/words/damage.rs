//! What can be wrong with bytes from disk.

use thiserror::Error;

/// What is wrong with the bytes of a segment, of a page of a database or of the disclosure log.
///
/// ```
/// use unlisted::Damage;
/// let damage = Damage::Length { expected: 8_192, found: 100 };
/// assert_eq!(damage.to_string(), "expected 8192 bytes, found 100");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Damage {
    /// Shorter or longer than its header says.
    #[error("expected {expected} bytes, found {found}")]
    Length {
        /// Bytes expected.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A checksum does not match.
    #[error("the checksum of {of} does not match")]
    Checksum {
        /// What it covers.
        of: &'static str,
    },
    /// A number in the header is impossible.
    #[error("{field} is {found}, which no writer writes")]
    Geometry {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// A stored listing is impossible.
    #[error("a stored listing is malformed: {reason}")]
    Entry {
        /// Why.
        reason: &'static str,
    },
    /// A stored disclosure is impossible.
    #[error("a stored disclosure is malformed: {reason}")]
    Disclosure {
        /// Why.
        reason: &'static str,
    },
    /// The file is not the one that the manifest names.
    #[error("it is not the file that the manifest names: {field} differs")]
    NotInManifest {
        /// What differs.
        field: &'static str,
    },
}
