//! Can a caller tell an absent, a hidden and a deleted number apart by the time of its lookup? Welch's t over interleaved
//! classes, as dudect does it: differences of two classes are tested whole and cropped at percentiles, since what disturbs a
//! measurement makes its tail.
//!
//! `UNLISTED_TIMING_SAMPLES=n cargo test --release --all-features --test timing -- --nocapture` takes n samples of each class,
//! of lookups of one number and of 64, with all of the index in memory, and a thirtieth of them with its pages dropped before
//! each. Without it only the statistics are tested, on distributions that are known.

#![cfg(feature = "internals")]

mod common;
#[path = "timing/measure.rs"]
mod measure;
#[path = "timing/welch.rs"]
mod welch;

use measure::{Bench, Class, PAIRS, State};
use welch::Test;

/// A t that dudect takes for a leak for sure.
const SURE: f64 = 500.0;
/// What differs by more than this share of a lookup is a leak that matters, if t says that it is there.
const LARGE: f64 = 0.1;
const LEAK: f64 = 10.0;

fn samples() -> Option<usize> {
    std::env::var("UNLISTED_TIMING_SAMPLES").ok()?.parse().ok()
}

/// Prints a row for each pair of classes; a large leak fails.
#[test]
fn absent_hidden_and_deleted_numbers_take_the_same_time() {
    let Some(samples) = samples() else { return };
    let mut leaks = Vec::new();
    println!("state    batch  classes               samples  median ns      |t|  largest |t|  difference");
    for (state, batch, samples) in [
        (State::Warm, 1, samples),
        (State::Warm, 64, samples / 4),
        (State::Unfolded, 1, samples),
        (State::Unfolded, 64, samples / 4),
        (State::Cold, 1, samples / 30),
        (State::Cold, 64, samples / 60),
    ] {
        let bench = Bench::new(state);
        let times = bench.times(batch, samples);
        for (one, other) in PAIRS {
            let test = Test::of(&times[one as usize], &times[other as usize]);
            let pair = format!("{one:?} / {other:?}");
            let share = test.difference / test.median;
            println!(
                "{:<8} {batch:>5}  {pair:<20} {samples:>8}  {:>9.0}  {:>7.2}  {:>11.2}  {:>+8.1} ns {:>+6.2} %",
                format!("{state:?}"),
                test.median,
                test.whole.abs(),
                test.largest.abs(),
                test.difference,
                100.0 * share
            );
            if test.largest.abs() > SURE
                || test.largest.abs() > LEAK && share.abs() > LARGE && state != State::Unfolded
            {
                leaks.push(format!("{state:?}, batches of {batch}, {pair}: {test:?}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// The measurement itself tells classes apart that differ: a number that is shown costs a disclosure.
#[test]
fn a_number_that_is_shown_is_told_apart() {
    let Some(samples) = samples() else { return };
    let times = Bench::new(State::Warm).times(1, samples / 10);
    let test = Test::of(&times[Class::Absent as usize], &times[Class::Shown as usize]);
    println!("absent / shown: {test:?}");
    assert!(test.largest.abs() > LEAK, "{test:?}");
}
