//! The command line, which a child process gets too.

use std::path::PathBuf;

use clap::Parser;

/// Measures unlisted and other stores on the same work.
#[derive(Parser, Debug, Clone)]
pub struct Args {
    /// Entries of every store.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub listings: u64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Only these contestants, as `lmdb,redb`; see `--list`. The rows of unlisted itself are always there.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Print the names of the contestants.
    #[arg(long)]
    pub list: bool,
    /// Threads that ask at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub threads: u64,
    /// Keys of one question.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub batch: u64,
    /// Share of the keys asked that are found; may be given more than once.
    #[arg(long = "hit-ratio", default_values_t = [0.5, 0.0])]
    pub hit_ratios: Vec<f64>,
    /// Keys asked in each of the four passes, the first of which does not count.
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub questions: u64,
    /// Seed of the questions and of the order of the contestants.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where stores are kept while they are measured; the system's temporary folder if it is not given.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// For child processes: the one contestant to run.
    #[arg(long, hide = true)]
    pub contestant: Option<String>,
    /// For child processes: what to do with it.
    #[arg(long, hide = true, value_enum, requires = "contestant")]
    pub phase: Option<Phase>,
}

/// What a child process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Phase {
    /// Make the store and end.
    Load,
    /// Open a store that was made before, and ask.
    Query,
    /// Both, for a store in memory.
    Both,
}

impl Phase {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Query => "query",
            Self::Both => "both",
        }
    }
}
