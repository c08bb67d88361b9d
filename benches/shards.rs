//! A lookup with tickets beside a plain one: `cargo bench --bench shards --features internals`.
//!
//! The same listings and questions, whole and in two parts in one process, so that the difference is what tickets cost and no
//! network is in it. Each batch has a caller to whom its numbers are new.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use unlisted::{
    AccountId, Caller, Index, Listing, LookupOptions, OptIns, Options, Ownership, PhoneHash, Purpose, Quota,
    QuotaPolicy, Secret, Version,
};

const LISTINGS: u64 = 1_000_000;
const QUESTIONS: u64 = 1 << 18;
const BATCH: usize = 512;

fn hash(i: u64) -> PhoneHash {
    PhoneHash::from_bytes(*blake3::hash(&i.to_le_bytes()).as_bytes())
}

fn listing(i: u64) -> Listing {
    Listing { hash: hash(i), account: AccountId::from(i), opt_ins: OptIns::SEARCH, version: Version::default() }
}

fn options() -> Options {
    let wide = Quota::per_hour(1_000_000_000, 1_000_000).expect("the quota is in bounds");
    Options::new(Secret::from_bytes([0xbe; 32])).quotas(QuotaPolicy::of_caller(wide)).background(false)
}

fn fill(index: &Index) {
    index.import((0..LISTINGS).map(listing)).expect("the import is sound");
    index.warm().expect("the segments are sound");
}

/// Half of them are found.
fn questions() -> Vec<PhoneHash> {
    let spread = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % LISTINGS;
    (0..QUESTIONS).map(|i| if i % 2 == 0 { hash(spread(i)) } else { hash(LISTINGS + i) }).collect()
}

struct Fleet(BTreeMap<String, Index>);

impl Fleet {
    fn new(dir: &std::path::Path, names: &[&str]) -> Self {
        let record = Ownership::of_equals(names.iter().copied()).expect("the names are sound");
        let open = |name: &&str| {
            let index = Index::open(dir.join(name), options().node(*name)).expect("a new folder opens");
            index.begin_ownership(&record).expect("the node is new");
            fill(&index);
            ((*name).to_owned(), index)
        };
        Self(names.iter().map(open).collect())
    }

    fn ask(&self, front: &str, caller: &Caller, hashes: &[PhoneHash]) -> usize {
        let issued = self.0[front].issue(caller, Purpose::Search, hashes, LookupOptions::default());
        let mut pending = issued.expect("the budget is wide");
        let answers: Vec<Vec<u8>> = pending
            .tickets()
            .map(|(node, ticket)| self.0[node].redeem(ticket).expect("the ticket is sound"))
            .collect();
        answers.iter().for_each(|answer| pending.accept(answer).expect("the answer is sound"));
        pending.finish().expect("the ledger counts").matches().count()
    }
}

fn shards(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let whole = Index::open(dir.path().join("whole"), options()).expect("a new folder opens");
    fill(&whole);
    let one = Fleet::new(&dir.path().join("one"), &["a"]);
    let two = Fleet::new(&dir.path().join("two"), &["a", "b"]);
    let questions = questions();
    let mut group = criterion.benchmark_group("shards");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.measurement_time(Duration::from_secs(8));
    let mut lookups = 0_u64;
    let mut next = questions.chunks(BATCH).cycle();
    let mut question = || {
        lookups += 1;
        (Caller::new(format!("caller-{lookups}")), next.next().expect("there are batches"))
    };
    group.bench_function("plain", |b| {
        b.iter(|| {
            let (caller, hashes) = question();
            let reply = whole.lookup(&caller, Purpose::Search, black_box(hashes)).expect("the budget is wide");
            reply.matches().count()
        });
    });
    for (name, fleet) in [("tickets_to_one_node", &one), ("tickets_to_two_nodes", &two)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let (caller, hashes) = question();
                fleet.ask("a", &caller, black_box(hashes))
            });
        });
    }
    group.bench_function("issue", |b| {
        b.iter(|| {
            let (caller, hashes) = question();
            let issued = one.0["a"].issue(&caller, Purpose::Search, black_box(hashes), LookupOptions::default());
            issued.expect("the budget is wide").tickets().count()
        });
    });
    group.finish();
}

criterion_group!(benches, shards);
criterion_main!(benches);
