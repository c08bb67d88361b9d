//! A few accounts to try the service with.

use crate::{NewAccount, Refusal, Registry};

/// Three people, of whom Bob is not to be found, a thousand others of whom every other is, and numbers that nobody has.
pub fn fill(registry: &Registry) -> Result<(), Refusal> {
    let people = r#"[
        {"mxid": "@ada:example.org", "token": "demo-token-of-ada", "addresses": [
            {"medium": "msisdn", "address": "14155550100", "discoverable": true},
            {"medium": "email", "address": "ada@example.org", "discoverable": true}]},
        {"mxid": "@bob:example.org", "token": "demo-token-of-bob", "addresses": [
            {"medium": "msisdn", "address": "14155550101"}]},
        {"mxid": "@eve:example.net", "token": "demo-token-of-eve", "addresses": []}
    ]"#;
    registry.put(&Refusal::parse::<Vec<NewAccount>>(people.as_bytes())?)?;
    let others = (0..1_000).map(|i| {
        serde_json::json!({ "mxid": format!("@user{i}:example.org"), "addresses": [
            { "medium": "msisdn", "address": format!("1415556{i:04}"), "discoverable": i % 2 == 0 }] })
    });
    let others = serde_json::Value::from_iter(others).to_string();
    registry.put(&Refusal::parse::<Vec<NewAccount>>(others.as_bytes())?)?;
    let nobodys = (0..10).map(|i| serde_json::json!({ "medium": "msisdn", "address": format!("1415557{i:03}0") }));
    registry
        .set_tripwires(&Refusal::parse::<Vec<_>>(serde_json::Value::from_iter(nobodys).to_string().as_bytes())?)?;
    Ok(())
}
