//! The manifest of an exported range: the segments that it is, and the changes above them.

use super::bytes::Reader;
use super::span::KeySpan;
use crate::overlay::Change;
use crate::segment::keys::{KeyRange, MIN_KEY_BITS, mask_key};
use crate::words::{AccountId, Entry, Key, ShardKeys, Stamp, split_tag};

const MAGIC: &[u8; 8] = b"UNLSTRNG";
const VERSION: u32 = 1;
/// Bytes of a segment's row, and of a change's.
const FILE_LEN: usize = 65;
const CHANGE_LEN: usize = 49;
/// A watermark has at most so many bytes.
const MAX_WATERMARK_LEN: usize = 4_096;

/// A segment of an exported range. Its file is named by its place in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExportedFile {
    pub(crate) range: KeyRange,
    /// As its header says: which index made it, and as which segment.
    pub(crate) index_id: [u8; 16],
    pub(crate) generation: u64,
    pub(crate) file_len: u64,
    pub(crate) entries: u64,
    /// XXH3-128 of header and footer.
    pub(crate) digest: u128,
}

/// A range at one moment of the index that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    /// Tells one secret from another.
    pub(crate) check_value: [u8; 16],
    pub(crate) fleet: [u8; 16],
    pub(crate) span: KeySpan,
    /// Tripwires that are set in it.
    pub(crate) tripwires: u64,
    /// Where the feed of the index stood.
    pub(crate) watermark: Option<Vec<u8>>,
    pub(crate) files: Vec<ExportedFile>,
    /// Changes that are in no segment.
    pub(crate) changes: Vec<Change>,
}

/// Why bytes are no manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadExport {
    /// Another secret, or another fleet.
    Foreign,
    Malformed(&'static str),
}

impl Export {
    /// The manifest as bytes, with its tag behind them.
    pub(crate) fn seal(&self, keys: &ShardKeys) -> Vec<u8> {
        let mut bytes = self.encode();
        let tag = keys.export_tag(&bytes);
        bytes.extend_from_slice(tag.as_bytes());
        bytes
    }

    /// The bytes that the tag covers.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.check_value);
        bytes.extend_from_slice(&self.fleet);
        bytes.extend_from_slice(&self.span.from().to_le_bytes());
        bytes.extend_from_slice(&self.span.to().to_le_bytes());
        bytes.extend_from_slice(&self.tripwires.to_le_bytes());
        bytes.push(u8::from(self.watermark.is_some()));
        let watermark = self.watermark.as_deref().unwrap_or_default();
        bytes.extend_from_slice(&(watermark.len() as u16).to_le_bytes());
        bytes.extend_from_slice(watermark);
        bytes.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            bytes.extend_from_slice(&file.range.prefix().to_le_bytes());
            bytes.push(file.range.bits());
            bytes.extend_from_slice(&file.index_id);
            for word in [file.generation, file.file_len, file.entries] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.extend_from_slice(&file.digest.to_le_bytes());
        }
        bytes.extend_from_slice(&(self.changes.len() as u64).to_le_bytes());
        for Change { entry, known_bits, removed_at_s } in &self.changes {
            bytes.extend_from_slice(&entry.key.to_bytes());
            bytes.extend_from_slice(&entry.account.to_bytes());
            bytes.extend_from_slice(&entry.stamp.word().to_le_bytes());
            bytes.push(*known_bits);
            bytes.extend_from_slice(&removed_at_s.to_le_bytes());
        }
        bytes
    }

    /// Reads a manifest that may be any bytes, of an index with this check value.
    pub(crate) fn open(bytes: &[u8], check_value: [u8; 16], keys: &ShardKeys) -> Result<Self, BadExport> {
        let (covered, tag) = split_tag(bytes).ok_or(BadExport::Malformed("it is cut short"))?;
        let mut reader = Reader::new(covered);
        check_format(&mut reader)?;
        if reader.bytes().ok_or(BadExport::Malformed("it is cut short"))? != check_value {
            return Err(BadExport::Foreign);
        }
        if keys.export_tag(covered) != tag {
            return Err(BadExport::Malformed("its tag does not match"));
        }
        Self::parse(covered)
    }

    /// Reads what the tag covers. Ranges and changes of what it returns are in the span, and no two ranges overlap.
    pub(crate) fn parse(covered: &[u8]) -> Result<Self, BadExport> {
        let mut reader = Reader::new(covered);
        check_format(&mut reader)?;
        let export =
            Self::fields(&mut reader).ok_or(BadExport::Malformed("a field is impossible or cut short"))?;
        if !reader.is_at_end() {
            return Err(BadExport::Malformed("bytes are left over"));
        }
        let mut spans: Vec<KeySpan> = export.files.iter().map(|file| KeySpan::of_range(file.range)).collect();
        spans.sort_unstable();
        if !spans.is_sorted_by(|one, other| one.to() <= other.from())
            || !spans.iter().all(|span| export.span.covers(*span))
        {
            return Err(BadExport::Malformed("its segments overlap or are not in its span"));
        }
        if !export.changes.iter().all(|change| export.span.contains(change.entry.key)) {
            return Err(BadExport::Malformed("its changes are not in its span"));
        }
        Ok(export)
    }

    fn fields(reader: &mut Reader<'_>) -> Option<Self> {
        let (check_value, fleet) = (reader.bytes()?, reader.bytes()?);
        let span = KeySpan::new(reader.u32()?, reader.u32()?).ok()?;
        let tripwires = reader.u64()?;
        let has_watermark = reader.u8()?;
        let watermark_len = usize::from(reader.u16()?);
        let watermark = match has_watermark {
            0 if watermark_len == 0 => None,
            1 if watermark_len <= MAX_WATERMARK_LEN => Some(reader.some(watermark_len)?.to_vec()),
            _ => return None,
        };
        let files = reader.u32()? as usize;
        // What is not there takes no memory.
        if reader.left() / FILE_LEN < files {
            return None;
        }
        let files = (0..files).map(|_| file(reader)).collect::<Option<_>>()?;
        let changes = usize::try_from(reader.u64()?).ok()?;
        if reader.left() / CHANGE_LEN < changes {
            return None;
        }
        let changes = (0..changes).map(|_| change(reader)).collect::<Option<_>>()?;
        Some(Self { check_value, fleet, span, tripwires, watermark, files, changes })
    }
}

