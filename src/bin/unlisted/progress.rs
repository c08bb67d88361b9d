//! Progress bars on standard error, only where a person sees them.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar for bytes of a file, or a counter of bytes where the length is not known.
pub fn of_bytes(what: &'static str, len: Option<u64>, json: bool) -> ProgressBar {
    let template = match len {
        Some(_) => "{msg} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        None => "{msg} {spinner} {bytes} {binary_bytes_per_sec}",
    };
    bar(what, len, template, json)
}

/// A bar for parts of a job.
pub fn of_parts(what: &'static str, json: bool) -> ProgressBar {
    bar(what, Some(0), "{msg} {bar:30} {pos}/{len} {eta}", json)
}

fn bar(what: &'static str, len: Option<u64>, template: &str, json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(len, ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
