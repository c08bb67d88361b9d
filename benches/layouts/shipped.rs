//! The engine itself, on the same listings and questions: what the prototype of its layout is to be held against.

use std::path::Path;
use std::thread;

use unlisted::internals::PreparedKeys;
use unlisted::{Index, Options, Secret};

use super::Result;
use super::population::{self, PURPOSE};

/// Listings made at a time.
const CHUNK: u64 = 8_192;

/// An index of these listings in a folder, made if the folder is empty. The secret is that of `unlisted bench`.
pub fn open(dir: &Path, listings: u64, batch: usize) -> Result<Index> {
    let options = Options::new(Secret::from_bytes([0xbe; 32])).max_batch(batch).background(false);
    let index = Index::open(dir, options)?;
    match index.stats()?.listings {
        // An index that somebody keeps for something else is left as it is.
        held if held != 0 && held != listings => return Err(format!("the index holds {held} listings").into()),
        0 => import(&index, listings)?,
        _ => {}
    }
    // Everything is read once, and its checksums are known to be right.
    index.verify(|_, _| ())?;
    Ok(index)
}

fn import(index: &Index, listings: u64) -> Result<()> {
    let importer = index.importer()?;
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    thread::scope(|scope| {
        let importer = &importer;
        let work = move |thread: u64| -> unlisted::Result<()> {
            for start in (thread * CHUNK..listings).step_by((threads * CHUNK) as usize) {
                let rows: Vec<_> = (start..listings.min(start + CHUNK)).map(population::listing).collect();
                importer.add(&rows)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no thread of an import panics"))
    })?;
    importer.finish()?;
    Ok(())
}

/// Batches of the numbers, ready to be asked.
pub fn batches(index: &Index, numbers: &[u64], batch: usize) -> Vec<PreparedKeys> {
    let hashes = |part: &[u64]| part.iter().map(|i| population::hash(*i)).collect::<Vec<_>>();
    numbers.chunks(batch).map(|part| index.prepare(&hashes(part))).collect()
}

/// How many listings answer.
pub fn probe(index: &Index, batch: &PreparedKeys) -> Result<u64> {
    Ok(index.raw_probe(PURPOSE, batch)? as u64)
}
