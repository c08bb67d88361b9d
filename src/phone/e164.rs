//! A telephone number in E.164 form, and the errors of reading one.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::scan;

/// A plus sign and the 15 digits that ITU-T E.164 allows.
const MAX_LEN: usize = 16;
/// Bytes of the shortest text, and by intent those of a machine word, see `from_plus_digits`.
const WORD: usize = 8;
const _: () = assert!(E164::MIN_DIGITS + 1 == WORD && MAX_LEN == 2 * WORD);

/// A telephone number in canonical international form: a plus sign and 7 to 15 ASCII digits, the first not zero.
///
/// The value lives on the stack and is [`Copy`]. The order is that of the text, not of the numeric value. `Debug`
/// prints `E164(..)`, because a number is personal data and must not reach a log by accident; `Display` and
/// [`E164::as_str`] give the number to code that asks for it.
///
/// ```
/// use unlisted::E164;
/// let number = E164::parse("+1 (415) 555-0100 ext. 12")?;
/// assert_eq!(number.as_str(), "+14155550100");
/// assert_eq!(format!("{number:?}"), "E164(..)");
/// # Ok::<(), unlisted::E164Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct E164 {
    /// The text, padded with zero bytes, so that the derived comparisons see the text alone.
    bytes: [u8; MAX_LEN],
    /// Bytes of the text, plus sign included.
    len: u8,
}

/// Why a text is not a telephone number in international form.
///
/// No variant holds any part of the text. A `position` counts characters (not bytes) from 0 at the start of the text
/// as it was given, before anything was trimmed.
///
/// ```
/// use unlisted::{E164, E164Error};
/// assert_eq!(E164::parse(""), Err(E164Error::Empty));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum E164Error {
    /// Nothing but space and invisible characters, or a `tel:` with nothing after it.
    #[error("expected a telephone number, found nothing")]
    Empty,
    /// Digits without a plus sign: a national form, or an international prefix such as `00`. Both depend on the
    /// region they are dialled from.
    #[error("expected a plus sign and a country code, as in +14155550100; a number without them needs a region")]
    NoPlus,
    /// A character that has no place where it stands: a letter, a second plus sign, a separator that does not stand
    /// between two digits, a parenthesis that closes nothing, is inside another or holds no digit.
    #[error("expected a digit or a separator between digits, found something else at character {position}")]
    UnexpectedCharacter {
        /// Where it stands.
        position: usize,
    },
    /// The country code starts with 0. No country code does.
    #[error("expected a country code, which starts with 1 to 9, found a zero at character {position}")]
    LeadingZero {
        /// Where the zero stands.
        position: usize,
    },
    /// A parenthesis right after the country code starts with 0, as in `+44 (0)20 7946 0958`. Most countries leave
    /// that zero out when called from abroad and a few, such as Italy, keep it, so without a table of countries
    /// neither reading is safe.
    #[error(
        "expected no zero in parentheses after the country code (character {position}): it may be a trunk prefix"
    )]
    TrunkPrefix {
        /// Where the zero stands.
        position: usize,
    },
    /// Fewer digits than any number that can be called from abroad.
    #[error("expected at least {} digits, found {digits}", E164::MIN_DIGITS)]
    TooShort {
        /// Digits found, country code included.
        digits: usize,
    },
    /// More digits than E.164 allows.
    #[error("expected at most {max} digits, found {digits}")]
    TooLong {
        /// Digits found, country code included.
        digits: usize,
        /// Digits allowed, [`E164::MAX_DIGITS`].
        max: usize,
    },
    /// A parenthesis is opened and never closed.
    #[error("expected a closing parenthesis for the one at character {position}")]
    UnclosedParenthesis {
        /// Where the opening parenthesis stands.
        position: usize,
    },
    /// The mark of an extension (`ext.`, `x`, `#`, `;ext=` ...) is not followed by an extension and the end of the
    /// text. An extension has up to 20 digits without separators, up to 9 after the less clear marks `x` and `#`.
    #[error("expected the digits of an extension and then the end, found something else at character {position}")]
    BadExtension {
        /// The first character that does not fit; the length of the text if it ends too early.
        position: usize,
    },
    /// What follows the number of a `tel:` URI is not a list of RFC 3966 parameters; or a parameter other than
    /// `;ext=` follows a number that is not in a `tel:` URI.
    #[error("expected parameters such as ;name=value, found something else at character {position}")]
    BadParameter {
        /// The first character that does not fit; the length of the text if it ends too early.
        position: usize,
    },
}

