//! A ticket: what was charged, as bytes that another node believes.

use std::fmt;

use super::bytes::{Reader, check_format};
use crate::words::{Caller, DisclosureMode, Key, Purpose, ShardError, ShardKeys, TAG_LEN, Tag, split_tag};

const MAGIC: &[u8; 8] = b"UNLSTTKT";
const VERSION: u32 = 1;
/// Bytes before the origins.
const HEAD_LEN: usize = 96;
/// Versions of records are below this.
const MAX_RECORD: u64 = 1 << 62;

/// What a node may be asked, and for whom.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) purpose: Purpose,
    pub(crate) mode: DisclosureMode,
    pub(crate) fleet: [u8; 16],
    /// Version of the record under which it was issued.
    pub(crate) record: u64,
    pub(crate) issued_ms: u64,
    pub(crate) expires_ms: u64,
    /// The same for all tickets of a lookup, and random.
    pub(crate) lookup: [u8; 16],
    /// Keyed identities, as the disclosure log has them.
    pub(crate) caller: [u8; 16],
    pub(crate) origins: Vec<[u8; 16]>,
    /// Keys of the caller's own numbers, for listings with a mutual audience.
    pub(crate) own: Vec<Key>,
    pub(crate) keys: Vec<Key>,
}

impl Ticket {
    /// Longest life of a ticket.
    pub(crate) const MAX_LIFETIME_MS: u64 = 60_000;

    /// The ticket as bytes, with its tag behind them.
    pub(crate) fn seal(&self, keys: &ShardKeys) -> (Vec<u8>, Tag) {
        let mut bytes = self.encode();
        let tag = keys.ticket_tag(&bytes);
        bytes.extend_from_slice(tag.as_bytes());
        (bytes, tag)
    }

    /// The bytes that the tag covers.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let blocks = self.origins.len() + self.own.len() + self.keys.len();
        let mut bytes = Vec::with_capacity(HEAD_LEN + 16 * blocks + TAG_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        // Purposes and modes are few; a caller has at most eight of each of the others.
        let small = [self.purpose.bit() as u8, self.mode as u8, self.origins.len() as u8, self.own.len() as u8];
        bytes.extend_from_slice(&small);
        bytes.extend_from_slice(&self.fleet);
        for word in [self.record, self.issued_ms, self.expires_ms] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.lookup);
        bytes.extend_from_slice(&self.caller);
        bytes.extend_from_slice(&(self.keys.len() as u64).to_le_bytes());
        self.origins.iter().for_each(|origin| bytes.extend_from_slice(origin));
        self.own.iter().chain(&self.keys).for_each(|key| bytes.extend_from_slice(&key.to_bytes()));
        bytes
    }

    /// Reads a ticket that may be any bytes. Nothing of them is believed before the tag is right.
    pub(crate) fn open(bytes: &[u8], max_keys: usize, keys: &ShardKeys) -> Result<(Self, Tag), ShardError> {
        let (covered, found) = split_tag(bytes).ok_or_else(|| malformed("it is cut short"))?;
        check_format(covered, (MAGIC, VERSION), malformed)?;
        let blocks = Caller::MAX_ORIGINS + Caller::MAX_OWN_NUMBERS + max_keys;
        if covered.len() > HEAD_LEN + 16 * blocks {
            return Err(malformed("it is longer than a lookup of this node may be"));
        }
        let tag = keys.ticket_tag(covered);
        if tag != found {
            return Err(ShardError::TicketForged);
        }
        Ok((Self::parse(covered, max_keys)?, tag))
    }

    /// Reads what the tag covers.
    pub(crate) fn parse(covered: &[u8], max_keys: usize) -> Result<Self, ShardError> {
        check_format(covered, (MAGIC, VERSION), malformed)?;
        let short = || malformed("it is cut short");
        let mut reader = Reader::new(covered.get(MAGIC.len() + 4..).ok_or_else(short)?);
        let mut small = || reader.u8().map(usize::from).ok_or_else(short);
        let [purpose, mode, origins, own] = [small()?, small()?, small()?, small()?];
        let purpose = *Purpose::ALL.get(purpose).ok_or_else(|| malformed("there is no such purpose"))?;
        let mode = *DisclosureMode::ALL.get(mode).ok_or_else(|| malformed("there is no such mode"))?;
        if origins > Caller::MAX_ORIGINS || own > Caller::MAX_OWN_NUMBERS {
            return Err(malformed("it has more origins or numbers of the caller's own than a caller has"));
        }
        let fleet = reader.bytes().ok_or_else(short)?;
        let mut word = || reader.u64().ok_or_else(short);
        let [record, issued_ms, expires_ms] = [word()?, word()?, word()?];
        if !(1..MAX_RECORD).contains(&record) {
            return Err(malformed("its version of the record is impossible"));
        }
        let lifetime_ms = expires_ms.checked_sub(issued_ms);
        if lifetime_ms.is_none_or(|ms| ms == 0 || ms > Self::MAX_LIFETIME_MS) {
            return Err(malformed("it lives longer than a ticket may, or not at all"));
        }
        let (lookup, caller) = (reader.bytes().ok_or_else(short)?, reader.bytes().ok_or_else(short)?);
        let count = reader.u64().ok_or_else(short)?;
        let count = usize::try_from(count).ok().filter(|count| (1..=max_keys).contains(count));
        let count = count.ok_or_else(|| malformed("it has no key, or more than a lookup of this node may"))?;
        let origins = reader.blocks(origins).ok_or_else(short)?;
        let own = reader.blocks(own).ok_or_else(short)?.into_iter().map(Key::from_bytes).collect();
        let keys = reader.blocks(count).ok_or_else(short)?.into_iter().map(Key::from_bytes).collect();
        if !reader.is_at_end() {
            return Err(malformed("bytes are left over"));
        }
        Ok(Self { purpose, mode, fleet, record, issued_ms, expires_ms, lookup, caller, origins, own, keys })
    }

    /// Is it valid at this time, with clocks that differ by so much?
    pub(crate) fn check_time(&self, now_ms: u64, skew_ms: u64) -> Result<(), ShardError> {
        let late = now_ms.saturating_sub(skew_ms);
        if late >= self.expires_ms {
            return Err(ShardError::TicketExpired { by_ms: now_ms - self.expires_ms });
        }
        if self.issued_ms > now_ms.saturating_add(skew_ms) {
            return Err(ShardError::TicketEarly { by_ms: self.issued_ms - now_ms });
        }
        Ok(())
    }
}

