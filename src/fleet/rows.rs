//! What the fleet's record holds as text: quotas, and what operators decided about scopes. Read as input.

use std::time::Duration;

use super::answers::damaged;
use crate::ledger::ScopeId;
use crate::words::{FleetError, Quota, QuotaOverride, QuotaPolicy, Suspension};

const QUOTAS: &str = "quotas";
const STANDING: &str = "standing";

/// What an operator decided about a scope. The two kinds have rows of their own, so that neither undoes the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Suspended(Suspension),
    /// A quota of its own, and the age of the account when it was set.
    Own(QuotaOverride, Duration),
}

/// Which of the two a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Suspension,
    Own,
}

/// Whom a row is about, and which kind of row it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowId {
    pub(super) id: ScopeId,
    pub(super) kind: Kind,
}

/// A row: who, since when by the server's clock, what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) since_us: u64,
    /// `caller`, or the kind of an origin.
    pub(super) scope: String,
    pub(super) decision: Decision,
}

impl RowId {
    pub(super) fn to_text(self) -> String {
        let kind = match self.kind {
            Kind::Suspension => 's',
            Kind::Own => 'q',
        };
        format!("{}:{kind}", hex::encode(self.id))
    }

    pub(super) fn read(text: &str) -> Result<Self, FleetError> {
        let bad = || damaged(STANDING, "an identity is not one");
        let (id, kind) = text.split_once(':').ok_or_else(bad)?;
        let mut bytes = [0; 16];
        hex::decode_to_slice(id, &mut bytes).map_err(|_| bad())?;
        let kind = match kind {
            "s" => Kind::Suspension,
            "q" => Kind::Own,
            _ => return Err(bad()),
        };
        Ok(Self { id: bytes, kind })
    }
}

impl Decision {
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Suspended(_) => Kind::Suspension,
            Self::Own(..) => Kind::Own,
        }
    }

    /// The row without its time, which the server puts before it.
    pub(super) fn to_text(&self, scope: &str) -> String {
        match self {
            Self::Suspended(suspension) => format!("{scope} {} {}", suspension.since_ms, suspension.reason),
            Self::Own(own, age) => {
                let (quota, start) = (own.quota(), own.start_burst());
                let times = [own.grows_for(), *age].map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
                let [grows_ns, age_ns] = times;
                format!("{scope} {} {} {start} {grows_ns} {age_ns}", quota.burst(), quota.interval_ns())
            }
        }
    }
}

impl Row {
    pub(super) fn read(kind: Kind, text: &str) -> Result<Self, FleetError> {
        let bad = || damaged(STANDING, "a row has another shape");
        let mut parts = text.splitn(3, ' ');
        let (since_us, scope, rest) =
            (|| Some((parts.next()?.parse().ok()?, parts.next()?, parts.next()?)))().ok_or_else(bad)?;
        let decision = match kind {
            Kind::Suspension => suspension(rest),
            Kind::Own => own(rest),
        };
        let is_kind = !scope.is_empty() && scope.len() <= crate::words::Origin::MAX_KIND_LEN;
        let decision = decision.filter(|_| is_kind).ok_or_else(bad)?;
        Ok(Self { since_us, scope: scope.to_owned(), decision })
    }
}

fn suspension(text: &str) -> Option<Decision> {
    let (since_ms, reason) = text.split_once(' ')?;
    let reason = Some(reason).filter(|reason| reason.len() <= Suspension::MAX_REASON_LEN)?;
    Some(Decision::Suspended(Suspension { since_ms: since_ms.parse().ok()?, reason: reason.to_owned() }))
}

fn own(text: &str) -> Option<Decision> {
    let numbers: Vec<u64> = text.split(' ').map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let [burst, interval_ns, start, grows_ns, age_ns] = numbers.as_slice() else { return None };
    let quota = Quota::from_parts(*burst, *interval_ns).ok()?;
    let own = QuotaOverride::growing(*start, quota, Duration::from_nanos(*grows_ns)).ok()?;
    Some(Decision::Own(own, Duration::from_nanos(*age_ns)))
}

/// Quotas as lines of scope, burst and interval in nanoseconds.
pub(super) fn quotas_text(policy: &QuotaPolicy) -> String {
    let caller = [("caller", policy.caller())];
    let everyone = policy.everyone().map(|quota| ("everyone", quota));
    let all = caller.into_iter().chain(everyone).chain(policy.origins());
    let lines = all.map(|(scope, quota)| format!("{scope} {} {}", quota.burst(), quota.interval_ns()));
    lines.collect::<Vec<_>>().join("\n")
}

pub(super) fn read_quotas(text: &str) -> Result<QuotaPolicy, FleetError> {
    let bad = |_| damaged(QUOTAS, "a quota is impossible");
    let mut policy: Option<QuotaPolicy> = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [scope, burst, interval_ns] = words.as_slice() else {
            return Err(damaged(QUOTAS, "a line has another shape"));
        };
        let number = |word: &str| word.parse().map_err(|_| damaged(QUOTAS, "not a number"));
        let quota = Quota::from_parts(number(burst)?, number(interval_ns)?).map_err(bad)?;
        policy = Some(match (policy, *scope) {
            (None, "caller") => QuotaPolicy::of_caller(quota),
            (Some(policy), "everyone") => policy.with_everyone(quota),
            (Some(policy), kind) if kind != "caller" => policy.with_origin(kind, quota).map_err(bad)?,
            _ => return Err(damaged(QUOTAS, "the caller's quota is not the first and only one")),
        });
    }
    policy.ok_or_else(|| damaged(QUOTAS, "there is none"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotas_read_their_own_text() {
        for policy in
            [QuotaPolicy::default(), QuotaPolicy::strict(), QuotaPolicy::messenger(), QuotaPolicy::social()]
        {
            assert_eq!(read_quotas(&quotas_text(&policy)).unwrap(), policy);
        }
        for bad in
            ["", "caller 1", "everyone 1 1", "caller 0 1", "caller 1 1\ncaller 1 1", "caller 1 1\nA b 1 1", "x"]
        {
            assert!(read_quotas(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rows_read_their_own_text() {
        let quota = Quota::per_hour(1_000, 6).unwrap();
        let own = QuotaOverride::growing(10, quota, Duration::from_secs(3_600)).unwrap();
        let suspended = Suspension { since_ms: 5, reason: "two words\nand a line".to_owned() };
        for decision in [Decision::Suspended(suspended), Decision::Own(own, Duration::from_secs(7))] {
            let text = format!("123 {}", decision.to_text("device"));
            let row = Row::read(decision.kind(), &text).unwrap();
            assert_eq!(row, Row { since_us: 123, scope: "device".to_owned(), decision });
        }
        let id = RowId { id: [0xab; 16], kind: Kind::Own };
        assert_eq!(RowId::read(&id.to_text()).unwrap(), id);
    }

    proptest! {
        /// Whatever the record says: a row or damage, and never a panic.
        #[test]
        fn any_text_is_a_row_or_damage(text in ".{0,80}", numbers in prop::collection::vec(any::<u64>(), 0..8)) {
            let numbers = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
            for text in [text, format!("1 caller {numbers}"), format!("caller {numbers}")] {
                let _ = (Row::read(Kind::Own, &text), Row::read(Kind::Suspension, &text));
                let _ = (RowId::read(&text), read_quotas(&text));
            }
        }
    }
}