impl E164 {
    /// The fewest digits a number may have, country code included.
    ///
    /// E.164 itself sets no minimum. The shortest subscriber numbers in use abroad are the four digits of Niue (683)
    /// and of Tokelau (690) after a country code of three, hence 7. What this leaves out are service numbers, as
    /// `+43 1 111` in Vienna, which no person registers with; what it keeps out are cut-off numbers.
    pub const MIN_DIGITS: usize = 7;

    /// The most digits a number may have, country code included: the limit of ITU-T E.164.
    pub const MAX_DIGITS: usize = MAX_LEN - 1;

    /// Reads a number written in international form, and nothing else.
    ///
    /// The number starts with a plus sign (`+` or the full-width U+FF0B). Its digits may be decimal digits of any
    /// script. Between them may stand spaces, dashes, dots, slashes, tildes and paired round parentheses; a
    /// parenthesis may also hold the plus sign. Around it may stand white space, zero-width and directional
    /// characters. It may be a `tel:` URI as in RFC 3966, whose parameters are checked and dropped. An extension at
    /// the end (`ext. 12`, `extn 12`, `extension 12`, `x12`, `#12`, `;ext=12`) is dropped, because it reaches a desk
    /// behind the number and is no part of E.164.
    ///
    /// Nothing is guessed: letters, a prefix such as `00` and any other character are errors. A final `~` with up to
    /// nine digits is one too, because it may mark an extension or a range of numbers as well as a separator. Whether
    /// the country code and the number are assigned is not checked; that takes a table that changes monthly. For the
    /// same reason a trunk prefix written after the country code without parentheses, as in `+44 020 7946 0958`, is
    /// read as part of the number, which it is in Italy.
    ///
    /// Never allocates. Plain text of a plus sign and ASCII digits takes a short path.
    ///
    /// # Errors
    /// [`E164Error`] says what was expected and at which character. It repeats no part of `text`.
    pub fn parse(text: &str) -> Result<Self, E164Error> {
        match Self::parse_plain(text.as_bytes()) {
            Some(number) => Ok(number),
            None => scan::parse(text),
        }
    }

    /// The short path: a plus sign and 7 to 15 ASCII digits. `None` says only that the long path has to decide.
    #[inline]
    fn parse_plain(text: &[u8]) -> Option<Self> {
        match text {
            [b'+', b'1'..=b'9', ..] => Self::from_plus_digits(text),
            _ => None,
        }
    }

    /// Copies a plus sign and digits; `None` if the length is out of range or a later byte is not a digit. The first
    /// byte is the caller's to check.
    ///
    /// An import spends its time here, so the text is taken as two words that may overlap, without a loop whose end
    /// the processor would have to predict.
    #[inline]
    fn from_plus_digits(text: &[u8]) -> Option<Self> {
        let len = u8::try_from(text.len()).ok()?;
        let shift = text.len().checked_sub(WORD)?;
        if shift > MAX_LEN - WORD {
            return None;
        }
        let head = u64::from_le_bytes(*text.first_chunk()?);
        let tail = u64::from_le_bytes(*text.last_chunk()?);
        // The first byte stands in the head, and in the tail if the text is a single word: blend it out of both.
        let tail_digits = if shift == 0 { first_is_zero_digit(tail) } else { tail };
        if !(all_digits(first_is_zero_digit(head)) && all_digits(tail_digits)) {
            return None;
        }
        // Where the words overlap they hold the same bytes, so joining them with OR keeps those.
        let bytes = (u128::from(head) | (u128::from(tail) << (8 * shift))).to_le_bytes();
        Some(Self { bytes, len })
    }

    /// The number that `scan` collected: `bytes` holds the plus sign and the digits, `digits` counts those found.
    pub(super) fn from_scan(bytes: &[u8; MAX_LEN], digits: usize) -> Result<Self, E164Error> {
        if digits < Self::MIN_DIGITS {
            return Err(E164Error::TooShort { digits });
        }
        let too_long = E164Error::TooLong { digits, max: Self::MAX_DIGITS };
        bytes.get(..=digits).and_then(Self::from_plus_digits).ok_or(too_long)
    }

    /// The number as text, for example `+14155550100`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Both defaults are out of reach: `len` is at most 16 and the bytes are ASCII. They stand in for a panic.
        let text = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

/// The word with its first byte (the lowest, as read in little-endian order) replaced by the digit zero.
const fn first_is_zero_digit(word: u64) -> u64 {
    (word & !0xFF) | b'0' as u64
}

/// Whether all eight bytes are ASCII digits: their upper half is 3, and still is when 6 is added to the lower half.
const fn all_digits(word: u64) -> bool {
    const UPPER: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    let carried = word.wrapping_add(0x0606_0606_0606_0606);
    ((word & UPPER) | ((carried & UPPER) >> 4)) == 0x3333_3333_3333_3333
}

impl FromStr for E164 {
    type Err = E164Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("E164(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> String {
        E164::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}")).to_string()
    }

