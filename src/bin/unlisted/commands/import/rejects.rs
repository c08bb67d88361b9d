//! Rows that are no listings: into a file with line and reason, or the end of a strict import.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use crate::csv_rows::Flaw;
use crate::error::CliError;
use crate::input::shown;

/// A row that is no listing.
pub struct Reject {
    pub line: u64,
    pub flaw: Flaw,
    pub row: ByteRecord,
}

/// Where rejects go. They arrive in the order of the file.
pub enum Rejects {
    Strict { name: String },
    File(Box<RejectsFile>),
}

/// A file that is made with its first row.
pub struct RejectsFile {
    path: PathBuf,
    header: ByteRecord,
    writer: Option<csv::Writer<File>>,
    summary: Summary,
}

/// What was rejected.
#[derive(Default)]
pub struct Summary {
    pub count: u64,
    /// Line and reason of the first.
    pub first: Option<(u64, String)>,
}

impl Rejects {
    /// The first reject is an error.
    pub fn strict(name: &str) -> Self {
        Self::Strict { name: name.to_owned() }
    }

    pub fn to_file(path: PathBuf, header: &ByteRecord) -> Self {
        Self::File(Box::new(RejectsFile {
            path,
            header: header.clone(),
            writer: None,
            summary: Summary::default(),
        }))
    }

    pub fn add(&mut self, reject: Reject) -> Result<(), CliError> {
        match self {
            Self::Strict { name } => Err(CliError::BadRow {
                name: name.clone(),
                line: reject.line,
                flaw: reject.flaw,
                consequence: "nothing was imported".to_owned(),
            }),
            Self::File(file) => file.add(&reject),
        }
    }

    /// Brings the file to its end.
    pub fn finish(self) -> Result<Summary, CliError> {
        let Self::File(mut file) = self else { return Ok(Summary::default()) };
        if let Some(writer) = &mut file.writer {
            writer.flush().map_err(CliError::file("write", &shown(&file.path)))?;
        }
        Ok(file.summary)
    }
}

impl RejectsFile {
    fn add(&mut self, reject: &Reject) -> Result<(), CliError> {
        let reason = reject.flaw.to_string();
        let line = reject.line.to_string();
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(create(&self.path, &self.header)?),
        };
        // Line and reason come first, so that a row with too few or too many fields does not displace them.
        let own = [line.as_bytes(), reason.as_bytes()];
        let written = writer.write_record(own.into_iter().chain(&reject.row));
        written.map_err(io::Error::from).map_err(CliError::file("write", &shown(&self.path)))?;
        self.summary.count += 1;
        self.summary.first.get_or_insert((reject.line, reason));
        Ok(())
    }
}

fn create(path: &Path, header: &ByteRecord) -> Result<csv::Writer<File>, CliError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // The rows hold telephone numbers: the file is for its owner.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(CliError::file("create", &shown(path)))?;
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(file);
    let names = [b"line".as_slice(), b"reason"].into_iter().chain(header);
    writer.write_record(names).map_err(io::Error::from).map_err(CliError::file("write", &shown(path)))?;
    Ok(writer)
}
