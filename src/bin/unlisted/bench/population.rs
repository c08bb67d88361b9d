//! Listings and numbers made by arithmetic, so that a source is never what is measured.

use unlisted::{AccountId, Index, Listing, OptIns, PhoneHash, Purpose, Version};

use crate::commands::generate::SplitMix;
use crate::error::CliError;

/// What an account id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Accounts {
    /// Eight bytes.
    U64,
    /// Sixteen bytes.
    Uuid,
}

/// The hash of the `i`-th number. Numbers from the count of listings on belong to nobody.
pub fn hash(i: u64) -> PhoneHash {
    let mut random = SplitMix(i.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut bytes = [0; 32];
    for word in bytes.as_chunks_mut::<8>().0 {
        *word = random.next().to_le_bytes();
    }
    PhoneHash::from_bytes(bytes)
}

/// The opt-ins of the `i`-th listing: none for 30 %, otherwise 90 % contact sync and 40 % of each other purpose.
pub fn opt_ins(i: u64) -> OptIns {
    let mut random = SplitMix(i ^ 0x0b5e_55ed);
    let mut opt_ins = OptIns::empty();
    if random.below(100) < 30 {
        return opt_ins;
    }
    for purpose in [Purpose::ContactSync, Purpose::Search, Purpose::Suggestions, Purpose::Payments] {
        let share = if purpose == Purpose::ContactSync { 90 } else { 40 };
        if random.below(100) < share {
            opt_ins |= OptIns::from(purpose);
        }
    }
    opt_ins
}

/// The `i`-th listing.
pub fn listing(i: u64, accounts: Accounts) -> Listing {
    let account = match accounts {
        Accounts::U64 => AccountId::from(SplitMix(i).next() >> 1),
        Accounts::Uuid => {
            let mut random = SplitMix(i);
            AccountId::from_bytes((u128::from(random.next() | 1) << 64 | u128::from(random.next())).to_be_bytes())
        }
    };
    Listing { hash: hash(i), account, opt_ins: opt_ins(i), version: Version::default() }
}

/// Imports the first `count` listings on all cores.
pub fn import(index: &Index, count: u64, accounts: Accounts) -> Result<(), CliError> {
    const CHUNK: u64 = 8_192;
    let importer = index.importer()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        let importer = &importer;
        let work = move |thread: u64| -> Result<(), CliError> {
            let mut rows = Vec::with_capacity(CHUNK as usize);
            for start in (thread * CHUNK..count).step_by((threads * CHUNK) as usize) {
                rows.clear();
                rows.extend((start..count.min(start + CHUNK)).map(|i| listing(i, accounts)));
                importer.add(&rows)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        ended.into_iter().try_for_each(|ended| ended.unwrap_or(Err(CliError::Panicked)))
    })?;
    importer.finish()?;
    Ok(())
}

/// Numbers of lookups: a share of them listed and opted in to contact sync, the others nobody's.
pub fn questions(count: u64, listings: u64, hit_ratio: f64, seed: u64) -> Vec<PhoneHash> {
    let mut random = SplitMix(seed);
    let hits_of_2_32 = (hit_ratio.clamp(0.0, 1.0) * 4_294_967_296.0) as u64;
    let mut question = || {
        if random.below(1 << 32) >= hits_of_2_32 || listings == 0 {
            return hash((1 << 50) + random.below(1 << 50));
        }
        loop {
            let i = random.below(listings);
            if opt_ins(i).allows(Purpose::ContactSync) {
                return hash(i);
            }
        }
    };
    (0..count).map(|_| question()).collect()
}
