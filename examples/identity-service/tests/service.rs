//! What clients, users and operators see, over HTTP.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::http::Client;
use common::*;
use serde_json::{Value, json};

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_client_learns_what_there_is() {
    let dir = temporary();
    let service = Running::with_people(dir.path(), &[]);
    assert_eq!(service.ask("GET", "/_matrix/identity/v2", None, "").json(), json!({}));
    let versions = service.ask("GET", "/_matrix/identity/versions", None, "").json();
    assert_eq!(versions["versions"][0], "v1.1");
    let details = service.ask("GET", "/_matrix/identity/v2/hash_details", Some("token-of-ada"), "").json();
    assert_eq!(details["algorithms"], json!(["sha256"]));
    let pepper = details["lookup_pepper"].as_str().unwrap();
    assert!(pepper.len() == 32 && pepper.bytes().all(|b| b.is_ascii_alphanumeric()));
    let account = service.ask("GET", "/_matrix/identity/v2/account", Some("token-of-ada"), "").json();
    assert_eq!(account, json!({ "user_id": "@ada:example.org" }));
    for (method, path, status) in [("GET", "/_matrix/identity/v2/pubkey/x", 404), ("GET", LOOKUP, 405)] {
        let answer = service.ask(method, path, Some("token-of-ada"), "");
        assert_eq!((answer.status, answer.json()["errcode"].as_str()), (status, Some("M_UNRECOGNIZED")));
    }
    let preflight = ["origin: https://app.example", "access-control-request-method: POST"];
    let answer = Client::connect(service.clients).unwrap().send("OPTIONS", LOOKUP, &preflight, "").unwrap();
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("*")));
    service.stop();
}

#[test]
fn a_number_and_an_email_are_found_and_media_are_apart() {
    let dir = temporary();
    let service = Running::with_people(dir.path(), &[]);
    let nobody = ("msisdn", "14155550199");
    let as_number = ("msisdn", ADAS_EMAIL.1);
    let answer = service.lookup("token-of-eve", &[ADAS_PHONE, ADAS_EMAIL, BOBS_PHONE, nobody, as_number]);
    let expected = json!({ "mappings": {
        service.hash(ADAS_PHONE): "@ada:example.org",
        service.hash(ADAS_EMAIL): "@ada:example.org",
    } });
    assert_eq!((answer.status, answer.json()), (200, expected));
    // Who hides and who is not there are the same, to the byte.
    let [hidden, absent] = [BOBS_PHONE, nobody].map(|address| service.lookup("token-of-ada", &[address]));
    assert_eq!((hidden.status, &hidden.body), (absent.status, &absent.body));
    service.stop();
}

#[test]
fn what_is_wrong_with_a_question_is_told() {
    let dir = temporary();
    let service = Running::with_people(dir.path(), &[]);
    let good = service.question(&[ADAS_PHONE]);
    let changed = |field: &str, value: Value| {
        let mut question = good.clone();
        question[field] = value;
        question.to_string()
    };
    let too_long = vec!["4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc"; 10_001];
    for (body, status, errcode) in [
        (changed("pepper", "matrixrocks".into()), 400, "M_INVALID_PEPPER"),
        (changed("algorithm", "none".into()), 400, "M_INVALID_PARAM"),
        (changed("addresses", "all".into()), 400, "M_BAD_JSON"),
        (changed("addresses", json!(too_long)), 413, "M_TOO_LARGE"),
        ("{".to_owned(), 400, "M_NOT_JSON"),
    ] {
        let answer = service.ask("POST", LOOKUP, Some("token-of-eve"), &body);
        assert_eq!((answer.status, answer.json()["errcode"].as_str()), (status, Some(errcode)), "{}", answer.body);
    }
    let answer =
        service.ask("POST", LOOKUP, Some("token-of-eve"), &changed("pepper", "matrixrocks".into())).json();
    assert_eq!((&answer["algorithm"], &answer["lookup_pepper"]), (&json!("sha256"), &json!(service.pepper)));
    // What is no hash matches nothing, as the specification says.
    let answer = service.ask("POST", LOOKUP, Some("token-of-eve"), &changed("addresses", json!(["", "x\"y"])));
    assert_eq!((answer.status, answer.json()), (200, json!({ "mappings": {} })));
    let huge = "x".repeat(600 << 10);
    let answer = Client::connect(service.clients).unwrap().send(
        "POST",
        LOOKUP,
        &["authorization: Bearer token-of-eve"],
        &huge,
    );
    // The answer, or a connection that is closed before all of it was sent.
    assert!(answer.as_ref().map_or(true, |answer| answer.status == 413), "{answer:?}");
    service.stop();
}

