//! The text of a number to its hash, with or without a region for national forms.

use unlisted::PhoneHash;

/// How the numbers of a command are read.
#[derive(clap::Args, Clone, Default)]
pub struct Numbers {
    /// Read national forms as they are dialled in this region (two capital letters, such as DE).
    #[cfg(feature = "national")]
    #[arg(long, value_name = "XX", value_parser = region)]
    region: Option<String>,
}

impl Numbers {
    /// The hash of a number; otherwise why it is none, without repeating it.
    pub fn hash(&self, text: &str) -> Result<PhoneHash, String> {
        #[cfg(feature = "national")]
        if let Some(region) = &self.region {
            let number = unlisted::parse_national(text, region).map_err(|error| error.to_string())?;
            return Ok(PhoneHash::from(number));
        }
        PhoneHash::of_e164(text).map_err(|error| error.to_string())
    }
}

/// Checks a region before anything is read.
#[cfg(feature = "national")]
fn region(text: &str) -> Result<String, unlisted::NationalError> {
    match unlisted::parse_national("", text) {
        Err(error @ unlisted::NationalError::UnknownRegion) => Err(error),
        // An empty text is never a number, so every region ends here.
        _ => Ok(text.to_owned()),
    }
}
