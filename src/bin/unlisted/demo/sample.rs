//! The shipped sample, and what is true about it without asking the index.

use std::collections::{BTreeMap, HashMap, HashSet};

use flate2::read::GzDecoder;
use serde::Deserialize;
use unlisted::{AccountId, E164, Listing, OptIns, PhoneHash, Purpose, Version};

use crate::commands::generate::SplitMix;
use crate::csv_blocks::{Blocks, RowReader};
use crate::csv_rows::Columns;
use crate::error::CliError;
use crate::numbers::Numbers;

/// Rows of a synthetic population, made from real numbering plans.
const LISTINGS: &[u8] = include_bytes!("../sample/listings.csv.gz");
/// Address books of some of the people in it, as they typed them.
const ADDRESS_BOOKS: &[u8] = include_bytes!("../sample/address_books.jsonl.gz");

/// What an account agreed to, and since which version.
type Held = BTreeMap<AccountId, (Version, OptIns)>;

pub struct Sample {
    pub listings: Vec<Listing>,
    pub books: Vec<Book>,
    phones: Vec<E164>,
    truth: HashMap<PhoneHash, Held>,
}

/// One person's contacts.
#[derive(Deserialize)]
pub struct Book {
    pub caller: String,
    pub network: String,
    pub region: String,
    pub contacts: Vec<String>,
}

impl Book {
    /// The contacts that are telephone numbers, in their order.
    pub fn hashes(&self) -> Vec<PhoneHash> {
        self.contacts.iter().filter_map(|text| PhoneHash::of_e164(text).ok()).collect()
    }
}

impl Sample {
    pub fn read() -> Result<Self, CliError> {
        let mut sample =
            Self { listings: Vec::new(), books: read_books()?, phones: Vec::new(), truth: HashMap::new() };
        let mut blocks = Blocks::new(GzDecoder::new(LISTINGS), "the sample".to_owned());
        let mut reader = RowReader::new();
        let header = blocks.header(&mut reader)?;
        let columns = Columns::of_listings(header.clone(), blocks.name(), Numbers::default())?;
        let phone_at = header.iter().position(|name| name == b"phone").unwrap_or_default();
        while let Some(block) = blocks.next_block()? {
            reader.rows(&block, |row, _| {
                let listing = columns.listing(row).map_err(|flaw| CliError::Sample(flaw.to_string()))?;
                let phone = row.get(phone_at).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
                sample.phones.push(E164::parse(phone).map_err(unlisted::Error::from)?);
                sample.add(listing);
                Ok::<_, CliError>(())
            })?;
        }
        Ok(sample)
    }

    fn add(&mut self, listing: Listing) {
        self.listings.push(listing);
        let held = self.truth.entry(listing.hash).or_default();
        let known = held.entry(listing.account).or_insert((listing.version, listing.opt_ins));
        if listing.version > known.0 {
            *known = (listing.version, listing.opt_ins);
        }
    }

    /// Which accounts a lookup for contact sync must name, by position.
    pub fn expected(&self, hashes: &[PhoneHash]) -> Vec<(usize, AccountId)> {
        let mut matches = Vec::new();
        for (position, hash) in hashes.iter().enumerate() {
            let held = self.truth.get(hash).into_iter().flatten();
            let open = held.filter(|(_, (_, opt_ins))| opt_ins.allows(Purpose::ContactSync));
            matches.extend(open.map(|(account, _)| (position, *account)));
        }
        matches
    }

    /// Does an account have this number, and did none of those that have it agree to be found by contact sync?
    pub fn is_hidden(&self, hash: &PhoneHash) -> bool {
        self.truth
            .get(hash)
            .is_some_and(|held| held.values().all(|(_, opt_ins)| !opt_ins.allows(Purpose::ContactSync)))
    }

    /// The version that the listing of a phone and an account has.
    pub fn version(&self, hash: &PhoneHash, account: AccountId) -> Option<Version> {
        self.truth.get(hash)?.get(&account).map(|(version, _)| *version)
    }

    /// Notes that an account no longer agrees to anything.
    pub fn opt_out(&mut self, hash: &PhoneHash, account: AccountId) {
        if let Some((_, opt_ins)) = self.truth.get_mut(hash).and_then(|held| held.get_mut(&account)) {
            *opt_ins = OptIns::empty();
        }
    }

    /// What somebody would generate who knows where numbers in use are dense: every listed number, three neighbours
    /// of each, and no order in it.
    pub fn guesses(&self) -> Vec<PhoneHash> {
        let mut seen = HashSet::new();
        let mut guesses = Vec::new();
        for phone in &self.phones {
            let Ok(number) = phone.as_str().trim_start_matches('+').parse::<u64>() else { continue };
            let near = (number..number + 4).filter_map(|number| PhoneHash::of_e164(&format!("+{number}")).ok());
            guesses.extend(near.filter(|hash| seen.insert(*hash)));
        }
        let mut random = SplitMix(2026);
        for last in (1..guesses.len()).rev() {
            let other = random.below(last as u64 + 1) as usize;
            guesses.swap(last, other);
        }
        guesses
    }
}

fn read_books() -> Result<Vec<Book>, CliError> {
    let rows = serde_json::Deserializer::from_reader(GzDecoder::new(ADDRESS_BOOKS)).into_iter();
    rows.collect::<Result<_, _>>().map_err(|error| CliError::Sample(error.to_string()))
}