#[test]
fn nobody_gets_anything_without_his_token() {
    let dir = temporary();
    let service = Running::with_people(dir.path(), &[]);
    let routes = [
        ("GET", "/_matrix/identity/v2/hash_details"),
        ("GET", "/_matrix/identity/v2/account"),
        ("POST", LOOKUP),
        ("PUT", DISCOVERABLE),
        ("GET", FOUND_ME),
    ];
    for (method, path) in routes {
        for token in [None, Some("token-of-nobody"), Some(""), Some(OPERATOR)] {
            let answer = service.ask(method, path, token, "{}");
            assert_eq!(
                (answer.status, answer.json()["errcode"].as_str()),
                (401, Some("M_UNAUTHORIZED")),
                "{path}"
            );
        }
    }
    for path in ["/", "/health", "/metrics", ACCOUNTS, "/_unlisted/v1/suspensions", "/nothing"] {
        for token in [None, Some("token-of-ada"), Some("")] {
            let answer = send(service.operators, "GET", path, token, "");
            assert_eq!(answer.status, 401, "{path}");
        }
    }
    // A browser's password reads and changes nothing.
    let basic = "authorization: Basic b3BlcmF0b3I6dG9rZW4tb2YtdGhlLW9wZXJhdG9ycw==";
    let mut client = Client::connect(service.operators).unwrap();
    assert_eq!(client.send("GET", "/health", &[basic], "").unwrap().status, 200);
    assert_eq!(client.send("POST", ACCOUNTS, &[basic], "[]").unwrap().status, 401);
    service.stop();
}

#[test]
fn a_spent_budget_defers_and_what_was_paid_stays_free() {
    let dir = temporary();
    let service = Running::with_people(dir.path(), &["caller=3/60"]);
    let book = [BOBS_PHONE, ("msisdn", "14155550198"), ("msisdn", "14155550199")];
    assert_eq!(service.lookup("token-of-eve", &book).json(), json!({ "mappings": {} }));
    // Nothing of it can be paid: the standard error, and the same for who would be found.
    let answer = service.lookup("token-of-eve", &[ADAS_PHONE]);
    let error = answer.json();
    assert_eq!((answer.status, &error["errcode"]), (429, &json!("M_LIMIT_EXCEEDED")), "{error}");
    let retry_after_ms = error["retry_after_ms"].as_u64().unwrap();
    assert!((1..=60_000).contains(&retry_after_ms), "{retry_after_ms}");
    assert_eq!(answer.header("retry-after"), Some(retry_after_ms.div_ceil(1_000).to_string().as_str()));
    // The same book again is free, also with something new in it, which waits.
    assert_eq!(service.lookup("token-of-eve", &book).status, 200);
    let answer = service.lookup("token-of-eve", &[book[0], ADAS_PHONE, book[1]]);
    let expected = json!([service.hash(ADAS_PHONE)]);
    let (status, answer) = (answer.status, answer.json());
    assert_eq!((status, &answer["mappings"], &answer["org.unlisted.deferred"]), (200, &json!({}), &expected));
    assert!(answer["org.unlisted.retry_after_ms"].as_u64().unwrap() > 0);
    // Others have their own budget.
    assert!(service.found("token-of-bob", ADAS_PHONE).is_some());
    service.stop();
}

#[test]
fn users_of_a_homeserver_share_a_budget_and_so_do_networks_behind_a_proxy() {
    let dir = temporary();
    let service = Running::with_people(dir.path(), &["homeserver=2/60"]);
    assert_eq!(service.lookup("token-of-ada", &[ADAS_PHONE, ADAS_EMAIL]).status, 200);
    assert_eq!(service.lookup("token-of-bob", &[ADAS_PHONE]).status, 429);
    assert_eq!(service.lookup("token-of-eve", &[ADAS_PHONE]).status, 200);
    let (pepper, question) = (service.pepper.clone(), service.question(&[ADAS_PHONE]).to_string());
    service.stop();

    let proxied = |config: &mut identity_service::Config| config.behind_proxy = true;
    let mut service = Running::start_with(dir.path(), &["homeserver=100/100", "network=1/60"], proxied);
    service.pepper = pepper;
    let from = |token: &str, forwarded: &str| {
        let headers = [format!("authorization: Bearer {token}"), format!("x-forwarded-for: {forwarded}")];
        let headers = headers.each_ref().map(String::as_str);
        Client::connect(service.clients).unwrap().send("POST", LOOKUP, &headers, &question).unwrap().status
    };
    let email = service.question(&[("email", "new@example.org")]).to_string();
    assert_eq!(from("token-of-bob", "203.0.113.5, 198.51.100.7"), 200);
    // What a client writes there itself gives it no other network.
    let headers = ["authorization: Bearer token-of-ada", "x-forwarded-for: 192.0.2.1, 198.51.100.8"];
    assert_eq!(
        Client::connect(service.clients).unwrap().send("POST", LOOKUP, &headers, &email).unwrap().status,
        429
    );
    assert_eq!(service.ask("POST", LOOKUP, Some("token-of-bob"), &question).status, 400, "without the header");
    service.stop();
}

