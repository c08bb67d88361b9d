//! What one node of a fleet is: its name, the record it follows, the spans that it holds.

use super::ownership::Ownership;
use super::pieces::Pieces;
use super::span::KeySpan;
use crate::words::{Key, MAX_NODE_NAME_LEN, ShardError};

/// What a node has of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nothing: updates of such keys are left out.
    Nothing,
    /// Updates since some moment, as long as the listings of before are on their way.
    Expected,
    /// As [`Hold::Expected`], and accounts were erased since.
    Spoiled,
    /// All of it.
    Complete,
}

impl Hold {
    /// Every kind, by its number.
    pub(crate) const ALL: [Self; 4] = [Self::Nothing, Self::Expected, Self::Spoiled, Self::Complete];

    /// Its number in files.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Expected => 1,
            Self::Spoiled => 2,
            Self::Complete => 3,
        }
    }

    pub(crate) const fn is_coming(self) -> bool {
        matches!(self, Self::Expected | Self::Spoiled)
    }
}

/// A node as its index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) node: String,
    pub(crate) record: Option<Ownership>,
    pub(crate) holds: Pieces<Hold>,
}

impl Shard {
    /// Has it every listing there is?
    pub(crate) fn is_whole(&self) -> bool {
        self.holds.all(KeySpan::ALL, |hold| *hold == Hold::Complete)
    }

    /// Are there listings on their way?
    pub(crate) fn expects(&self) -> bool {
        self.holds.any(KeySpan::ALL, |hold| hold.is_coming())
    }

    /// Are updates of this key kept?
    pub(crate) fn keeps(&self, key: Key) -> bool {
        self.holds.at(key).is_some_and(|hold| *hold != Hold::Nothing)
    }

    /// Are the listings of this key on their way?
    pub(crate) fn is_coming(&self, key: Key) -> bool {
        self.holds.at(key).is_some_and(|hold| hold.is_coming())
    }

    pub(crate) fn holds(&self, key: Key) -> bool {
        self.holds.at(key) == Some(&Hold::Complete)
    }

    /// The same, with a span held otherwise.
    pub(crate) fn with(&self, span: KeySpan, hold: Hold) -> Self {
        Self { holds: self.holds.with(span, &hold), ..self.clone() }
    }

    /// The record that it follows.
    pub(crate) fn followed(&self) -> Result<&Ownership, ShardError> {
        self.record.as_ref().ok_or(ShardError::NoRecord)
    }
}

/// Is this the name of a node?
pub(crate) fn check_name(name: &str) -> Result<(), ShardError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.:".contains(&b);
    let is_name = (1..=MAX_NODE_NAME_LEN).contains(&name.len()) && name.bytes().all(plain);
    if is_name { Ok(()) } else { Err(ShardError::BadName) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_numbers() {
        for (number, hold) in (0..).zip(Hold::ALL) {
            assert_eq!(hold.number(), number);
        }
    }

    #[test]
    fn names_are_plain() {
        assert!(["a", "node-1.example:7001", &"x".repeat(48)].iter().all(|name| check_name(name).is_ok()));
        assert!(["", "A", "a b", "é", &"x".repeat(49)].iter().all(|name| check_name(name).is_err()));
    }
}
