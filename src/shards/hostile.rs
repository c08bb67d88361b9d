//! Bytes that may be anything, for fuzz targets: what is read of them is written as it was.

use super::{Answer, Export, Ownership, Ticket};
use crate::words::{Secret, ShardKeys};

/// Most keys of a ticket here.
const MAX_KEYS: usize = 64;

/// Reads bytes as a record, or as what the tag of a ticket, an answer or an exported range covers, and writes what was read.
/// A record gets a checksum that is right.
pub(crate) fn reread(kind: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    match kind % 4 {
        0 => Ownership::decode(&Ownership::sealed(bytes)).ok().map(|record| record.encode()),
        1 => Ticket::parse(bytes, MAX_KEYS).ok().map(|ticket| ticket.encode()),
        2 => Answer::parse(bytes).ok().map(|(answer, ticket)| answer.encode(&ticket)),
        _ => Export::parse(bytes).ok().map(|export| export.encode()),
    }
}

/// Is there a secret's tag on any of it? Nobody finds bytes of which there is.
pub(crate) fn passes(bytes: &[u8]) -> bool {
    let keys = ShardKeys::new(&Secret::from_bytes([7; 32]));
    Ticket::open(bytes, MAX_KEYS, &keys).is_ok()
        || Answer::open(bytes, &keys).is_ok()
        || Export::open(bytes, [0; 16], &keys).is_ok()
}
