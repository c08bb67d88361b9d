//! CSV text cut into blocks of whole rows.
//!
//! One thread reads and cuts, several may parse blocks: where a row ends depends only on quotation marks and line
//! ends, which is much less work than reading its fields. The cutter follows the state machine of the crate `csv`,
//! so that both see the same rows. A row has a bounded length, because a missing quotation mark would otherwise
//! make the rest of a file one field; and every block knows its first line, so that a bad row can be located.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::sync::Arc;

use csv::{ByteRecord, Position};

// Not `crate::`: fuzz targets include this file beside other errors.
use super::error::CliError;

/// Bytes of a block, about.
const BLOCK_LEN: usize = 512 << 10;
/// Longest row in bytes.
pub const MAX_ROW_LEN: usize = 1 << 20;
/// What some programs begin a file with. Only there it is no part of a field.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whole rows of a CSV file.
pub struct Block {
    /// Blocks of one file are counted from zero.
    pub number: u64,
    first_line: u64,
    bytes: Arc<Vec<u8>>,
}

/// Reads a CSV file block by block.
pub struct Blocks<R> {
    input: R,
    name: String,
    block_len: usize,
    max_row_len: usize,
    /// What was read and not handed out yet.
    rest: Vec<u8>,
    /// How much of `rest` the cutter has seen, and in which state it left it.
    scanned: usize,
    place: Place,
    /// Line of the first byte of `rest`.
    line: u64,
    number: u64,
    has_begun: bool,
    ended: bool,
}

/// Where in a row the cutter is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Field,
    Quoted,
    /// After a quotation mark inside quotation marks: the end of them, or half of an escaped one.
    Quote,
}

impl<R: Read> Blocks<R> {
    pub fn new(input: R, name: String) -> Self {
        Self::with_limits(input, name, BLOCK_LEN, MAX_ROW_LEN)
    }

    /// Reads `block_len` bytes at a time, so that blocks have about as many, and takes rows of `max_row_len` bytes and somewhat
    /// more.
    pub fn with_limits(input: R, name: String, block_len: usize, max_row_len: usize) -> Self {
        Self {
            input,
            name,
            block_len: block_len.max(BYTE_ORDER_MARK.len()),
            max_row_len,
            rest: Vec::new(),
            scanned: 0,
            place: Place::FieldStart,
            line: 1,
            number: 0,
            has_begun: false,
            ended: false,
        }
    }

    /// What messages call the input.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fields of the first row.
    pub fn header(&mut self, reader: &mut RowReader) -> Result<ByteRecord, CliError> {
        loop {
            let cut = self.fill(first_end)?;
            if cut == 0 {
                return Err(CliError::EmptyCsv { name: self.name.clone() });
            }
            // Lines without anything are no header.
            if let Some(fields) = reader.first(&self.take(cut)) {
                return Ok(fields);
            }
        }
    }

    /// The next rows, or `None` at the end.
    pub fn next_block(&mut self) -> Result<Option<Block>, CliError> {
        let cut = self.fill(last_end)?;
        if cut == 0 {
            return Ok(None);
        }
        let number = self.number;
        self.number += 1;
        Ok(Some(Block { number, ..self.take(cut) }))
    }

    /// Reads until `end_of_rows` finds the end of a row, or the input ends. Returns how many bytes are whole rows.
    fn fill(&mut self, end_of_rows: impl Fn(&[u8], usize, &mut Place) -> usize) -> Result<usize, CliError> {
        loop {
            let cut = end_of_rows(&self.rest, self.scanned, &mut self.place);
            self.scanned = self.rest.len();
            if cut > 0 || self.ended {
                return Ok(if cut > 0 { cut } else { self.rest.len() });
            }
            if self.rest.len() > self.max_row_len {
                let (name, line, limit) = (self.name.clone(), self.line, self.max_row_len);
                return Err(CliError::RowTooLong { name, line, limit });
            }
            let wanted = self.block_len as u64;
            let read = self.input.by_ref().take(wanted).read_to_end(&mut self.rest);
            let read = read.map_err(CliError::file("read", &self.name))?;
            self.ended = (read as u64) < wanted;
            if !std::mem::replace(&mut self.has_begun, true) && self.rest.starts_with(BYTE_ORDER_MARK) {
                self.rest.drain(..BYTE_ORDER_MARK.len());
            }
        }
    }