    fn error(text: &str) -> E164Error {
        E164::parse(text).expect_err(text)
    }

    fn unexpected(position: usize) -> E164Error {
        E164Error::UnexpectedCharacter { position }
    }

    #[test]
    fn plain() {
        assert_eq!(ok("+6834002"), "+6834002");
        assert_eq!(ok("+123456789012345"), "+123456789012345");
        assert_eq!("+14155550100".parse::<E164>().unwrap().as_str(), "+14155550100");
    }

    #[test]
    fn both_paths_agree_on_plain_text() {
        for digits in 0..20 {
            let text = format!("+{}", "1234567890123456789".get(..digits).unwrap());
            assert_eq!(E164::parse_plain(text.as_bytes()), scan::parse(&text).ok(), "{text}");
        }
        for bad in ["+0123456789", "+12345678x", "+1234567:", "+1234567/", "12345678", "＋1234567", "++1234567"] {
            assert_eq!(E164::parse_plain(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_wrong_byte_at_any_place_ends_the_short_path() {
        for len in 8..=16 {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let mut text = *b"+123456789012345";
                    text[at] = byte;
                    let good =
                        if at == 0 { byte == b'+' } else { byte.is_ascii_digit() && (at, byte) != (1, b'0') };
                    let parsed = E164::parse_plain(&text[..len]);
                    assert_eq!(parsed.is_some(), good, "{byte} at {at} of {len}");
                    assert!(parsed.is_none_or(|number| number.as_str().as_bytes() == &text[..len]));
                }
            }
        }
    }

    #[test]
    fn written_forms() {
        for text in [
            "+1 415 555 0100",
            " \u{202A}+1\u{A0}(415)\u{A0}555\u{2011}0100\u{202C}\n",
            "\u{2066}＋１（４１５）５５５－０１００\u{2069}",
            "+١ ٤١٥ ٥٥٥ ٠١٠٠",
            "+1.415.555.0100",
            "+1/415/555-0100",
            "+1\u{200B}415\u{2060}555\u{AD}0100",
            "(+1) 415.555.0100",
            "( + 1 ) 415 – 555 — 0100",
            "+(1) (415) 555 0100",
            "TeL:+1-415-555-0100",
            "tel: +1 (415) 555 0100",
            "tel:+1-415-555-0100;ext=12;isub=9;phone-context=a.example;x-a=%2F[1]",
        ] {
            assert_eq!(ok(text), "+14155550100", "{text}");
        }
    }

    #[test]
    fn extensions_are_dropped() {
        for tail in [
            " ext. 123",
            " ext 123",
            "ext123",
            " EXT: 123",
            " extn 5",
            " Extension 12345678901234567890",
            "x123",
            " X 123456789",
            "#5",
            " # 5",
            ", ext 5",
            " - ext. 5",
            ";ext=5",
            ";EXT=٥",
            " ext. １２",
        ] {
            assert_eq!(ok(&format!("+1 415 555 0100{tail}")), "+14155550100", "{tail}");
        }
        assert_eq!(ok("tel:+1-415-555-0100;ext=(1)-2.3"), "+14155550100");
    }

    #[test]
    fn tildes_only_where_they_cannot_mark_an_extension() {
        assert_eq!(ok("+1~415 555 0100"), "+14155550100");
        assert_eq!(ok("+1~415~555-0100 x5"), "+14155550100");
        assert_eq!(ok("+1～4155550100"), "+14155550100");
        // libphonenumber takes these for extensions, and many write a range of numbers so.
        assert_eq!(error("+81 3 1234 5678~9"), unexpected(15));
        assert_eq!(error("+1~415~555~0100"), unexpected(10));
        assert_eq!(error("+1 415 555 0100 ~ 123456789"), unexpected(16));
    }

    #[test]
    fn empty() {
        for text in ["", " \t\n", "\u{202A}\u{202C}", "tel:", "tel: "] {
            assert_eq!(error(text), E164Error::Empty, "{text:?}");
        }
    }

    #[test]
    fn no_plus() {
        for text in ["0171 2345678", "004915123456789", "(415) 555-0100", "14155550100", "tel:863-1234", "٠١٢٣"]
        {
            assert_eq!(error(text), E164Error::NoPlus, "{text}");
        }
    }

    #[test]
    fn unexpected_characters() {
        for (text, position) in [
            ("call me", 0),
            ("*100#", 0),
            ("++14155550100", 1),
            ("+1+4155550100", 2),
            ("+-14155550100", 1),
            ("+()14155550100", 2),
            ("+1 415 555 O100", 11),
            ("+1 800 FLOWERS", 7),
            ("+1 800 EXTRAS", 7),
            ("+1 415 555 0100*", 15),
            ("+1 415 555 0100-", 15),
            ("+1 415 555 0100.-", 15),
            ("+1 415 555 0100,", 15),
            ("+1 415 555 0100, 5", 15),
            ("+1 415) 555 0100", 6),
            ("+1 () 415 555 0100", 4),
            ("+1 ((415)) 555 0100", 4),
            ("+1415\u{202E}5550100", 5),
            ("+1 415 555 0100\n+1 415 555 0101", 15),
            ("\u{A0}ü", 1),
            ("+1\u{A0}415\u{A0}é", 7),
            ("te", 0),
            ("tél:+14155550100", 0),
        ] {
            assert_eq!(error(text), unexpected(position), "{text}");
        }
    }

    #[test]
    fn zeros() {
        assert_eq!(error("+0415 555 0100"), E164Error::LeadingZero { position: 1 });
        assert_eq!(error(" (+٠)4155550100"), E164Error::LeadingZero { position: 3 });
        assert_eq!(error("+44 (0)20 7946 0958"), E164Error::TrunkPrefix { position: 5 });
        assert_eq!(error("+44 (020) 7946 0958"), E164Error::TrunkPrefix { position: 5 });
        assert_eq!(ok("+44 20 (0946) 7958"), "+442009467958");
        assert_eq!(ok("+39 06 69812345"), "+390669812345");
    }

    #[test]
    fn lengths() {
        assert_eq!(error("+"), E164Error::TooShort { digits: 0 });
        assert_eq!(error("+91812"), E164Error::TooShort { digits: 5 });
        assert_eq!(error("+123456"), E164Error::TooShort { digits: 6 });
        assert_eq!(error("+1234567890123456"), E164Error::TooLong { digits: 16, max: 15 });
        assert_eq!(error(&format!("+{}", "1 ".repeat(300))), E164Error::TooLong { digits: 300, max: 15 });
    }

    #[test]
    fn parentheses() {
        assert_eq!(error("+1 (415 555 0100"), E164Error::UnclosedParenthesis { position: 3 });
        assert_eq!(error(" (+14155550100"), E164Error::UnclosedParenthesis { position: 1 });
        assert_eq!(error("("), E164Error::UnclosedParenthesis { position: 0 });
        assert_eq!(error("+1 415 555 0100 ("), E164Error::UnclosedParenthesis { position: 16 });
    }

    #[test]
    fn bad_extensions() {
        for (tail, position) in [
            ("#", 13),
            (" ext.", 17),
            (" ext. 12a", 20),
            (" x\u{200B}12", 14),
            (" x1234567890", 23),
            (" ext 123456789012345678901", 37),
            (";ext=", 17),
            (";ext", 16),
            (";ext=5;ext=6", 18),
            (";ext=1-2", 18),
        ] {
            assert_eq!(error(&format!("+14155550100{tail}")), E164Error::BadExtension { position }, "{tail}");
        }
        assert_eq!(error("tel:+14155550100;ext=()"), E164Error::BadExtension { position: 23 });
    }

    #[test]
    fn bad_parameters() {
        for (text, position) in [
            ("tel:+14155550100;", 17),
            ("tel:+14155550100;=1", 17),
            ("tel:+14155550100;a=", 19),
            ("tel:+14155550100;a=%2", 21),
            ("tel:+14155550100;a=1 2", 20),
            ("tel:+14155550100;a b", 18),
            ("+14155550100;isub=1", 12),
            ("+14155550100;+14155550101", 12),
        ] {
            assert_eq!(error(text), E164Error::BadParameter { position }, "{text}");
        }
    }

    #[test]
    fn the_number_is_shown_only_on_request() {
        let number = E164::parse("+14155550100").unwrap();
        assert_eq!(format!("{number:?} {:?}", Some(number)), "E164(..) Some(E164(..))");
        assert_eq!(format!("{number} [{number:>14}]"), "+14155550100 [  +14155550100]");
        assert_eq!(
            error("+1 800 FLOWERS").to_string(),
            "expected a digit or a separator between digits, found something else at character 7"
        );
        assert_eq!(error("+12").to_string(), "expected at least 7 digits, found 2");
    }

    #[test]
    fn order_and_equality_are_those_of_the_text() {
        let [a, b, c] = ["+1234567", "+12345670", "+1234568"].map(|text| E164::parse(text).unwrap());
        assert!(a < b && b < c);
        assert_eq!(a, E164::parse("+1 234 567").unwrap());
    }
}
