//! The project itself: its rules for source code, and what its documents say.

mod readme;
mod tidy;
