//! Where a command reads from: a file or standard input, plain or compressed with gzip, and lines of it.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;
use unlisted::E164;

use crate::error::CliError;

/// Bytes read at a time.
const BUFFER_LEN: usize = 256 << 10;
/// The first bytes of every gzip member.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// An opened source of bytes.
pub type Input = Box<dyn Read + Send>;

/// A file or standard input, not opened yet.
#[derive(Clone)]
pub enum Source {
    Stdin,
    File(PathBuf),
}

impl Source {
    /// `-` or nothing is standard input.
    pub fn of(argument: Option<&Path>) -> Self {
        match argument {
            Some(path) if path != Path::new("-") => Self::File(path.to_owned()),
            _ => Self::Stdin,
        }
    }

    /// Length of the file, if it is one.
    pub fn file_len(&self) -> Option<u64> {
        match self {
            Self::File(path) => path.metadata().ok().filter(|m| m.is_file()).map(|m| m.len()),
            Self::Stdin => None,
        }
    }

    /// Opens it, decompressing what begins like gzip. The bar moves with the bytes read, as they are on disk.
    pub fn open(&self, bar: &ProgressBar) -> Result<Input, CliError> {
        let name = self.to_string();
        let raw: Input = match self {
            Self::Stdin => Box::new(io::stdin()),
            Self::File(path) => Box::new(File::open(path).map_err(CliError::file("open", &name))?),
        };
        plain(Box::new(bar.wrap_read(raw))).map_err(CliError::file("read", &name))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => f.write_str(&shown(path)),
        }
    }
}

/// The name of a file for a message. A number or a secret given where a file is expected is not repeated.
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    let is_secret = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = E164::parse(&text).is_ok() || (digits >= 7 && letters == 0);
    if is_secret || is_number { "the file given".to_owned() } else { text.into_owned() }
}

/// Decompresses what begins like gzip and passes everything else on.
fn plain(mut raw: Input) -> io::Result<Input> {
    let mut first = Vec::with_capacity(GZIP_MAGIC.len());
    raw.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut first)?;
    let is_gzip = first == GZIP_MAGIC;
    let whole = BufReader::with_capacity(BUFFER_LEN, Cursor::new(first).chain(raw));
    // Several members in a row are one file, as `cat a.gz b.gz` makes it.
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

/// Lines of bytes, each kept up to a bound.
pub struct Lines {
    input: BufReader<Input>,
    name: String,
}

impl Lines {
    /// Longest line that is kept. No telephone number is near as long.
    pub const MAX_LEN: usize = 1 << 10;

    pub fn new(input: Input, source: &Source) -> Self {
        Self { input: BufReader::with_capacity(BUFFER_LEN, input), name: source.to_string() }
    }

    /// The next line without its end, or `None` at the end of the input. An overlong line is cut to one byte more
    /// than [`Lines::MAX_LEN`], so that it can be told from a good one.
    pub fn next_into(&mut self, line: &mut Vec<u8>) -> Result<bool, CliError> {
        line.clear();
        let mut any = false;
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CliError::file("read", &self.name)(error)),
            };
            if buffer.is_empty() {
                return Ok(any);
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            let room = (Self::MAX_LEN + 1).saturating_sub(line.len());
            line.extend(part.iter().take(room));
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(true);
            }
        }
    }
}
