//! Standard output: lines, JSON, small tables, and the forms of figures in them.

use std::fmt::Display;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::time::Duration;

use serde::Serialize;

use crate::error::CliError;

/// Standard output, buffered. A failed write is an error, never a panic.
pub struct Out {
    to: BufWriter<StdoutLock<'static>>,
}

impl Out {
    pub fn new() -> Self {
        Self { to: BufWriter::with_capacity(64 << 10, io::stdout().lock()) }
    }

    pub fn line(&mut self, text: impl Display) -> Result<(), CliError> {
        writeln!(self.to, "{text}").map_err(CliError::Output)
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.to.write_all(bytes).map_err(CliError::Output)
    }

    /// One JSON value on a line of its own.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        serde_json::to_writer(&mut self.to, value).map_err(CliError::Json)?;
        self.bytes(b"\n")
    }

    /// Names and values in two columns.
    pub fn pairs(&mut self, pairs: &[(&str, String)]) -> Result<(), CliError> {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        pairs.iter().try_for_each(|(name, value)| self.line(format_args!("{name:<width$}  {value}")))
    }

    /// What was written so far goes out now. Every command ends with it, because a drop would hide a failure.
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.to.flush().map_err(CliError::Output)
    }
}

/// A line on standard error. If nobody reads it there is nothing to be done.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that leaves at most four digits.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {name}") }
}

/// A time span by its two largest units, rounded up to a second.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, ..) => format!("{d}d {h}h"),
    }
}

/// A time span such as 30d, 12h, 90m or 45s.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let span = text.char_indices().last().and_then(|(at, unit)| {
        let count: u64 = text.get(..at)?.parse().ok()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        count.checked_mul(seconds).map(Duration::from_secs)
    });
    span.ok_or_else(|| "expected a time such as 30d, 12h, 90m or 45s".to_owned())
}

/// Milliseconds since 1970 as UTC date and time.
pub fn utc(at_ms: u64) -> String {
    let seconds = at_ms / 1_000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to a date by the cycle of 400 years, counted from a March so that the leap day comes last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Milliseconds since 1970, as such or as a UTC date with or without a time.
pub fn parse_moment(text: &str) -> Result<u64, String> {
    let moment = if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { date_ms(text) };
    moment.ok_or_else(|| "expected 2026-11-22, 2026-11-22T10:30:00Z, or milliseconds since 1970".to_owned())
}

/// A time span such as 90m, 24h or 7d.
pub fn parse_window(text: &str) -> Result<Duration, String> {
    let parse = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit_s: u64 = match unit {
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let number: u64 = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())??;
        number.checked_mul(unit_s).map(Duration::from_secs)
    };
    parse().ok_or_else(|| "expected 90m, 24h or 7d".to_owned())
}

fn date_ms(text: &str) -> Option<u64> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let fields = |text: &str, mark: char, lens: [usize; 3]| -> Option<[u64; 3]> {
        let parts: Vec<&str> = text.split(mark).collect();
        let parts: [&str; 3] = parts.try_into().ok()?;
        let right = parts.iter().zip(lens).all(|(p, len)| p.len() == len && p.bytes().all(|b| b.is_ascii_digit()));
        let [a, b, c] = parts.map(|part| part.parse().ok());
        if right { Some([a?, b?, c?]) } else { None }
    };
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = fields(time, ':', [2, 2, 2])?;
    if year < 1970
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    // The reverse of `utc`: years begin in March.
    let march_year = if month > 2 { year } else { year - 1 };
    let (era, year_of_era) = (march_year / 400, march_year % 400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * march_month + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468;
    let at_ms = (days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000;
    // A 31st of a month with 30 days would come back as another date.
    utc(at_ms).starts_with(date).then_some(at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1_000), grouped(12_345_678)],
            ["0", "999", "1,000", "12,345,678"]
        );
        assert_eq!(
            [bytes(0), bytes(1_023), bytes(1_536), bytes(3 << 30)],
            ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]
        );
        let spans = [1_500, 60_000, 3_661_000, 90_000_000].map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(spans, ["2s", "1m 0s", "1h 1m", "1d 1h"]);
    }

    #[test]
    fn spans_are_read() {
        let read = ["30d", "12h", "90m", "45s"].map(|text| parse_span(text).map(|span| span.as_secs()));
        assert_eq!(read, [2_592_000, 43_200, 5_400, 45].map(Ok));
        for bad in ["", "d", "3", "-3d", "3w", "3.5h", "99999999999999999999d", "3é"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dates() {
        for (at_s, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(at_s * 1_000), expected);
            assert_eq!(parse_moment(expected), Ok(at_s * 1_000));
        }
        assert_eq!(parse_moment("2026-11-22"), parse_moment("2026-11-22T00:00:00Z"));
        assert_eq!(parse_window("90m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_window("2d"), Ok(Duration::from_secs(2 * 86_400)));
        assert!(
            ["99999999999999999999d", "999999999999999999d", "d", "ü"]
                .iter()
                .all(|bad| parse_window(bad).is_err())
        );
        assert_eq!(parse_moment("1795000000000"), Ok(1_795_000_000_000));
        for bad in ["", "x", "2026-02-30", "2026-1-01", "2026-11-22T10:30", "1969-12-31", "2026-11-22T24:00:00Z"] {
            assert!(parse_moment(bad).is_err(), "{bad}");
        }
    }
}
