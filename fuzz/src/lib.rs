//! The bodies of the fuzz targets. `tests/engine/durability/fuzz_corpus.rs` includes this file and replays the corpus through the
//! same functions, so nothing here names libFuzzer.
//!
//! Each takes bytes, which [`input::Input`] turns into values. No crate does that for us: what a byte of the
//! corpus means must not change when a dependency is updated.

mod codec;
mod csv;
mod index;
mod input;
mod ledger;
mod rows;
mod scratch;
mod segment;
mod shards;

pub use codec::codec;
pub use csv::csv_import;
pub use index::index_ops;
pub use ledger::ledger_ops;
pub use rows::{disclosure_log, rows};
pub use segment::{segment_narrow, segment_open, segment_roundtrip};
pub use shards::shards;

/// Any text is a number or an error, and a number is what its own text reads as.
pub fn e164(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(number) = unlisted::E164::parse(&text) {
        let again = unlisted::E164::parse(number.as_str());
        assert_eq!(again, Ok(number), "a canonical number reads as another");
        assert_eq!(unlisted::PhoneHash::of_e164(&text), unlisted::PhoneHash::of_e164(number.as_str()));
    }
    let _ = unlisted::PhoneHash::of_email(&text);
}
