//! Who is answered to whom, and what nobody can tell from an answer.

mod concurrent;
mod disclosure_modes;
mod disclosures;
mod e164;
mod model;
mod mutual;
mod oracle;
mod privacy;
mod public_api;
