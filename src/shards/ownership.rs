//! Who owns which keys: a small record that changes by compare-and-set.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use super::bytes::Reader;
use super::holding::check_name;
use super::pieces::Pieces;
use super::span::KeySpan;
use crate::words::{Error, Key, MAX_NODE_NAME_LEN, Result, ShardError};

const MAGIC: &[u8; 8] = b"UNLSTOWN";
const VERSION: u32 = 1;
const SUM_LEN: usize = 8;
/// Counts of changes that no operator reaches.
const MAX_VERSION: u64 = 1 << 62;

/// Which node owns which keys, for a whole fleet.
///
/// The host keeps its bytes where all nodes can read them and where they change by compare-and-set on
/// [`Ownership::version`], such as the engine of the fleet's ledger. Of two operators who move something at once, one loses
/// the comparison, reads again and decides again. Every node hears of a change by [`crate::Index::follow_ownership`].
///
/// ```
/// use unlisted::{KeySpan, Ownership};
/// let first = Ownership::of_one("a")?;
/// let next = first.moved(KeySpan::new(0x8000, 0x1_0000)?, "b")?;
/// assert_eq!((next.version(), next.spans().count()), (2, 2));
/// assert_eq!(Ownership::decode(&next.encode())?, next);
/// let owners: Vec<_> = next.spans().map(|(span, node)| format!("{span} {node}")).collect();
/// assert_eq!(owners, ["0000..8000 a", "8000..10000 b"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Ownership {
    fleet: [u8; 16],
    version: u64,
    owners: Pieces<String>,
}

impl Ownership {
    /// Longest name of a node, in bytes.
    pub const MAX_NAME_LEN: usize = MAX_NODE_NAME_LEN;
    /// Most spans of a record.
    pub const MAX_SPANS: usize = 1_024;
    /// A record has fewer bytes than this.
    pub const MAX_LEN: usize = 64 * 1_024;

    /// The first record of a new fleet, version 1: one node owns everything. The fleet gets a random id, which its tickets carry.
    ///
    /// # Errors
    /// [`ShardError::BadName`]; [`Error::Random`].
    pub fn of_one(node: &str) -> Result<Self> {
        check_name(node)?;
        let mut fleet = [0; 16];
        getrandom::fill(&mut fleet).map_err(|error| Error::Random { reason: error.to_string() })?;
        Ok(Self { fleet, version: 1, owners: Pieces::whole(node.to_owned()) })
    }

