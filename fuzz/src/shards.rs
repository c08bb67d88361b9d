//! What nodes of a fleet send each other, and the record that they follow: any bytes are one or an error.

use unlisted::internals::{reread_shard_bytes, shard_bytes_pass};

use super::input::Input;

/// What was read and written again is the same bytes, whole: there is one way to say everything. Without a tag nothing passes.
pub fn shards(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let bytes = input.rest();
    if let Some(written) = reread_shard_bytes(kind, bytes) {
        // A record gets its checksum when it is written.
        let covered = if kind.is_multiple_of(4) { &written[..written.len() - 8] } else { &written[..] };
        assert_eq!(covered, bytes, "bytes that are read as something that is written otherwise");
    }
    assert!(!shard_bytes_pass(bytes), "bytes pass that nobody with the secret made");
}
