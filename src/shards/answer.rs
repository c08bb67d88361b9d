//! An answer to a ticket: what a node found, in the shape of the lookup's mode.

use std::fmt;

use super::bytes::{Reader, check_format};
use crate::words::{AccountId, DisclosureMode, ShardError, ShardKeys, TAG_LEN, Tag, split_tag};

const MAGIC: &[u8; 8] = b"UNLSTANS";
const VERSION: u32 = 1;
/// Bytes before the rows.
const HEAD_LEN: usize = 64;

/// Who was found.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Number of the key in the ticket, and account; in order, each once.
    Linked(Vec<(u32, AccountId)>),
    /// By how many keys, and the accounts, in order of their ids, each once.
    Unlinked { numbers: u32, accounts: Vec<AccountId> },
    /// By how many keys, and what stands for the accounts, in order, each once.
    Counted { numbers: u32, pseudonyms: Vec<[u8; 16]> },
}

/// What a node answers.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) found: Found,
    /// Numbers of the keys that are tripwires and nobody's, in order.
    pub(crate) tripwires: Vec<u32>,
}

impl Found {
    const fn mode(&self) -> DisclosureMode {
        match self {
            Self::Linked(_) => DisclosureMode::Linked,
            Self::Unlinked { .. } => DisclosureMode::Unlinked,
            Self::Counted { .. } => DisclosureMode::CountOnly,
        }
    }

    /// By how many keys somebody was found.
    pub(crate) fn numbers(&self) -> u32 {
        match self {
            Self::Linked(found) => found.chunk_by(|(one, _), (other, _)| one == other).count() as u32,
            Self::Unlinked { numbers, .. } | Self::Counted { numbers, .. } => *numbers,
        }
    }

    const fn rows(&self) -> usize {
        match self {
            Self::Linked(found) => found.len(),
            Self::Unlinked { accounts, .. } => accounts.len(),
            Self::Counted { pseudonyms, .. } => pseudonyms.len(),
        }
    }
}

impl Answer {
    /// The answer as bytes, with its tag behind them.
    pub(crate) fn seal(&self, ticket: &Tag, keys: &ShardKeys) -> Vec<u8> {
        let mut bytes = self.encode(ticket);
        let tag = keys.answer_tag(&bytes);
        bytes.extend_from_slice(tag.as_bytes());
        bytes
    }

