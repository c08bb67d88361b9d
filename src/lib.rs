//! An embedded contact-discovery index.
//!
//! A service links it in and asks: *which of these phone hashes belong to accounts that agreed to be found, and
//! may this caller still ask?* Both halves are answered by one storage engine in one call, so that no endpoint
//! can take the first without the second.
//!
//! ```
//! use unlisted::{AccountId, Caller, Index, OptIns, Options, Origin, PhoneHash, Purpose, Secret};
//!
//! let dir = tempfile::tempdir()?;
//! let secret = Secret::from_hex(&"5e".repeat(32))?; // Secret::from_env("UNLISTED_SECRET")? in a service
//! let index = Index::open(dir.path(), Options::new(secret))?;
//!
//! let (ada, bob) = (PhoneHash::of_e164("+14155550100")?, PhoneHash::of_e164("+14155550101")?);
//! index.update(|batch| {
//!     batch.put(ada, AccountId::from(42), OptIns::CONTACT_SYNC, 1)?;
//!     batch.put(bob, AccountId::from(43), OptIns::empty(), 1) // listed, and found by nobody
//! })?;
//!
//! let caller = Caller::new("user-7").via(Origin::network("198.51.100.7".parse()?));
//! let reply = index.lookup(&caller, Purpose::ContactSync, &[ada, bob])?;
//! let found: Vec<_> = reply.matches().map(|found| (found.position, found.account)).collect();
//! assert_eq!(found, [(0, AccountId::from(42))]);
//! assert_eq!(reply.charged(), 2); // hits, misses and hidden numbers cost the same
//!
//! index.set_opt_ins(ada, AccountId::from(42), OptIns::empty(), 2)?;
//! assert_eq!(index.lookup(&caller, Purpose::ContactSync, &[ada])?.matches().count(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The layers, lowest first; a module imports only from its own layer's named peers or from below:
//! 0 `words`, `phone` · 1 `filter`, `segment`, `overlay`, `quota`, `novelty`, `activity`, `shards` (pure) · 2 `disk`, `database`, `store`,
//! `ledger`, `disclosures`, `fleet` (durable) · 3 `index` (the paths). `docs/ARCHITECTURE.md` says why.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod activity;
mod database;
mod disclosures;
mod disk;
mod filter;
#[cfg(feature = "valkey")]
mod fleet;
mod index;
mod ledger;
mod novelty;
mod overlay;
pub mod phone;
mod prefetch;
mod quota;
mod segment;
mod shards;
mod store;
mod wide;
mod words;

pub use activity::{TopBy, TripwireOdds};
pub use disclosures::DisclosureSync;
#[cfg(feature = "valkey")]
pub use fleet::{Degraded, FleetHealth, FleetOptions};
pub use index::{
    BackupMode, BackupReport, Budget, CallerSignals, CallerToken, CompactionReport, Disclosure, DisclosureQuery,
    Disclosures, Discovery, EraseReport, Event, ExportReport, Exposure, FeedMoment, FoldReport, Held,
    HeldByCaller, HeldRows, ImportProgress, ImportReport, Importer, Index, Inspector, LookupOptions, Match,
    Memory, NumberState, Options, Pending, RangeOutcome, RangeReport, RepairReport, RepairedRange, Reply,
    ScopeBudget, SignalQuery, Standing, Stats, Subject, TopCaller, TopCallers, TopQuery, UpdateBatch,
    UpdateReport, VacuumReport, VerifyDepth, VerifyReport,
};
pub use phone::{E164, E164Error};
#[cfg(feature = "national")]
pub use phone::{NationalError, parse_national};
pub use shards::{KeySpan, Ownership};
#[cfg(feature = "valkey")]
pub use words::FleetError;
pub use words::{
    AccountId, Caller, Clock, Damage, DisclosureMode, Domain, EmailError, Error, Listing, ManualClock, OptIns,
    Origin, OriginError, ParseAccountError, ParseQuotaError, PhoneHash, PhoneHashError, Purpose, Quota,
    QuotaOverride, QuotaPolicy, Result, Secret, SecretError, ShardError, Suspension, SystemClock, TripwireAction,
    TripwirePolicy, UnknownMode, UnknownPurpose, Version, VersionError,
};

/// What benchmarks and fuzz targets of this crate reach past the public interface. No promise holds for it.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;

/// The README's snippets, compiled and run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
