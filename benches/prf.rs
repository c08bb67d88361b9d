//! The candidates for the keyed function, on whole batches of 512 hashes: `cargo bench --bench prf --features
//! internals`. The same with `RUSTFLAGS='--cfg aes_backend="soft"'` measures a processor without AES
//! instructions. `docs/THREAT-MODEL.md` quotes the figures.

use std::hash::Hasher as _;
use std::hint::black_box;
use std::time::Duration;

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128Enc, Aes256Enc, Block};
use cmac::{Cmac, Mac};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hmac::Hmac;
use sha2::Sha256;
use siphasher::sip128::{Hasher128, SipHasher24};
use unlisted::Domain;
use unlisted::internals::Prf;

const BATCH: usize = 512;
const PHONE: u8 = 1;

type Hash = [u8; 32];
type Tag = [u8; 16];

fn hashes() -> Vec<Hash> {
    (0..BATCH as u64).map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect()
}

fn message(hash: &Hash) -> [u8; 33] {
    let mut message = [PHONE; 33];
    message[1..].copy_from_slice(hash);
    message
}

fn half(digest: &[u8]) -> Tag {
    *digest.first_chunk().expect("digests have at least 16 bytes")
}

fn blake3_keyed(hash: &Hash) -> Tag {
    half(blake3::keyed_hash(&[7; 32], &message(hash)).as_bytes())
}

fn siphash(hash: &Hash) -> Tag {
    let mut hasher = SipHasher24::new_with_key(&[7; 16]);
    hasher.write(&message(hash));
    hasher.finish128().as_bytes()
}

/// One message at a time through a crate's own MAC; the key is expanded once.
fn mac<M: Mac + Clone>(keyed: &M, message: &[u8]) -> Tag {
    let mut mac = keyed.clone();
    mac.update(message);
    half(&mac.finalize().into_bytes())
}

/// The batch written plainly with any AES: `blocks` blocks a message, `lanes` messages interleaved.
fn interleaved<C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>>(
    cipher: &C,
    blocks: usize,
    lanes: usize,
    hashes: &[Hash],
    out: &mut Vec<Tag>,
) {
    let mut states = [Block::default(); BATCH];
    let part = |hash: &Hash, i: usize| -> u128 {
        hash.as_chunks::<16>().0.get(i).map_or(u128::from(PHONE), |bytes| u128::from_ne_bytes(*bytes))
    };
    for chunk in hashes.chunks(lanes) {
        let states = &mut states[..chunk.len()];
        states.fill(Block::default());
        for i in 0..blocks {
            let subkey = if i + 1 == blocks { 0x1234_5678 } else { 0 };
            for (state, hash) in states.iter_mut().zip(chunk) {
                let sum = u128::from_ne_bytes((*state).into()) ^ part(hash, i) ^ subkey;
                *state = sum.to_ne_bytes().into();
            }
            cipher.encrypt_blocks(states);
        }
        out.extend(states.iter().map(|state| Tag::from(*state)));
    }
}

fn each(out: &mut Vec<Tag>, hashes: &[Hash], one: impl Fn(&Hash) -> Tag) {
    out.extend(hashes.iter().map(one));
}

fn candidates(c: &mut Criterion) {
    let hashes = hashes();
    let mut out: Vec<Tag> = Vec::with_capacity(BATCH);
    let mut group = c.benchmark_group("prf_512");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut run = |name: &str, body: &mut dyn FnMut(&[Hash], &mut Vec<Tag>)| {
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                body(black_box(&hashes), &mut out);
                black_box(out.last().copied())
            });
        });
    };

    run("blake3_keyed", &mut |h, out| each(out, h, blake3_keyed));
    run("siphash_2_4_128", &mut |h, out| each(out, h, siphash));
    let hmac = Hmac::<Sha256>::new_from_slice(&[7; 32]).expect("HMAC takes any key");
    run("hmac_sha256", &mut |h, out| each(out, h, |hash| mac(&hmac, &message(hash))));
    let cmac128 = Cmac::<Aes128Enc>::new(&[7; 16].into());
    let cmac256 = Cmac::<Aes256Enc>::new(&[7; 32].into());
    run("cmac_aes128_one_by_one", &mut |h, out| each(out, h, |hash| mac(&cmac128, hash)));
    run("cmac_aes256_one_by_one", &mut |h, out| each(out, h, |hash| mac(&cmac256, hash)));
    let aes128 = Aes128Enc::new(&[7; 16].into());
    let aes256 = Aes256Enc::new(&[7; 32].into());
    run("aes128_2_blocks_8_lanes", &mut |h, out| interleaved(&aes128, 2, 8, h, out));
    run("aes128_2_blocks_64_lanes", &mut |h, out| interleaved(&aes128, 2, 64, h, out));
    run("aes256_2_blocks_8_lanes", &mut |h, out| interleaved(&aes256, 2, 8, h, out));
    run("aes256_2_blocks_64_lanes", &mut |h, out| interleaved(&aes256, 2, 64, h, out));
    run("aes256_2_blocks_512_lanes", &mut |h, out| interleaved(&aes256, 2, 512, h, out));
    run("aes256_3_blocks_64_lanes", &mut |h, out| interleaved(&aes256, 3, 64, h, out));

    let prf = Prf::new(&[7; 32]);
    run("prf_singles", &mut |h, out| each(out, h, |hash| prf.key_of(Domain::Phone, hash)));
    run("prf_batch", &mut |h, out| {
        prf.keys_into(h.iter().map(|hash| (Domain::Phone, hash)), |key| out.push(key));
    });
    run("prf_batch_mixed_domains", &mut |h, out| {
        let domain = |hash: &Hash| if hash[0] & 1 == 0 { Domain::Phone } else { Domain::Email };
        prf.keys_into(h.iter().map(|hash| (domain(hash), hash)), |key| out.push(key));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = candidates
}
criterion_main!(benches);
