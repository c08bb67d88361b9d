//! What the counters of a scope say of it, as one number.
//!
//! An enumerator's numbers are many, new, mostly nobody's, and more than his budget; a tripwire is a number that no honest
//! address book has a reason to hold. None of it proves anything, and who brings a leaked list of numbers that exist shows none
//! of it but that they are many. So the score orders what an operator looks at. What bounds everybody is the budget.

/// New numbers of a window by which volume counts half: more than nearly every address book has.
const HALF_VOLUME: f64 = 2_000.0;

/// What a scope did in a window, and how much was new to it in the window before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Evidence {
    pub(crate) asked: u64,
    pub(crate) deferred: u64,
    /// Numbers that were paid for: new to the scope.
    pub(crate) novel: u64,
    /// Of those, the ones that showed nobody.
    pub(crate) missed: u64,
    pub(crate) novel_before: u64,
    pub(crate) tripwires: u64,
}

/// `part / whole`, in [0, 1]; zero of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part.min(whole) as f64 / whole as f64 }
}

impl Evidence {
    /// Of the new numbers, the share that showed somebody.
    pub(crate) fn hit_share(&self) -> f64 {
        share(self.novel.saturating_sub(self.missed), self.novel)
    }

    /// Of the new numbers of both windows, the share of this one: 0.5 if there are as many as before, 1 if there were none.
    pub(crate) fn growth(&self) -> f64 {
        share(self.novel, self.novel.saturating_add(self.novel_before))
    }

    /// Of the numbers asked, the share that no budget was left for.
    pub(crate) fn deferred_share(&self) -> f64 {
        share(self.deferred, self.asked)
    }

    /// `1 - (1 - t) (1 - v (m + d + g) / 3)`, with t = 1 - 2^-tripwires, v = novel / (novel + 2,000), m the share of new numbers
    /// that showed nobody, d the deferred share and g the growth. In [0, 1], and greater with each of the five.
    pub(crate) fn score(&self) -> f64 {
        let tripwires = 1.0 - 0.5_f64.powf(self.tripwires as f64);
        let volume = self.novel as f64 / (self.novel as f64 + HALF_VOLUME);
        let misses = share(self.missed, self.novel);
        let pattern = volume * (misses + self.deferred_share() + self.growth()) / 3.0;
        1.0 - (1.0 - tripwires) * (1.0 - pattern)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn evidence() -> impl Strategy<Value = Evidence> {
        let count = || prop_oneof![0..10_u64, 0..100_000_u64, Just(u64::MAX / 4)];
        (count(), count(), 0..=100_u64, count(), 0..70_u64).prop_map(
            |(novel, deferred, missed, before, tripwires)| Evidence {
                asked: novel + deferred,
                deferred,
                novel,
                missed: novel / 100 * missed,
                novel_before: before,
                tripwires,
            },
        )
    }

    proptest! {
        #[test]
        fn a_score_is_in_bounds_and_grows_with_each_signal(of in evidence()) {
            let score = of.score();
            prop_assert!((0.0..=1.0).contains(&score));
            let worse = [
                Evidence { tripwires: of.tripwires + 1, ..of },
                Evidence { missed: of.novel.min(of.missed + 1 + of.missed / 2), ..of },
                Evidence { deferred: of.deferred + 1 + of.deferred / 2, asked: of.asked + 1 + of.deferred / 2, ..of },
                Evidence { novel_before: of.novel_before / 2, ..of },
            ];
            for worse in worse {
                prop_assert!(worse.score() >= score - 1e-12, "{worse:?}");
            }
        }
    }

    #[test]
    fn many_new_numbers_that_are_nobodys_stand_out_from_a_nightly_sync() {
        let nightly = Evidence { asked: 500, novel: 3, missed: 2, novel_before: 3, ..Evidence::default() };
        let newcomer = Evidence { asked: 500, novel: 500, missed: 350, ..Evidence::default() };
        let enumerator =
            Evidence { asked: 100_000, deferred: 50_000, novel: 50_000, missed: 49_000, ..Evidence::default() };
        let [nightly, newcomer, enumerator] = [nightly, newcomer, enumerator].map(|of| of.score());
        assert!(nightly < 0.01 && (0.05..0.2).contains(&newcomer) && enumerator > 0.75);
        let one = Evidence { asked: 500, novel: 1, missed: 1, tripwires: 1, ..Evidence::default() };
        assert!((0.5..0.51).contains(&one.score()));
    }

    #[test]
    fn hits_do_not_give_a_leaked_list_away() {
        // Half of a leaked list is listed; of an honest book less. As many numbers, and the honest one scores higher.
        let leaked = Evidence { asked: 5_000, novel: 5_000, missed: 2_500, ..Evidence::default() };
        let honest = Evidence { missed: 3_500, ..leaked };
        assert!(leaked.hit_share() > honest.hit_share() && leaked.score() < honest.score());
    }
}
