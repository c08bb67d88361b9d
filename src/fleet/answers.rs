//! What servers answer, read as input: integers, bytes, and errors that nodes know.

use redis::{RedisError, RedisResult, Value};

use super::server::{Address, refused};
use crate::words::FleetError;

/// What a server's error of the functions means, or what the server itself has against it.
pub(super) fn meaning(error: &RedisError, address: &Address, context: &Context<'_>) -> FleetError {
    let detail = error.detail().unwrap_or_default();
    let number = || detail.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default();
    match error.code() {
        Some("EMPTIED") => FleetError::Emptied { what: context.what.to_owned() },
        Some("FOREIGN") => FleetError::Foreign {
            prefix: context.prefix.to_owned(),
            found: detail.to_owned(),
            own: context.fleet.to_owned(),
        },
        Some("OLDER") => FleetError::NewerQuotas { found: number(), own: context.version },
        Some("CHANGED") => {
            FleetError::RecordChanged { name: context.what.to_owned(), found: number(), expected: context.version }
        }
        Some("DAMAGED") => FleetError::Damaged { what: "ledger", reason: detail.to_owned() },
        _ => refused(address, error),
    }
}

/// What an error is about.
pub(super) struct Context<'a> {
    pub(super) prefix: &'a str,
    pub(super) fleet: &'a str,
    pub(super) version: u64,
    /// What would be gone.
    pub(super) what: &'a str,
}

/// The parts of one answer, in order.
pub(super) struct Parts {
    what: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Parts {
    pub(super) fn new(what: &'static str, value: Value) -> Result<Self, FleetError> {
        match value {
            Value::Array(values) => Ok(Self { what, values: values.into_iter() }),
            _ => Err(damaged(what, "not a list")),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.len() == 0
    }

    pub(super) fn number(&mut self) -> Result<u64, FleetError> {
        number(self.what, self.values.next().unwrap_or_default())
    }

    /// Nothing, or bytes.
    pub(super) fn bytes(&mut self) -> Result<Option<Vec<u8>>, FleetError> {
        match self.values.next() {
            Some(Value::Nil) => Ok(None),
            Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
            Some(Value::SimpleString(text)) => Ok(Some(text.into_bytes())),
            _ => Err(damaged(self.what, "bytes are missing")),
        }
    }

    /// Nothing, or text.
    pub(super) fn text(&mut self) -> Result<Option<String>, FleetError> {
        let text = self.bytes()?.map(String::from_utf8).transpose();
        text.map_err(|_| damaged(self.what, "not text"))
    }

    /// A part that is a list.
    pub(super) fn parts(&mut self) -> Result<Self, FleetError> {
        Self::new(self.what, self.values.next().unwrap_or_default())
    }
}

/// A count, as a number or as digits.
pub(super) fn number(what: &'static str, value: Value) -> Result<u64, FleetError> {
    let number = match value {
        Value::Int(number) => u64::try_from(number).ok(),
        Value::BulkString(digits) => std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok()),
        _ => None,
    };
    number.ok_or_else(|| damaged(what, "a number is missing"))
}

pub(super) fn damaged(what: &'static str, reason: &str) -> FleetError {
    FleetError::Damaged { what, reason: reason.to_owned() }
}

/// The first answers of a call, or why there are none.
pub(super) fn first(
    answers: Vec<RedisResult<Value>>,
    address: &Address,
    context: &Context<'_>,
) -> Result<std::vec::IntoIter<Value>, FleetError> {
    let answers: RedisResult<Vec<Value>> = answers.into_iter().collect();
    answers.map(Vec::into_iter).map_err(|error| meaning(&error, address, context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_what_they_are() {
        let list = vec![Value::Int(7), Value::BulkString(b"8".to_vec()), Value::Nil, Value::Array(vec![])];
        let mut parts = Parts::new("x", Value::Array(list)).unwrap();
        assert_eq!((parts.number().unwrap(), parts.number().unwrap()), (7, 8));
        assert_eq!(parts.text().unwrap(), None);
        assert!(parts.parts().unwrap().is_empty() && parts.is_empty());
        assert!(matches!(parts.number(), Err(FleetError::Damaged { what: "x", .. })));
    }

    #[test]
    fn what_no_server_says_is_damage() {
        assert!(Parts::new("x", Value::Int(1)).is_err());
        for bad in [Value::Nil, Value::Int(-1), Value::BulkString(b"1x".to_vec()), Value::Boolean(true)] {
            assert!(number("x", bad).is_err());
        }
        let mut parts = Parts::new("x", Value::Array(vec![Value::BulkString(vec![0xff]), Value::Int(1)])).unwrap();
        assert!(parts.text().is_err());
        assert!(parts.bytes().is_err());
    }
}
