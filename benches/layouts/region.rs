//! Buckets of one kind in a row: where their directories and slots are, and what a slot holds.

use std::marker::PhantomData;

use memmap2::MmapMut;
use unlisted::internals::prefetch;

use super::directory::{Directory, Place};
use super::memory;
use super::population::{Entry, Key};

/// The version of every listing, one, above eight bits of flags.
const VERSION: u64 = 1 << 8;

/// A bucket: where its directory is, and its slots.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    pub directory_at: usize,
    pub slots_at: usize,
}

/// The table, or its spill area.
pub struct Region<D> {
    pub memory: MmapMut,
    /// Bytes of all buckets.
    pub len: usize,
    pub buckets: u64,
    pub slot_len: usize,
    /// Slots hold the whole key: in the spill area, where the bucket says nothing of it.
    wide: bool,
    /// Otherwise they hold 64 bits from here on. One or two of them the bucket says too, as in `src/segment/keys.rs`.
    window: u32,
    directory: PhantomData<D>,
}

impl<D: Directory> Region<D> {
    /// Room for so many listings, at so many a bucket.
    pub fn with_room(listings: u64, load: f64, account_len: usize, wide: bool) -> std::io::Result<Self> {
        let slot_len = if wide { 16 } else { 8 } + account_len + 8;
        let buckets = (listings as f64 / load).ceil() as u64;
        let rounded = match D::PLACE {
            Place::InFront(shared) => (buckets as usize).next_multiple_of(shared),
            Place::Apart => buckets as usize,
        };
        let len = rounded * (D::LEN + D::SLOTS * slot_len);
        Ok(Self {
            memory: memory::zeroed(len)?,
            len,
            buckets,
            slot_len,
            wide,
            window: (buckets | 1).ilog2().saturating_sub(1),
            directory: PhantomData,
        })
    }

    /// The bucket where a key belongs: its first 32 bits, scaled; the next 32 in the spill area.
    #[inline(always)]
    pub fn home(&self, key: Key) -> u64 {
        let place = if self.wide { key.hi & 0xffff_ffff } else { key.hi >> 32 };
        (place * self.buckets) >> 32
    }

    #[inline(always)]
    pub fn bucket(&self, number: u64) -> Bucket {
        let (number, slots_len) = (number as usize, D::SLOTS * self.slot_len);
        match D::PLACE {
            Place::InFront(shared) => {
                let (group, member) = (number / shared, number % shared);
                let group_at = group * shared * (D::LEN + slots_len);
                Bucket {
                    directory_at: group_at + member * D::LEN,
                    slots_at: group_at + shared * D::LEN + member * slots_len,
                }
            }
            Place::Apart => Bucket {
                directory_at: number * D::LEN,
                slots_at: self.buckets as usize * D::LEN + number * slots_len,
            },
        }
    }

    /// What the directory of a bucket says of a key.
    #[inline(always)]
    pub fn find(&self, bucket: Bucket, key: Key, fingerprint: u64, purpose: u32) -> u64 {
        let directory = self.memory.get(bucket.directory_at..).and_then(|rest| rest.get(..D::LEN));
        directory.map_or(0, |directory| D::find(directory, key, fingerprint, purpose))
    }

    pub fn directory(&mut self, bucket: Bucket) -> &mut [u8] {
        &mut self.memory[bucket.directory_at..][..D::LEN]
    }

    /// The fingerprint of a key for a table like this one: what follows the bits that its slot holds.
    #[inline(always)]
    pub const fn fingerprint(&self, key: Key) -> u64 {
        key.lo >> (64 - D::BITS - self.window) & ((1 << D::BITS) - 1)
    }

    /// Asks for a slot, which may lie across two lines.
    #[inline(always)]
    pub fn ask_for_slot(&self, at: usize) {
        prefetch(&self.memory, at);
        prefetch(&self.memory, at + self.slot_len - 1);
    }

    /// The words by which a slot knows a key.
    #[inline(always)]
    const fn words(&self, key: Key) -> [u64; 2] {
        if self.wide {
            return [key.hi, key.lo];
        }
        [key.hi << self.window | key.lo >> 1 >> (63 - self.window), 0]
    }

    /// The account in the slot at an offset, if it is this key's and the opt-ins allow the purpose.
    #[inline(always)]
    pub fn read(&self, at: usize, key: Key, purpose: u32) -> Option<u128> {
        let wanted = self.words(key);
        let slot = self.memory.get(at..at + self.slot_len)?;
        let (head, mut rest) = slot.split_first_chunk::<8>()?;
        if u64::from_be_bytes(*head) != wanted[0] {
            return None;
        }
        if self.wide {
            let (tail, behind) = rest.split_first_chunk::<8>()?;
            if u64::from_be_bytes(*tail) != wanted[1] {
                return None;
            }
            rest = behind;
        }
        let (account, stamp) = match rest.as_chunks::<8>().0 {
            [low, stamp] => (u128::from(u64::from_be_bytes(*low)), stamp),
            [high, low, stamp] => {
                (u128::from(u64::from_be_bytes(*high)) << 64 | u128::from(u64::from_be_bytes(*low)), stamp)
            }
            _ => return None,
        };
        (u64::from_le_bytes(*stamp) >> purpose & 1 == 1).then_some(account)
    }

    pub fn write(&mut self, at: usize, entry: &Entry) {
        let words = self.words(entry.key);
        let slot = &mut self.memory[at..at + self.slot_len];
        let (head, stamp) = slot.split_at_mut(self.slot_len - 8);
        stamp.copy_from_slice(&(VERSION | u64::from(entry.opt_ins)).to_le_bytes());
        let (key, account) = head.split_at_mut(if self.wide { 16 } else { 8 });
        for (to, word) in key.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.to_be_bytes();
        }
        account.copy_from_slice(&entry.account.to_be_bytes()[16 - account.len()..]);
    }
}
