//! A file read in one piece by the crate `csv`: what its rows are.

use std::io::{Cursor, SeekFrom};

use ::csv::{ByteRecord, Position, Reader, ReaderBuilder};

/// Lines and fields of rows, one after the other in one piece of memory: hundreds of rows are compared in an execution.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rows {
    rows: usize,
    first_line: u64,
    /// Of each row its line and the number of its fields, of each field its length and its bytes.
    bytes: Vec<u8>,
}

impl Rows {
    pub fn add(&mut self, line: u64, record: &ByteRecord) {
        if self.rows == 0 {
            self.first_line = line;
        }
        self.rows += 1;
        self.bytes.extend_from_slice(&line.to_le_bytes());
        self.bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        for field in record {
            self.bytes.extend_from_slice(&(field.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(field);
        }
    }

    pub fn first_line(&self) -> u64 {
        self.first_line
    }

    pub fn begins_with(&self, others: &Self) -> bool {
        self.rows >= others.rows && self.bytes.starts_with(&others.bytes)
    }

    fn clear(&mut self) {
        (self.rows, self.first_line) = (0, 0);
        self.bytes.clear();
    }
}

pub struct Whole {
    reader: Reader<Cursor<Vec<u8>>>,
    record: ByteRecord,
    rows: Rows,
}

impl Whole {
    pub fn new() -> Self {
        let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(Cursor::default());
        Self { reader, record: ByteRecord::new(), rows: Rows::default() }
    }

    /// The rows of a file.
    pub fn rows(&mut self, file: &[u8]) -> &Rows {
        self.rows.clear();
        let held = self.reader.get_mut().get_mut();
        held.clear();
        held.extend_from_slice(file);
        self.reader.seek_raw(SeekFrom::Start(0), Position::new()).expect("memory begins somewhere");
        let (mut line, mut counted) = (1, 0);
        while self.reader.read_byte_record(&mut self.record).expect("any bytes are rows") {
            // The position is before the line ends that the row follows.
            let mut at = self.record.position().expect("a row has one").byte() as usize;
            // A mark at the beginning of the file is none of its bytes.
            if at == 0 && file.starts_with(b"\xef\xbb\xbf") {
                at = 3;
            }
            at += file[at..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            line += file[counted..at].iter().filter(|byte| **byte == b'\n').count() as u64;
            counted = at;
            self.rows.add(line, &self.record);
        }
        &self.rows
    }
}
