//! The long path of [`E164::parse`]: one pass over the characters, no allocation.

use super::chars::{Mark, digit_value, is_margin, mark};
use super::e164::{E164, E164Error};

/// Most digits of an extension after a mark that can mean nothing else. The limits are those of libphonenumber.
const EXTENSION_DIGITS: usize = 20;
/// Most digits of an extension after `x` or `#`. Also how many digits after a tilde libphonenumber still takes for an
/// extension.
const UNCLEAR_EXTENSION_DIGITS: usize = 9;
/// Digits of the longest country code.
const COUNTRY_CODE_DIGITS: usize = 3;

/// Reads a number in any written form that [`E164::parse`] accepts.
pub(super) fn parse(text: &str) -> Result<E164, E164Error> {
    let mut scan = Scan::new(text);
    let is_uri = scan.scheme();
    let group = scan.plus()?;
    let mut number = Number::new(group);
    number.body(&mut scan)?;
    let joint = number.joint;
    if !scan.tail(is_uri)?
        && let Some(position) = joint
    {
        // A separator at the very end says that more digits were meant to follow.
        return Err(E164Error::UnexpectedCharacter { position });
    }
    number.finish()
}

/// The characters still to read, and where they stand in the text as it was given.
struct Scan<'a> {
    rest: &'a str,
    position: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        let rest = text.trim_start_matches(is_margin);
        let position = text.get(..text.len() - rest.len()).map_or(0, |margin| margin.chars().count());
        Self { rest: rest.trim_end_matches(is_margin), position }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn advance(&mut self) {
        let mut chars = self.rest.chars();
        if chars.next().is_some() {
            self.rest = chars.as_str();
            self.position += 1;
        }
    }

    /// Reads the next character if `wanted` holds for it.
    fn take_if(&mut self, wanted: impl FnOnce(char) -> bool) -> bool {
        let found = self.peek().is_some_and(wanted);
        if found {
            self.advance();
        }
        found
    }

    fn blanks(&mut self) {
        while self.take_if(|c| mark(c) == Mark::Blank) {}
    }

    fn unexpected<T>(&self) -> Result<T, E164Error> {
        Err(E164Error::UnexpectedCharacter { position: self.position })
    }

    /// Reads `tel:` in any letter case, and says whether it was there.
    fn scheme(&mut self) -> bool {
        let Some((scheme, rest)) = self.rest.split_at_checked("tel:".len()) else { return false };
        let found = scheme.eq_ignore_ascii_case("tel:");
        if found {
            self.rest = rest;
            self.position += "tel:".len();
        }
        found
    }

    /// Reads the plus sign, and the parenthesis that may hold it and the country code; returns where that opened.
    fn plus(&mut self) -> Result<Option<usize>, E164Error> {
        self.blanks();
        let opens = self.peek().is_some_and(|c| mark(c) == Mark::Open);
        let group = opens.then_some(self.position);
        if opens {
            self.advance();
            self.blanks();
        }
        match (self.peek(), group) {
            (None, Some(position)) => Err(E164Error::UnclosedParenthesis { position }),
            (None, None) => Err(E164Error::Empty),
            (Some(c), _) if digit_value(c).is_some() => Err(E164Error::NoPlus),
            (Some(c), _) if mark(c) == Mark::Plus => {
                self.advance();
                Ok(group)
            }
            (Some(_), _) => self.unexpected(),
        }
    }

    /// Reads what may follow the digits up to the end of the text; says whether there was anything.
    fn tail(&mut self, is_uri: bool) -> Result<bool, E164Error> {
        let comma = (self.peek() == Some(',')).then_some(self.position);
        if comma.is_some() {
            self.advance();
            self.blanks();
        }
        match (self.peek(), comma) {
            (None, None) => return Ok(false),
            (Some(';'), None) => self.parameters(is_uri)?,
            (Some('#'), _) => {
                self.advance();
                self.extension(UNCLEAR_EXTENSION_DIGITS)?;
            }
            (Some('x' | 'X' | 'e' | 'E'), _) => {
                let limit = self.extension_word()?;
                self.extension(limit)?;
            }
            // A comma that is not followed by an extension is itself the character that does not fit.
            (_, Some(position)) => return Err(E164Error::UnexpectedCharacter { position }),
            (Some(_), None) => return self.unexpected(),
        }
        Ok(true)
    }

    /// Reads the word that marks an extension; returns how many digits may follow it.
    fn extension_word(&mut self) -> Result<usize, E164Error> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.rest.len());
        let Some((word, rest)) = self.rest.split_at_checked(end) else { return self.unexpected() };
        let limit = if word.eq_ignore_ascii_case("x") {
            UNCLEAR_EXTENSION_DIGITS
        } else if ["ext", "extn", "extension"].iter().any(|known| word.eq_ignore_ascii_case(known)) {
            EXTENSION_DIGITS
        } else {
            return self.unexpected();
        };
        self.rest = rest;
        self.position += end;
        Ok(limit)
    }

    /// Reads the digits of an extension, which must end the text.
    fn extension(&mut self, limit: usize) -> Result<(), E164Error> {
        let _ = self.take_if(|c| matches!(c, '.' | ':' | '\u{FF0E}'));
        // Fewer kinds of space than elsewhere: after any other libphonenumber reads on and takes the digits for part
        // of the number.
        while self.take_if(|c| matches!(c, ' ' | '\t' | '\u{A0}')) {}
        let mut digits = 0;
        while digits < limit && self.take_if(|c| digit_value(c).is_some()) {
            digits += 1;
        }
        if digits == 0 || !self.rest.is_empty() {
            return Err(E164Error::BadExtension { position: self.position });
        }
        Ok(())
    }

    /// Reads `;name` and `;name=value` up to the end of the text. Outside a URI the only name is `ext`.
    fn parameters(&mut self, is_uri: bool) -> Result<(), E164Error> {
        while !self.rest.is_empty() {
            let start = self.position;
            if !self.take_if(|c| c == ';') {
                return Err(E164Error::BadParameter { position: self.position });
            }
            let before = self.rest;
            while self.take_if(|c| c.is_ascii_alphanumeric() || c == '-') {}
            let name = before.strip_suffix(self.rest).unwrap_or_default();
            let is_extension = name.eq_ignore_ascii_case("ext");
            if !(is_uri || is_extension) {
                return Err(E164Error::BadParameter { position: start });
            }
            if is_extension {
                self.extension_parameter(is_uri)?;
            } else if name.is_empty() {
                return Err(E164Error::BadParameter { position: self.position });
            } else if self.take_if(|c| c == '=') {
                self.parameter_value()?;
            }
        }
        Ok(())
    }

    /// Reads `=` and digits. RFC 3966 allows its visual separators among them, plain text gets no such licence.
    fn extension_parameter(&mut self, is_uri: bool) -> Result<(), E164Error> {
        let mut digits = 0;
        if self.take_if(|c| c == '=') {
            loop {
                if digits < EXTENSION_DIGITS && self.take_if(|c| digit_value(c).is_some()) {
                    digits += 1;
                } else if !(is_uri && self.take_if(|c| matches!(c, '-' | '.' | '(' | ')'))) {
                    break;
                }
            }
        }
        let ended = self.rest.is_empty() || (is_uri && self.rest.starts_with(';'));
        if digits == 0 || !ended {
            return Err(E164Error::BadExtension { position: self.position });
        }
        Ok(())
    }

    /// Reads one or more of the characters that RFC 3966 allows in the value of a parameter.
    fn parameter_value(&mut self) -> Result<(), E164Error> {
        let start = self.position;
        loop {
            if self.take_if(|c| c == '%') {
                if !(self.take_if(|c| c.is_ascii_hexdigit()) && self.take_if(|c| c.is_ascii_hexdigit())) {
                    return Err(E164Error::BadParameter { position: self.position });
                }
            } else if !self.take_if(|c| c.is_ascii_alphanumeric() || "-_.!~*'()[]/:&+$?@,=".contains(c)) {
                break;
            }
        }
        if self.position == start {
            return Err(E164Error::BadParameter { position: start });
        }
        Ok(())
    }
}

