//! Numbers in national form, read with libphonenumber's metadata (cargo feature `national`).

use rlibphonenumber::{PHONE_NUMBER_UTIL, ParseError, PhoneNumberFormat, Region};
use thiserror::Error;

use super::e164::{E164, E164Error};

/// Why a text is not a telephone number of a region.
///
/// No variant holds any part of the text.
///
/// ```
/// use unlisted::{NationalError, parse_national};
/// assert!(matches!(parse_national("0812-126-850", "??"), Err(NationalError::UnknownRegion { .. })));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NationalError {
    /// The region is not two capital letters, or the metadata knows no numbers of it.
    #[error("expected a region as two capital letters of ISO 3166, such as DE, with telephone numbers of its own")]
    UnknownRegion,
    /// The text does not have the form of a telephone number.
    #[error("expected a telephone number, found a text of another form")]
    NotANumber,
    /// The text is in international form and no country has its country code.
    #[error("expected an assigned country code after the plus sign or the international prefix")]
    UnknownCountryCode,
    /// Too few digits to be a number of any kind.
    #[error("expected more digits")]
    TooShort,
    /// Too many digits to be a number of any kind.
    #[error("expected fewer digits")]
    TooLong,
    /// The form is right, but the numbering plan of the region has no such number.
    #[error("expected a number that the numbering plan of its region allows")]
    NotValid,
    /// The number is valid at home and outside of what [`E164`] holds: a few German numbers have more than 15
    /// digits, a few Austrian service numbers fewer than 7.
    #[error("the number is valid in its region, but not an international number")]
    NotInternational(#[from] E164Error),
}

/// Reads a number as it is written or dialled in `region`, an ISO 3166 alpha-2 code such as `DE`.
///
/// Also reads international forms, with a plus sign or the international prefix of the region (`00`, `011` ...). The
/// result is a number that the numbering plan allows, which does not mean that someone answers it.
///
/// The text is read as libphonenumber reads it, which is more lenient than [`E164::parse`]: text before the first
/// digit is skipped, letters count as the digits of a telephone keypad, an extension is dropped. The answer may change
/// when the metadata of the crate `rlibphonenumber` is updated, because numbering plans do.
///
/// ```
/// use unlisted::parse_national;
/// assert_eq!(parse_national("0171 2345678", "DE")?.as_str(), "+491712345678");
/// # Ok::<(), unlisted::NationalError>(())
/// ```
///
/// # Errors
/// [`NationalError`] says what was expected. It repeats no part of `text`.
pub fn parse_national(text: &str, region: &str) -> Result<E164, NationalError> {
    let number = PHONE_NUMBER_UTIL.parse(text, Some(known_region(region)?)).map_err(|error| match error {
        ParseError::NotANumber(_) => NationalError::NotANumber,
        ParseError::InvalidCountryCode => NationalError::UnknownCountryCode,
        ParseError::TooShortAfterIdd | ParseError::TooShortNsn => NationalError::TooShort,
        ParseError::TooLongNsn => NationalError::TooLong,
    })?;
    if !number.is_valid() {
        return Err(NationalError::NotValid);
    }
    Ok(E164::parse(&number.format_as(PhoneNumberFormat::E164))?)
}

/// The region of a code, if the metadata holds a numbering plan for it.
fn known_region(code: &str) -> Result<Region, NationalError> {
    // The library would also take lower case and `001`, the pseudo-region of the international services.
    let is_alpha2 = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    is_alpha2
        .then(|| Region::try_from(code).ok())
        .flatten()
        .filter(|&region| PHONE_NUMBER_UTIL.get_country_code_for_region(region).is_some())
        .ok_or(NationalError::UnknownRegion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn national_and_international_forms() {
        for (text, region, expected) in [
            ("0171 2345678", "DE", "+491712345678"),
            ("(202) 555-0143", "US", "+12025550143"),
            ("00 44 20 7946 0958", "DE", "+442079460958"),
            ("011 44 20 7946 0958", "US", "+442079460958"),
            ("+44 (0)20 7946 0958", "US", "+442079460958"),
            ("06 69812345", "IT", "+390669812345"),
        ] {
            assert_eq!(parse_national(text, region).unwrap().as_str(), expected, "{text} {region}");
        }
    }

    #[test]
    fn the_region_does_not_change_an_international_number() {
        for region in ["DE", "US", "BR", "JP"] {
            assert_eq!(parse_national("+49 162 70821755", region).unwrap().as_str(), "+4916270821755");
        }
    }

    #[test]
    fn regions() {
        for region in ["", "D", "de", "DEU", "ZZ", "001", "XX", "ÄÖ", "ß"] {
            assert_eq!(parse_national("0171 2345678", region), Err(NationalError::UnknownRegion), "{region}");
        }
    }

    #[test]
    fn every_error() {
        for (text, region, expected) in [
            ("call me", "GB", NationalError::NotANumber),
            ("", "GB", NationalError::NotANumber),
            ("+999 1234567", "GB", NationalError::UnknownCountryCode),
            ("0011", "DE", NationalError::TooShort),
            ("0123456789012345678901", "DE", NationalError::TooLong),
            ("0062812372454", "ID", NationalError::NotValid),
            ("01 111", "AT", NationalError::NotInternational(E164Error::TooShort { digits: 6 })),
        ] {
            assert_eq!(parse_national(text, region), Err(expected), "{text} {region}");
            assert!(text.is_empty() || !expected.to_string().contains(text));
        }
    }
}
