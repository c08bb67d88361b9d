//! One segment in memory: building, the filter, the probe. `cargo bench --bench segment --features internals`.
//!
//! No files, no ledger, one key at a time: what a change to the layout does to the work itself, without the pipeline
//! that hides the waiting.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use unlisted::internals::{OpenSegment, RawEntry, SegmentSpec, build_segment};
use unlisted::{AccountId, Purpose};

/// Enough for narrow slots, which begin at 4,096 buckets of 50 listings.
const LISTINGS: u64 = 300_000;
const QUESTIONS: u64 = 1 << 16;
const ROUND: usize = 512;

const SPEC: SegmentSpec = SegmentSpec {
    index_id: [7; 16],
    generation: 1,
    range_prefix: 0,
    range_bits: 0,
    known_bits: 128,
    era_s: 86_400,
};

/// The `i`-th key: uniform, as a PRF's output is.
fn key(i: u64) -> [u8; 16] {
    *blake3::hash(&i.to_le_bytes()).as_bytes().first_chunk().expect("a digest has 32 bytes")
}

/// Version 1, opted in to contact sync and search.
fn entry(i: u64) -> RawEntry {
    RawEntry { key: key(i), account: AccountId::from(i), stamp: 1 << 8 | 0b11 }
}

fn building(c: &mut Criterion) {
    let mut entries: Vec<RawEntry> = (0..LISTINGS).map(entry).collect();
    entries.sort_unstable();
    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Elements(LISTINGS));
    // Rows come sorted, as from the sort of an import; copying and checking them is in the figure.
    group.bench_function("build", |b| {
        b.iter_with_large_drop(|| build_segment(&SPEC, black_box(&entries)).expect("the rows are sound"));
    });
    group.finish();
}

fn reading(c: &mut Criterion) {
    let entries: Vec<RawEntry> = (0..LISTINGS).map(entry).collect();
    let (image, _) = build_segment(&SPEC, &entries).expect("the rows are sound");
    let segment = OpenSegment::open(image).expect("a built segment opens");
    segment.verify_pages().expect("every page is sound");
    assert!(!segment.is_wide(), "large segments have narrow slots");
    let spread = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % LISTINGS;
    let present: Vec<_> = (0..QUESTIONS).map(|i| key(spread(i))).collect();
    let absent: Vec<_> = (0..QUESTIONS).map(|i| key(LISTINGS + i)).collect();

    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Elements(ROUND as u64));
    for (name, keys) in [("present", &present), ("absent", &absent)] {
        let mut rounds = keys.chunks(ROUND).cycle();
        group.bench_function(format!("filter_{name}"), |b| {
            b.iter(|| {
                let round = rounds.next().expect("there are keys");
                let passes =
                    |key: &&[u8; 16]| segment.may_contain(**key, Purpose::ContactSync).expect("the page is sound");
                black_box(round).iter().filter(passes).count()
            });
        });
        let mut rounds = keys.chunks(ROUND).cycle();
        group.bench_function(format!("probe_{name}"), |b| {
            b.iter(|| {
                let round = rounds.next().expect("there are keys");
                let found = |key: &[u8; 16]| segment.probe(*key).expect("the page is sound").len();
                black_box(round).iter().map(found).sum::<usize>()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = building, reading
}
criterion_main!(benches);
