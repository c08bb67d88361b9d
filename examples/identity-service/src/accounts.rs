//! The service's own small map: whose token, whose address, whose id. It holds no address, no hash and no token, only keyed
//! digests of them, so that a stolen directory says as little as the index's own files do.

use std::collections::HashSet;
use std::path::Path;

use redb::{Database, Error, ReadableDatabase, TableDefinition};
use unlisted::{AccountId, CallerToken};

use crate::keys::{Digest, Keys};

type Id = [u8; 16];
/// The Matrix user that an account of the index is.
const USERS: TableDefinition<Id, &str> = TableDefinition::new("users");
const TOKENS: TableDefinition<Digest, Id> = TableDefinition::new("tokens");
/// An address is one account's.
const ADDRESSES: TableDefinition<Digest, Id> = TableDefinition::new("addresses");
/// By the name that the index's ledger and disclosure log have for a caller.
const CALLERS: TableDefinition<&str, Id> = TableDefinition::new("callers");
const CACHE_BYTES: usize = 64 << 20;

pub struct Accounts {
    db: Database,
    pub keys: Keys,
}

/// What is known of an account.
pub struct Account {
    pub id: AccountId,
    pub mxid: String,
    pub caller: CallerToken,
    pub token: Option<Digest>,
    pub addresses: Vec<Digest>,
}

impl Accounts {
    pub fn open(path: &Path, keys: Keys) -> Result<Self, Error> {
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let txn = db.begin_write()?;
        txn.open_table(USERS)?;
        txn.open_table(TOKENS)?;
        txn.open_table(ADDRESSES)?;
        txn.open_table(CALLERS)?;
        txn.commit()?;
        Ok(Self { db, keys })
    }

    /// The account that a token is for.
    pub fn of_token(&self, token: Digest) -> Result<Option<AccountId>, Error> {
        Ok(self.db.begin_read()?.open_table(TOKENS)?.get(token)?.map(|id| AccountId::from_bytes(id.value())))
    }

    pub fn owner(&self, address: Digest) -> Result<Option<AccountId>, Error> {
        Ok(self.db.begin_read()?.open_table(ADDRESSES)?.get(address)?.map(|id| AccountId::from_bytes(id.value())))
    }

    /// The Matrix users that accounts are, in order.
    pub fn users(&self, ids: impl Iterator<Item = AccountId>) -> Result<Vec<Option<String>>, Error> {
        let users = self.db.begin_read()?.open_table(USERS)?;
        ids.map(|id| Ok(users.get(id.to_bytes())?.map(|mxid| mxid.value().to_owned()))).collect()
    }

    /// The Matrix user that a caller is. For operators.
    pub fn user_of_caller(&self, caller: CallerToken) -> Result<Option<String>, Error> {
        let txn = self.db.begin_read()?;
        let Some(id) = txn.open_table(CALLERS)?.get(caller.to_string().as_str())? else { return Ok(None) };
        Ok(txn.open_table(USERS)?.get(id.value())?.map(|mxid| mxid.value().to_owned()))
    }

    /// Adds accounts, tokens and addresses; all, or none and `false` if an address is somebody else's.
    pub fn put(&self, accounts: &[Account]) -> Result<bool, Error> {
        let txn = self.db.begin_write()?;
        {
            let (mut users, mut tokens) = (txn.open_table(USERS)?, txn.open_table(TOKENS)?);
            let (mut addresses, mut callers) = (txn.open_table(ADDRESSES)?, txn.open_table(CALLERS)?);
            for account in accounts {
                let id = account.id.to_bytes();
                users.insert(id, account.mxid.as_str())?;
                callers.insert(account.caller.to_string().as_str(), id)?;
                if let Some(token) = account.token {
                    tokens.insert(token, id)?;
                }
                for address in &account.addresses {
                    if addresses.insert(*address, id)?.is_some_and(|owner| owner.value() != id) {
                        return Ok(false);
                    }
                }
            }
        }
        txn.commit()?;
        Ok(true)
    }

    pub fn remove_tokens(&self, gone: &[Digest]) -> Result<(), Error> {
        self.remove_from(TOKENS, gone)
    }

    pub fn remove_addresses(&self, gone: &[Digest]) -> Result<(), Error> {
        self.remove_from(ADDRESSES, gone)
    }

    fn remove_from(&self, table: TableDefinition<'_, Digest, Id>, gone: &[Digest]) -> Result<(), Error> {
        let txn = self.db.begin_write()?;
        {
            let mut rows = txn.open_table(table)?;
            for digest in gone {
                rows.remove(*digest)?;
            }
        }
        Ok(txn.commit()?)
    }

    /// Removes accounts with all that belongs to them, by one pass.
    pub fn remove(&self, gone: &[AccountId]) -> Result<(), Error> {
        let gone: HashSet<Id> = gone.iter().map(|id| id.to_bytes()).collect();
        let stays = |id: Id| !gone.contains(&id);
        let txn = self.db.begin_write()?;
        txn.open_table(USERS)?.retain(|id, _| stays(id))?;
        txn.open_table(TOKENS)?.retain(|_, id| stays(id))?;
        txn.open_table(ADDRESSES)?.retain(|_, id| stays(id))?;
        txn.open_table(CALLERS)?.retain(|_, id| stays(id))?;
        Ok(txn.commit()?)
    }
}