/// A place in the text and how many digits were read before it.
#[derive(Clone, Copy)]
struct Place {
    position: usize,
    digits: usize,
}

/// The digits read so far and what has to hold before the next one or the end.
struct Number {
    /// A plus sign and the first 15 digits.
    bytes: [u8; E164::MAX_DIGITS + 1],
    /// Digits read, those that did not fit included.
    digits: usize,
    /// The open parenthesis.
    group: Option<Place>,
    /// The separator that still waits for its digit.
    joint: Option<usize>,
    /// The last tilde, as long as the digits after it are a single run.
    tilde: Option<Place>,
    /// Whether something stands between the last digit and the next.
    apart: bool,
}

impl Number {
    fn new(group: Option<usize>) -> Self {
        let mut bytes = [0; E164::MAX_DIGITS + 1];
        if let Some(first) = bytes.first_mut() {
            *first = b'+';
        }
        let group = group.map(|position| Place { position, digits: 0 });
        Self { bytes, digits: 0, group, joint: None, tilde: None, apart: false }
    }

    /// Reads digits, separators and parentheses up to the first character that is none of them.
    fn body(&mut self, scan: &mut Scan<'_>) -> Result<(), E164Error> {
        while let Some(c) = scan.peek() {
            let here = Place { position: scan.position, digits: self.digits };
            if let Some(value) = digit_value(c) {
                self.push(value, here.position)?;
                scan.advance();
                continue;
            }
            match mark(c) {
                Mark::Blank => {}
                Mark::Joint if self.digits > 0 => {
                    self.joint.get_or_insert(here.position);
                }
                Mark::Tilde if self.digits > 0 => {
                    self.joint.get_or_insert(here.position);
                    self.tilde = Some(here);
                }
                Mark::Open if self.group.is_none() => self.group = Some(here),
                Mark::Close if self.group.is_some_and(|group| group.digits < self.digits) => self.group = None,
                Mark::Joint | Mark::Tilde | Mark::Open | Mark::Close | Mark::Plus => return scan.unexpected(),
                Mark::Other => break,
            }
            self.apart = true;
            scan.advance();
        }
        Ok(())
    }

    fn push(&mut self, value: u8, position: usize) -> Result<(), E164Error> {
        if value == 0 {
            if self.digits == 0 {
                return Err(E164Error::LeadingZero { position });
            }
            let opens_group = self.group.is_some_and(|group| group.digits == self.digits);
            if opens_group && self.digits <= COUNTRY_CODE_DIGITS {
                return Err(E164Error::TrunkPrefix { position });
            }
        }
        if self.apart && self.tilde.is_some_and(|tilde| tilde.digits < self.digits) {
            self.tilde = None;
        }
        self.digits += 1;
        self.joint = None;
        self.apart = false;
        if let Some(to) = self.bytes.get_mut(self.digits) {
            *to = b'0' + value;
        }
        Ok(())
    }

    fn finish(&self) -> Result<E164, E164Error> {
        if let Some(Place { position, .. }) = self.group {
            return Err(E164Error::UnclosedParenthesis { position });
        }
        if let Some(Place { position, digits }) = self.tilde
            && self.digits - digits <= UNCLEAR_EXTENSION_DIGITS
        {
            return Err(E164Error::UnexpectedCharacter { position });
        }
        E164::from_scan(&self.bytes, self.digits)
    }
}
