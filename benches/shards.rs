//! A lookup with tickets beside a plain one: `cargo bench --bench shards`.
//!
//! The same listings and questions, whole and in parts in one process, so that the difference is what tickets cost and no network is
//! in it. Numbers are new to their caller, and all but the first batches of a caller are inside leases. The ways take turns,
//! batch by batch, and medians of single batches are printed: what else the machine does hits all of them alike, and few batches
//! at all.

use std::collections::BTreeMap;
use std::time::Instant;

use unlisted::{
    AccountId, Caller, Index, Listing, LookupOptions, OptIns, Options, Ownership, PhoneHash, Purpose, Quota,
    QuotaPolicy, Secret, Version,
};

const LISTINGS: u64 = 1_000_000;
const QUESTIONS: u64 = 1 << 18;
const BATCH: usize = 512;
const ROUNDS: usize = 1_536;
/// So many, that most of them are inside leases; and no more than numbers are remembered of a caller.
const BATCHES_OF_A_CALLER: usize = 128;

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

/// One of the ways to ask; returns how many are found, or how many tickets were made.
type Way<'a> = Box<dyn Fn(&Caller, &[PhoneHash]) -> usize + 'a>;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let whole = Index::open(dir.path().join("whole"), options()).expect("a new folder opens");
    fill(&whole);
    let one = Fleet::new(&dir.path().join("one"), &["a"]);
    let two = Fleet::new(&dir.path().join("two"), &["a", "b"]);
    let ways: [(&str, Way<'_>); 4] = [
        (
            "plain",
            Box::new(|caller, hashes| {
                let reply = whole.lookup(caller, Purpose::Search, hashes).expect("the budget is wide");
                reply.matches().count()
            }),
        ),
        ("tickets to one node", Box::new(|caller, hashes| one.ask("a", caller, hashes))),
        ("tickets to two nodes", Box::new(|caller, hashes| two.ask("a", caller, hashes))),
        (
            "issue alone",
            Box::new(|caller, hashes| {
                let issued = one.0["a"].issue(caller, Purpose::Search, hashes, LookupOptions::default());
                issued.expect("the budget is wide").tickets().count()
            }),
        ),
    ];
    let mut times: Vec<Vec<u128>> = vec![Vec::new(); ways.len()];
    for (number, hashes) in questions().chunks(BATCH).cycle().take(ROUNDS).enumerate() {
        for ((name, way), times) in ways.iter().zip(&mut times) {
            let caller = Caller::new(format!("{name}-{}", number / BATCHES_OF_A_CALLER));
            let since = Instant::now();
            let found = way(&caller, hashes);
            times.push(since.elapsed().as_nanos());
            assert!(found > 0, "something is found");
        }
    }
    let medians = times.iter_mut().map(|times| {
        times.sort_unstable();
        times[times.len() / 2] as f64 / BATCH as f64
    });
    let medians: Vec<f64> = medians.collect();
    for ((name, _), median) in ways.iter().zip(&medians) {
        println!("{name:<22} {median:>6.0} ns a key   {:.2} x plain", median / medians[0]);
    }
}
