//! The counters of a scope, and how much they may be short.

/// By which counter scopes are ordered.
///
/// ```
/// use unlisted::TopBy;
/// assert_eq!(TopBy::ALL.map(TopBy::name), ["charged", "missed", "deferred"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopBy {
    /// Numbers that were paid for.
    Charged,
    /// Numbers that were paid for and showed nobody.
    Missed,
    /// Numbers that no budget was left for.
    Deferred,
}

impl TopBy {
    /// Every counter that scopes are ordered by.
    pub const ALL: [Self; 3] = [Self::Charged, Self::Missed, Self::Deferred];

    /// A short name, as the command line takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Charged => "charged",
            Self::Missed => "missed",
            Self::Deferred => "deferred",
        }
    }
}

/// Numbers that a tripwire outweighs when room runs out: more than most scopes ask for in an hour.
const TRIPWIRE_WEIGHT: u64 = 1 << 16;

/// What was counted of a scope. A number counts once in each lookup that asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Lookups that were answered.
    pub(crate) lookups: u64,
    /// Distinct numbers of each lookup.
    pub(crate) asked: u64,
    /// Of those, the ones that were paid for.
    pub(crate) charged: u64,
    /// Of those asked, the ones that showed somebody, paid for now or earlier.
    pub(crate) found: u64,
    /// Of those charged, the ones that showed nobody.
    pub(crate) missed: u64,
    /// Of those asked, the ones that could not be paid.
    pub(crate) deferred: u64,
    /// Of those charged, the ones that are tripwires.
    pub(crate) tripwires: u32,
}

impl Counts {
    pub(crate) const fn by(&self, by: TopBy) -> u64 {
        match by {
            TopBy::Charged => self.charged,
            TopBy::Missed => self.missed,
            TopBy::Deferred => self.deferred,
        }
    }

    /// What a scope is worth keeping for: none of the three counters is larger. Whoever met a tripwire is kept before
    /// those who did not.
    pub(crate) const fn weight(&self) -> u64 {
        let tripwires = (self.tripwires as u64).saturating_mul(TRIPWIRE_WEIGHT);
        self.charged.saturating_add(self.deferred).saturating_add(tripwires)
    }

    #[inline]
    pub(crate) const fn add(&mut self, more: &Self) {
        self.lookups = self.lookups.saturating_add(more.lookups);
        self.asked = self.asked.saturating_add(more.asked);
        self.charged = self.charged.saturating_add(more.charged);
        self.found = self.found.saturating_add(more.found);
        self.missed = self.missed.saturating_add(more.missed);
        self.deferred = self.deferred.saturating_add(more.deferred);
        self.tripwires = self.tripwires.saturating_add(more.tripwires);
    }

    /// Could lookups have added up to this?
    pub(crate) const fn is_possible(&self) -> bool {
        let answered = self.asked.saturating_sub(self.deferred);
        self.deferred <= self.asked
            && self.charged <= answered
            && self.found <= answered
            && self.missed <= self.charged
            && self.missed.saturating_add(self.found) <= answered
            && self.tripwires as u64 <= answered
    }
}

/// The most that counters may be short of what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Short {
    pub(crate) charged: u64,
    pub(crate) missed: u64,
    pub(crate) deferred: u64,
}

impl Short {
    /// All that was counted, for what is about to be dropped.
    pub(crate) const fn of(counts: &Counts) -> Self {
        Self { charged: counts.charged, missed: counts.missed, deferred: counts.deferred }
    }

    pub(crate) const fn by(&self, by: TopBy) -> u64 {
        match by {
            TopBy::Charged => self.charged,
            TopBy::Missed => self.missed,
            TopBy::Deferred => self.deferred,
        }
    }

    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            charged: self.charged.max(other.charged),
            missed: self.missed.max(other.missed),
            deferred: self.deferred.max(other.deferred),
        }
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            charged: self.charged.saturating_add(other.charged),
            missed: self.missed.saturating_add(other.missed),
            deferred: self.deferred.saturating_add(other.deferred),
        }
    }
}