const fn malformed(reason: &'static str) -> ShardError {
    ShardError::TicketMalformed { reason }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({} keys, ..)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::words::Secret;

    fn keys() -> ShardKeys {
        ShardKeys::new(&Secret::from_bytes([7; 32]))
    }

    fn ticket() -> impl Strategy<Value = Ticket> {
        let blocks = |len| prop::collection::vec(any::<[u8; 16]>(), len);
        let head = (0..6_usize, 0..3_usize, any::<[u8; 16]>(), 1..MAX_RECORD, 0..u64::MAX / 2, 1..=60_000_u64);
        let rest = (any::<[u8; 16]>(), any::<[u8; 16]>(), blocks(0..=8), blocks(0..=8), blocks(1..=40));
        (head, rest).prop_map(|(head, rest)| {
            let (purpose, mode, fleet, record, issued_ms, lifetime_ms) = head;
            let (lookup, caller, origins, own, keys) = rest;
            Ticket {
                purpose: Purpose::ALL[purpose],
                mode: DisclosureMode::ALL[mode],
                fleet,
                record,
                issued_ms,
                expires_ms: issued_ms + lifetime_ms,
                lookup,
                caller,
                origins,
                own: own.into_iter().map(Key::from_bytes).collect(),
                keys: keys.into_iter().map(Key::from_bytes).collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn a_ticket_is_its_bytes(ticket in ticket()) {
            let (bytes, tag) = ticket.seal(&keys());
            prop_assert_eq!(Ticket::open(&bytes, 40, &keys()), Ok((ticket.clone(), tag)));
            let other = ShardKeys::new(&Secret::from_bytes([8; 32]));
            prop_assert_eq!(Ticket::open(&bytes, 40, &other), Err(ShardError::TicketForged));
            let too_many = Ticket::open(&bytes, ticket.keys.len() - 1, &keys());
            prop_assert!(matches!(too_many, Err(ShardError::TicketMalformed { .. })), "{:?}", too_many);
        }

        #[test]
        fn no_cut_and_no_changed_byte_passes(ticket in ticket(), at: prop::sample::Index, bit in 0..8_u8) {
            let (mut bytes, _) = ticket.seal(&keys());
            let at = at.index(bytes.len());
            prop_assert!(Ticket::open(&bytes[..at], 40, &keys()).is_err());
            bytes[at] ^= 1 << bit;
            prop_assert!(Ticket::open(&bytes, 40, &keys()).is_err());
            // Also what only looks at the fields takes every byte for what it is.
            let covered = &bytes[..bytes.len() - TAG_LEN];
            if let Ok(parsed) = Ticket::parse(covered, 40) {
                prop_assert_eq!(parsed.encode(), covered);
            }
        }

        #[test]
        fn any_bytes_are_a_ticket_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Ticket::open(&bytes, 40, &keys()).is_err());
            let headed = [&MAGIC[..], &VERSION.to_le_bytes(), &bytes].concat();
            if let Ok(parsed) = Ticket::parse(&headed, 40) {
                prop_assert_eq!(parsed.encode(), headed);
            }
        }

        #[test]
        fn times_are_compared_with_skew(ticket in ticket(), skew_ms in 0..10_000_u64) {
            let Ticket { issued_ms, expires_ms, .. } = ticket;
            prop_assert_eq!(ticket.check_time(issued_ms.saturating_sub(skew_ms), skew_ms), Ok(()));
            prop_assert_eq!(ticket.check_time(expires_ms + skew_ms - 1, skew_ms), Ok(()));
            let expired = ShardError::TicketExpired { by_ms: skew_ms };
            prop_assert_eq!(ticket.check_time(expires_ms + skew_ms, skew_ms), Err(expired));
            if issued_ms > skew_ms {
                let early = ShardError::TicketEarly { by_ms: skew_ms + 1 };
                prop_assert_eq!(ticket.check_time(issued_ms - skew_ms - 1, skew_ms), Err(early));
            }
        }
    }

    #[test]
    fn a_later_format_says_so() {
        let mut bytes = [&MAGIC[..], &2_u32.to_le_bytes(), &[0; 200]].concat();
        let newer = Err(ShardError::NewerFormat { found: 2, supported: 1 });
        assert_eq!(Ticket::open(&bytes, 40, &keys()), newer);
        bytes[8] = 0;
        assert!(matches!(Ticket::open(&bytes, 40, &keys()), Err(ShardError::TicketMalformed { .. })));
    }
}
