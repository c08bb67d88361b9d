//! The log at one moment, for a backup: its files, of which none is removed meanwhile.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use super::files::{Part, log_name, run_name};
use super::{DisclosureLog, erased};
use crate::disk::File;
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
    /// The log that grows, up to the end of a frame, or accounts whose rows are to go.
    Bytes(Vec<u8>),
}

impl DisclosureLog {
    /// Holds what was recorded so far. All of it is on the device.
    pub(crate) fn hold(&self) -> Result<Held> {
        // Erasures first: one that is carried out in between hides rows that are gone, which is nothing.
        let erased = self.erased.bytes(self.writer.folder());
        self.writer.settle()?;
        let (parts, name, path, file, len) = self.writer.with(|state| {
            let active = &state.active;
            let file = self.writer.folder().disk.open(&active.path)?;
            // Its length is what was written to it: the file may be longer.
            Ok::<_, Error>((state.parts.clone(), log_name(active.seq), active.path.clone(), file, active.len))
        })?;
        let mut files: Vec<HeldFile> = parts.into_iter().map(HeldFile::of_part).collect();
        files.push(HeldFile { name, content: Content::Bytes(read_first(file, &path, len)?) });
        files.extend(
            erased.map(|bytes| HeldFile { name: erased::NAME.to_owned(), content: Content::Bytes(bytes) }),
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
                let mut bytes = Vec::new();
                let mut file = log.file.disk.open(&log.file.path)?;
                file.read_to_end(&mut bytes).map_err(Error::io("read", &log.file.path))?;
                Ok(Cow::Owned(bytes))
            }
            Content::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        }
    }
}

/// So many bytes of a log: a few megabytes at most.
fn read_first(file: File, path: &Path, len: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let found = bytes.len() as u64;
    if found == len {
        return Ok(bytes);
    }
    Err(Error::Damaged { path: path.to_owned(), offset: found, what: Damage::Length { expected: len, found } })
}
