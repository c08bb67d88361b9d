//! Rows to bytes and back: the only file that names bincode.
//!
//! bincode 2.0.1 is its last working release and unmaintained (RUSTSEC-2025-0141), so it stays behind these two
//! functions. Rows are enums, whose variant is their version. A limit bounds what a length in the bytes can
//! make it allocate, and bytes left over are an error.

use std::path::Path;

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use bincode::{Decode, Encode};

use crate::words::{Error, Result};

/// Newest version of a row.
const VERSION: u32 = 1;
/// Largest row, in bytes.
const LIMIT: usize = 64 * 1024;

const CONFIG: Configuration<LittleEndian, Varint, Limit<LIMIT>> = standard().with_limit::<LIMIT>();

/// The bytes of a row.
pub(crate) fn encode<T: Encode>(row: &T, table: &'static str, path: &Path) -> Result<Vec<u8>> {
    bincode::encode_to_vec(row, CONFIG).map_err(|_| damaged(table, path, "a row is too large to encode"))
}

/// The row in these bytes.
pub(crate) fn decode<T: Decode<()>>(bytes: &[u8], table: &'static str, path: &Path) -> Result<T> {
    // A row is an enum whose variant, its first byte, is the version of the row, counted from zero.
    if let Some(variant) = bytes.first().copied().filter(|variant| u32::from(*variant) >= VERSION) {
        return Err(Error::NewerFormat {
            path: path.to_owned(),
            found: u32::from(variant) + 1,
            supported: VERSION,
        });
    }
    match bincode::decode_from_slice(bytes, CONFIG) {
        Ok((row, read)) if read == bytes.len() => Ok(row),
        Ok(_) => Err(damaged(table, path, "bytes are left over")),
        Err(_) => Err(damaged(table, path, "it is cut short or too long")),
    }
}

/// Reads a row that may be any bytes, with all checks, and returns the bytes of what was read.
#[cfg(feature = "internals")]
pub(crate) type Reread = fn(&[u8]) -> Result<Vec<u8>>;

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(crate) fn reread<T: Decode<()> + Encode>(bytes: &[u8], table: &'static str, path: &Path) -> Result<Vec<u8>> {
    encode(&decode::<T>(bytes, table, path)?, table, path)
}

fn damaged(table: &'static str, path: &Path, reason: &'static str) -> Error {
    Error::DamagedRow { path: path.to_owned(), table, reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    enum Row {
        V1 { number: u64, bytes: Vec<u8> },
    }

    fn read(bytes: &[u8]) -> Result<Row> {
        decode(bytes, "test", Path::new("file"))
    }

    proptest! {
        #[test]
        fn rows_round_trip(number: u64, bytes: Vec<u8>) {
            let row = Row::V1 { number, bytes };
            let mut encoded = encode(&row, "test", Path::new("file")).unwrap();
            prop_assert_eq!(read(&encoded).unwrap(), row);
            prop_assert!(read(&encoded[..encoded.len() - 1]).is_err());
            encoded.push(0);
            prop_assert!(read(&encoded).is_err());
        }

        #[test]
        fn any_bytes_are_a_row_or_an_error(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn a_row_of_a_later_version_is_told_from_a_damaged_one() {
        assert!(matches!(read(&[1, 1, 0]), Err(Error::NewerFormat { found: 2, supported: 1, .. })));
        assert!(matches!(read(&[0, 1, 9]), Err(Error::DamagedRow { .. })));
        assert!(matches!(read(&[]), Err(Error::DamagedRow { .. })));
    }

    #[test]
    fn a_huge_length_is_an_error_and_not_an_allocation() {
        assert!(read(&[0, 1, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
