//! Rows of CSV to listings and changes: which column is which, and what is wrong with a field.

use std::fmt;

use csv::ByteRecord;
use unlisted::{AccountId, Listing, OptIns, PhoneHash, Version};

// Not `crate::`: fuzz targets include this file beside other errors.
use super::error::CliError;
use super::numbers::Numbers;

/// What is wrong with a row. Repeats nothing of it.
#[derive(Debug)]
pub struct Flaw {
    column: Option<&'static str>,
    reason: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "column {column}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl Flaw {
    fn in_column(column: &'static str, reason: impl Into<String>) -> Self {
        Self { column: Some(column), reason: reason.into() }
    }
}

/// Where the columns of a file are.
pub struct Columns {
    header: ByteRecord,
    phone: Phone,
    account: usize,
    opt_ins: usize,
    version: usize,
    /// Only a feed of changes has it.
    op: Option<usize>,
    numbers: Numbers,
}

/// The column that tells the number.
#[derive(Clone, Copy)]
enum Phone {
    Text(usize),
    Hash(usize),
}

const PHONE: &str = "phone";
const PHONE_HASH: &str = "phone_hash";
const ACCOUNT: &str = "account";
const OPT_INS: &str = "opt_ins";
const VERSION: &str = "version";
const OP: &str = "op";

/// What a row of a feed asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Put,
    Remove,
    SetOptIns,
}

impl Columns {
    /// The columns of a file of listings.
    pub fn of_listings(header: ByteRecord, file: &str, numbers: Numbers) -> Result<Self, CliError> {
        Self::of(header, numbers, false).map_err(|problem| CliError::Header { name: file.to_owned(), problem })
    }

    /// The columns of a feed of changes.
    pub fn of_changes(header: ByteRecord, file: &str, numbers: Numbers) -> Result<Self, CliError> {
        Self::of(header, numbers, true).map_err(|problem| CliError::Header { name: file.to_owned(), problem })
    }

    fn of(header: ByteRecord, numbers: Numbers, with_op: bool) -> Result<Self, String> {
        let find = |wanted: &str| -> Result<Option<usize>, String> {
            let mut found = header.iter().enumerate().filter(|(_, name)| name.trim_ascii() == wanted.as_bytes());
            match (found.next(), found.next()) {
                (_, Some(_)) => Err(format!("has the column {wanted} twice")),
                (first, None) => Ok(first.map(|(i, _)| i)),
            }
        };
        let need = |wanted: &str| find(wanted)?.ok_or_else(|| format!("has no column {wanted}"));
        let phone = match (find(PHONE)?, find(PHONE_HASH)?) {
            (Some(_), Some(_)) => return Err(format!("has both {PHONE} and {PHONE_HASH}: expected one of them")),
            (Some(i), None) => Phone::Text(i),
            (None, Some(i)) => Phone::Hash(i),
            (None, None) => return Err(format!("has no column {PHONE} and no column {PHONE_HASH}")),
        };
        let op = if with_op { Some(need(OP)?) } else { None };
        let (account, opt_ins, version) = (need(ACCOUNT)?, need(OPT_INS)?, need(VERSION)?);
        Ok(Self { phone, account, opt_ins, version, op, numbers, header })
    }

    /// The names of all columns, as they are in the file.
    pub fn header(&self) -> &ByteRecord {
        &self.header
    }

    /// Reads a row of a file of listings.
    pub fn listing(&self, row: &ByteRecord) -> Result<Listing, Flaw> {
        self.check_width(row)?;
        Ok(Listing {
            hash: self.hash(row)?,
            account: self.account(row)?,
            opt_ins: self.opt_ins(row)?,
            version: self.version(row)?,
        })
    }

    /// Reads a row of a feed of changes. The opt-ins of a removal are not looked at.
    pub fn change(&self, row: &ByteRecord) -> Result<(Op, Listing), Flaw> {
        self.check_width(row)?;
        let op = match self.op.and_then(|op| row.get(op)).unwrap_or_default() {
            b"put" => Op::Put,
            b"remove" => Op::Remove,
            b"set-opt-ins" => Op::SetOptIns,
            _ => return Err(Flaw::in_column(OP, "expected put, remove or set-opt-ins")),
        };
        let opt_ins = if op == Op::Remove { OptIns::empty() } else { self.opt_ins(row)? };
        let listing =
            Listing { hash: self.hash(row)?, account: self.account(row)?, opt_ins, version: self.version(row)? };
        Ok((op, listing))
    }

    fn check_width(&self, row: &ByteRecord) -> Result<(), Flaw> {
        if row.len() == self.header.len() {
            return Ok(());
        }
        let reason = format!("expected {} fields, found {}", self.header.len(), row.len());
        Err(Flaw { column: None, reason })
    }