    /// Hands out the first `cut` bytes.
    fn take(&mut self, cut: usize) -> Block {
        let mut bytes = std::mem::take(&mut self.rest);
        let rest = bytes.get(cut..).unwrap_or_default();
        self.rest.reserve(rest.len() + self.block_len);
        self.rest.extend_from_slice(rest);
        bytes.truncate(cut);
        // After a row the cutter is at the start of a field, whatever came behind it is looked at again.
        self.scanned = 0;
        self.place = Place::FieldStart;
        let first_line = self.line;
        self.line += lines_in(&bytes);
        Block { number: 0, first_line, bytes: Arc::new(bytes) }
    }
}

/// Reads the rows of one block after the other. The crate's reader makes tables before its first row, which takes as long as
/// reading hundreds of rows: whoever has many blocks keeps one.
pub struct RowReader {
    reader: csv::Reader<Feed>,
    record: ByteRecord,
}

impl RowReader {
    pub fn new() -> Self {
        let reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(Feed::default());
        Self { reader, record: ByteRecord::new() }
    }

    /// Hands every row of a block to `each`, with something that knows its line. Stops when `each` fails.
    pub fn rows<E>(
        &mut self,
        block: &Block,
        mut each: impl FnMut(&ByteRecord, &mut RowPlace) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut place = RowPlace { bytes: &block.bytes, counted: 0, line: block.first_line, start: 0 };
        let begun = self.begin(block);
        // Fields of any number and any bytes are fine here, and memory does not fail: an error cannot happen.
        while begun && matches!(self.reader.read_byte_record(&mut self.record), Ok(true)) {
            let start = self.record.position().map_or(0, Position::byte);
            let start = usize::try_from(start).unwrap_or(usize::MAX).saturating_sub(BEFORE.len());
            place.start = start.min(block.bytes.len());
            each(&self.record, &mut place)?;
        }
        Ok(())
    }

    /// The fields of a block's first row, if it has any.
    fn first(&mut self, block: &Block) -> Option<ByteRecord> {
        let found = self.begin(block) && matches!(self.reader.read_byte_record(&mut self.record), Ok(true));
        found.then(|| self.record.clone())
    }

    fn begin(&mut self, block: &Block) -> bool {
        self.reader.get_mut().bytes = block.bytes.clone();
        self.reader.seek_raw(SeekFrom::Start(0), Position::new()).is_ok()
    }
}

/// What a block is read behind.
const BEFORE: &[u8] = b"\n";

/// The bytes of a block. The crate takes a byte order mark off whatever it reads first, and a block may begin in the middle
/// of a file: so an empty line comes first.
#[derive(Default)]
struct Feed {
    bytes: Arc<Vec<u8>>,
    at: usize,
}

impl Read for Feed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut rest = match self.at.checked_sub(BEFORE.len()) {
            Some(at) => self.bytes.get(at..).unwrap_or_default(),
            None => BEFORE.get(self.at..).unwrap_or_default(),
        };
        let read = rest.read(to)?;
        self.at += read;
        Ok(read)
    }
}

impl Seek for Feed {
    /// To the beginning, which is all that is asked for.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(0) => {
                self.at = 0;
                Ok(0)
            }
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }
}

/// Finds the line of a row when it is asked for, which is rarely.
pub struct RowPlace<'a> {
    bytes: &'a [u8],
    counted: usize,
    line: u64,
    start: usize,
}

impl RowPlace<'_> {
    /// The line on which the row begins, counted from 1 at the beginning of the file.
    pub fn line(&mut self) -> u64 {
        // The row's bytes begin with the line ends before it: the rest of one, and empty lines.
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let start = self.start + blank;
        self.line += lines_in(self.bytes.get(self.counted..start).unwrap_or_default());
        self.counted = start;
        self.line
    }
}