fn check_format(reader: &mut Reader<'_>) -> Result<(), BadExport> {
    if reader.bytes() != Some(*MAGIC) {
        return Err(BadExport::Malformed("its first bytes are something else"));
    }
    if reader.u32() != Some(VERSION) {
        return Err(BadExport::Malformed("this build does not read its version"));
    }
    Ok(())
}

fn file(reader: &mut Reader<'_>) -> Option<ExportedFile> {
    let (prefix, bits) = (reader.u64()?, reader.u8()?);
    let range = KeyRange::new(prefix, bits)?;
    let index_id = reader.bytes()?;
    let (generation, file_len, entries) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let digest = u128::from_le_bytes(reader.bytes()?);
    Some(ExportedFile { range, index_id, generation, file_len, entries, digest })
}

fn change(reader: &mut Reader<'_>) -> Option<Change> {
    let (key, account) = (Key::from_bytes(reader.bytes()?), AccountId::from_bytes(reader.bytes()?));
    let stamp = Stamp::from_word(reader.u64()?)?;
    let (known_bits, removed_at_s) = (reader.u8()?, reader.u64()?);
    let is_sound = (MIN_KEY_BITS..=128).contains(&known_bits) && mask_key(key, known_bits) == key;
    is_sound.then_some(Change { entry: Entry { key, account, stamp }, known_bits, removed_at_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Flags, OptIns, Secret, TAG_LEN, Version};

    fn keys() -> ShardKeys {
        ShardKeys::new(&Secret::from_bytes([7; 32]))
    }

    fn export() -> Export {
        let span = KeySpan::new(0x4000, 0x8000).unwrap();
        let file = |prefix: u64, bits| ExportedFile {
            range: KeyRange::new(prefix << 48, bits).unwrap(),
            index_id: [3; 16],
            generation: 5,
            file_len: 8_192,
            entries: 9,
            digest: 77,
        };
        let entry = Entry::new(
            Key::from_u128(0x4123 << 112),
            AccountId::from(9),
            Version::new(4).unwrap(),
            Flags::live(OptIns::SEARCH),
        );
        Export {
            check_value: [1; 16],
            fleet: [2; 16],
            span,
            tripwires: 3,
            watermark: Some(b"offset 7".to_vec()),
            files: vec![file(0x4000, 3), file(0x6000, 3)],
            changes: vec![Change { entry, known_bits: 128, removed_at_s: 0 }],
        }
    }

    #[test]
    fn a_manifest_is_its_bytes_and_every_other_bytes_are_none() {
        let export = export();
        let bytes = export.seal(&keys());
        let open = |bytes: &[u8]| Export::open(bytes, [1; 16], &keys());
        assert_eq!(open(&bytes), Ok(export.clone()));
        assert_eq!(Export::open(&bytes, [9; 16], &keys()), Err(BadExport::Foreign));
        for len in 0..bytes.len() {
            assert!(open(&bytes[..len]).is_err(), "{len}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(open(&changed).is_err(), "{at}");
            // Without the tag every byte still counts.
            let covered = &changed[..changed.len() - TAG_LEN];
            if let Ok(parsed) = Export::parse(covered) {
                assert_eq!(parsed.encode(), covered, "{at}");
            }
        }
        let nothing = Export { watermark: None, files: Vec::new(), changes: Vec::new(), ..export };
        assert_eq!(open(&nothing.seal(&keys())), Ok(nothing));
    }

    #[test]
    fn what_is_not_in_the_span_is_refused() {
        let refused = |change: fn(&mut Export)| {
            let mut export = export();
            change(&mut export);
            matches!(Export::parse(&export.encode()), Err(BadExport::Malformed(_)))
        };
        assert!(!refused(|_| ()));
        assert!(refused(|export| export.files[1].range = export.files[0].range));
        assert!(refused(|export| export.files[1].range = KeyRange::ALL));
        assert!(refused(|export| export.changes[0].entry.key = Key::from_u128(0)));
        assert!(refused(|export| export.changes[0].known_bits = 71));
        assert!(refused(|export| (export.changes[0].known_bits, export.changes[0].entry.key.lo) = (80, 1)));
        assert!(refused(|export| export.watermark = Some(vec![0; MAX_WATERMARK_LEN + 1])));
    }
}