    /// The first record of a new fleet, version 1: these nodes own equal shares, in this order.
    ///
    /// # Errors
    /// [`ShardError::BadName`]; [`ShardError::RecordTooLarge`] for no node or too many; [`Error::Random`].
    ///
    /// ```
    /// use unlisted::Ownership;
    /// let record = Ownership::of_equals(["a", "b", "c", "d"])?;
    /// assert_eq!(record.spans().map(|(span, _)| span.from()).collect::<Vec<_>>(), [0, 0x4000, 0x8000, 0xc000]);
    /// # Ok::<(), unlisted::Error>(())
    /// ```
    pub fn of_equals<'a>(nodes: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let nodes: Vec<&str> = nodes.into_iter().collect();
        let bad = ShardError::RecordTooLarge { found: nodes.len(), limit: Self::MAX_SPANS };
        let Some(first) = nodes.first().filter(|_| nodes.len() <= Self::MAX_SPANS) else { return Err(bad.into()) };
        let mut record = Self::of_one(first)?;
        let count = nodes.len() as u32;
        for (number, node) in (0_u32..).zip(&nodes) {
            check_name(node)?;
            let from = KeySpan::END * number / count;
            record.owners = record.owners.with(KeySpan::new(from, KeySpan::END)?, &(*node).to_owned());
        }
        Ok(record)
    }

    /// The next record, in which a node owns a span. Who sets it compares with the version of this one.
    ///
    /// # Errors
    /// [`ShardError::BadName`]; [`ShardError::NothingMoves`]; [`ShardError::RecordTooLarge`].
    pub fn moved(&self, span: KeySpan, to: &str) -> Result<Self, ShardError> {
        check_name(to)?;
        if self.owners.all(span, |node| node == to) {
            return Err(ShardError::NothingMoves);
        }
        let owners = self.owners.with(span, &to.to_owned());
        let (found, limit) = (owners.starts().len(), Self::MAX_SPANS);
        if found > limit {
            return Err(ShardError::RecordTooLarge { found, limit });
        }
        Ok(Self { fleet: self.fleet, version: self.version + 1, owners })
    }

    /// How often the record changed, from 1.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Every span and the node that owns it, in order.
    pub fn spans(&self) -> impl Iterator<Item = (KeySpan, &str)> {
        self.owners.iter().map(|(span, node)| (span, node.as_str()))
    }

    /// Does a node own all of a span?
    #[must_use]
    pub fn owns(&self, node: &str, span: KeySpan) -> bool {
        self.owners.all(span, |owner| owner == node)
    }

    /// Does a node own any key of a span?
    pub(crate) fn owns_some(&self, node: &str, span: KeySpan) -> bool {
        self.owners.any(span, |owner| owner == node)
    }

    #[inline]
    pub(crate) fn owner_of(&self, key: Key) -> &str {
        self.owners.at(key).map_or("", String::as_str)
    }

    pub(crate) const fn fleet(&self) -> [u8; 16] {
        self.fleet
    }

    /// The record as bytes: see `docs/FORMAT.md`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.fleet);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&(self.owners.starts().len() as u16).to_le_bytes());
        for (from, node) in self.owners.starts() {
            bytes.extend_from_slice(&from.to_le_bytes());
            // A name has at most 48 bytes.
            bytes.push(node.len() as u8);
            bytes.extend_from_slice(node.as_bytes());
        }
        Self::sealed(&bytes)
    }

    /// With the checksum behind them.
    pub(super) fn sealed(bytes: &[u8]) -> Vec<u8> {
        [bytes, &xxh3_64(bytes).to_le_bytes()].concat()
    }

    /// Reads a record that may be any bytes. The spans of what it returns cover every key once.
    ///
    /// # Errors
    /// [`ShardError::RecordMalformed`], [`ShardError::NewerFormat`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ShardError> {
        let malformed = |reason| ShardError::RecordMalformed { reason };
        if bytes.len() > Self::MAX_LEN {
            return Err(malformed("it is too long"));
        }
        let short = || malformed("it is cut short");
        let (covered, sum) = bytes.split_last_chunk::<SUM_LEN>().ok_or_else(short)?;
        let mut reader = Reader::new(covered);
        if reader.bytes().ok_or_else(short)? != *MAGIC {
            return Err(malformed("its first bytes are something else"));
        }
        match reader.u32().ok_or_else(short)? {
            VERSION => {}
            0 => return Err(malformed("there is no version 0")),
            found => return Err(ShardError::NewerFormat { found, supported: VERSION }),
        }
        if u64::from_le_bytes(*sum) != xxh3_64(covered) {
            return Err(malformed("its checksum does not match"));
        }
        let fleet = reader.bytes().ok_or_else(short)?;
        let version = reader.u64().ok_or_else(short)?;
        if !(1..MAX_VERSION).contains(&version) {
            return Err(malformed("its version is impossible"));
        }
        let count = usize::from(reader.u16().ok_or_else(short)?);
        if count > Self::MAX_SPANS {
            return Err(malformed("it has too many spans"));
        }
        let mut starts = Vec::with_capacity(count);
        for _ in 0..count {
            let from = reader.u16().ok_or_else(short)?;
            let len = usize::from(reader.u8().ok_or_else(short)?);
            let name = reader.some(len).ok_or_else(short)?;
            let name = std::str::from_utf8(name).map_err(|_| malformed("a name is no text"))?;
            check_name(name).map_err(|_| malformed("a name is none of a node"))?;
            starts.push((from, name.to_owned()));
        }
        if !reader.is_at_end() {
            return Err(malformed("bytes are left over"));
        }
        let owners =
            Pieces::from_starts(starts).ok_or_else(|| malformed("its spans do not cover each key once"))?;
        Ok(Self { fleet, version, owners })
    }
}

