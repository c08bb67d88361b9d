//! As much of the program's errors as reading CSV needs.

/// Why a file is no file of listings.
#[derive(Debug)]
#[allow(dead_code, reason = "fields are for the messages of the program")]
pub enum CliError {
    File { action: &'static str, name: String, source: std::io::Error },
    EmptyCsv { name: String },
    Header { name: String, problem: String },
    RowTooLong { name: String, line: u64, limit: usize },
}

impl CliError {
    pub fn file(action: &'static str, name: &str) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let name = name.to_owned();
        move |source| Self::File { action, name, source }
    }
}