#[test]
fn an_opt_out_holds_when_it_returns_and_only_for_ones_own_address() {
    let dir = temporary();
    let mut service = Running::with_people(dir.path(), &[]);
    for round in 0..3 {
        assert_eq!(service.set_discoverable("token-of-ada", ADAS_PHONE, false).status, 200);
        assert_eq!(service.found("token-of-eve", ADAS_PHONE), None, "round {round}");
        assert_eq!(service.found("token-of-eve", ADAS_EMAIL).as_deref(), Some("@ada:example.org"));
        assert_eq!(service.set_discoverable("token-of-ada", ADAS_PHONE, true).status, 200);
        assert_eq!(service.found("token-of-eve", ADAS_PHONE).as_deref(), Some("@ada:example.org"));
        if round == 1 {
            // Versions go on where they were.
            let pepper = service.pepper.clone();
            service.stop();
            service = Running::start(dir.path(), &[]);
            service.learn_pepper("token-of-ada");
            assert_eq!(service.pepper, pepper);
        }
    }
    let others = service.set_discoverable("token-of-ada", BOBS_PHONE, true);
    let nobodys = service.set_discoverable("token-of-ada", ("msisdn", "14155550199"), true);
    assert_eq!((others.status, &others.body), (404, &nobodys.body));
    assert_eq!(service.found("token-of-eve", BOBS_PHONE), None);
    assert_eq!(service.set_discoverable("token-of-bob", BOBS_PHONE, true).status, 200);
    assert_eq!(service.found("token-of-eve", BOBS_PHONE).as_deref(), Some("@bob:example.org"));
    service.stop();
}

