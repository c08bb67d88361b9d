//! Checking everything that can be checked without changing anything.

use super::segments::{LiveSegment, SegmentMap};
use super::{Index, Inner};
use crate::segment::Flaw;
use crate::store::SegmentRow;
use crate::words::Result;

/// What was checked and found whole.
///
/// ```
/// use unlisted::{AccountId, Index, OptIns, Options, PhoneHash, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// index.fold()?;
/// let report = index.verify(|done, all| assert!(done <= all))?;
/// assert_eq!((report.segments, report.listings, report.delta), (1, 1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct VerifyReport {
    /// Segments whose header and every page are right.
    pub segments: usize,
    /// Stored listings that their table and filter find, removed ones included.
    pub listings: u64,
    /// Changes of the log that count, decode, and are what lookups see.
    pub delta: usize,
    /// Rows of the disclosure log whose frames and pages are whole.
    pub disclosures: u64,
    /// Pages of `index.redb` and `ledger.redb` whose checksums are right.
    pub pages: u64,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyDepth {
    /// Headers and the checksum of every page: what a disk can damage.
    Fast,
    /// Every listing too, by the way a lookup takes: what a bug could get wrong.
    #[default]
    Full,
}

impl Index {
    /// Reads every page of every segment, looks every stored listing up in its own table and filter, and
    /// compares the delta with memory. Reads every page of both databases and every row of the disclosure log. `progress` hears of segments done and segments there are.
    ///
    /// # Errors
    /// The first flaw, with file and offset.
    pub fn verify(&self, progress: impl Fn(usize, usize)) -> Result<VerifyReport> {
        self.inner.verify(VerifyDepth::Full, &progress)
    }

    /// [`Index::verify`] as deep as is wanted. The listings that a fast one reports are those that headers count.
    ///
    /// # Errors
    /// The first flaw, with file and offset.
    ///
    /// ```
    /// use unlisted::{Index, Options, Secret, VerifyDepth};
    /// let dir = tempfile::tempdir()?;
    /// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
    /// assert_eq!(index.verify_to(VerifyDepth::Fast, |_, _| ())?.segments, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify_to(&self, depth: VerifyDepth, progress: impl Fn(usize, usize)) -> Result<VerifyReport> {
        self.inner.verify(depth, &progress)
    }
}

impl Inner {
    fn verify(&self, depth: VerifyDepth, progress: &dyn Fn(usize, usize)) -> Result<VerifyReport> {
        let _structure = self.structure.lock();
        let map = self.segments.load_full();
        let total = map.live().count();
        let mut report = VerifyReport::default();
        self.verify_manifest(&map)?;
        for segment in map.live() {
            report.listings += verify_segment(segment, depth)?;
            report.segments += 1;
            progress(report.segments, total);
        }
        // No update may come between reading the one and the other.
        let writer = self.writer.lock();
        let overlay = self.overlay.read();
        let (rows, log) = self.store.replay()?;
        let differs = rows.iter().any(|row| overlay.get(row.entry.key, row.entry.account) != Some(row));
        if differs || rows.len() != overlay.len() || log.bytes() != self.store.log().bytes() {
            return Err(crate::words::Error::DamagedRow {
                path: self.store.path().to_owned(),
                table: "log",
                reason: "it differs from what was read when the index was opened",
            });
        }
        report.delta = rows.len();
        drop(overlay);
        drop(writer);
        report.disclosures = self.disclosures.verify()?;
        report.pages = self.store.verify()? + self.ledger.verify()?;
        Ok(report)
    }

    /// Do lookups see the segments that the manifest names, and no others?
    fn verify_manifest(&self, map: &SegmentMap) -> Result<()> {
        let mut rows: Vec<SegmentRow> = map.live().map(|segment| segment.manifest_row()).collect();
        rows.sort_by_key(|row| row.generation);
        if rows != self.store.manifest()? {
            return Err(crate::words::Error::DamagedRow {
                path: self.store.path().to_owned(),
                table: "segments",
                reason: "it differs from what was read when the index was opened",
            });
        }
        Ok(())
    }
}

/// Pages, then every listing by the way a lookup would take. Returns the number of listings.
pub(super) fn verify_segment(segment: &LiveSegment, depth: VerifyDepth) -> Result<u64> {
    segment.ask_for_all();
    segment.locate(|s| {
        s.verify_pages()?;
        if depth == VerifyDepth::Fast {
            return Ok(s.header().entries);
        }
        let mut flaw = Ok(());
        let (mut entries, mut removed, mut opted_in) = (0, 0, 0);
        s.for_each(|entry| {
            entries += 1;
            removed += u64::from(entry.flags().is_removed());
            opted_in += u64::from(entry.flags().opt_ins().has_purpose());
            if flaw.is_ok() {
                let mut found = false;
                flaw = s.probe(entry.key, |account, stamp| {
                    found |= account == entry.account && stamp == entry.stamp;
                });
                for purpose in entry.flags().opt_ins().purposes() {
                    match s.may_contain(entry.key, purpose) {
                        Ok(passes) => found &= passes,
                        Err(error) => flaw = Err(error),
                    }
                }
                if !found && flaw.is_ok() {
                    flaw = Err(Flaw::entry(0, "a stored listing is not found by its key"));
                }
            }
        })?;
        flaw?;
        let header = s.header();
        if (removed, opted_in) != (header.removed, header.opted_in) {
            return Err(Flaw::geometry(80, "the number of removed or opted-in listings", removed));
        }
        Ok(entries)
    })
}
