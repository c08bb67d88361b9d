//! What the feed carries.

use redis::streams::StreamId;
use unlisted::{AccountId, OptIns, PhoneHash};

use crate::Error;

/// A change of the host's accounts. Versions are the host's: they order all changes of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// What an account agrees to be found for by a number; nothing at all hides it.
    Set { number: PhoneHash, account: AccountId, opt_ins: OptIns, version: u64 },
    /// The account no longer has the number.
    Remove { number: PhoneHash, account: AccountId, version: u64 },
    /// The account is gone.
    Erase { account: AccountId, version: u64 },
}

impl Change {
    /// The fields of an entry.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        let hex = |number: &PhoneHash| number.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Set { number, account, opt_ins, version } => vec![
                ("change", "set".to_owned()),
                ("number", hex(number)),
                ("account", account.to_string()),
                ("opt_ins", opt_ins.to_string()),
                ("version", version.to_string()),
            ],
            Self::Remove { number, account, version } => vec![
                ("change", "remove".to_owned()),
                ("number", hex(number)),
                ("account", account.to_string()),
                ("version", version.to_string()),
            ],
            Self::Erase { account, version } => vec![
                ("change", "erase".to_owned()),
                ("account", account.to_string()),
                ("version", version.to_string()),
            ],
        }
    }

    /// Reads an entry. One that cannot be read is an error and nothing to leave out: it may be somebody's opt-out.
    pub(crate) fn read(entry: &StreamId) -> Result<Self, Error> {
        let flawed = |what: String| Error::Entry { id: entry.id.clone(), what };
        let field = |name: &str| {
            entry
                .get::<String>(name)
                .ok_or_else(|| flawed(format!("it has no field {name}, or one that is no text")))
        };
        // What is said of a number that cannot be read is how it is wrong, and not what it is.
        let number =
            || PhoneHash::from_hex(&field("number")?).map_err(|error| flawed(format!("its number: {error}")));
        let account =
            || field("account")?.parse::<AccountId>().map_err(|error| flawed(format!("its account: {error}")));
        let version = || field("version")?.parse::<u64>().map_err(|error| flawed(format!("its version: {error}")));
        match field("change")?.as_str() {
            "set" => {
                let opt_ins = OptIns::from_names(&field("opt_ins")?);
                let opt_ins = opt_ins.map_err(|error| flawed(format!("its opt-ins: {error}")))?;
                Ok(Self::Set { number: number()?, account: account()?, opt_ins, version: version()? })
            }
            "remove" => Ok(Self::Remove { number: number()?, account: account()?, version: version()? }),
            "erase" => Ok(Self::Erase { account: account()?, version: version()? }),
            other => Err(flawed(format!("it is a {other:?}"))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::collections::HashMap;

    use redis::Value;

    use super::*;

    fn entry(fields: &[(&str, String)]) -> StreamId {
        let map: HashMap<_, _> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::BulkString(value.clone().into_bytes())))
            .collect();
        StreamId { id: "7-0".to_owned(), map, ..StreamId::default() }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_not_is_named() {
        let (number, account) = (PhoneHash::from_bytes([0xab; 32]), AccountId::from(42));
        let opt_ins = OptIns::CONTACT_SYNC | OptIns::SEARCH;
        for change in [
            Change::Set { number, account, opt_ins, version: 7 },
            Change::Set { number, account, opt_ins: OptIns::empty(), version: 8 },
            Change::Remove { number, account, version: 9 },
            Change::Erase { account, version: 10 },
        ] {
            let fields = change.fields();
            assert_eq!(Change::read(&entry(&fields)).unwrap(), change);
            for missing in 0..fields.len() {
                let mut fields = fields.clone();
                let (name, _) = fields.remove(missing);
                let error = Change::read(&entry(&fields)).unwrap_err().to_string();
                assert!(error.contains("7-0") && error.contains(name), "{error}");
                fields.push((name, "x1".to_owned()));
                let error = Change::read(&entry(&fields)).unwrap_err();
                assert!(matches!(error, Error::Entry { .. }), "{error}");
            }
        }
    }
}
