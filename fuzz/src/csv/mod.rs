//! Files of listings as the program imports them: cut into blocks at any place, they have the rows of the whole; a row is
//! the listing that its fields say; and the listings come out of an import's blocks in memory as they went in.
//!
//! Nothing here makes a file or an index. What of an execution takes longest is kept between them: the tables of the crate
//! `csv`, which take as long to make as hundreds of rows to read.

#[path = "../../../src/bin/unlisted/csv_blocks.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod csv_blocks;
#[path = "../../../src/bin/unlisted/csv_rows.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod csv_rows;
/// Stands where the program has its own, which need more crates.
mod error;
mod numbers;
mod packed;
mod whole;

use std::cell::RefCell;

use ::csv::ByteRecord;
use unlisted::{AccountId, Listing, PhoneHash};

use self::csv_blocks::{Blocks, RowReader};
use self::csv_rows::{Columns, Op};
use self::error::CliError;
use self::numbers::Numbers;
use self::whole::{Rows, Whole};
use super::input::Input;

const NAME: &str = "fuzz";
/// What an input has beyond is not looked at. Four rows with every column and a hash fit.
const MAX_FILE_LEN: usize = 768;
/// Rows of a file that are read as listings.
const MAX_LISTINGS: usize = 16;

/// What is made once.
struct Readers {
    whole: Whole,
    blocks: RowReader,
}

thread_local! {
    static READERS: RefCell<Readers> = RefCell::new(Readers { whole: Whole::new(), blocks: RowReader::new() });
}

/// Cuts a file at places that the input names, and holds its rows to those of the crate `csv`.
pub fn csv_import(data: &[u8]) {
    let mut input = Input::new(data);
    let (block_len, max_row_len) = (1 + usize::from(input.u8()), usize::from(input.u16()));
    let file = input.bytes(MAX_FILE_LEN);
    let blocks = || Blocks::with_limits(file, NAME.to_owned(), block_len, max_row_len);
    READERS.with_borrow_mut(|readers| {
        let whole = readers.whole.rows(file);
        let mut cut = Rows::default();
        let ended = cut_up(blocks(), &mut readers.blocks, &mut cut, |_| ());
        compare(file, &cut, whole, ended);
        let listings = read_columns(file, blocks(), &mut readers.blocks, whole);
        packed::pack(&listings);
    });
}

/// Notes the rows of all blocks, and shows each to `each`.
fn cut_up(
    mut blocks: Blocks<&[u8]>,
    reader: &mut RowReader,
    rows: &mut Rows,
    mut each: impl FnMut(&ByteRecord),
) -> Result<(), CliError> {
    while let Some(block) = blocks.next_block()? {
        reader.rows(&block, |record, place| {
            rows.add(place.line(), record);
            each(record);
            Ok::<_, CliError>(())
        })?;
    }
    Ok(())
}

/// A file in blocks has the rows of the whole, or those before a row that is too long.
fn compare(file: &[u8], cut: &Rows, whole: &Rows, ended: Result<(), CliError>) {
    match ended {
        Ok(()) => assert_eq!(cut, whole, "a file in blocks has other rows"),
        Err(CliError::RowTooLong { limit, .. }) => {
            assert!(file.len() > limit);
            assert!(whole.begins_with(cut), "a file in blocks has other rows: {cut:?} of {whole:?}");
        }
        Err(error) => panic!("a file in memory can be read: {error:?}"),
    }
}

/// The first row as the names of columns, and the others as listings and as changes. As the program does it.
fn read_columns(file: &[u8], mut blocks: Blocks<&[u8]>, reader: &mut RowReader, whole: &Rows) -> Vec<Listing> {
    let header = match blocks.header(reader) {
        Ok(header) => header,
        Err(CliError::EmptyCsv { .. }) => {
            assert_eq!(whole, &Rows::default(), "a file with rows has a header");
            return Vec::new();
        }
        Err(CliError::RowTooLong { .. }) => return Vec::new(),
        Err(error) => panic!("a header is there or not: {error:?}"),
    };
    let mut rows = Rows::default();
    rows.add(whole.first_line(), &header);
    let listings = Columns::of_listings(header.clone(), NAME, Numbers::default());
    let changes = Columns::of_changes(header.clone(), NAME, Numbers::default());
    if let (Err(_), Ok(_)) = (&listings, &changes) {
        panic!("a feed has the columns of a listing");
    }
    let (mut read, mut left) = (Vec::new(), MAX_LISTINGS);
    let ended = cut_up(blocks, reader, &mut rows, |record| {
        if left > 0 {
            left -= 1;
            read.extend(read_row(&header, record, listings.as_ref().ok(), changes.as_ref().ok()));
        }
    });
    compare(file, &rows, whole, ended);
    read
}

/// A row as a listing and as a change: both say what its fields say.
fn read_row(
    header: &ByteRecord,
    row: &ByteRecord,
    listings: Option<&Columns>,
    changes: Option<&Columns>,
) -> Option<Listing> {
    let listing = listings.and_then(|columns| columns.listing(row).ok());
    if let Some(listing) = &listing {
        check(header, row, listing);
    }
    if let Some(Ok((op, change))) = changes.map(|columns| columns.change(row)) {
        match &listing {
            Some(listing) if op != Op::Remove => assert_eq!(*listing, change),
            // The opt-ins of a removal are not read.
            _ => assert!(op == Op::Remove, "a change is a listing and what to do with it"),
        }
    }
    listing
}

/// What was read is what the fields say, read another way.
fn check(header: &ByteRecord, row: &ByteRecord, listing: &Listing) {
    let field = |name: &[u8]| {
        let at = header.iter().position(|column| column.trim_ascii() == name)?;
        row.get(at).and_then(|field| std::str::from_utf8(field).ok())
    };
    let hash = match (field(b"phone"), field(b"phone_hash")) {
        (Some(text), _) => PhoneHash::of_e164(text).ok(),
        (None, text) => text.and_then(|text| PhoneHash::from_hex(text).ok()),
    };
    assert_eq!(hash, Some(listing.hash));
    assert_eq!(field(b"account").and_then(|text| text.parse::<AccountId>().ok()), Some(listing.account));
    assert_ne!(listing.account, AccountId::RESERVED);
    assert_eq!(field(b"version").and_then(|text| text.parse().ok()), Some(listing.version.get()));
}
