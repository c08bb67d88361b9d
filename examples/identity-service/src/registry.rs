//! What changes: accounts and addresses by the host's word, findability by the user's.

use std::sync::Arc;

use axum::http::StatusCode;
use parking_lot::Mutex;
use serde::Deserialize;
use unlisted::{AccountId, Caller, Index, OptIns, PhoneHash, UpdateBatch};

use crate::accounts::{Account, Accounts};
use crate::keys::{Address, Digest};
use crate::{Refusal, Session};

/// An account as the host knows it. What is left out stays as it is.
#[derive(Deserialize)]
pub struct NewAccount {
    mxid: String,
    token: Option<String>,
    #[serde(default)]
    addresses: Vec<NewAddress>,
}

/// An address that the host has verified to be the account's. Unless it says so, nobody is found by it.
#[derive(Deserialize)]
struct NewAddress {
    #[serde(flatten)]
    address: Address,
    discoverable: Option<bool>,
}

#[derive(Deserialize)]
pub struct OldAddress {
    mxid: String,
    #[serde(flatten)]
    address: Address,
}

pub struct Registry {
    index: Index,
    accounts: Arc<Accounts>,
    /// One change at a time, so that versions and both stores are in one order.
    turn: Mutex<()>,
}

/// What users get of the registry: their own choices.
#[derive(Clone)]
pub struct Choices(Arc<Registry>);

impl Choices {
    /// Lets others find an account by one of its addresses, or no longer: holds from the next lookup on when this returns.
    pub fn set_discoverable(&self, session: &Session, address: &Address, on: bool) -> Result<(), Refusal> {
        let registry = &self.0;
        let hash = registry.accounts.keys.hash(address)?;
        let _turn = registry.turn.lock();
        // Somebody else's address and nobody's are the same.
        if registry.accounts.owner(registry.accounts.keys.address(&hash))? != Some(session.account) {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", "none of your addresses"));
        }
        registry.update(|batch, version| batch.set_opt_ins(hash, session.account, opt_ins(on), version))
    }
}

impl Registry {
    pub fn new(index: Index, accounts: Arc<Accounts>) -> Arc<Self> {
        Arc::new(Self { index, accounts, turn: Mutex::default() })
    }

    pub fn choices(self: &Arc<Self>) -> Choices {
        Choices(self.clone())
    }

    /// Adds accounts or what is new of them. The owner of an address is known before it can be found.
    pub fn put(&self, accounts: &[NewAccount]) -> Result<(), Refusal> {
        let mut listings = Vec::new();
        let mut rows = Vec::with_capacity(accounts.len());
        for new in accounts {
            rows.push(self.row(new, &mut listings)?);
        }
        let _turn = self.turn.lock();
        if !self.accounts.put(&rows)? {
            let error = "an address is another account's: nothing was added";
            return Err(Refusal::new(StatusCode::CONFLICT, "M_THREEPID_IN_USE", error));
        }
        self.update(|batch, version| {
            listings.iter().try_for_each(|(hash, id, on)| batch.put(*hash, *id, opt_ins(*on), version))
        })
    }

    fn row(&self, new: &NewAccount, listings: &mut Vec<(PhoneHash, AccountId, bool)>) -> Result<Account, Refusal> {
        let is_mxid = new.mxid.starts_with('@') && new.mxid.contains(':') && new.mxid.len() <= 255;
        if !is_mxid {
            return Err(Refusal::invalid_param("expected a Matrix user id such as @ada:example.org"));
        }
        let id = self.accounts.keys.account(&new.mxid);
        let mut addresses = Vec::with_capacity(new.addresses.len());
        for NewAddress { address, discoverable } in &new.addresses {
            let hash = self.accounts.keys.hash(address)?;
            addresses.push(self.accounts.keys.address(&hash));
            listings.extend(discoverable.map(|on| (hash, id, on)));
        }
        Ok(Account {
            id,
            mxid: new.mxid.clone(),
            caller: self.index.inspector().token_of(&Caller::of_account(id)),
            token: new.token.as_deref().map(|token| self.accounts.keys.token(token)),
            addresses,
        })
    }

    /// Ends sessions.
    pub fn remove_tokens(&self, tokens: &[String]) -> Result<(), Refusal> {
        let digests: Vec<Digest> = tokens.iter().map(|token| self.accounts.keys.token(token)).collect();
        Ok(self.accounts.remove_tokens(&digests)?)
    }

    /// Takes addresses from accounts that have them. They are hidden before their owner is forgotten.
    pub fn remove_addresses(&self, old: &[OldAddress]) -> Result<(), Refusal> {
        let _turn = self.turn.lock();
        let mut gone: Vec<(PhoneHash, AccountId, Digest)> = Vec::with_capacity(old.len());
        for OldAddress { mxid, address } in old {
            let (hash, id) = (self.accounts.keys.hash(address)?, self.accounts.keys.account(mxid));
            let digest = self.accounts.keys.address(&hash);
            if self.accounts.owner(digest)? == Some(id) {
                gone.push((hash, id, digest));
            }
        }
        self.update(|batch, version| gone.iter().try_for_each(|(hash, id, _)| batch.remove(*hash, *id, version)))?;
        let digests: Vec<Digest> = gone.iter().map(|(_, _, digest)| *digest).collect();
        Ok(self.accounts.remove_addresses(&digests)?)
    }

    /// Erases accounts: who was shown them, and whom they looked for. What they spent stays spent, should they come back.
    pub fn remove(&self, mxids: &[String]) -> Result<(), Refusal> {
        let ids: Vec<_> = mxids.iter().map(|mxid| self.accounts.keys.account(mxid)).collect();
        let _turn = self.turn.lock();
        self.index.erase_accounts(&ids)?;
        ids.iter().try_for_each(|id| self.index.forget_caller(&Caller::of_account(*id)))?;
        Ok(self.accounts.remove(&ids)?)
    }

    /// Numbers that nobody has.
    pub fn set_tripwires(&self, addresses: &[Address]) -> Result<usize, Refusal> {
        let hashes =
            addresses.iter().map(|address| self.accounts.keys.hash(address)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.index.set_tripwires(hashes)?)
    }

    /// Each change gets the next version, which the index keeps in the same transaction.
    fn update(&self, fill: impl FnOnce(&mut UpdateBatch, u64) -> unlisted::Result<()>) -> Result<(), Refusal> {
        let last = self.index.watermark().and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        let version = last + 1;
        self.index.update(|batch| {
            fill(batch, version)?;
            batch.watermark(version.to_le_bytes())
        })?;
        Ok(())
    }
}

fn opt_ins(discoverable: bool) -> OptIns {
    if discoverable { OptIns::CONTACT_SYNC } else { OptIns::empty() }
}
