//! Quotas for kinds of service, each value with its reason.

use std::collections::BTreeMap;

use super::{HOUR_NS, Quota, QuotaPolicy};
use crate::words::Origin;

/// A quota of a preset. Its values are checked by a test.
const fn quota(burst: u64, refill: u64) -> Quota {
    Quota { burst, interval_ns: HOUR_NS.div_ceil(refill) }
}

fn policy(caller: Quota, network: Option<Quota>, everyone: Option<Quota>) -> QuotaPolicy {
    let network = network.map(|quota| (Origin::NETWORK.to_owned(), quota));
    QuotaPolicy { caller, origins: network.into_iter().collect::<BTreeMap<_, _>>(), everyone }
}

/// Presets. What each of them lets an attacker learn in 60 days is a table in `docs/THREAT-MODEL.md`.
///
/// They take an address book to have 100 to 600 numbers. Known numbers are free
/// ([`Options::novelty_window`](crate::Options::novelty_window)), so a burst is the first sync and the refill is what an
/// address book grows by. A network is what [`Origin::network`] makes of an address: a /24, behind which a carrier may
/// put thousands of callers.
///
/// ```
/// use unlisted::QuotaPolicy;
/// for name in QuotaPolicy::PRESETS {
///     assert!(QuotaPolicy::preset(name).is_some());
/// }
/// assert_eq!(QuotaPolicy::preset("default"), Some(QuotaPolicy::default()));
/// assert_eq!(QuotaPolicy::preset("lax"), None);
/// ```
impl QuotaPolicy {
    /// The names that [`QuotaPolicy::preset`] knows.
    pub const PRESETS: [&'static str; 5] = ["default", "signal", "strict", "messenger", "social"];

    /// A preset by its name.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::default()),
            "signal" => Some(Self::signal()),
            "strict" => Some(Self::strict()),
            "messenger" => Some(Self::messenger()),
            "social" => Some(Self::social()),
            _ => None,
        }
    }

    /// What Signal publishes for its contact discovery: each account 50,000 numbers and 6 an hour, and nothing else. The
    /// numbers are `tokenRateLimit` in `src/main/resources/application.yml` of
    /// <https://github.com/signalapp/ContactDiscoveryService-Icelake>.
    ///
    /// The burst takes any address book that there is. One account learns up to 58,640 numbers in 60 days, and only the
    /// price of accounts bounds a crowd of them, in one network or in many.
    ///
    /// ```
    /// use unlisted::{Quota, QuotaPolicy};
    /// let policy = QuotaPolicy::signal();
    /// assert_eq!(policy.caller(), Quota::per_hour(50_000, 6)?);
    /// assert_eq!((policy.origins().count(), policy.everyone()), (0, None));
    /// # Ok::<(), unlisted::ParseQuotaError>(())
    /// ```
    #[must_use]
    pub fn signal() -> Self {
        policy(quota(50_000, 6), None, None)
    }

    /// For services where being found is delicate and users are at most some hundred thousand: health, dating, banking.
    ///
    /// - A caller: 1,000, which is an address book of 600 with room; 2 an hour, 48 a day, more than anybody meets.
    /// - A network: 10,000, the first sync of 16 such address books or of 100 small ones at the same time; 100 an hour.
    /// - Everyone: 1,000,000, for a day on which many come; 10,000 an hour, 400 full address books a day. So the 17 million
    ///   numbers that were matched at Twitter in two months (2019) are out of reach for a crowd of any size. The price:
    ///   such a crowd can use the budget up and keep others waiting.
    ///
    /// ```
    /// use unlisted::{Quota, QuotaPolicy};
    /// assert_eq!(QuotaPolicy::strict().everyone(), Some(Quota::per_hour(1_000_000, 10_000)?));
    /// # Ok::<(), unlisted::ParseQuotaError>(())
    /// ```
    #[must_use]
    pub fn strict() -> Self {
        policy(quota(1_000, 2), Some(quota(10_000, 100)), Some(quota(1_000_000, 10_000)))
    }

    /// For messengers: whoever installs one wants all contacts at once, and a carrier has many users behind one network.
    ///
    /// - A caller: 5,000, eight times a full address book, since a bound that users meet is switched off; 10 an hour.
    /// - A network: 20,000, the first sync of 33 full address books or 70 ordinary ones; 50 an hour, which carries the nightly
    ///   syncs of some 250 users. So the crowd of 2019 at Twitter, 10,000 accounts in 200 networks, is answered 0.9 % of what
    ///   it asked in two months (`unlisted replay twitter-2019`). In 2025, researchers of the University of Vienna asked
    ///   WhatsApp for over 100 million numbers an hour with five accounts from one machine
    ///   (<https://arxiv.org/abs/2511.20252>): here that machine gets 20,000 once. A network with more users than that, such
    ///   as a carrier's, needs a quota of its own ([`Index::set_quota_of`](crate::Index::set_quota_of)).
    /// - Everyone: no bound. It would have to follow the service's growth, and it lets a crowd keep all users waiting. Set
    ///   one with [`QuotaPolicy::with_everyone`] once the usual demand is known: ten times that.
    ///
    /// ```
    /// use unlisted::{Quota, QuotaPolicy};
    /// assert_eq!(QuotaPolicy::messenger().origin("network"), Some(Quota::per_hour(20_000, 50)?));
    /// # Ok::<(), unlisted::ParseQuotaError>(())
    /// ```
    #[must_use]
    pub fn messenger() -> Self {
        policy(quota(5_000, 10), Some(quota(20_000, 50)), None)
    }

    /// For social networks, where finding contacts is a convenience and an answer may join a number to a pseudonym.
    ///
    /// - A caller: 2,000, three times a full address book; 5 an hour.
    /// - A network: 50,000, the first sync of 80 full address books; 250 an hour, 10 of them a day.
    /// - Everyone: 10,000,000, for a day of a campaign; 500,000 an hour, 20,000 full address books a day. The crowd that
    ///   matched 17 million numbers at Twitter in 2019 asked for more than 2 billion in about two months: of those it gets at
    ///   most 730 million here.
    ///
    /// ```
    /// use unlisted::{Quota, QuotaPolicy};
    /// assert_eq!(QuotaPolicy::social().caller(), Quota::per_hour(2_000, 5)?);
    /// # Ok::<(), unlisted::ParseQuotaError>(())
    /// ```
    #[must_use]
    pub fn social() -> Self {
        policy(quota(2_000, 5), Some(quota(50_000, 250)), Some(quota(10_000_000, 500_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_what_their_text_says() {
        for name in QuotaPolicy::PRESETS {
            let preset = QuotaPolicy::preset(name).unwrap();
            let texts = [Some(("caller", preset.caller())), preset.everyone().map(|quota| ("everyone", quota))];
            let texts = texts.into_iter().flatten().chain(preset.origins());
            let read = texts.fold(QuotaPolicy::of_caller(quota(1, 1)), |policy, (scope, quota)| {
                policy.with_text(&format!("{scope}={quota}")).unwrap()
            });
            assert_eq!(read, preset, "{name}");
        }
    }
}
