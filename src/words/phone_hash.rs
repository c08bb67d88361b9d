//! What the host hands in: the hash of a phone number or of an e-mail address.

use std::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::phone::{E164, E164Error};

/// Which kind of contact a [`PhoneHash`] was made from. Two domains never match each other.
///
/// ```
/// use unlisted::{Domain, PhoneHash};
/// let phone = PhoneHash::from_bytes([7; 32]);
/// assert_eq!(phone.domain(), Domain::Phone);
/// assert_ne!(phone, phone.in_domain(Domain::Email));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Domain {
    /// A telephone number.
    Phone = 1,
    /// An e-mail address.
    Email = 2,
}

/// A 32-byte hash of a phone number (or, in its own [`Domain`], of an e-mail address).
///
/// It may be the SHA-256 of the E.164 text, as [`PhoneHash::of_e164`] makes it, an HMAC of it, or the output of
/// an OPRF; all that matters is that the host always uses the same one. It is never stored: the index keeps a
/// keyed PRF of it. `Debug` does not print it, because a plain hash of a phone number is reversed in
/// milliseconds.
///
/// ```
/// use unlisted::PhoneHash;
/// let hash = PhoneHash::of_e164("+1 (415) 555-0100")?;
/// assert_eq!(hash, PhoneHash::of_e164("+14155550100")?);
/// assert_eq!(format!("{hash:?}"), "PhoneHash(Phone, ..)");
/// # Ok::<(), unlisted::E164Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PhoneHash {
    bytes: [u8; 32],
    domain: Domain,
}

/// Why a text is not a hash in hexadecimal.
///
/// ```
/// use unlisted::{PhoneHash, PhoneHashError};
/// assert_eq!(PhoneHash::from_hex("abcd"), Err(PhoneHashError { found: 4 }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a phone hash is 64 hexadecimal digits, found {found} characters or a non-hexadecimal one")]
pub struct PhoneHashError {
    /// Characters found.
    pub found: usize,
}

/// Why a text is not an e-mail address that can be hashed.
///
/// ```
/// use unlisted::{EmailError, PhoneHash};
/// assert_eq!(PhoneHash::of_email("nobody"), Err(EmailError::Malformed));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EmailError {
    /// No `@`, or nothing on one side of it.
    #[error("an e-mail address has the form local@domain")]
    Malformed,
    /// Longer than RFC 5321 allows.
    #[error("an e-mail address has at most 254 bytes, found {len}")]
    TooLong {
        /// Bytes found.
        len: usize,
    },
}

impl PhoneHash {
    /// A hash that the host computed itself, in the phone domain.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { bytes, domain: Domain::Phone }
    }

    /// The same hash in another domain.
    #[must_use]
    pub const fn in_domain(self, domain: Domain) -> Self {
        Self { bytes: self.bytes, domain }
    }

    /// SHA-256 of the canonical E.164 text, plus sign included.
    ///
    /// # Errors
    /// [`E164Error`] if the text is not a number in international form.
    pub fn of_e164(number: &str) -> Result<Self, E164Error> {
        E164::parse(number).map(Self::from)
    }

    /// SHA-256 of a trimmed, lower-cased e-mail address, in the e-mail domain.
    ///
    /// # Errors
    /// [`EmailError`] if it has no `@` between two parts or is too long.
    pub fn of_email(address: &str) -> Result<Self, EmailError> {
        let address = address.trim();
        if address.len() > 254 {
            return Err(EmailError::TooLong { len: address.len() });
        }
        match address.rsplit_once('@') {
            Some((local, host))
                if !local.is_empty() && !host.is_empty() && !address.contains(char::is_whitespace) =>
            {
                let canonical = address.to_lowercase();
                Ok(Self { bytes: Sha256::digest(canonical.as_bytes()).into(), domain: Domain::Email })
            }
            _ => Err(EmailError::Malformed),
        }
    }

    /// Reads 64 hexadecimal digits, in the phone domain.
    ///
    /// # Errors
    /// [`PhoneHashError`] with the length found.
    pub fn from_hex(text: &str) -> Result<Self, PhoneHashError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| PhoneHashError { found: text.chars().count() })?;
        Ok(Self::from_bytes(bytes))
    }

    /// The domain.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        self.domain
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl From<E164> for PhoneHash {
    fn from(number: E164) -> Self {
        Self::from_bytes(Sha256::digest(number.as_str().as_bytes()).into())
    }
}

impl fmt::Debug for PhoneHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhoneHash({:?}, ..)", self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_and_domains() {
        let hash = PhoneHash::of_e164("+14155550100").unwrap();
        assert_eq!(PhoneHash::from_hex(&hex::encode(hash.as_bytes())).unwrap(), hash);
        assert_ne!(hash, hash.in_domain(Domain::Email));
        assert_eq!(PhoneHash::from_hex("abc"), Err(PhoneHashError { found: 3 }));
        assert_eq!(PhoneHash::from_hex(&"g".repeat(64)), Err(PhoneHashError { found: 64 }));
    }

    #[test]
    fn sha256_of_the_text_with_plus() {
        let expected: [u8; 32] = Sha256::digest(b"+14155550100").into();
        assert_eq!(PhoneHash::of_e164("+1 415 555 0100").unwrap().as_bytes(), &expected);
    }

    #[test]
    fn emails() {
        let a = PhoneHash::of_email(" Ada@Example.ORG ").unwrap();
        assert_eq!(a, PhoneHash::of_email("ada@example.org").unwrap());
        assert_eq!(a.domain(), Domain::Email);
        for bad in ["", "@", "a@", "@b", "a b@c"] {
            assert_eq!(PhoneHash::of_email(bad), Err(EmailError::Malformed));
        }
        assert_eq!(PhoneHash::of_email(&format!("{}@b", "a".repeat(300))), Err(EmailError::TooLong { len: 302 }));
    }
}
