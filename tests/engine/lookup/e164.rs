//! Conformance of the telephone number parsers with libphonenumber's answers, and properties of the strict one.
//!
//! The cases come from `tests/data/numbers.csv.gz`: 7,500 rows drawn from a file of 114,447 that was made with
//! libphonenumber, at least 60 of every written shape (or all, where there are fewer). Columns: the text as a person
//! wrote it (`raw`), the region it was written in, libphonenumber's answer (`e164`, empty where it finds no valid
//! number), and whether the text can be read without the region (`international`). Set the environment variable
//! `UNLISTED_DATA` to a folder that holds another `numbers.csv.gz` to use that instead; the exact counts are then not
//! checked, all else is.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use unlisted::{E164, E164Error};

struct Row {
    raw: String,
    /// Only the national parser needs it.
    #[cfg_attr(not(feature = "national"), expect(dead_code))]
    region: String,
    e164: Option<String>,
    international: bool,
}

struct Cases {
    rows: Vec<Row>,
    /// The rows are those in the repository, so exact counts can be expected of them.
    shipped: bool,
}

fn cases() -> Cases {
    let elsewhere = std::env::var_os("UNLISTED_DATA").map(PathBuf::from);
    let shipped = elsewhere.is_none();
    let folder = elsewhere.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data"));
    let path = folder.join("numbers.csv.gz");
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows = csv::Reader::from_reader(GzDecoder::new(file))
        .into_records()
        .map(|record| {
            let record = record.unwrap();
            Row {
                raw: record[0].to_owned(),
                region: record[1].to_owned(),
                e164: Some(record[2].to_owned()).filter(|text| !text.is_empty()),
                international: &record[3] == "1",
            }
        })
        .collect();
    Cases { rows, shipped }
}

/// Every number that needs no region is read as libphonenumber reads it.
#[test]
fn international_forms_agree_with_libphonenumber() {
    let cases = cases();
    let mut seen = 0;
    for row in cases.rows.iter().filter(|row| row.international) {
        let expected = row.e164.as_deref().expect("international rows have an answer");
        match E164::parse(&row.raw) {
            Ok(number) => assert_eq!(number.as_str(), expected, "{:?}", row.raw),
            Err(error) => panic!("{:?}: {error}", row.raw),
        }
        seen += 1;
    }
    assert!(seen > 0);
    if cases.shipped {
        assert_eq!(seen, 6_000);
    }
}

/// What the strict parser makes of a row that needs a region or holds no valid number.
fn category(row: &Row) -> &'static str {
    match (E164::parse(&row.raw), &row.e164) {
        // Well formed: +999 and 11 or 12 digits. That 999 is no country code can be told only from a table of
        // countries, which the strict parser does not have by design.
        (Ok(number), None) if number.as_str().starts_with("+999") => "accepted: unassigned country code 999",
        (Ok(_), None) => "accepted: for another reason",
        (Ok(_), Some(_)) => "accepted: a region was needed",
        (Err(E164Error::NoPlus), Some(_)) => "refused: national form of a valid number",
        (Err(E164Error::NoPlus), None) => "refused: digits without a plus that are no valid number",
        (Err(E164Error::TooShort { digits: 0 }), None) => "refused: a plus without digits",
        (Err(E164Error::TooShort { .. }), None) => "refused: cut off",
        // Also what a spreadsheet makes of a number: more digits, the last of them zeros.
        (Err(E164Error::TooLong { .. }), None) => "refused: more than 15 digits",
        (Err(E164Error::UnexpectedCharacter { .. }), None) => "refused: not a number",
        (Err(E164Error::Empty), None) => "refused: empty",
        (Err(_), _) => "refused: for another reason",
    }
}

/// Whatever needs a region or metadata is refused, for the reason one would give, or it is in a category that is
/// named and counted here.
#[test]
fn the_other_forms_are_refused_for_the_right_reason() {
    let cases = cases();
    let mut found = BTreeMap::new();
    for row in cases.rows.iter().filter(|row| !row.international) {
        *found.entry(category(row)).or_insert(0) += 1;
    }
    for never in ["accepted: a region was needed", "accepted: for another reason", "refused: for another reason"] {
        assert_eq!(found.get(never), None, "{never}");
    }
    if cases.shipped {
        let expected = BTreeMap::from([
            ("accepted: unassigned country code 999", 35),
            ("refused: a plus without digits", 17),
            ("refused: cut off", 17),
            ("refused: digits without a plus that are no valid number", 136),
            ("refused: empty", 16),
            ("refused: more than 15 digits", 31),
            ("refused: national form of a valid number", 1_214),
            ("refused: not a number", 34),
        ]);
        assert_eq!(found, expected);
    } else {
        println!("{found:#?}");
    }
}