#[test]
fn a_user_learns_that_it_was_found_and_not_by_whom() {
    let dir = temporary();
    let service = Running::with_people(dir.path(), &[]);
    service.found("token-of-ada", ADAS_PHONE);
    for _ in 0..2 {
        service.found("token-of-eve", ADAS_PHONE);
        service.found("token-of-bob", ADAS_EMAIL);
        service.found("token-of-bob", BOBS_PHONE);
    }
    let found_me = |token| service.ask("GET", FOUND_ME, Some(token), "");
    let answer = found_me("token-of-ada");
    let finders = answer.json()["found_me"].as_array().unwrap().clone();
    assert_eq!(finders.iter().map(|of| of["finder"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert!(finders.iter().all(|of| of["last_hour_ms"].as_u64().unwrap().is_multiple_of(3_600_000)));
    assert!(!answer.body.contains("eve") && !answer.body.contains("bob"));
    assert_eq!(found_me("token-of-bob").json(), json!({ "found_me": [] }), "hidden is not found");
    service.stop();
}

#[test]
fn an_address_has_one_owner_and_goes_with_it() {
    let dir = temporary();
    let service = Running::with_people(dir.path(), &[]);
    let (medium, address) = ADAS_PHONE;
    let taken = json!([{ "mxid": "@eve:example.net", "addresses": [{ "medium": medium, "address": address }] }]);
    assert_eq!(service.operate("POST", ACCOUNTS, &taken).status, 409);
    for wrong in [
        json!([{ "mxid": "ada" }]),
        json!([{ "mxid": "@a:b", "addresses": [{ "medium": "msisdn", "address": "1" }] }]),
    ] {
        assert_eq!(service.operate("POST", ACCOUNTS, &wrong).status, 400, "{wrong}");
    }
    let gone = json!([{ "mxid": "@ada:example.org", "medium": medium, "address": address }]);
    assert_eq!(service.operate("DELETE", "/_unlisted/v1/addresses", &gone).status, 200);
    assert_eq!(service.found("token-of-bob", ADAS_PHONE), None);
    assert_eq!(service.operate("POST", ACCOUNTS, &taken).status, 200);
    assert_eq!(service.set_discoverable("token-of-ada", ADAS_PHONE, true).status, 404);
    assert_eq!(service.set_discoverable("token-of-eve", ADAS_PHONE, true).status, 200);
    assert_eq!(service.found("token-of-bob", ADAS_PHONE).as_deref(), Some("@eve:example.net"));
    assert_eq!(service.operate("DELETE", "/_unlisted/v1/tokens", &json!(["token-of-ada"])).status, 200);
    assert_eq!(service.lookup("token-of-ada", &[]).status, 401);
    assert_eq!(service.operate("DELETE", ACCOUNTS, &json!(["@eve:example.net"])).status, 200);
    assert_eq!(service.found("token-of-bob", ADAS_PHONE), None);
    assert_eq!(service.lookup("token-of-eve", &[]).status, 401);
    service.stop();
}

#[test]
fn operators_see_who_asks_who_was_shown_and_what_to_do() {
    let dir = temporary();
    let service = Running::with_people(dir.path(), &["caller=40/60"]);
    let mallory = "@<script>alert('x')</script>:example.net";
    let people = json!([{ "mxid": mallory, "token": "token-of-mallory" }]);
    assert_eq!(service.operate("POST", ACCOUNTS, &people).status, 200);
    let nobodys = json!([{ "medium": "msisdn", "address": "14155550777" }]);
    assert_eq!(service.operate("POST", "/_unlisted/v1/tripwires", &nobodys).json(), json!({ "set": 1 }));
    let listed = json!([{ "medium": "msisdn", "address": ADAS_PHONE.1 }]);
    assert_eq!(service.operate("POST", "/_unlisted/v1/tripwires", &listed).status, 400);
    let numbers: Vec<String> = (700..800).map(|i| format!("14155550{i}")).collect();
    let mut all: Vec<Address<'_>> = numbers.iter().map(|number| ("msisdn", number.as_str())).collect();
    all.insert(0, all[77]);
    all.insert(0, ADAS_PHONE);
    let answer = service.lookup("token-of-mallory", &all).json();
    assert_eq!(answer["org.unlisted.deferred"].as_array().unwrap().len(), 61);

    let metrics = service.operate("GET", "/metrics", &Value::Null).body;
    for line in [
        "identity_requests_total{route=\"/_matrix/identity/v2/lookup\",status=\"200\"} 1",
        "identity_numbers_total{of=\"asked\"} 102",
        "identity_numbers_total{of=\"charged\"} 40",
        "identity_numbers_total{of=\"found\"} 1",
        "identity_numbers_total{of=\"deferred\"} 61",
        "identity_events_total{event=\"caller_exhausted\"} 1",
        "identity_events_total{event=\"tripwire\"} 1",
        "unlisted_opted_in 2",
        "unlisted_tripwires 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    let search = "/?account=%40ada%3Aexample.org&caller=&network=127.0.0.0%2F24";
    let page = service.operate("GET", search, &Value::Null);
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    assert!(!page.body.contains("<script"), "{}", page.body);
    let name = "@&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;:example.net";
    assert!(
        page.body.contains(&format!("<tr><td>{name}</td><td>40</td><td>1</td><td>39</td><td>61</td><td>1</td>"))
    );
    assert!(page.body.contains(&format!("<tr><td>{name}</td><td>@ada:example.org</td><td>contact-sync</td>")));

    let suspension = json!({ "mxid": mallory, "reason": "an enumerator" });
    assert_eq!(service.operate("POST", "/_unlisted/v1/suspensions", &suspension).status, 200);
    let refused = service.lookup("token-of-mallory", &[ADAS_PHONE]);
    assert_eq!((refused.status, refused.json()["errcode"].as_str()), (403, Some("M_FORBIDDEN")));
    let page = service.operate("GET", "/?caller=%40ada%3Aexample.org", &Value::Null).body;
    assert!(page.contains("<td>an enumerator</td>") && page.contains("<tr><td>caller</td><td>40</td><td>40</td>"));
    let was = service.operate("DELETE", "/_unlisted/v1/suspensions", &json!({ "mxid": mallory })).json();
    assert_eq!(was, json!({ "was_suspended": true }));
    assert_eq!(service.lookup("token-of-mallory", &[ADAS_PHONE]).status, 200);
    assert_eq!(service.operate("GET", "/?network=10.0.0.0%2F8", &Value::Null).status, 400);
    service.stop();
}

#[test]
fn operators_are_served_on_this_machine_only() {
    let dir = temporary();
    let config = identity_service::Config {
        dir: dir.path().to_owned(),
        secret: unlisted::Secret::from_bytes(SECRET),
        operator_token: OPERATOR.to_owned(),
        quotas: unlisted::QuotaPolicy::default(),
        listen: "127.0.0.1:0".parse().unwrap(),
        operators: "0.0.0.0:0".parse().unwrap(),
        behind_proxy: false,
        drain: std::time::Duration::from_secs(1),
    };
    let refused = identity_service::Service::open(config).err().unwrap();
    assert!(matches!(refused, identity_service::Error::NotLoopback(_)), "{refused}");
}
