//! The bytes of a log: a header, frames, and a footer once it is sealed.

use std::path::Path;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::row::{Group, MAX_ORIGINS, Origins, Token};
use crate::words::{AccountId, Damage, Error, Result};

pub(super) const HEADER_LEN: usize = 64;
pub(super) const FOOTER_LEN: usize = 64;
/// Newest version of logs that this build reads, and the one that it writes. Those of version 1 have no frames of short accounts.
const LOG_VERSION: u32 = 2;
/// Newest version of everything else.
pub(super) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"UNLSTDLG";
const END_MAGIC: &[u8; 8] = b"GLDTSLNU";
/// Accounts of one frame; a lookup that shows more writes several.
pub(super) const MAX_ACCOUNTS: usize = 1 << 16;
/// Bytes before the origins, and the checksum behind the accounts.
const FIXED_LEN: usize = 40;
pub(super) const SUM_LEN: usize = 8;
/// Frames begin at multiples of this, which makes it cheap to look for one behind damage.
const ALIGN: usize = 8;

pub(super) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}

pub(super) fn damaged(path: &Path, offset: u64, what: Damage) -> Error {
    Error::Damaged { path: path.to_owned(), offset, what }
}

fn too_short(path: &Path, expected: usize, found: usize) -> Error {
    damaged(path, 0, Damage::Length { expected: expected as u64, found: found as u64 })
}

/// Checks magic, version, index and checksum of a header that both kinds of files begin with alike; returns the
/// header's checksum.
pub(super) fn check_header(
    path: &Path,
    bytes: &[u8],
    (magic, newest): (&[u8; 8], u32),
    len: usize,
    id: &[u8; 16],
) -> Result<u64> {
    let short = || too_short(path, len, bytes.len());
    if bytes_at::<8>(bytes, 0).ok_or_else(short)? != *magic {
        return Err(Error::ForeignFormat { path: path.to_owned(), expected: "a file of the disclosure log" });
    }
    let version = u32::from_le_bytes(bytes_at(bytes, 8).ok_or_else(short)?);
    if version > newest {
        return Err(Error::NewerFormat { path: path.to_owned(), found: version, supported: newest });
    }
    let sum = xxh3_64(bytes.get(..len - SUM_LEN).ok_or_else(short)?);
    if u64_at(bytes, len - SUM_LEN).ok_or_else(short)? != sum {
        return Err(damaged(path, 0, Damage::Checksum { of: "the header" }));
    }
    if bytes_at::<16>(bytes, 16).ok_or_else(short)? != *id {
        return Err(Error::DisclosuresForeign { path: path.to_owned() });
    }
    Ok(sum)
}

/// Which log a file is. Its checksum salts those of the frames, so that no frame of another file, and none from
/// another place of the same one, passes.
pub(super) struct LogHeader {
    pub(super) seq: u64,
    pub(super) salt: u64,
    /// May its frames have short accounts?
    pub(super) has_short: bool,
}

impl LogHeader {
    pub(super) fn encode(index_id: &[u8; 16], seq: u64) -> ([u8; HEADER_LEN], Self) {
        let mut bytes = [0; HEADER_LEN];
        let version = u64::from(LOG_VERSION).to_le_bytes();
        put(&mut bytes, &[MAGIC, &version, index_id, &seq.to_le_bytes()]);
        let salt = xxh3_64(bytes.split_at(HEADER_LEN - SUM_LEN).0);
        bytes.split_at_mut(HEADER_LEN - SUM_LEN).1.copy_from_slice(&salt.to_le_bytes());
        (bytes, Self { seq, salt, has_short: true })
    }

    pub(super) fn decode(path: &Path, bytes: &[u8], index_id: &[u8; 16]) -> Result<Self> {
        let salt = check_header(path, bytes, (MAGIC, LOG_VERSION), HEADER_LEN, index_id)?;
        let short = || too_short(path, HEADER_LEN, bytes.len());
        let seq = u64_at(bytes, 32).ok_or_else(short)?;
        let version = bytes_at(bytes, 8).map(u32::from_le_bytes).ok_or_else(short)?;
        Ok(Self { seq, salt, has_short: version >= LOG_VERSION })
    }
}