    /// The bytes that the tag covers.
    pub(crate) fn encode(&self, ticket: &Tag) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_LEN + 20 * self.found.rows() + 4 * self.tripwires.len() + TAG_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[self.found.mode() as u8, 0, 0, 0]);
        bytes.extend_from_slice(ticket.as_bytes());
        let counts = [self.found.numbers(), self.found.rows() as u32, self.tripwires.len() as u32, 0];
        counts.iter().for_each(|count| bytes.extend_from_slice(&count.to_le_bytes()));
        match &self.found {
            Found::Linked(found) => {
                for (number, account) in found {
                    bytes.extend_from_slice(&number.to_le_bytes());
                    bytes.extend_from_slice(&account.to_bytes());
                }
            }
            Found::Unlinked { accounts, .. } => {
                accounts.iter().for_each(|account| bytes.extend_from_slice(&account.to_bytes()));
            }
            Found::Counted { pseudonyms, .. } => bytes.extend_from_slice(pseudonyms.as_flattened()),
        }
        self.tripwires.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes
    }

    /// Reads an answer that may be any bytes, and the tag of the ticket that it is to. Nothing of them is believed before the
    /// tag is right.
    pub(crate) fn open(bytes: &[u8], keys: &ShardKeys) -> Result<(Self, Tag), ShardError> {
        let (covered, tag) = split_tag(bytes).ok_or_else(|| malformed("it is cut short"))?;
        check_format(covered, (MAGIC, VERSION), malformed)?;
        if keys.answer_tag(covered) != tag {
            return Err(ShardError::AnswerForged);
        }
        Self::parse(covered)
    }

    /// Reads what the tag covers.
    pub(crate) fn parse(covered: &[u8]) -> Result<(Self, Tag), ShardError> {
        check_format(covered, (MAGIC, VERSION), malformed)?;
        let short = || malformed("it is cut short");
        let mut reader = Reader::new(covered.get(MAGIC.len() + 4..).ok_or_else(short)?);
        let [mode, zeros @ ..] = reader.bytes::<4>().ok_or_else(short)?;
        let mode = DisclosureMode::ALL.get(usize::from(mode)).ok_or_else(|| malformed("there is no such mode"))?;
        let ticket = Tag::from_bytes(reader.bytes().ok_or_else(short)?);
        let mut count = || reader.u32().ok_or_else(short);
        let [numbers, rows, tripwires, zero] = [count()?, count()?, count()?, count()?];
        if zeros != [0; 3] || zero != 0 {
            return Err(malformed("bytes that are zero are not"));
        }
        let found = match mode {
            DisclosureMode::Linked => Found::Linked(linked(&mut reader, rows).ok_or_else(short)?),
            DisclosureMode::Unlinked => {
                let accounts = reader.blocks(rows as usize).ok_or_else(short)?;
                Found::Unlinked { numbers, accounts: accounts.into_iter().map(AccountId::from_bytes).collect() }
            }
            DisclosureMode::CountOnly => {
                Found::Counted { numbers, pseudonyms: reader.blocks(rows as usize).ok_or_else(short)? }
            }
        };
        let words = reader.some(tripwires as usize * 4).ok_or_else(short)?;
        let tripwires = words.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        if !reader.is_at_end() {
            return Err(malformed("bytes are left over"));
        }
        let answer = Self { found, tripwires };
        answer.check_order(numbers)?;
        Ok((answer, ticket))
    }

    fn check_order(&self, numbers: u32) -> Result<(), ShardError> {
        let (in_order, has_reserved) = match &self.found {
            Found::Linked(found) => {
                let has_reserved = found.iter().any(|(_, account)| *account == AccountId::RESERVED);
                (found.is_sorted_by(|one, other| one < other), has_reserved)
            }
            Found::Unlinked { accounts, .. } => {
                let has_reserved = accounts.contains(&AccountId::RESERVED);
                (accounts.is_sorted_by(|one, other| one < other), has_reserved)
            }
            Found::Counted { pseudonyms, .. } => (pseudonyms.is_sorted_by(|one, other| one < other), false),
        };
        if !in_order || !self.tripwires.is_sorted_by(|one, other| one < other) {
            return Err(malformed("its rows are not in order, or not each once"));
        }
        if has_reserved {
            return Err(malformed("it shows an account that nobody may have"));
        }
        if numbers != self.found.numbers() || (numbers == 0) != (self.found.rows() == 0) {
            return Err(malformed("its counts contradict its rows"));
        }
        Ok(())
    }

    /// Can it be the answer to a lookup in this mode for so many keys?
    pub(crate) fn check_fits(&self, mode: DisclosureMode, keys: usize) -> Result<(), ShardError> {
        if self.found.mode() != mode {
            return Err(malformed("it is of another mode than its ticket"));
        }
        let last = match &self.found {
            Found::Linked(found) => found.last().map(|(number, _)| *number),
            found => found.numbers().checked_sub(1),
        };
        if last.max(self.tripwires.last().copied()).is_some_and(|number| number as usize >= keys) {
            return Err(malformed("it is about more keys than its ticket has"));
        }
        Ok(())
    }
}

fn linked(reader: &mut Reader<'_>, rows: u32) -> Option<Vec<(u32, AccountId)>> {
    // What is not there takes no memory.
    if reader.left() / 20 < rows as usize {
        return None;
    }
    (0..rows).map(|_| Some((reader.u32()?, AccountId::from_bytes(reader.bytes()?)))).collect()
}

