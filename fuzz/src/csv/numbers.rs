//! Numbers in international form alone.

use unlisted::PhoneHash;

#[derive(Default)]
pub struct Numbers(());

impl Numbers {
    pub fn hash(&self, text: &str) -> Result<PhoneHash, String> {
        PhoneHash::of_e164(text).map_err(|error| error.to_string())
    }
}
