//! Files of listings as the program imports them: cut into blocks at any place, they have the rows of the whole.

#[path = "../../../src/bin/unlisted/csv_blocks.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod csv_blocks;
#[path = "../../../src/bin/unlisted/csv_rows.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod csv_rows;
/// Stands where the program has its own, which need more crates.
mod error;
mod numbers;

use ::csv::ByteRecord;
use unlisted::{AccountId, PhoneHash};

use self::csv_blocks::Blocks;
use self::csv_rows::{Columns, Op};
use self::error::CliError;
use self::numbers::Numbers;
use super::input::Input;

const NAME: &str = "fuzz";

/// Cuts a file at places that the input names, and holds its rows to those of the crate `csv`.
pub fn csv_import(data: &[u8]) {
    let mut input = Input::new(data);
    let (block_len, max_row_len) = (1 + usize::from(input.u8()), usize::from(input.u16()));
    let file = input.rest();
    let whole = whole(file);
    let blocks = || Blocks::with_limits(file, NAME.to_owned(), block_len, max_row_len);
    let (cut, ended) = cut(blocks());
    assert_eq!(cut, whole[..cut.len()], "a file in blocks has other rows");
    match ended {
        Ok(()) => assert_eq!(cut.len(), whole.len(), "a file in blocks has fewer rows"),
        Err(CliError::RowTooLong { limit, .. }) => assert!(file.len() > limit),
        Err(error) => panic!("a file in memory can be read: {error:?}"),
    }
    read_columns(blocks(), &whole);
}

/// A row's line and fields.
type Row = (u64, Vec<Vec<u8>>);

fn fields(record: &ByteRecord) -> Vec<Vec<u8>> {
    record.iter().map(<[u8]>::to_vec).collect()
}

fn whole(file: &[u8]) -> Vec<Row> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
    let mut record = ByteRecord::new();
    let mut rows = Vec::new();
    let (mut line, mut counted) = (1, 0);
    while reader.read_byte_record(&mut record).expect("any bytes are rows") {
        // The position is before the line ends that the row follows.
        let mut at = record.position().expect("a row has one").byte() as usize;
        // A mark at the beginning of the file is none of its bytes.
        if at == 0 && file.starts_with(b"\xef\xbb\xbf") {
            at = 3;
        }
        at += file[at..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        line += file[counted..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        counted = at;
        rows.push((line, fields(&record)));
    }
    rows
}

fn cut(mut blocks: Blocks<&[u8]>) -> (Vec<Row>, Result<(), CliError>) {
    let mut rows = Vec::new();
    loop {
        match blocks.next_block() {
            Ok(Some(block)) => {
                let noted = block.rows(|record, place| {
                    rows.push((place.line(), fields(record)));
                    Ok::<_, CliError>(())
                });
                noted.expect("nothing fails");
            }
            Ok(None) => return (rows, Ok(())),
            Err(error) => return (rows, Err(error)),
        }
    }
}

/// The first row as the names of columns, and all others as listings and as changes.
fn read_columns(mut blocks: Blocks<&[u8]>, whole: &[Row]) {
    let header = match blocks.header() {
        Ok(header) => header,
        Err(CliError::EmptyCsv { .. }) => return,
        Err(CliError::RowTooLong { .. }) => return,
        Err(error) => panic!("a header is there or not: {error:?}"),
    };
    assert_eq!(fields(&header), whole[0].1, "the header is the first row");
    let listings = Columns::of_listings(header.clone(), NAME, Numbers::default());
    let changes = Columns::of_changes(header.clone(), NAME, Numbers::default());
    if let (Err(_), Ok(_)) = (&listings, &changes) {
        panic!("a feed has the columns of a listing");
    }
    for (_, row) in whole.iter().skip(1).take(256) {
        let record = ByteRecord::from(row.clone());
        let listing = listings.as_ref().ok().map(|columns| columns.listing(&record));
        if let Some(Ok(listing)) = &listing {
            check(&header, row, listing);
        }
        if let Some(Ok((op, change))) = changes.as_ref().ok().map(|columns| columns.change(&record)) {
            match listing {
                Some(Ok(listing)) if op != Op::Remove => assert_eq!(listing, change),
                // The opt-ins of a removal are not read.
                _ => assert!(op == Op::Remove, "a change is a listing and what to do with it"),
            }
        }
    }
}

/// What was read is what the fields say, read another way.
fn check(header: &ByteRecord, row: &[Vec<u8>], listing: &unlisted::Listing) {
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
