//! Layer 0: the words every other layer speaks. No files, no redb transactions, no threads.

mod account;
mod caller;
mod clock;
mod damage;
mod error;
#[cfg(feature = "valkey")]
mod fleet_error;
mod key;
mod listing;
mod mode;
mod optin;
mod phone_hash;
pub(crate) mod prf;
mod quota;
mod quota_override;
mod secret;
mod shard_error;
mod shard_keys;
mod suspension;
mod tripwire_policy;

pub use account::{AccountId, ParseAccountError};
pub(crate) use caller::check_kind;
pub use caller::{Caller, Origin, OriginError};
pub use clock::{Clock, ManualClock, SystemClock};
pub use damage::Damage;
pub use error::{Error, Result};
#[cfg(feature = "valkey")]
pub use fleet_error::FleetError;
#[cfg(feature = "internals")]
pub(crate) use key::CallerKeys;
pub(crate) use key::{Key, KeyRing};
pub(crate) use listing::{Entry, Flags, Stamp};
pub use listing::{Listing, Version, VersionError};
pub use mode::{DisclosureMode, UnknownMode};
pub use optin::{OptIns, Purpose, UnknownPurpose};
pub use phone_hash::{Domain, EmailError, PhoneHash, PhoneHashError};
pub use quota::{ParseQuotaError, Quota, QuotaPolicy};
pub use quota_override::QuotaOverride;
pub use secret::{Secret, SecretError};
pub(crate) use shard_error::MAX_NODE_NAME_LEN;
pub use shard_error::ShardError;
pub(crate) use shard_keys::{ShardKeys, TAG_LEN, Tag, split_tag};
pub use suspension::Suspension;
pub(crate) use tripwire_policy::TripwireRule;
pub use tripwire_policy::{TripwireAction, TripwirePolicy};
