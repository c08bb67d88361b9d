//! What nodes of a fleet vouch with: keys of the secret, each for one use, so that nothing that one of them made passes for
//! something else.

use zeroize::Zeroize;

use super::{AccountId, Secret};

/// Bytes of a tag.
pub(crate) const TAG_LEN: usize = 32;

/// Keyed BLAKE3 of the bytes before it. Compared in constant time.
pub(crate) type Tag = blake3::Hash;

/// The keys.
pub(crate) struct ShardKeys {
    tickets: [u8; 32],
    answers: [u8; 32],
    exports: [u8; 32],
    counted: [u8; 32],
}

impl ShardKeys {
    pub(crate) fn new(secret: &Secret) -> Self {
        let derived = |context| blake3::derive_key(context, secret.bytes());
        Self {
            tickets: derived("unlisted 2026-11 tickets to shards"),
            answers: derived("unlisted 2026-11 answers of shards"),
            exports: derived("unlisted 2026-11 exported ranges"),
            counted: derived("unlisted 2026-11 accounts that are counted only"),
        }
    }

    /// The tag of a ticket.
    pub(crate) fn ticket_tag(&self, ticket: &[u8]) -> Tag {
        blake3::keyed_hash(&self.tickets, ticket)
    }

    /// The tag of an answer, which names its ticket by that ticket's tag.
    pub(crate) fn answer_tag(&self, answer: &[u8]) -> Tag {
        blake3::keyed_hash(&self.answers, answer)
    }

    /// The tag of the manifest of an exported range.
    pub(crate) fn export_tag(&self, manifest: &[u8]) -> Tag {
        blake3::keyed_hash(&self.exports, manifest)
    }

    /// What stands for an account where it is only counted: the same for all answers to one lookup, another for every
    /// other lookup.
    pub(crate) fn pseudonym(&self, lookup: &[u8; 16], account: AccountId) -> [u8; 16] {
        let mut input = [0; 32];
        let (of_lookup, of_account) = input.split_at_mut(16);
        of_lookup.copy_from_slice(lookup);
        of_account.copy_from_slice(&account.to_bytes());
        super::prf::truncated(blake3::keyed_hash(&self.counted, &input).as_bytes())
    }
}

/// Splits bytes into what a tag covers and the tag behind it.
pub(crate) fn split_tag(bytes: &[u8]) -> Option<(&[u8], Tag)> {
    let (covered, tag) = bytes.split_last_chunk::<TAG_LEN>()?;
    Some((covered, Tag::from_bytes(*tag)))
}

impl Drop for ShardKeys {
    fn drop(&mut self) {
        for key in [&mut self.tickets, &mut self.answers, &mut self.exports, &mut self.counted] {
            key.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_and_every_secret_has_keys_of_its_own() {
        let [keys, other] = [7, 8].map(|byte| ShardKeys::new(&Secret::from_bytes([byte; 32])));
        let tags = |keys: &ShardKeys| [keys.ticket_tag(b"x"), keys.answer_tag(b"x"), keys.export_tag(b"x")];
        let mut all: Vec<_> = [tags(&keys), tags(&other)].concat().iter().map(|tag| *tag.as_bytes()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
        let of = |lookup: u8, account: u64| keys.pseudonym(&[lookup; 16], AccountId::from(account));
        assert_eq!(of(1, 1), of(1, 1));
        assert!(of(1, 1) != of(2, 1) && of(1, 1) != of(1, 2));
        assert_ne!(of(1, 1), other.pseudonym(&[1; 16], AccountId::from(1)));
    }

    #[test]
    fn a_tag_is_the_last_bytes() {
        assert!(split_tag(&[0; TAG_LEN - 1]).is_none());
        let bytes = [&b"covered"[..], &[9; TAG_LEN]].concat();
        assert_eq!(split_tag(&bytes), Some((&b"covered"[..], Tag::from_bytes([9; TAG_LEN]))));
    }
}
