//! A host that follows its own change feed and resumes exactly once: the watermark is stored with each batch.
//!
//! `cargo run --example feed`

use unlisted::{AccountId, Caller, Index, OptIns, Options, Origin, PhoneHash, Purpose, Result, Secret};

/// A change of the host's accounts, as a log or a replication slot delivers it.
enum Event {
    Signup { phone: &'static str, account: u64 },
    Privacy { phone: &'static str, account: u64, findable: bool },
    Deletion { account: u64 },
}

/// The host's log. Its offsets serve as versions: they order all changes.
const LOG: &[Event] = &[
    Event::Signup { phone: "+14155550100", account: 1 },
    Event::Signup { phone: "+14155550101", account: 2 },
    Event::Privacy { phone: "+14155550100", account: 1, findable: true },
    Event::Privacy { phone: "+14155550101", account: 2, findable: true },
    Event::Privacy { phone: "+14155550100", account: 1, findable: false },
    Event::Deletion { account: 2 },
];

/// The offset to go on from.
fn position(index: &Index) -> usize {
    let stored = index.watermark().and_then(|bytes| bytes.try_into().ok());
    stored.map_or(0, u64::from_le_bytes) as usize
}

/// Applies at most `most` events, each exactly once however often this is interrupted.
fn follow(index: &Index, most: usize) -> Result<()> {
    let start = position(index);
    for (offset, event) in LOG.iter().enumerate().skip(start).take(most) {
        let version = offset as u64 + 1;
        if let Event::Deletion { account } = event {
            // Erasing twice is harmless, so it may come before its watermark.
            index.erase_accounts_at(&[AccountId::from(*account)], version)?;
        }
        index.update(|batch| {
            match event {
                Event::Signup { phone, account } => {
                    batch.put(PhoneHash::of_e164(phone)?, AccountId::from(*account), OptIns::empty(), version)?;
                }
                Event::Privacy { phone, account, findable } => {
                    let opt_ins = if *findable { OptIns::CONTACT_SYNC } else { OptIns::empty() };
                    batch.set_opt_ins(PhoneHash::of_e164(phone)?, AccountId::from(*account), opt_ins, version)?;
                }
                Event::Deletion { .. } => {}
            }
            batch.watermark(version.to_le_bytes())
        })?;
    }
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let open = || Index::open(dir.path(), Options::new(Secret::from_bytes([0x5e; 32])));
    let caller = Caller::new("user-7").via(Origin::network("198.51.100.7".parse()?));
    let contacts = [PhoneHash::of_e164("+14155550100")?, PhoneHash::of_e164("+14155550101")?];
    let mut seen = Vec::new();
    while seen.len() < 3 {
        // Every round is a restart of the host.
        let index = open()?;
        follow(&index, 2)?;
        let reply = index.lookup(&caller, Purpose::ContactSync, &contacts)?;
        let found: Vec<u64> = reply.matches().filter_map(|found| found.account.as_u64()).collect();
        println!("after {} events: found {found:?}, {} numbers left", position(&index), reply.remaining());
        seen.push(found);
    }
    if seen != [vec![], vec![1, 2], vec![]] {
        return Err(format!("expected nobody, both, nobody, and found {seen:?}").into());
    }
    Ok(())
}
