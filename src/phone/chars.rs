//! What each character may mean inside a written telephone number.

/// The zero of every run of decimal digits (general category Nd) in Unicode 17.0, sorted. Unicode 18.0 adds none.
///
/// Source: `UnicodeData.txt` of the Unicode Character Database, the entries of category Nd whose decimal value is 0.
/// Unicode guarantees that the digits one to nine follow each zero directly, so the zeros are enough.
const ZEROS: [u32; 77] = [
    0x0030, 0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66,
    0x0DE6, 0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50,
    0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30,
    0x10D40, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x116D0, 0x116DA,
    0x11730, 0x118E0, 0x11950, 0x11BF0, 0x11C50, 0x11D50, 0x11DA0, 0x11DE0, 0x11F50, 0x16130, 0x16A60, 0x16AC0,
    0x16B50, 0x16D70, 0x1CCF0, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E4F0, 0x1E5F1,
    0x1E950, 0x1FBF0,
];

/// The part a character that is not a digit plays between the digits of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Space, or a character that is not seen: says nothing about what follows.
    Blank,
    /// A dash, dot or slash: stands between two digits.
    Joint,
    /// A tilde: a joint, or what some put before an extension or before the last number of a range.
    Tilde,
    /// An opening round parenthesis.
    Open,
    /// A closing round parenthesis.
    Close,
    /// A plus sign.
    Plus,
    /// Anything else.
    Other,
}

/// The value of a decimal digit of any script.
pub(super) fn digit_value(c: char) -> Option<u8> {
    if c.is_ascii() {
        return c.to_digit(10).and_then(|value| u8::try_from(value).ok());
    }
    let code = u32::from(c);
    let after = ZEROS.partition_point(|&zero| zero <= code);
    let zero = ZEROS.get(after.checked_sub(1)?)?;
    u8::try_from(code - zero).ok().filter(|&value| value < 10)
}

/// The part `c` plays, if it is not a digit.
pub(super) fn mark(c: char) -> Mark {
    match c {
        '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{30FC}' | '\u{FF0D}'..='\u{FF0F}' | '.' | '/' => {
            Mark::Joint
        }
        '~' | '\u{2053}' | '\u{223C}' | '\u{FF5E}' => Mark::Tilde,
        '(' | '\u{FF08}' => Mark::Open,
        ')' | '\u{FF09}' => Mark::Close,
        '+' | '\u{FF0B}' => Mark::Plus,
        _ if is_blank(c) => Mark::Blank,
        _ => Mark::Other,
    }
}

/// Whether `c` may stand before the first or after the last character of a number without being part of it.
pub(super) fn is_margin(c: char) -> bool {
    c.is_whitespace() || is_unseen(c) || is_bidi_control(c)
}

/// Space of any width. A line or paragraph break is not one: it usually separates two numbers.
fn is_blank(c: char) -> bool {
    let line_break = matches!(c, '\n'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    (c.is_whitespace() && !line_break) || is_unseen(c)
}

/// Soft hyphen, zero-width characters and the three directional marks: none of them moves a visible digit.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}')
}

/// Embeddings, overrides and isolates. Address books wrap whole numbers in them. Between digits they could show the
/// digits in another order than they are stored in, so there they are not allowed.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    #[test]
    fn the_runs_are_sorted_apart_and_numeric() {
        for pair in ZEROS.windows(2) {
            assert!(pair[0] + 10 <= pair[1], "{:X} overlaps {:X}", pair[0], pair[1]);
        }
        for zero in ZEROS {
            for value in 0..10_u8 {
                let c = char::from_u32(zero + u32::from(value)).unwrap();
                assert!(c.is_numeric(), "{zero:X}+{value}");
                assert_eq!(digit_value(c), Some(value));
            }
        }
    }

    #[test]
    fn nothing_else_is_a_digit() {
        let digits: Vec<char> = ('\0'..=char::MAX).filter(|&c| digit_value(c).is_some()).collect();
        assert_eq!(digits.len(), 770);
        assert!(digits.iter().all(|c| c.is_numeric() && mark(*c) == Mark::Other));
        // Numeric, but of the categories No and Nl: superscript two, circled one, Roman four, ideographic zero.
        for c in ['²', '①', 'Ⅳ', '〇', '½'] {
            assert!(c.is_numeric() && digit_value(c).is_none());
        }
    }

    /// `std` cannot tell the decimal digits from the other numeric characters, but the regex engine behind proptest
    /// can: 40,000 draws over fewer than 800 characters leave none out in practice.
    #[test]
    fn no_decimal_digit_known_to_the_regex_tables_is_missing() {
        let strategy = proptest::string::string_regex(r"\p{Nd}").unwrap();
        let mut runner = TestRunner::deterministic();
        for _ in 0..40_000 {
            let text = strategy.new_tree(&mut runner).unwrap().current();
            assert!(text.chars().all(|c| digit_value(c).is_some()), "{text:?}");
        }
    }

    #[test]
    fn marks() {
        for c in "\u{20}\t\u{a0}\u{1680}\u{2009}\u{202f}\u{3000}\u{200b}\u{2060}\u{feff}\u{200e}".chars() {
            assert_eq!(mark(c), Mark::Blank, "{c:?}");
            assert!(is_margin(c));
        }
        for c in "\n\r\u{b}\u{c}\u{85}\u{2028}\u{202a}\u{202e}\u{2066}\u{2069}".chars() {
            assert_eq!(mark(c), Mark::Other, "{c:?}");
            assert!(is_margin(c));
        }
        for c in "-‐‑‒–—―−ー－./．／".chars() {
            assert_eq!(mark(c), Mark::Joint, "{c:?}");
        }
        for c in "*#,;:[]{}_'\"\\|ax٪".chars() {
            assert_eq!(mark(c), Mark::Other, "{c:?}");
        }
    }
}