/// Writes parts one behind the other.
pub(super) fn put(to: &mut [u8], parts: &[&[u8]]) {
    let from = parts.iter().flat_map(|part| part.iter());
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

/// What a sealed log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) rows: u64,
    pub(super) frames: u64,
    /// Earliest and latest time of a frame.
    pub(super) first_ms: u64,
    pub(super) last_ms: u64,
}

impl Totals {
    pub(super) const NONE: Self = Self { rows: 0, frames: 0, first_ms: u64::MAX, last_ms: 0 };

    pub(super) fn add(&mut self, rows: usize, at_ms: u64) {
        self.rows += rows as u64;
        self.frames += 1;
        self.first_ms = self.first_ms.min(at_ms);
        self.last_ms = self.last_ms.max(at_ms);
    }

    /// The footer of a log that ends at `at`.
    pub(super) fn encode(&self, at: u64, salt: u64) -> [u8; FOOTER_LEN] {
        let mut bytes = [0; FOOTER_LEN];
        let words = [self.rows, self.frames, self.first_ms, self.last_ms, at].map(u64::to_le_bytes);
        put(&mut bytes, &[END_MAGIC, words.as_flattened()]);
        let sum = xxh3_64_with_seed(bytes.split_at(FOOTER_LEN - SUM_LEN).0, salt ^ at);
        bytes.split_at_mut(FOOTER_LEN - SUM_LEN).1.copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The totals, if these bytes are the footer of a log that ends at `at`.
    pub(super) fn decode(bytes: &[u8], at: u64, salt: u64) -> Option<Self> {
        let sum = xxh3_64_with_seed(bytes.get(..FOOTER_LEN - SUM_LEN)?, salt ^ at);
        let word = |i: usize| u64_at(bytes, 8 * i);
        let right = bytes.len() == FOOTER_LEN
            && bytes_at(bytes, 0)? == *END_MAGIC
            && word(5)? == at
            && word(FOOTER_LEN / 8 - 1)? == sum;
        right.then_some(Self { rows: word(1)?, frames: word(2)?, first_ms: word(3)?, last_ms: word(4)? })
    }
}

/// What one lookup disclosed, or a part of it.
pub(super) struct Frame<'a> {
    pub(super) group: Group,
    pub(super) at_ms: u64,
    /// How much of the file was on the device when this was written.
    pub(super) synced: u64,
    accounts: &'a [u8],
    /// Bytes of an account.
    pub(super) account_len: usize,
    /// Offset behind the frame.
    pub(super) end: usize,
}

/// Bytes of an account, and of one where all of a frame are a `u64`.
const ACCOUNT_LEN: usize = 16;
const SHORT_ACCOUNT_LEN: usize = 8;

/// An account of a frame, by its bytes.
pub(super) fn account_of(bytes: &[u8]) -> Option<AccountId> {
    let short = || bytes.first_chunk().map(|short| AccountId::from(u64::from_be_bytes(*short)));
    bytes.first_chunk().map(|bytes| AccountId::from_bytes(*bytes)).or_else(short)
}

impl<'a> Frame<'a> {
    pub(super) const fn rows(&self) -> usize {
        self.accounts.len() / self.account_len
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = AccountId> + use<'a> {
        self.accounts.chunks_exact(self.account_len).filter_map(account_of)
    }
}

/// Bytes of a frame of so many accounts, if they are short or not.
pub(super) const fn frame_len(origins: usize, accounts: usize, is_short: bool) -> usize {
    let account_len = if is_short { SHORT_ACCOUNT_LEN } else { ACCOUNT_LEN };
    FIXED_LEN + 16 * origins + account_len * accounts + SUM_LEN
}

/// Does a frame say so of its accounts?
pub(super) const fn is_short(byte: u8) -> bool {
    byte == 1
}

/// Where a frame stands and what it knows of its file.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) salt: u64,
    pub(super) synced: u64,
    /// May it have short accounts?
    pub(super) has_short: bool,
}

