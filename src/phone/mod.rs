//! Telephone numbers: the text a person or a file holds, turned into one canonical E.164 number.
//!
//! Two people find each other only if both sides hash the same text, so every written form of a number has to end
//! as the same characters: a plus sign and at most 15 ASCII digits. [`E164::parse`] does that for numbers written in
//! international form. It knows the rules of writing, not the numbering plans of the world: it holds no country table
//! and therefore cannot tell an assigned number from an unassigned one.
//!
//! A number in national form, such as `0171 2345678`, means something only together with a region. Behind the cargo
//! feature `national`, `parse_national` reads those with libphonenumber's metadata.
//!
//! Telephone numbers are personal data. No error of this module repeats its input, and the `Debug` form of [`E164`]
//! does not show the number.

mod chars;
mod e164;
#[cfg(feature = "national")]
mod national;
mod scan;

pub use e164::{E164, E164Error};
#[cfg(feature = "national")]
pub use national::{NationalError, parse_national};
