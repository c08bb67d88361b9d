//! What a node refuses: servers that are none, a fleet that is none or another's, a ledger that was emptied or went back.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::Duration;

use unlisted::{Caller, Error, FleetError, FleetOptions, Index, Purpose, Secret};

use crate::cluster::{Fleet, ask, fleet, keys, numbers, options, quota, remove_all, tamper, until};

fn fleet_error(result: unlisted::Result<Index>) -> FleetError {
    match result {
        Err(Error::Fleet(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A server that says that it is so many years old, and nothing else.
fn server_that_says(info: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            while let Some(head) = lines.next() {
                let words = head.strip_prefix('*').and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
                let command: Vec<String> = (0..words * 2).filter_map(|_| lines.next()).collect();
                let answer = match command.get(1).map(String::as_str) {
                    Some("INFO") => format!("${}\r\n{info}\r\n", info.len()),
                    _ => "+OK\r\n".to_owned(),
                };
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn servers_that_cannot_keep_a_ledger_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let join = |address: String| {
        fleet_error(Index::open(dir.path(), options(quota(1)).fleet(FleetOptions::new([address]))))
    };
    let alone = server_that_says("valkey_version:9.1.0\r\ncluster_enabled:0\r\nmaxmemory_policy:noeviction\r\n");
    assert!(matches!(join(alone), FleetError::NotACluster { .. }));
    let old = server_that_says("redis_version:7.0.15\r\ncluster_enabled:1\r\nmaxmemory_policy:noeviction\r\n");
    assert!(matches!(join(old), FleetError::OldServer { found, .. } if found == "7.0.15"));
    let evicts = server_that_says(
        "valkey_version:9.1.0\r\ncluster_enabled:1\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1",
    );
    assert!(matches!(join(evicts), FleetError::UnsafeServer { setting: "maxmemory_policy", .. }));
    // What speaks another protocol, or nothing.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert!(matches!(join(closed), FleetError::Unavailable { .. }));
    assert!(matches!(join("no port".to_owned()), FleetError::BadOptions { .. }));
}

#[test]
fn a_wrong_password_is_told_apart() {
    let Some(fleet) = fleet("password") else { return };
    let dir = tempfile::tempdir().unwrap();
    let error = fleet_error(fleet.join(dir.path(), fleet.options().credentials("nobody", "hush-hush")));
    assert!(matches!(error, FleetError::Denied { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hush"));
}

#[test]
fn a_fleet_has_to_be_made_and_a_prefix_has_one() {
    let Some(mut fleet) = fleet("prefix") else { return };
    let dir = tempfile::tempdir().unwrap();
    let none = fleet_error(fleet.join(dir.path(), fleet.options()));
    assert_eq!(none, FleetError::NoFleet { prefix: fleet.prefix.clone() });
    let _node = fleet.node(quota(10));
    let other = tempfile::tempdir().unwrap();
    let secret = Secret::from_bytes([0x77; 32]);
    for more in [fleet.options(), fleet.options().create()] {
        let options = unlisted::Options::new(secret.clone()).background(false).fleet(more);
        let error = fleet_error(Index::open(other.path(), options));
        assert!(matches!(&error, FleetError::Foreign { found, own, .. } if found != own), "{error}");
    }
    assert!(fleet.join(dir.path(), fleet.options()).is_ok());
}

fn refusal(node: &Index, caller: &Caller, number: u64) -> Option<FleetError> {
    match node.lookup(caller, Purpose::Search, &numbers(number..number + 1)) {
        Err(Error::Fleet(error)) => Some(error),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    }
}

/// The mark of the slot in which the only bucket is.
fn mark_of_bucket(fleet: &Fleet) -> String {
    let all = keys(fleet);
    let bucket = all.iter().find(|key| key.ends_with(":b")).expect("a bucket");
    let slot = |key: &str| {
        let client = redis::Client::open(format!("redis://{}/", fleet.addresses[0])).unwrap();
        redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query::<u16>(&mut client.get_connection().unwrap()).unwrap()
    };
    let wanted = slot(bucket);
    // Sixteen thousand marks: asked for by what their tags are, not one by one.
    let mut marks = all.iter().filter(|key| key.ends_with(":m"));
    marks.find(|key| slot_of(key) == wanted).expect("a mark").clone()
}

/// CRC-16 (XMODEM) of what is between the braces, bit by bit: not as the library does it.
fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).expect("a tag").0;
    let step = |crc: u16, byte: u8| {
        (0..8).fold(
            crc ^ u16::from(byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    };
    tag.bytes().fold(0, step) % 16_384
}

#[test]
fn an_emptied_slot_gives_nothing_until_an_operator_says_so() {
    let Some(mut fleet) = fleet("emptied") else { return };
    let (node, other) = (fleet.node(quota(100)), fleet.node(quota(100)));
    let caller = Caller::new("alice");
    assert_eq!(ask(&node, &caller, 0..60), (60, 60));
    let mark = mark_of_bucket(&fleet);
    let bucket = keys(&fleet).into_iter().find(|key| key.ends_with(":b")).unwrap();
    tamper(&fleet, &mark, &["DEL"]);
    tamper(&fleet, &bucket, &["DEL"]);
    for node in [&node, &other] {
        assert!(matches!(refusal(node, &caller, 100), Some(FleetError::Emptied { .. })));
    }
    assert!(matches!(node.budget(&caller), Err(Error::Fleet(FleetError::Emptied { .. }))));
    // Another's slot is as it was.
    assert_eq!(ask(&node, &Caller::new("bob"), 0..1), (1, 1));
    // What is lost counts as spent, for everybody and on every node.
    node.exhaust_budgets().unwrap();
    assert_eq!(node.budget(&caller).unwrap().remaining, 0);
    until("the other node obeys", || other.fleet_health().unwrap().quotas_version == 2);
    assert_eq!(ask(&other, &caller, 100..101), (0, 0));
    node.grant(&caller, 5).unwrap();
    until("what was granted is there", || ask(&other, &caller, 100..105).0 == 5);
}

#[test]
fn an_emptied_ledger_refuses_under_a_running_fleet() {
    let Some(mut fleet) = fleet("flushed") else { return };
    let (node, other) = (fleet.node(quota(100)), fleet.node(quota(100)));
    let caller = Caller::new("alice");
    assert_eq!(ask(&node, &caller, 0..60), (60, 60));
    remove_all(&fleet);
    assert!(matches!(refusal(&node, &caller, 100), Some(FleetError::Emptied { .. })));
    until("the record is missed", || {
        node.fleet_health().unwrap().trouble.is_some_and(|trouble| trouble.contains("emptied"))
    });
    until("every lookup is refused", || {
        matches!(refusal(&node, &Caller::new("bob"), 1), Some(FleetError::Emptied { .. }))
    });
    // A node that begins now finds no fleet.
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(fleet_error(fleet.join(dir.path(), fleet.options())), FleetError::NoFleet { .. }));
    until("the other node refuses too", || refusal(&other, &Caller::new("carol"), 1).is_some());
    // While an operator mends it, another node asks for callers that owe nothing, and gets nothing either.
    let is_mended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let (mut asked, mut answered) = (0, 0);
            while !is_mended.load(std::sync::atomic::Ordering::Acquire) {
                let fresh = Caller::new(format!("fresh {asked}"));
                if let Ok(reply) = other.lookup(&fresh, Purpose::Search, &numbers(0..1)) {
                    answered += 1 - reply.deferred().count();
                }
                asked += 1;
            }
            (asked, answered)
        });
        node.exhaust_budgets().unwrap();
        until("the other node obeys", || !other.fleet_health().unwrap().is_degraded);
        is_mended.store(true, std::sync::atomic::Ordering::Release);
        let (asked, answered) = asker.join().unwrap();
        assert!(asked > 0);
        assert_eq!(answered, 0, "of {asked} asked while the ledger was made again");
    });
    // Who looked for the record while there was none may say so once more: that is a refusal, and never an answer.
    let is_exhausted = |node: &Index, caller: &str| {
        let reply = node.lookup(&Caller::new(caller), Purpose::Search, &numbers(100..101));
        reply.is_ok_and(|reply| (reply.deferred().count(), reply.charged()) == (1, 0))
    };
    until("the node that made it again gives nothing", || is_exhausted(&node, "alice"));
    until("the other gives nothing", || is_exhausted(&other, "carol"));
    assert!(fleet.join(dir.path(), fleet.options()).is_ok());
}

#[test]
fn a_slot_that_went_back_is_found_out() {
    let Some(mut fleet) = fleet("went-back") else { return };
    let node = fleet.node(quota(100));
    let caller = Caller::new("alice");
    for number in 0..5 {
        ask(&node, &caller, number..number + 1);
    }
    tamper(&fleet, &mark_of_bucket(&fleet), &["HSET", "changes", "1"]);
    until("its leases are spent", || {
        let refused = refusal(&node, &caller, 50 + u64::from(std::process::id() % 7));
        assert!(matches!(refused, None | Some(FleetError::WentBack { found: 1..=2, .. })), "{refused:?}");
        ask_until_refused(&node, &caller)
    });
    node.exhaust_budgets().unwrap();
    assert_eq!(ask(&node, &Caller::new("bob"), 0..1), (0, 0));
}

/// Spends what is leased; true once the fleet's answer is not believed.
fn ask_until_refused(node: &Index, caller: &Caller) -> bool {
    (1_000..1_100).any(|number| matches!(refusal(node, caller, number), Some(FleetError::WentBack { .. })))
}

#[test]
fn quotas_newer_than_a_nodes_are_refused_until_it_has_them() {
    let Some(mut fleet) = fleet("newer") else { return };
    let first = fleet.node(quota(100));
    let dir = tempfile::tempdir().unwrap();
    // Hears of nothing for long.
    let slow = fleet.options().max_silence(Duration::from_secs(3_600));
    let second = fleet.join(dir.path(), slow).unwrap();
    let caller = Caller::new("alice");
    first.set_quotas(quota(50)).unwrap();
    ask(&first, &caller, 0..1);
    // Half a second at most, then it has them: refused or answered under the new ones, never under the old ones.
    let mut refused = 0;
    let mut answered = 0;
    for number in 1_000..1_200 {
        match refusal(&second, &caller, number) {
            Some(FleetError::NewerQuotas { found: 2, own: 1 }) => refused += 1,
            Some(other) => panic!("{other}"),
            None => answered = second.budget(&caller).unwrap().remaining,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("refused {refused} times until the node had the quotas; {answered} left at the end");
    assert!(answered < 50);
}

#[test]
fn damage_in_the_ledger_is_an_error() {
    let Some(mut fleet) = fleet("damage") else { return };
    let node = fleet.node(quota(100));
    let caller = Caller::new("alice");
    ask(&node, &caller, 0..1);
    let bucket = keys(&fleet).into_iter().find(|key| key.ends_with(":b")).unwrap();
    tamper(&fleet, &bucket, &["SET", "free for all"]);
    assert!(matches!(refusal(&node, &caller, 100), Some(FleetError::Damaged { .. })));
    let record = keys(&fleet).into_iter().find(|key| key.ends_with(":record")).unwrap();
    tamper(&fleet, &record, &["HSET", "quotas", "caller 0 1"]);
    until("the node sees it", || {
        node.fleet_health().unwrap().trouble.is_some_and(|trouble| trouble.contains("quotas"))
    });
}
