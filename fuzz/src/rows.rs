//! Rows of both databases, and pages and frames of the disclosure log, alone: any bytes are one or an error.

use unlisted::internals::{ROW_KINDS, read_disclosure_frames, read_disclosure_page, reread_row};

use super::input::Input;

/// What was read as a row and written again reads as the same, and takes no more room.
pub fn rows(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = usize::from(input.u8()) % ROW_KINDS;
    let row = input.rest();
    if let Some(written) = reread_row(kind, row) {
        assert!(written.len() <= row.len(), "a row takes more room than what it was read from");
        assert_eq!(reread_row(kind, &written).as_ref(), Some(&written), "a row changes when it is written again");
    }
}

/// Rows of a page, or of frames, are at most as many as their bytes.
pub fn disclosure_log(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let mut bytes = input.rest().to_vec();
    if kind & 1 == 0 {
        let rows = read_disclosure_frames(&mut bytes, u64::from(kind));
        assert!(rows <= bytes.len() / 8, "an account has 8 bytes at least");
        return;
    }
    // What a page says that it uses; small pages are as good as large ones.
    if kind & 2 != 0 && bytes.len() >= 16 {
        let used = bytes.len() as u64;
        bytes[8..16].copy_from_slice(&used.to_le_bytes());
    }
    if let Ok(rows) = read_disclosure_page(&bytes, kind & 4 != 0) {
        assert!(rows <= bytes.len() / 2, "a row has two bytes at least");
    }
}
