//! The table of the threat model says what the presets do.

use unlisted::{Quota, QuotaPolicy};

const HOURS: u64 = 60 * 24;
/// Numbers that were matched at Twitter in 2019.
const WANTED: u64 = 17_000_000;

fn learned(quota: Quota) -> u64 {
    quota.burst() + quota.refill_per_hour() * HOURS
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap()).collect();
    parts.join(",")
}

fn row(name: &str) -> String {
    let policy = QuotaPolicy::preset(name).unwrap();
    let (caller, network) = (learned(policy.caller()), policy.origin("network").map(learned));
    let everyone = policy.everyone().map(learned);
    let needed = |each: Option<u64>| match everyone {
        Some(all) if all < WANTED => "never".to_owned(),
        _ => grouped(each.map_or(1, |each| WANTED.div_ceil(each))),
    };
    let bound = |quota: Option<u64>| quota.map_or("no bound".to_owned(), grouped);
    let cells = [grouped(caller), bound(network), bound(everyone), needed(Some(caller)), needed(network)];
    format!("| `{name}` | {} |", cells.join(" | "))
}

#[test]
fn the_threat_model_states_what_presets_allow() {
    let text = include_str!("../../../docs/THREAT-MODEL.md");
    for name in QuotaPolicy::PRESETS {
        assert!(text.contains(&row(name)), "docs/THREAT-MODEL.md lacks\n{}", row(name));
    }
}

#[test]
fn the_default_is_what_it_was() {
    let quota = |burst, refill| Quota::per_hour(burst, refill).unwrap();
    let default = QuotaPolicy::of_caller(quota(50_000, 6)).with_origin("network", quota(200_000, 2_000)).unwrap();
    assert_eq!(QuotaPolicy::default(), default);
}

#[test]
fn presets_are_tighter_than_the_default_and_take_an_address_book_at_once() {
    let default = QuotaPolicy::default();
    for name in ["strict", "messenger", "social"] {
        let policy = QuotaPolicy::preset(name).unwrap();
        let [own, standard] = [&policy, &default].map(|policy| policy.origin("network").unwrap());
        assert!(policy.caller().burst() > 600 && own.burst() >= 4 * policy.caller().burst(), "{name}");
        assert!(
            learned(policy.caller()) < learned(default.caller()) && learned(own) < learned(standard),
            "{name}"
        );
    }
}