/// With a region every row is read as libphonenumber reads it, but for the rows that other metadata judges otherwise.
#[cfg(feature = "national")]
#[test]
fn national_forms_agree_with_libphonenumber() {
    use unlisted::{NationalError, parse_national};

    // The file was made with metadata of another version, which holds this block of German mobile numbers (+49 15410)
    // for assigned. That of rlibphonenumber 2.2.15 does not, and neither does the one of phonenumber 0.3.10.
    const OTHER_METADATA: [(&str, &str); 1] = [("+4915410279810", "DE")];
    let cases = cases();
    let mut disagreements = Vec::new();
    for row in &cases.rows {
        let found = parse_national(&row.raw, &row.region);
        if found.ok().map(|number| number.to_string()) != row.e164 {
            assert_eq!(found, Err(NationalError::NotValid), "{:?} in {}", row.raw, row.region);
            disagreements.push((row.raw.as_str(), row.region.as_str()));
        }
    }
    if cases.shipped {
        assert_eq!(disagreements, OTHER_METADATA);
    } else {
        // Other rows may be in other blocks that the two versions judge differently: one in a thousand at most.
        println!("{} of {} rows differ", disagreements.len(), cases.rows.len());
        assert!(disagreements.len() * 1_000 <= cases.rows.len(), "{disagreements:?}");
    }
}

/// Zeros of decimal digits, one script each.
const SCRIPTS: [char; 8] = ['0', '\u{660}', '\u{6F0}', '\u{966}', '\u{9E6}', '\u{E50}', '\u{FF10}', '\u{1D7D8}'];
const BETWEEN: [&str; 17] = [
    "", "", "", "", " ", "\u{A0}", "-", "\u{2011}", "\u{2013}", "\u{2212}", "\u{30FC}", ".", "/", " - ",
    "\u{200B}", "\t", "\u{3000}",
];
const AROUND: [&str; 7] = ["", "", " ", "\u{202A}", "\u{2069}\n", "\u{FEFF}", "\u{200E}\u{A0}"];
const PREFIXES: [&str; 4] = ["+", "\u{FF0B}", "tel:+", "TEL: \u{FF0B}"];
const TAILS: [&str; 7] = ["", "", "", " ext. 12", "x7", " #123", ";ext=5"];

/// A number, and one of the ways to write it.
fn written() -> impl Strategy<Value = (String, String)> {
    let number = "[1-9][0-9]{6,14}";
    let choices = prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 15);
    let frame = (0..AROUND.len(), 0..AROUND.len(), 0..PREFIXES.len(), 0..TAILS.len());
    (number, choices, frame, any::<prop::sample::Index>(), 1..5_usize).prop_map(
        |(number, choices, (before, after, prefix, tail), group, group_len)| {
            let digits: Vec<u32> = number.chars().map(|c| c.to_digit(10).unwrap()).collect();
            let start = group.index(digits.len());
            // A zero that opens a parenthesis after the country code is refused, see `E164Error::TrunkPrefix`.
            let grouped = digits[start] != 0;
            let end = (start + group_len).min(digits.len());
            let mut text = format!("{}{}", AROUND[before], PREFIXES[prefix]);
            for (at, (digit, (script, between))) in digits.iter().zip(choices).enumerate() {
                if at > 0 {
                    text.push_str(BETWEEN[between.index(BETWEEN.len())]);
                }
                if grouped && at == start {
                    text.push('(');
                }
                let zero = u32::from(SCRIPTS[script.index(SCRIPTS.len())]);
                text.push(char::from_u32(zero + digit).unwrap());
                if grouped && at + 1 == end {
                    text.push(')');
                }
            }
            text.push_str(TAILS[tail]);
            text.push_str(AROUND[after]);
            (format!("+{number}"), text)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_way_of_writing_a_number_gives_the_number((number, text) in written()) {
        let parsed = E164::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(parsed.as_str(), &number);
        prop_assert_eq!(E164::parse(parsed.as_str()), Ok(parsed));
    }

    #[test]
    fn no_text_panics_and_an_answer_is_canonical(text in any::<String>()) {
        check_any(&text)?;
    }

    /// Text from the characters that the grammar knows gets further into it than arbitrary text.
    #[test]
    fn no_text_of_the_grammar_panics(text in "(tel:)?[+(]{0,2}[-+()~. 0-9٠-٩０-９]{0,24}([;#,xe=]?(ext)?[-=;. %a-f0-9]{0,8})?") {
        check_any(&text)?;
    }
}

fn check_any(text: &str) -> Result<(), TestCaseError> {
    match E164::parse(text) {
        Ok(number) => {
            let digits = number.as_str().strip_prefix('+').unwrap_or_default();
            prop_assert!((E164::MIN_DIGITS..=E164::MAX_DIGITS).contains(&digits.len()));
            prop_assert!(digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0'));
        }
        Err(
            E164Error::UnexpectedCharacter { position }
            | E164Error::LeadingZero { position }
            | E164Error::TrunkPrefix { position }
            | E164Error::UnclosedParenthesis { position },
        ) => prop_assert!(position < text.chars().count()),
        Err(E164Error::BadExtension { position } | E164Error::BadParameter { position }) => {
            prop_assert!(position <= text.chars().count());
        }
        Err(_) => {}
    }
    Ok(())
}