const fn malformed(reason: &'static str) -> ShardError {
    ShardError::AnswerMalformed { reason }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Found({} rows, {}, ..)", self.rows(), self.mode())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} rows, {} tripwires, ..)", self.found.rows(), self.tripwires.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::words::Secret;

    fn keys() -> ShardKeys {
        ShardKeys::new(&Secret::from_bytes([7; 32]))
    }

    const TICKET: Tag = Tag::from_bytes([9; 32]);

    fn answer() -> impl Strategy<Value = Answer> {
        use prop::collection::btree_set;
        let linked = btree_set((0..40_u32, 0..1_000_u64), 0..30).prop_map(|found| {
            Found::Linked(found.into_iter().map(|(number, account)| (number, account.into())).collect())
        });
        let unlinked = btree_set(0..1_000_u64, 1..30).prop_map(|accounts| {
            let accounts: Vec<AccountId> = accounts.into_iter().map(AccountId::from).collect();
            Found::Unlinked { numbers: 1 + accounts.len() as u32 / 2, accounts }
        });
        let counted = btree_set(any::<[u8; 16]>(), 1..30).prop_map(|pseudonyms| {
            let pseudonyms: Vec<_> = pseudonyms.into_iter().collect();
            Found::Counted { numbers: 1 + pseudonyms.len() as u32 / 2, pseudonyms }
        });
        let nobody = Just(Found::Counted { numbers: 0, pseudonyms: Vec::new() });
        let found = prop_oneof![3 => linked, 3 => unlinked, 3 => counted, 1 => nobody];
        (found, btree_set(0..40_u32, 0..5))
            .prop_map(|(found, tripwires)| Answer { found, tripwires: tripwires.into_iter().collect() })
    }

    proptest! {
        #[test]
        fn an_answer_is_its_bytes(answer in answer()) {
            let bytes = answer.seal(&TICKET, &keys());
            prop_assert_eq!(Answer::open(&bytes, &keys()), Ok((answer.clone(), TICKET)));
            let other = ShardKeys::new(&Secret::from_bytes([8; 32]));
            prop_assert_eq!(Answer::open(&bytes, &other), Err(ShardError::AnswerForged));
            prop_assert_eq!(answer.check_fits(answer.found.mode(), 40), Ok(()));
            for mode in DisclosureMode::ALL.into_iter().filter(|mode| *mode != answer.found.mode()) {
                prop_assert!(answer.check_fits(mode, 40).is_err());
            }
            if answer.found.numbers() > 0 {
                prop_assert!(answer.check_fits(answer.found.mode(), 0).is_err());
            }
        }

        #[test]
        fn no_cut_and_no_changed_byte_passes(answer in answer(), at: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = answer.seal(&TICKET, &keys());
            let at = at.index(bytes.len());
            prop_assert!(Answer::open(&bytes[..at], &keys()).is_err());
            bytes[at] ^= 1 << bit;
            prop_assert!(Answer::open(&bytes, &keys()).is_err());
            let covered = &bytes[..bytes.len() - TAG_LEN];
            if let Ok((parsed, ticket)) = Answer::parse(covered) {
                prop_assert_eq!(parsed.encode(&ticket), covered);
            }
        }

        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Answer::open(&bytes, &keys()).is_err());
            let headed = [&MAGIC[..], &VERSION.to_le_bytes(), &[bytes.len() as u8 % 3, 0, 0, 0], &bytes].concat();
            if let Ok((parsed, ticket)) = Answer::parse(&headed) {
                prop_assert_eq!(parsed.encode(&ticket), headed);
            }
        }
    }

    #[test]
    fn what_no_node_answers_is_refused() {
        let refused = |found, tripwires: &[u32]| {
            let answer = Answer { found, tripwires: tripwires.to_vec() };
            matches!(Answer::parse(&answer.encode(&TICKET)), Err(ShardError::AnswerMalformed { .. }))
        };
        let accounts = |ids: &[u64]| ids.iter().map(|id| AccountId::from(*id)).collect::<Vec<_>>();
        assert!(refused(Found::Linked(vec![(1, 1.into()), (0, 1.into())]), &[]));
        assert!(refused(Found::Linked(vec![(1, 1.into()), (1, 1.into())]), &[]));
        assert!(refused(Found::Linked(vec![(1, AccountId::RESERVED)]), &[]));
        assert!(refused(Found::Unlinked { numbers: 1, accounts: accounts(&[2, 1]) }, &[]));
        assert!(refused(Found::Unlinked { numbers: 0, accounts: accounts(&[1]) }, &[]));
        assert!(refused(Found::Unlinked { numbers: 1, accounts: Vec::new() }, &[]));
        assert!(refused(Found::Unlinked { numbers: 1, accounts: vec![AccountId::RESERVED] }, &[]));
        assert!(refused(Found::Counted { numbers: 2, pseudonyms: vec![[1; 16], [1; 16]] }, &[]));
        assert!(refused(Found::Linked(Vec::new()), &[3, 3]));
        assert!(!refused(Found::Linked(vec![(1, 1.into()), (1, 2.into())]), &[0, 3]));
    }

    #[test]
    fn a_count_takes_no_memory_for_what_is_not_there() {
        let answer = Answer { found: Found::Linked(Vec::new()), tripwires: Vec::new() };
        for at in [52, 56] {
            let mut bytes = answer.encode(&TICKET);
            bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            assert!(matches!(
                Answer::parse(&bytes),
                Err(ShardError::AnswerMalformed { reason: "it is cut short" })
            ));
        }
        assert_eq!(BTreeSet::from([answer.encode(&TICKET).len()]), BTreeSet::from([HEAD_LEN]));
    }
}