/// Appends one frame of at most [`MAX_ACCOUNTS`] accounts to `buffer`, short ones if each is a `u64`; returns how many there
/// were.
pub(super) fn encode(
    buffer: &mut Vec<u8>,
    place: Place,
    group: &Group,
    at_ms: u64,
    accounts: impl Iterator<Item = AccountId> + Clone,
) -> usize {
    let accounts = accounts.take(MAX_ACCOUNTS);
    let is_short = place.has_short && accounts.clone().all(|account| account.as_u64().is_some());
    let start = buffer.len();
    let origins = group.origins.tokens();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&[origins.len() as u8, group.purpose, u8::from(is_short), 0]);
    buffer.extend_from_slice(&at_ms.to_le_bytes());
    buffer.extend_from_slice(&place.synced.to_le_bytes());
    buffer.extend_from_slice(&group.caller);
    buffer.extend_from_slice(origins.as_flattened());
    let mut rows = 0_u32;
    for account in accounts {
        match account.as_u64().filter(|_| is_short) {
            Some(short) => buffer.extend_from_slice(&short.to_be_bytes()),
            None => buffer.extend_from_slice(&account.to_bytes()),
        }
        rows += 1;
    }
    let frame = buffer.get_mut(start..).unwrap_or_default();
    put(frame, &[&rows.to_le_bytes()]);
    let sum = xxh3_64_with_seed(frame, place.salt ^ place.at);
    buffer.extend_from_slice(&sum.to_le_bytes());
    rows as usize
}

/// The frame at an offset of a log; `None` if there is none.
pub(super) fn decode(bytes: &[u8], at: usize, salt: u64) -> Option<Frame<'_>> {
    let tail = bytes.get(at..)?;
    let rows = u32::from_le_bytes(bytes_at(tail, 0)?) as usize;
    let [origins, purpose, short @ 0..=1, 0] = bytes_at(tail, 4)? else { return None };
    let (origins, is_short) = (usize::from(origins), is_short(short));
    if rows == 0 || rows > MAX_ACCOUNTS || origins > MAX_ORIGINS {
        return None;
    }
    let frame = tail.get(..frame_len(origins, rows, is_short))?;
    let (summed, sum) = frame.split_at(frame.len() - SUM_LEN);
    if xxh3_64_with_seed(summed, salt ^ at as u64) != u64_at(sum, 0)? {
        return None;
    }
    let (origins, accounts) = summed.get(FIXED_LEN..)?.split_at_checked(16 * origins)?;
    let (origins, _): (&[Token], _) = origins.as_chunks();
    let group = Group { caller: bytes_at(tail, 24)?, origins: Origins::new(origins.iter().copied()), purpose };
    let (at_ms, synced) = (u64_at(tail, 8)?, u64_at(tail, 16)?);
    let account_len = if is_short { SHORT_ACCOUNT_LEN } else { ACCOUNT_LEN };
    Some(Frame { group, at_ms, synced, accounts, account_len, end: at + frame.len() })
}

