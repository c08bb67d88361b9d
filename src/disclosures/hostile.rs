//! Frames and pages of any bytes, with their checksums made right: what is behind the checksums, for fuzz targets.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::frame::{self, SUM_LEN, bytes_at, frame_len, is_short, put};
use super::page::{PageReader, Step};
use super::row::Filter;

/// Goes through the rows of a page of a run; how many there are, or what is wrong.
pub(crate) fn read_page(page: &[u8], is_wide: bool) -> Result<usize, &'static str> {
    let mut reader = PageReader::new(page, is_wide)?;
    let mut rows = 0;
    loop {
        match reader.next(&Filter::ALL)? {
            Step::Group(_) => {}
            Step::Row(_) => rows += 1,
            Step::End | Step::Past => return Ok(rows),
        }
    }
}

/// Goes through the frames of a log that begin at the start of these bytes; how many accounts they have.
pub(crate) fn read_frames(bytes: &mut [u8], salt: u64) -> usize {
    let (mut at, mut rows) = (0, 0);
    loop {
        repair_frame(bytes, at, salt);
        let Some(frame) = frame::decode(bytes, at, salt) else { return rows };
        rows += frame.accounts().count();
        at = frame.end;
    }
}

/// Makes the checksum of a frame right, if there is as much of it as it says.
fn repair_frame(bytes: &mut [u8], at: usize, salt: u64) {
    let Some(frame) = bytes.get_mut(at..) else { return };
    let (Some(rows), Some([origins, _, short])) = (bytes_at(frame, 0), bytes_at(frame, 4)) else { return };
    let len = frame_len(usize::from(origins), u32::from_le_bytes(rows) as usize, is_short(short));
    let Some((summed, sum)) = frame.get_mut(..len).and_then(|frame| frame.split_at_mut_checked(len - SUM_LEN))
    else {
        return;
    };
    put(sum, &[&xxh3_64_with_seed(summed, salt ^ at as u64).to_le_bytes()]);
}
