//! When a removed listing may be forgotten.
//!
//! A removal must outlive every older update that may still arrive, so its slot stays until the retention has
//! passed. There is no room for a date in a slot, but a removed listing has six bits without opt-ins: they
//! hold an *era*, a count of sixteenths of the retention, modulo 64. Whatever cannot be dated for certain is
//! kept: a clock that stepped, or an era so old that it wraps, delays forgetting and never hastens it.

/// Eras in a retention.
const ERAS: u64 = 16;
/// Eras that six bits tell apart.
const CYCLE: u64 = 64;
/// An age above this is a date in the future: a clock that stepped back.
const FUTURE: u64 = 48;

/// Seconds of an era, for a retention.
pub(crate) const fn era_s(retention_s: u64) -> u64 {
    let era = retention_s.div_ceil(ERAS);
    if era == 0 { 1 } else { era }
}

/// The era of a moment.
pub(crate) const fn era_at(wall_ms: u64, era_s: u64) -> u8 {
    (wall_ms / 1_000 / era_s % CYCLE) as u8
}

/// The era of a removal at some moment, if it is now `wall_ms`: one of before a cycle is still just "expired".
pub(crate) const fn era_of_removal(removed_ms: u64, wall_ms: u64, era_s: u64) -> u8 {
    let (now, then) = (wall_ms / 1_000 / era_s, removed_ms / 1_000 / era_s);
    if now.saturating_sub(then) < FUTURE {
        return era_at(removed_ms, era_s);
    }
    ((now - (FUTURE - 1)) % CYCLE) as u8
}

/// From when on a removal of this era may be forgotten, in milliseconds since 1970.
pub(crate) const fn forgotten_from_ms(era: u8, wall_ms: u64, era_s: u64) -> u64 {
    let now = wall_ms / 1_000 / era_s;
    let age = (now % CYCLE + CYCLE - era as u64) % CYCLE;
    let eras_left = match age {
        0..=ERAS => ERAS + 1 - age,
        FUTURE.. => ERAS + 1 + CYCLE - age,
        _ => return wall_ms,
    };
    now.saturating_add(eras_left).saturating_mul(era_s).saturating_mul(1_000)
}

/// May a removal of this era be forgotten now?
pub(crate) const fn expired(era: u8, wall_ms: u64, era_s: u64) -> bool {
    let age = (era_at(wall_ms, era_s) as u64 + CYCLE - era as u64) % CYCLE;
    // One more than the retention: the removal may have come at the end of its era.
    age > ERAS && age < FUTURE
}

/// The era of a removal, when the length of an era changes.
pub(crate) const fn convert(era: u8, wall_ms: u64, from_era_s: u64, to_era_s: u64) -> u8 {
    let now = era_at(wall_ms, from_era_s) as u64;
    let age = (now + CYCLE - era as u64) % CYCLE;
    let age_s = if age >= FUTURE { 0 } else { age * from_era_s };
    // Older than a cycle of the new eras is still just "expired", not wrapped to young.
    let eras = if age_s / to_era_s >= FUTURE { FUTURE - 1 } else { age_s / to_era_s };
    ((era_at(wall_ms, to_era_s) as u64 + CYCLE - eras) % CYCLE) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const RETENTION_S: u64 = 30 * 86_400;

    #[test]
    fn a_removal_outlives_its_retention_and_not_much_more() {
        let unit = era_s(RETENTION_S);
        for start in (0..200).map(|i| 1_700_000_000_000 + i * DAY_MS / 7) {
            let era = era_at(start, unit);
            assert!((0..=30).all(|day| !expired(era, start + day * DAY_MS, unit)));
            assert!((35..88).all(|day| expired(era, start + day * DAY_MS, unit)));
        }
    }

    #[test]
    fn when_a_removal_is_forgotten_is_known_before() {
        let unit = era_s(RETENTION_S);
        for now in (0..200).map(|i| 1_700_000_000_000 + i * DAY_MS / 7) {
            // From a little in the future on, to what is forgotten already.
            for removed in (0..90).map(|day| now + 20 * DAY_MS - day * DAY_MS) {
                let era = era_of_removal(removed, now, unit);
                let from = forgotten_from_ms(era, now, unit);
                assert!(expired(era, from, unit), "{removed} {now}");
                assert!(from == now || !expired(era, from - 1_000, unit), "{removed} {now}");
            }
        }
    }

    #[test]
    fn a_removal_that_was_noted_long_ago_is_not_young_again() {
        let unit = era_s(RETENTION_S);
        let now = 1_700_000_000_000;
        for day in 35..1_000 {
            assert!(expired(era_of_removal(now - day * DAY_MS, now, unit), now, unit), "{day}");
        }
        assert_eq!(era_of_removal(now - DAY_MS, now, unit), era_at(now - DAY_MS, unit));
    }

    #[test]
    fn a_clock_that_steps_back_keeps_removals() {
        let unit = era_s(RETENTION_S);
        let era = era_at(1_700_000_000_000, unit);
        assert!((0..25).all(|day| !expired(era, 1_700_000_000_000 - day * DAY_MS, unit)));
    }

    #[test]
    fn a_changed_retention_keeps_the_date() {
        let now = 1_700_000_000_000;
        let (long, short) = (era_s(RETENTION_S), era_s(RETENTION_S / 10));
        let era = era_at(now - 20 * DAY_MS, long);
        assert!(!expired(era, now, long));
        assert!(!expired(convert(era, now, long, long), now, long));
        assert!(expired(convert(era, now, long, short), now, short));
        let fresh = convert(era_at(now, long), now, long, short);
        assert!(!expired(fresh, now, short));
    }
}
