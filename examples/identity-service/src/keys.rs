//! What is made from the one secret, and how an address becomes a hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use unlisted::{AccountId, E164, PhoneHash, Secret};

use crate::Refusal;

/// A keyed hash. Tokens and addresses are kept as nothing else.
pub type Digest = [u8; 32];

/// Keys beside the index's own, all from its secret: one thing to keep, and nothing to lose separately.
pub struct Keys {
    accounts: Digest,
    tokens: Digest,
    addresses: Digest,
    pepper: String,
}

/// An address as Matrix writes it: digits without a plus sign, or an e-mail address.
#[derive(Deserialize)]
pub struct Address {
    medium: Medium,
    address: String,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Medium {
    Email,
    Msisdn,
}

impl Keys {
    pub fn new(secret: &Secret) -> Self {
        let key = |of: &str| secret.derive(&format!("identity-service 2026-11 {of}"));
        let pepper = blake3::Hash::from_bytes(key("lookup pepper")).to_hex();
        Self {
            accounts: key("account ids"),
            tokens: key("tokens"),
            addresses: key("addresses"),
            pepper: pepper.chars().take(32).collect(),
        }
    }

    /// What clients add to each address before they hash it. It is as old as the secret.
    pub fn pepper(&self) -> &str {
        &self.pepper
    }

    /// The id of a Matrix user: derived, so that nothing has to be allocated and no two stores can disagree.
    pub fn account(&self, mxid: &str) -> AccountId {
        let mut id = [0; 16];
        blake3::Hasher::new_keyed(&self.accounts).update(mxid.as_bytes()).finalize_xof().fill(&mut id);
        AccountId::from_bytes(id)
    }

    pub fn token(&self, token: &str) -> Digest {
        *blake3::keyed_hash(&self.tokens, token.as_bytes()).as_bytes()
    }

    pub fn address(&self, hash: &PhoneHash) -> Digest {
        *blake3::keyed_hash(&self.addresses, hash.as_bytes()).as_bytes()
    }

    /// The hash that a client would ask for, which is what the index is keyed by.
    pub fn hash(&self, address: &Address) -> Result<PhoneHash, Refusal> {
        let text = address.address.trim();
        let (canonical, medium) = match address.medium {
            Medium::Msisdn => {
                let number = E164::parse(&format!("+{text}")).map_err(Refusal::invalid_param)?;
                (number.as_str().trim_start_matches('+').to_owned(), "msisdn")
            }
            Medium::Email => {
                PhoneHash::of_email(text).map_err(Refusal::invalid_param)?;
                (text.to_lowercase(), "email")
            }
        };
        let preimage = format!("{canonical} {medium} {}", self.pepper);
        // One domain of the index for both: the medium is in the hash already, and a client does not tell it otherwise.
        Ok(PhoneHash::from_bytes(Sha256::digest(preimage.as_bytes()).into()))
    }
}

/// Reads what a client sends for an address; what is no hash cannot be anybody's.
pub fn read_hash(text: &str) -> Option<PhoneHash> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.try_into().ok().map(PhoneHash::from_bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]
    use super::*;

    fn hash(medium: Medium, address: &str) -> String {
        let keys =
            Keys { accounts: [0; 32], tokens: [0; 32], addresses: [0; 32], pepper: "matrixrocks".to_owned() };
        let hash = keys.hash(&Address { medium, address: address.to_owned() }).unwrap();
        URL_SAFE_NO_PAD.encode(hash.as_bytes())
    }

    #[test]
    fn hashes_are_those_of_the_specification() {
        let alice = "4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc";
        assert_eq!(hash(Medium::Email, "alice@example.com"), alice);
        assert_eq!(hash(Medium::Email, " Alice@Example.COM"), alice);
        assert_eq!(hash(Medium::Msisdn, "18005552067"), "nlo35_T5fzSGZzJApqu8lgIudJvmOQtDaHtr-I4rU7I");
        assert!(read_hash(alice).is_some() && read_hash("alice@example.com").is_none() && read_hash("").is_none());
    }
}