    fn hash(&self, row: &ByteRecord) -> Result<PhoneHash, Flaw> {
        match self.phone {
            Phone::Text(at) => {
                let text = text(row, at, PHONE)?;
                self.numbers.hash(text).map_err(|reason| Flaw::in_column(PHONE, reason))
            }
            Phone::Hash(at) => PhoneHash::from_hex(text(row, at, PHONE_HASH)?)
                .map_err(|error| Flaw::in_column(PHONE_HASH, error.to_string())),
        }
    }

    fn account(&self, row: &ByteRecord) -> Result<AccountId, Flaw> {
        let account: Result<AccountId, _> = text(row, self.account, ACCOUNT)?.parse();
        let account = account.map_err(|error| Flaw::in_column(ACCOUNT, error.to_string()))?;
        if account == AccountId::RESERVED {
            return Err(Flaw::in_column(ACCOUNT, "is the one that is reserved: no account may have it"));
        }
        Ok(account)
    }

    fn opt_ins(&self, row: &ByteRecord) -> Result<OptIns, Flaw> {
        // The library's error repeats the name it does not know, which may be a number in the wrong column.
        OptIns::from_names(text(row, self.opt_ins, OPT_INS)?).map_err(|_| {
            let reason = "expected nothing, or names joined by '|' of contact-sync, search, suggestions, payments, \
                          host-1, host-2, mutual";
            Flaw::in_column(OPT_INS, reason)
        })
    }

    fn version(&self, row: &ByteRecord) -> Result<Version, Flaw> {
        let number: Option<u64> = text(row, self.version, VERSION)?.parse().ok();
        number.and_then(|number| Version::new(number).ok()).ok_or_else(|| {
            let most = Version::MAX.get();
            Flaw::in_column(VERSION, format!("expected a whole number of 0 to {most}"))
        })
    }
}

fn text<'a>(row: &'a ByteRecord, at: usize, column: &'static str) -> Result<&'a str, Flaw> {
    std::str::from_utf8(row.get(at).unwrap_or_default()).map_err(|_| Flaw::in_column(column, "is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(header: &[&str]) -> Result<Columns, String> {
        Columns::of(ByteRecord::from(header.to_vec()), Numbers::default(), false)
    }

    #[test]
    fn columns_come_in_any_order() {
        let columns = columns(&["version", "note", " opt_ins", "account", "phone"]).unwrap();
        let row = ByteRecord::from(vec!["7", "anything", "search|payments", "42", "+14155550100"]);
        let listing = columns.listing(&row).unwrap();
        assert_eq!(listing.account, AccountId::from(42));
        assert_eq!(listing.opt_ins, OptIns::SEARCH | OptIns::PAYMENTS);
        assert_eq!(listing.version.get(), 7);
        assert_eq!(listing.hash, PhoneHash::of_e164("+14155550100").unwrap());
    }

    #[test]
    fn a_missing_or_double_column_is_named() {
        for (header, expected) in [
            (vec!["account", "opt_ins", "version"], "has no column phone and no column phone_hash"),
            (vec!["phone", "opt_ins", "version"], "has no column account"),
            (vec!["phone", "account", "version"], "has no column opt_ins"),
            (vec!["phone", "account", "opt_ins"], "has no column version"),
            (vec!["phone", "account", "account", "opt_ins", "version"], "has the column account twice"),
            (vec!["phone", "phone_hash"], "has both phone and phone_hash: expected one of them"),
        ] {
            assert_eq!(columns(&header).err().unwrap(), expected);
        }
    }

    #[test]
    fn flaws_name_the_column_and_repeat_nothing() {
        let columns = columns(&["phone", "account", "opt_ins", "version"]).unwrap();
        for (row, expected) in [
            (vec!["14155550100", "1", "", "1"], "column phone: expected a plus sign"),
            (vec!["+14155550100", "-1", "", "1"], "column account: account id is neither"),
            (vec!["+14155550100", "18446744073709551615", "", "1"], "column account: is the one that is reserved"),
            (vec!["+14155550100", "1", "+14155550100", "1"], "column opt_ins: expected nothing, or names"),
            (vec!["+14155550100", "1", "", "72057594037927936"], "column version: expected a whole number"),
            (vec!["+14155550100", "1", ""], "expected 4 fields, found 3"),
        ] {
            let flaw = columns.listing(&ByteRecord::from(row)).unwrap_err().to_string();
            assert!(flaw.starts_with(expected) && !flaw.contains("4155550100 "), "{flaw}");
        }
        let row = ByteRecord::from(vec![b"+1\xff".as_slice(), b"1", b"", b"1"]);
        assert_eq!(columns.listing(&row).unwrap_err().to_string(), "column phone: is not UTF-8");
    }
}
