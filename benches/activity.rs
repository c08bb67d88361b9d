//! What counting adds to a lookup, for one scope: `cargo bench --bench activity --features internals`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use unlisted::internals::PreparedCaller;
use unlisted::{Caller, Index, Options, Secret};

/// Callers that are counted in turn: few stay in a cache, many fill the default bound, more than fit drop others.
const CALLERS: [(&str, usize); 3] = [("few", 1_000), ("many", 50_000), ("too_many", 1_000_000)];

fn callers(index: &Index, count: usize) -> Vec<PreparedCaller> {
    (0..count as u64).map(|i| index.prepare_caller(&Caller::new(i.to_le_bytes()))).collect()
}

fn one_thread(group: &mut BenchmarkGroup<'_, WallTime>, index: &Index) {
    for (name, count) in CALLERS {
        let callers = callers(index, count);
        let mut next = callers.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| {
                next.next().map(|caller| index.raw_note(black_box(*caller), 10).expect("the ledger writes"))
            });
        });
    }
}

/// Wall-clock time of a call on each of two threads at once.
fn two_threads(group: &mut BenchmarkGroup<'_, WallTime>, index: &Index) {
    let callers = callers(index, 50_000);
    group.bench_function("many_two_threads", |b| {
        b.iter_custom(|calls| {
            let start = Instant::now();
            std::thread::scope(|scope| {
                for from in [0, callers.len() / 2] {
                    let callers = callers.iter().cycle().skip(from).take(calls as usize);
                    scope.spawn(move || {
                        callers.for_each(|caller| index.raw_note(*caller, 10).expect("the ledger writes"));
                    });
                }
            });
            start.elapsed()
        });
    });
}

fn counting(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is room for a folder");
    let options = Options::new(Secret::from_bytes([0xbe; 32])).background(false);
    let index = Index::open(dir.path(), options).expect("a new folder opens");
    let mut group = c.benchmark_group("activity");
    one_thread(&mut group, &index);
    two_threads(&mut group, &index);
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = counting
}
criterion_main!(benches);