impl fmt::Debug for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ownership")
            .field("version", &self.version)
            .field("spans", &self.owners.starts().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Ownership {
        let first = Ownership::of_equals(["a", "node-2.example:7001", "c"]).unwrap();
        first.moved(KeySpan::new(0x1000, 0x2000).unwrap(), "c").unwrap()
    }

    #[test]
    fn a_record_is_its_bytes_and_every_other_bytes_are_none() {
        let bytes = record().encode();
        assert_eq!(Ownership::decode(&bytes).unwrap(), record_of(&bytes));
        for len in 0..bytes.len() {
            assert!(Ownership::decode(&bytes[..len]).is_err(), "{len}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(Ownership::decode(&changed).is_err(), "{at}.{bit}");
            }
        }
        assert!(Ownership::decode(&[bytes, vec![0]].concat()).is_err());
        assert!(matches!(
            Ownership::decode(&vec![0; Ownership::MAX_LEN + 1]),
            Err(ShardError::RecordMalformed { reason: "it is too long" })
        ));
    }

    fn record_of(bytes: &[u8]) -> Ownership {
        Ownership::decode(bytes).unwrap()
    }

    #[test]
    fn what_no_writer_writes_is_refused_also_with_a_right_checksum() {
        let bytes = record().encode();
        let change = |at: usize, to: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + to.len()].copy_from_slice(to);
            // With a checksum that is right, so that what it covers is looked at.
            Ownership::decode(&Ownership::sealed(&bytes[..bytes.len() - SUM_LEN]))
        };
        assert!(change(0, b"U").is_ok());
        let newer = change(8, &2_u32.to_le_bytes());
        assert_eq!(newer, Err(ShardError::NewerFormat { found: 2, supported: 1 }));
        for (at, to) in
            [(28, &0_u64.to_le_bytes()[..]), (28, &u64::MAX.to_le_bytes()), (36, &[0xff, 0xff]), (38, &[1])]
        {
            assert!(matches!(change(at, to), Err(ShardError::RecordMalformed { .. })), "{at}");
        }
        // The first name is one letter behind a start and a length.
        assert!(matches!(change(41, b"A"), Err(ShardError::RecordMalformed { .. })));
    }

    #[test]
    fn the_largest_record_is_within_its_bound() {
        let names: Vec<String> =
            (0..Ownership::MAX_SPANS).map(|i| format!("{i:0len$}", len = Ownership::MAX_NAME_LEN)).collect();
        let record = Ownership::of_equals(names.iter().map(String::as_str)).unwrap();
        let bytes = record.encode();
        assert!(bytes.len() < Ownership::MAX_LEN - 4_096, "{}", bytes.len());
        assert_eq!(Ownership::decode(&bytes).unwrap(), record);
        let one_more = record.moved(KeySpan::new(1, 2).unwrap(), "x");
        assert!(matches!(one_more, Err(ShardError::RecordTooLarge { found: 1_026, limit: 1_024 })));
    }

    #[test]
    fn a_move_changes_the_span_and_the_version_and_nothing_else() {
        let span = KeySpan::new(0x1000, 0x2000).unwrap();
        let (before, after) = (Ownership::of_one("a").unwrap(), Ownership::of_one("a").unwrap());
        assert_ne!(before, after, "fleets have ids of their own");
        let after = before.moved(span, "b").unwrap();
        assert_eq!((after.version(), after.fleet()), (2, before.fleet()));
        assert!(after.owns("b", span) && !after.owns_some("a", span) && after.owns_some("a", KeySpan::ALL));
        assert_eq!(after.moved(span, "b"), Err(ShardError::NothingMoves));
        assert_eq!(after.moved(span, "No"), Err(ShardError::BadName));
        let back = after.moved(KeySpan::ALL, "a").unwrap();
        assert_eq!((back.version(), back.spans().count()), (3, 1));
        assert_eq!(format!("{back:?}"), "Ownership { version: 3, spans: 1, .. }");
    }
}
