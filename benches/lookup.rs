//! The raw probe and the public lookup over a million listings: `cargo bench --bench lookup --features internals`.
//!
//! A million listings fit into few caches and many pages: the figures show a change for better or worse from one day to
//! the next. Those for larger indexes, with the machine's random cache lines beside them, come from `unlisted bench
//! lookup`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use unlisted::internals::PreparedKeys;
use unlisted::{
    AccountId, Caller, Index, Listing, OptIns, Options, PhoneHash, Purpose, Quota, QuotaPolicy, Secret, Version,
};

const LISTINGS: u64 = 1_000_000;
/// Numbers asked in turn: more lines than a cache holds, so that no answer is warm from the last time.
const QUESTIONS: u64 = 1 << 18;
const BATCHES: [usize; 2] = [1, 512];

/// The `i`-th number. From `LISTINGS` on they are nobody's.
fn hash(i: u64) -> PhoneHash {
    PhoneHash::from_bytes(*blake3::hash(&i.to_le_bytes()).as_bytes())
}

/// Seven of ten listings can be found.
const fn is_found(i: u64) -> bool {
    i % 10 < 7
}

fn listing(i: u64) -> Listing {
    let opt_ins = if is_found(i) { OptIns::CONTACT_SYNC | OptIns::SEARCH } else { OptIns::empty() };
    Listing { hash: hash(i), account: AccountId::from(i), opt_ins, version: Version::default() }
}

fn build(dir: &std::path::Path) -> Index {
    let wide = Quota::per_hour(1_000_000_000, 1_000_000).expect("the quota is in bounds");
    let options =
        Options::new(Secret::from_bytes([0xbe; 32])).quotas(QuotaPolicy::of_caller(wide)).background(false);
    let index = Index::open(dir, options).expect("a new folder opens");
    index.import((0..LISTINGS).map(listing)).expect("the import is sound");
    index.warm().expect("the segments are sound");
    index
}

/// Numbers of which so many in a hundred are found, in no order.
fn questions(hits_percent: u64) -> Vec<PhoneHash> {
    let mut spread = (0..).map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % LISTINGS).filter(|i| is_found(*i));
    let mut question = |i: u64| match i * 37 % 100 {
        place if place < hits_percent => hash(spread.next().unwrap_or_default()),
        _ => hash(LISTINGS + i),
    };
    (0..QUESTIONS).map(&mut question).collect()
}

fn raw_probe(group: &mut BenchmarkGroup<'_, WallTime>, index: &Index, hits_percent: u64, batch: usize) {
    let prepared: Vec<PreparedKeys> =
        questions(hits_percent).chunks(batch).map(|batch| index.prepare(batch)).collect();
    let mut next = prepared.iter().cycle();
    group.throughput(Throughput::Elements(batch as u64));
    group.bench_function(format!("{hits_percent}_percent_hits/{batch}"), |b| {
        b.iter(|| {
            let keys = next.next().expect("there are batches");
            index.raw_probe(Purpose::ContactSync, black_box(keys)).expect("the segments are sound")
        });
    });
}

/// Everything on: PRF, a durable charge, disclosures. Each batch of 512 has a caller to whom its numbers are new; single
/// numbers come from one caller, inside its budget.
fn lookup(group: &mut BenchmarkGroup<'_, WallTime>, index: &Index, batch: usize) {
    let questions = questions(50);
    let mut next = questions.chunks(batch).cycle();
    let mut lookups = 0_u64;
    group.throughput(Throughput::Elements(batch as u64));
    group.bench_function(format!("50_percent_hits/{batch}"), |b| {
        b.iter(|| {
            lookups += u64::from(batch > 1);
            let caller = Caller::new(format!("{batch}-{lookups}"));
            let hashes = next.next().expect("there are batches");
            index.lookup(&caller, Purpose::ContactSync, black_box(hashes)).expect("the caller has budget")
        });
    });
}

fn lookups(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let index = build(dir.path());
    let mut group = c.benchmark_group("raw_probe");
    for hits_percent in [0, 50] {
        for batch in BATCHES {
            raw_probe(&mut group, &index, hits_percent, batch);
        }
    }
    group.finish();
    let mut group = c.benchmark_group("lookup");
    for batch in BATCHES {
        lookup(&mut group, &index, batch);
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = lookups
}
criterion_main!(benches);