fn lines_in(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The end of the first row, zero if it is not there. To the crate a carriage return alone ends a row too, and what is behind
/// the first one must not go with it.
fn first_end(bytes: &[u8], from: usize, place: &mut Place) -> usize {
    for (i, byte) in bytes.iter().enumerate().skip(from) {
        step(place, *byte);
        if *place == Place::FieldStart && matches!(byte, b'\r' | b'\n') {
            return i + 1;
        }
    }
    0
}

/// The end of the last whole row, zero if there is none. `place` is left as after the last byte.
fn last_end(bytes: &[u8], from: usize, place: &mut Place) -> usize {
    let new = bytes.get(from..).unwrap_or_default();
    let outside = matches!(place, Place::FieldStart | Place::Field);
    if outside && !new.contains(&b'"') {
        // Almost every file: nothing is quoted, so every line is a row.
        if let Some(last) = new.last() {
            *place = if matches!(last, b',' | b'\n' | b'\r') { Place::FieldStart } else { Place::Field };
        }
        return new.iter().rposition(|byte| *byte == b'\n').map_or(0, |i| from + i + 1);
    }
    let mut end = 0;
    for (i, byte) in new.iter().enumerate() {
        if step(place, *byte) {
            end = from + i + 1;
        }
    }
    end
}

/// Takes one byte; is it the line feed that ends a row?
fn step(place: &mut Place, byte: u8) -> bool {
    *place = match (*place, byte) {
        (Place::Quoted, b'"') => Place::Quote,
        (Place::Quoted, _) | (Place::Quote | Place::FieldStart, b'"') => Place::Quoted,
        (_, b',' | b'\r' | b'\n') => Place::FieldStart,
        _ => Place::Field,
    };
    byte == b'\n' && *place == Place::FieldStart
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines and fields of all rows, header included, read in pieces of `piece` bytes.
    fn rows(text: &str, piece: usize) -> Vec<(u64, Vec<String>)> {
        let mut blocks = Blocks::new(Pieces { rest: text.as_bytes(), piece }, "test".to_owned());
        let mut reader = RowReader::new();
        let mut all = Vec::new();
        while let Ok(Some(block)) = blocks.next_block() {
            let noted = reader.rows(&block, |record, place| {
                let fields = record.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect();
                all.push((place.line(), fields));
                Ok::<_, CliError>(())
            });
            noted.unwrap();
        }
        all
    }

    struct Pieces<'a> {
        rest: &'a [u8],
        piece: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let len = self.piece.min(to.len()).min(self.rest.len());
            let (now, rest) = self.rest.split_at(len);
            to[..len].copy_from_slice(now);
            self.rest = rest;
            Ok(len)
        }
    }

    #[test]
    fn lines_are_right_whatever_the_line_ends_and_quotes() {
        for text in ["a,b\n1,2\n\n\"x\ny\",\"p\"\"q\"\n3,4", "a,b\r\n1,2\r\n\r\n\"x\ny\",\"p\"\"q\"\r\n3,4\r\n"] {
            let found = rows(text, 3);
            let expected: Vec<(u64, Vec<String>)> =
                [(1, ["a", "b"]), (2, ["1", "2"]), (4, ["x\ny", "p\"q"]), (6, ["3", "4"])]
                    .map(|(line, fields)| (line, fields.map(str::to_owned).to_vec()))
                    .into();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn many_blocks_have_the_rows_of_one() {
        let mut text = String::from("a,b\n");
        for i in 0..60_000 {
            match i % 5 {
                0 => text.push_str(&format!("{i},\"quoted, {i}\n\"\"second\"\" line\"\r\n")),
                1 => text.push_str(&format!("{i},stray \" mark\n")),
                _ => text.push_str(&format!("{i},plain value of some length\n")),
            }
        }
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let whole: Vec<Vec<String>> =
            reader.records().map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect();
        let cut = rows(&text, 70_000);
        assert!(text.len() > 3 * BLOCK_LEN);
        assert_eq!(cut.iter().map(|(_, fields)| fields.clone()).collect::<Vec<_>>(), whole);
        let last = text.lines().count() as u64;
        assert_eq!(cut.last().unwrap().0, last);
    }

    #[test]
    fn a_byte_order_mark_is_one_at_the_beginning_of_the_file_alone() {
        let text = "\u{feff}a\n\u{feff}b\n\u{feff}c\n";
        for block_len in [1, 5, 100] {
            let mut blocks = Blocks::with_limits(text.as_bytes(), "test".to_owned(), block_len, MAX_ROW_LEN);
            let mut reader = RowReader::new();
            let mut fields = Vec::new();
            while let Some(block) = blocks.next_block().unwrap() {
                let noted = reader.rows(&block, |record, _| {
                    fields.push(String::from_utf8_lossy(&record[0]).into_owned());
                    Ok::<_, CliError>(())
                });
                noted.unwrap();
            }
            assert_eq!(fields, ["a", "\u{feff}b", "\u{feff}c"], "read {block_len} bytes at a time");
        }
    }

    #[test]
    fn a_reader_that_stopped_in_the_middle_of_a_block_begins_the_next_one_anew() {
        let mut reader = RowReader::new();
        let mut blocks =
            Blocks::with_limits("a,\"b\nc\n\"\n1,2\n3,4\n".as_bytes(), "test".to_owned(), 8, MAX_ROW_LEN);
        let first = blocks.next_block().unwrap().unwrap();
        assert_eq!(reader.rows(&first, |_, _| Err("stop")), Err("stop"));
        let mut rows = Vec::new();
        for block in [&first, &blocks.next_block().unwrap().unwrap(), &first] {
            let noted = reader.rows(block, |record, place| {
                rows.push((place.line(), record.clone()));
                Ok::<_, CliError>(())
            });
            noted.unwrap();
        }
        let row = |line, fields: [&str; 2]| (line, ByteRecord::from(fields.to_vec()));
        let (one, two, three) = (row(1, ["a", "b\nc\n"]), row(4, ["1", "2"]), row(5, ["3", "4"]));
        assert_eq!(rows, [one.clone(), two.clone(), three, one, two]);
    }

    #[test]
    fn rows_that_end_in_carriage_returns_alone_are_not_lost_with_the_header() {
        for (text, expected) in [
            ("a,b\r1,2\r3,4\r", [(1, ["1", "2"]), (1, ["3", "4"])]),
            ("a,b\r1,2\n\r\n3,4", [(1, ["1", "2"]), (3, ["3", "4"])]),
            ("\r\na,b\r\n1,2\r\n3,4\r\n", [(3, ["1", "2"]), (4, ["3", "4"])]),
        ] {
            for block_len in [1, 6, 100] {
                let mut blocks = Blocks::with_limits(text.as_bytes(), "test".to_owned(), block_len, MAX_ROW_LEN);
                let (mut reader, mut rows) = (RowReader::new(), Vec::new());
                assert_eq!(blocks.header(&mut reader).unwrap(), ByteRecord::from(vec!["a", "b"]));
                while let Some(block) = blocks.next_block().unwrap() {
                    let noted = reader.rows(&block, |record, place| {
                        rows.push((place.line(), record.clone()));
                        Ok::<_, CliError>(())
                    });
                    noted.unwrap();
                }
                let expected = expected.map(|(line, fields)| (line, ByteRecord::from(fields.to_vec())));
                assert_eq!(rows, expected, "{text:?} read {block_len} bytes at a time");
            }
        }
    }

    #[test]
    fn a_row_without_end_is_an_error_and_not_a_field() {
        let text = format!("a,b\n1,2\n3,\"{}", "x,y\n".repeat(MAX_ROW_LEN));
        let mut blocks = Blocks::new(text.as_bytes(), "test".to_owned());
        let mut result = blocks.next_block();
        while let Ok(Some(_)) = result {
            result = blocks.next_block();
        }
        assert!(matches!(result, Err(CliError::RowTooLong { line: 3, .. })));
    }

    #[test]
    fn the_header_is_the_first_row_with_anything() {
        let reader = &mut RowReader::new();
        let mut blocks = Blocks::new("\u{feff}a,b\n".as_bytes(), "test".to_owned());
        assert_eq!(blocks.header(reader).unwrap(), ByteRecord::from(vec!["a", "b"]));
        let mut blocks = Blocks::new("\u{feff}\"a\nc\",b\n".as_bytes(), "test".to_owned());
        assert_eq!(
            blocks.header(reader).unwrap(),
            ByteRecord::from(vec!["a\nc", "b"]),
            "a quoted field behind the mark"
        );
        let mut blocks = Blocks::new("\n\na,b\n1,2\n".as_bytes(), "test".to_owned());
        assert_eq!(blocks.header(reader).unwrap(), ByteRecord::from(vec!["a", "b"]));
        let block = blocks.next_block().unwrap().unwrap();
        let mut lines = Vec::new();
        let noted = reader.rows(&block, |_, place| {
            lines.push(place.line());
            Ok::<_, CliError>(())
        });
        noted.unwrap();
        assert_eq!(lines, [4]);
        assert!(matches!(
            Blocks::new("".as_bytes(), "x".to_owned()).header(reader),
            Err(CliError::EmptyCsv { .. })
        ));
    }
}
