//! One disclosure, as every file of the log gives it back.

use crate::words::{AccountId, Caller};

/// The keyed identity of a caller or an origin.
pub(crate) type Token = [u8; 16];

pub(super) const MAX_ORIGINS: usize = Caller::MAX_ORIGINS;

/// The origins that a caller came through: a set, so that the same ones compare equal in whatever order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Origins {
    len: u8,
    tokens: [Token; MAX_ORIGINS],
}

impl Origins {
    /// The set of these tokens. More than [`MAX_ORIGINS`] do not come: a lookup refuses such a caller.
    pub(crate) fn new(tokens: impl IntoIterator<Item = Token>) -> Self {
        let mut set = Self::default();
        for (slot, token) in set.tokens.iter_mut().zip(tokens) {
            *slot = token;
            set.len += 1;
        }
        set.tokens.get_mut(..usize::from(set.len)).unwrap_or_default().sort_unstable();
        set
    }

    pub(crate) fn tokens(&self) -> &[Token] {
        self.tokens.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// What rows of one caller, set of origins and purpose share. Files that are sorted are sorted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Group {
    pub(crate) caller: Token,
    pub(crate) origins: Origins,
    /// The bit of the purpose.
    pub(crate) purpose: u8,
}

/// An account that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) group: Group,
    pub(crate) account: AccountId,
    /// When first, in milliseconds since 1970.
    pub(crate) first_ms: u64,
    /// When last. Compaction rounds it up to a minute, unless it is the first time too.
    pub(crate) last_ms: u64,
}

/// A row without its group, which is the larger part and the same for most rows in a file that is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) account: AccountId,
    pub(super) first_ms: u64,
    pub(super) last_ms: u64,
}

impl Shown {
    pub(super) const fn to(self, group: Group) -> Row {
        let Self { account, first_ms, last_ms } = self;
        Row { group, account, first_ms, last_ms }
    }

    /// Takes the times of a row of the same disclosure in.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// Which disclosures are asked for. Whatever is not named matches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter {
    pub(crate) caller: Option<Token>,
    pub(crate) origin: Option<Token>,
    pub(crate) account: Option<AccountId>,
    /// Shown at this moment or later.
    pub(crate) since_ms: u64,
    /// Shown before this moment.
    pub(crate) until_ms: u64,
}

impl Filter {
    /// Everything.
    pub(crate) const ALL: Self =
        Self { caller: None, origin: None, account: None, since_ms: 0, until_ms: u64::MAX };

    pub(super) fn takes_group(&self, group: &Group) -> bool {
        self.caller.is_none_or(|caller| caller == group.caller)
            && self.origin.is_none_or(|origin| group.origins.tokens().contains(&origin))
    }

    pub(super) fn takes_account(&self, account: AccountId) -> bool {
        self.account.is_none_or(|wanted| wanted == account)
    }

    /// Was something between these two moments in the window? Nobody shown in it is left out; a row whose first
    /// time is before and whose last time is behind it is in.
    pub(super) const fn takes_times(&self, first_ms: u64, last_ms: u64) -> bool {
        last_ms >= self.since_ms && first_ms < self.until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_a_set() {
        let (a, b) = ([1; 16], [2; 16]);
        assert_eq!(Origins::new([a, b]), Origins::new([b, a]));
        assert_ne!(Origins::new([a]), Origins::new([a, b]));
        assert_eq!(Origins::new([b, a]).tokens(), [a, b]);
    }
}
