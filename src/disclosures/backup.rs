//! The log at one moment, for a backup: its files, of which none is removed meanwhile.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::files::{Part, log_name, run_name};
use super::{DisclosureLog, erased};
use crate::words::{Damage, Error, Result};

/// Everything that the log held at one moment.
pub(crate) struct Held {
    pub(crate) files: Vec<HeldFile>,
}

/// One file of it.
pub(crate) struct HeldFile {
    /// Its name in the folder of the log.
    pub(crate) name: String,
    content: Content,
}

enum Content {
    /// A sealed log or a run: it never changes.
    Part(Part),
    /// The log that grows, up to the end of a frame.
    Growing { file: File, path: PathBuf, len: u64 },
    /// Accounts whose rows are to go.
    Erased(Vec<u8>),
}

impl DisclosureLog {
    /// Holds what was recorded so far. All of it is on the device.
    pub(crate) fn hold(&self) -> Result<Held> {
        // Erasures first: one that is carried out in between hides rows that are gone, which is nothing.
        let erased = self.erased.bytes(self.writer.folder());
        self.writer.settle()?;
        let mut files = self.writer.with(|state| {
            let mut files: Vec<HeldFile> =
                state.parts.iter().map(|part| HeldFile::of_part(part.clone())).collect();
            let active = &state.active;
            let file = File::open(&active.path).map_err(Error::io("open", &active.path))?;
            // Its length is what was written to it: the file may be longer.
            let content = Content::Growing { file, path: active.path.clone(), len: active.len };
            files.push(HeldFile { name: log_name(active.seq), content });
            Ok::<_, Error>(files)
        })?;
        files.extend(
            erased.map(|bytes| HeldFile { name: erased::NAME.to_owned(), content: Content::Erased(bytes) }),
        );
        Ok(Held { files })
    }
}

impl HeldFile {
    fn of_part(part: Part) -> Self {
        let name = match &part {
            Part::Log(log) => log_name(log.seq),
            Part::Run(run) => run_name(run.span().0, run.span().1),
        };
        Self { name, content: Content::Part(part) }
    }

    /// Will the file never be written to again?
    pub(crate) const fn is_immutable(&self) -> bool {
        matches!(self.content, Content::Part(_))
    }

    /// Where it can be linked from. A run may have been replaced there by one without what was forgotten since; its bytes
    /// are to be compared.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.content {
            Content::Part(Part::Log(log)) => Some(&log.file.path),
            Content::Part(Part::Run(run)) => Some(&run.file().path),
            _ => None,
        }
    }

    /// All of it. A log is some megabytes, a run is mapped.
    pub(crate) fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match &self.content {
            Content::Part(Part::Run(run)) => Ok(Cow::Borrowed(run.content())),
            Content::Part(Part::Log(log)) => {
                fs::read(&log.file.path).map(Cow::Owned).map_err(Error::io("read", &log.file.path))
            }
            Content::Growing { file, path, len } => {
                let mut bytes = Vec::new();
                file.take(*len).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
                let found = bytes.len() as u64;
                if found != *len {
                    let what = Damage::Length { expected: *len, found };
                    return Err(Error::Damaged { path: path.clone(), offset: found, what });
                }
                Ok(Cow::Owned(bytes))
            }
            Content::Erased(bytes) => Ok(Cow::Borrowed(bytes)),
        }
    }
}
