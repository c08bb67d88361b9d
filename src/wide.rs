//! Loops compiled twice: for every processor, and for those with 256-bit vectors and the newer bit instructions, which
//! nearly all servers have. The source is the same, so the answers are.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instructions that a processor may lack; the argument is at the call")
)]

/// A loop that is worth it. Only what is inlined into [`Work::run`] is compiled twice.
pub(crate) trait Work {
    /// What it comes to.
    type Output;

    /// Does it. To be inlined always.
    fn run(self) -> Self::Output;
}

/// Does the work with what this processor has.
#[inline]
pub(crate) fn run<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
    {
        // SAFETY: the processor has every feature that the function is compiled for: each was detected just now.
        return unsafe { run_wide(work) };
    }
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_wide<W: Work>(work: W) -> W::Output {
    work.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shifts, products and compares of whole vectors.
    struct Mix<'a>(&'a [u64; 64]);

    impl Work for Mix<'_> {
        type Output = (u64, u32, u32);

        #[inline(always)]
        fn run(self) -> Self::Output {
            let mixed = self.0.iter().zip(0_u32..).map(|(word, i)| (word >> (i % 64)).wrapping_mul(*word | 1));
            let equal = self.0.iter().filter(|word| **word & 3 == 0).count() as u32;
            let zeros = self.0.iter().map(|word| word.leading_zeros() + word.trailing_zeros()).sum();
            (mixed.fold(0, |all, of| all ^ of), equal, zeros)
        }
    }

    #[test]
    fn both_ways_come_to_the_same() {
        let mut words = [0; 64];
        let mut next = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..1_000 {
            for word in &mut words {
                next = next.wrapping_mul(0xd129_0c4a_8b55_3b47).rotate_left(23) ^ round;
                *word = next;
            }
            assert_eq!(run(Mix(&words)), Mix(&words).run());
        }
    }
}