/// Is there a frame behind `bad` that says that the log was on the device beyond it? Then what is at `bad` was
/// damaged, and is not merely what a power failure left of the last frames.
pub(super) fn is_vouched_for(bytes: &[u8], bad: usize, salt: u64) -> bool {
    let mut at = bad.next_multiple_of(ALIGN);
    while at + FIXED_LEN <= bytes.len() {
        match decode(bytes, at, salt) {
            Some(frame) if frame.synced > bad as u64 => return true,
            Some(frame) => at = frame.end,
            None => at += ALIGN,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [7; 16];

    fn group(origins: &[Token]) -> Group {
        Group { caller: [1; 16], origins: Origins::new(origins.iter().copied()), purpose: 3 }
    }

    fn account(number: u64) -> AccountId {
        if number == 3 { AccountId::from_bytes([9; 16]) } else { AccountId::from(number) }
    }

    /// A log with two frames; where the second begins.
    fn log() -> (Vec<u8>, usize, u64) {
        let (header, LogHeader { salt, .. }) = LogHeader::encode(&ID, 5);
        let mut bytes = header.to_vec();
        let mut second = 0;
        for (i, origins) in [&[[2; 16], [3; 16]][..], &[]].into_iter().enumerate() {
            second = bytes.len();
            let place = Place { at: second as u64, salt, synced: 64, has_short: true };
            // The accounts of the first are short, of the second not all are.
            let accounts = (0..3 + i as u64).map(account);
            encode(&mut bytes, place, &group(origins), 1_000 + i as u64, accounts);
        }
        (bytes, second, salt)
    }

    #[test]
    fn frames_round_trip() {
        let (bytes, second, salt) = log();
        let frame = decode(&bytes, HEADER_LEN, salt).unwrap();
        assert_eq!((frame.end, frame.at_ms, frame.synced, frame.rows()), (second, 1_000, 64, 3));
        assert_eq!(frame.group, group(&[[3; 16], [2; 16]]));
        assert_eq!(frame.end - HEADER_LEN, frame_len(2, 3, true));
        assert!(frame.accounts().eq((0..3).map(account)));
        let frame = decode(&bytes, second, salt).unwrap();
        assert_eq!((frame.end, frame.group), (bytes.len(), group(&[])));
        assert_eq!((frame.end - second, frame.rows()), (frame_len(0, 4, false), 4));
        assert!(frame.accounts().eq((0..4).map(account)));
        assert!(decode(&bytes, bytes.len(), salt).is_none());
        let header = LogHeader::decode(Path::new("log"), &bytes, &ID).unwrap();
        assert_eq!((header.seq, header.salt, header.has_short), (5, salt, true));
        let mut version_1 = bytes.clone();
        version_1[8] = 1;
        let sum = xxh3_64(&version_1[..HEADER_LEN - SUM_LEN]);
        version_1[HEADER_LEN - SUM_LEN..HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
        assert!(!LogHeader::decode(Path::new("log"), &version_1, &ID).unwrap().has_short);
        let place = Place { at: 0, salt, synced: 0, has_short: false };
        let mut frame = Vec::new();
        encode(&mut frame, place, &group(&[]), 5, (0..3).map(account));
        assert_eq!(frame.len(), frame_len(0, 3, false), "as a log of version 1 has them");
        assert!(decode(&frame, 0, salt).unwrap().accounts().eq((0..3).map(account)));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let (bytes, second, salt) = log();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                if at < HEADER_LEN {
                    assert!(LogHeader::decode(Path::new("log"), &bad, &ID).is_err(), "byte {at}");
                } else {
                    let frame = if at < second { HEADER_LEN } else { second };
                    assert!(decode(&bad, frame, salt).is_none(), "byte {at}");
                }
            }
        }
        assert!((second..bytes.len()).all(|len| decode(&bytes[..len], second, salt).is_none()));
        assert!(decode(&bytes, HEADER_LEN, salt ^ 1).is_none(), "a frame of another log");
        let moved = [&bytes[..HEADER_LEN], &bytes[second..]].concat();
        assert!(decode(&moved, HEADER_LEN, salt).is_none(), "a frame from another place");
    }

    #[test]
    fn footers_round_trip_and_are_checked() {
        let mut totals = Totals::NONE;
        totals.add(4, 70);
        totals.add(1, 60);
        let bytes = totals.encode(640, 9);
        assert_eq!(Totals::decode(&bytes, 640, 9), Some(totals));
        assert_eq!((totals.rows, totals.frames, totals.first_ms, totals.last_ms), (5, 2, 60, 70));
        assert!(Totals::decode(&bytes, 641, 9).is_none() && Totals::decode(&bytes, 640, 8).is_none());
        for at in 0..bytes.len() {
            let mut bad = bytes;
            bad[at] ^= 1;
            assert!(Totals::decode(&bad, 640, 9).is_none(), "byte {at}");
        }
        // A footer is no frame.
        assert!(decode(&bytes, 0, 9).is_none());
    }

    #[test]
    fn damage_is_told_from_a_torn_end() {
        let (mut bytes, second, salt) = log();
        let place = Place { at: bytes.len() as u64, salt, synced: second as u64, has_short: false };
        encode(&mut bytes, place, &group(&[]), 5, [AccountId::from(1)].into_iter());
        // The last frame vouches for the first, not for the second.
        assert!(is_vouched_for(&bytes, HEADER_LEN, salt));
        assert!(!is_vouched_for(&bytes, second, salt));
    }
}
