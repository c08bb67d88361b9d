//! Whom an operator means on the command line: a caller, an origin, or a caller by its token.

use unlisted::{Caller, CallerToken, Error, Origin, Subject};

use super::lookup::origin;
use crate::error::CliError;

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct SubjectArgs {
    /// This caller, by the host's id for it.
    #[arg(long, value_name = "ID")]
    caller: Option<String>,
    /// Whoever comes through this origin, such as network=198.51.100.0/24 or device=ID.
    #[arg(long, value_name = "KIND=VALUE", value_parser = any_origin)]
    origin: Option<Origin>,
    /// This caller, by the 32 hexadecimal digits that `callers` and `exposed` print.
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    token: Option<CallerToken>,
}

/// A network, or an origin of a kind that the host defines.
pub fn any_origin(text: &str) -> Result<Origin, String> {
    match text.strip_prefix("network=") {
        Some(network) => Origin::parse_network(network).map_err(|error| error.to_string()),
        None => origin(text),
    }
}

fn token(text: &str) -> Result<CallerToken, String> {
    CallerToken::parse(text).ok_or_else(|| "expected 32 hexadecimal digits".to_owned())
}

impl SubjectArgs {
    /// Runs `lever` on who is meant.
    pub fn with<T>(&self, lever: impl FnOnce(Subject<'_>) -> Result<T, Error>) -> Result<T, CliError> {
        if self.caller.as_deref() == Some("") {
            return Err(Error::EmptyCaller.into());
        }
        let caller = self.caller.as_ref().map(Caller::new);
        let subject = match (&caller, &self.origin, self.token) {
            (Some(caller), ..) => Subject::from(caller),
            (_, Some(origin), _) => Subject::from(origin),
            (.., Some(token)) => Subject::from(token),
            // The group of arguments asks for one of them.
            (None, None, None) => return Err(Error::EmptyCaller.into()),
        };
        Ok(lever(subject)?)
    }

    /// Who is meant, for a line of output. A caller is not repeated.
    pub fn name(&self) -> String {
        match (&self.origin, self.token) {
            (Some(origin), _) => format!("the {}", origin.kind()),
            (_, Some(token)) => format!("caller {token}"),
            _ => "the caller".to_owned(),
        }
    }
}
