//! A fleet on a real Valkey cluster: three nodes and more, one feed, and what goes wrong with them. One test, since a
//! cluster takes seconds to start; each part prints what it counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Answer, Host, MAX_LAG, Node, PATIENCE, Valkey, answer, hash, number};
use fleet::{Change, Feed};
use serde_json::{Value, json};
use unlisted::{AccountId, OptIns};

#[test]
fn a_fleet_follows_one_feed() {
    let valkey = Valkey::start();
    let mut host = Host::default();
    without_a_feed_a_node_ends(&valkey);
    let mut feed = valkey.feed();
    // Twice: there is one already the second time.
    (0..2).for_each(|_| feed.begin().unwrap());
    let mut nodes: Vec<Node> = (1..=3).map(|i| Node::start(&valkey, &format!("node-{i}"), &[])).collect();
    nodes_converge(&mut host, &mut feed, &nodes);
    nodes_spend_one_budget(&valkey, &host, &mut feed);
    killed_nodes_apply_exactly_once(&valkey, &mut host, &mut feed, &mut nodes);
    an_opt_out_reaches_every_node(&mut host, &mut feed, &nodes);
    a_node_that_was_stopped_refuses_before_it_catches_up(&mut host, &mut feed, &nodes);
    a_feed_that_is_cut_off_makes_nodes_refuse(&valkey, &mut host, &mut feed, &nodes);
    nodes.extend(a_node_begins_with_a_backup(&valkey, &mut host, &mut feed, &nodes));
    an_entry_that_cannot_be_read_ends_nodes(&valkey, nodes);
}

fn without_a_feed_a_node_ends(valkey: &Valkey) {
    let (status, log) = Node::start(valkey, "early", &[]).wait();
    assert!(!status.success() && log.contains("does not hold entry 0-1"), "{log}");
    let mut feed = valkey.feed();
    assert!(matches!(feed.publish(&Change::Erase { account: 1.into(), version: 1 }), Err(fleet::Error::NoFeed)));
    assert!(feed.forget("early").unwrap() && !feed.forget("early").unwrap());
}

fn nodes_converge(host: &mut Host, feed: &mut Feed, nodes: &[Node]) {
    let begun = Instant::now();
    for _ in 0..1_200 {
        host.change_something(feed);
    }
    let published = begun.elapsed();
    let compared = host.compare(&nodes.iter().collect::<Vec<_>>());
    for node in nodes {
        assert_eq!(node.metric("fleet_entries_applied_total"), host.published as f64);
        assert_eq!(node.metric("fleet_changes_stale_total"), 0.0);
        assert!(node.metric("unlisted_lag_seconds") <= MAX_LAG.as_secs_f64());
    }
    println!("converge: {} entries in {published:?}, {compared} answers as the host's table", host.published);
}

/// A change that is applied twice is stale the second time: versions are those of the feed's order.
fn killed_nodes_apply_exactly_once(valkey: &Valkey, host: &mut Host, feed: &mut Feed, nodes: &mut Vec<Node>) {
    let (mut kills, mut behind, mut stale) = (0, 0, 0.0);
    for round in 0..12 {
        // Half of it while the node lives, half while it is down.
        (0..40).for_each(|_| host.change_something(feed));
        sleep(Duration::from_millis(round * 7));
        let victim = nodes.remove(1);
        stale += victim.metric("fleet_changes_stale_total");
        let position = victim.position();
        let name = victim.name.clone();
        victim.kill();
        kills += 1;
        behind += u32::from(position != host.last_id);
        (0..40).for_each(|_| host.change_something(feed));
        nodes.insert(1, Node::start(valkey, &name, &[]));
        let after = nodes[1].position();
        assert!(as_pair(&after) >= as_pair(&position), "{after} is before {position}");
    }
    let compared = host.compare(&nodes.iter().collect::<Vec<_>>());
    stale += nodes[1].metric("fleet_changes_stale_total");
    assert_eq!(stale, 0.0, "something was applied twice");
    println!(
        "kill -9: {kills}, {behind} of them behind the feed; 0 changes twice, {compared} answers as the table"
    );
}

/// An id of an entry, to be compared.
fn as_pair(id: &str) -> (u64, u64) {
    let (ms, number) = id.split_once('-').unwrap();
    (ms.parse().unwrap(), number.parse().unwrap())
}

/// Is the account of this test shown for its number?
fn shows(answer: &Answer) -> bool {
    matches!(answer, Answer::Found(found) if found.contains(&(number(PHONE), SUBJECT.to_string())))
}

/// The number and the account that opt in and out below.
const PHONE: u64 = 7;
const SUBJECT: u64 = 1_000;

fn an_opt_out_reaches_every_node(host: &mut Host, feed: &mut Feed, nodes: &[Node]) {
    let (mut times, mut asked) = (Vec::new(), 0);
    for _ in 0..40 {
        host.set(feed, PHONE, SUBJECT, OptIns::SEARCH);
        for node in nodes {
            node.wait_for("the opt-in", |node| shows(&node.lookup(&[number(PHONE)], "search")));
        }
        host.set(feed, PHONE, SUBJECT, OptIns::empty());
        let published = Instant::now();
        for node in nodes {
            node.wait_for("the opt-out", |node| {
                let sent = published.elapsed();
                let shown = shows(&node.lookup(&[number(PHONE)], "search"));
                assert!(!shown || sent <= MAX_LAG, "{} shows it after {sent:?}", node.name);
                !shown
            });
            times.push(published.elapsed());
        }
        for node in nodes {
            asked += 1;
            assert!(!shows(&node.lookup(&[number(PHONE)], "search")), "{} shows it again", node.name);
        }
    }
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "opt-outs: {} seen by a node, median {median:?}, longest {longest:?}; {asked} asked again",
        times.len()
    );
}

/// It stops without knowing it. What was asked meanwhile is the first that it hears.
fn a_node_that_was_stopped_refuses_before_it_catches_up(host: &mut Host, feed: &mut Feed, nodes: &[Node]) {
    let node = &nodes[0];
    let (mut refused, mut answered) = (0, 0);
    for _ in 0..5 {
        host.set(feed, PHONE, SUBJECT, OptIns::SEARCH);
        node.wait_for("the opt-in", |node| shows(&node.lookup(&[number(PHONE)], "search")));
        node.signal("-STOP");
        host.set(feed, PHONE, SUBJECT, OptIns::empty());
        sleep(MAX_LAG + Duration::from_millis(50));
        let waiting: Vec<_> = (0..20).map(|_| node.send_lookup(&[number(PHONE)], "search")).collect();
        node.signal("-CONT");
        for stream in waiting {
            let answer = answer(stream);
            assert!(!shows(&answer), "somebody who opted out more than the lag ago was shown");
            match answer {
                Answer::Lagging => refused += 1,
                Answer::Found(_) => answered += 1,
            }
        }
        node.wait_until_at(&host.last_id);
        assert!(matches!(node.lookup(&[number(PHONE)], "search"), Answer::Found(_)));
    }
    assert!(refused > 0, "nothing was refused");
    println!(
        "SIGSTOP: 5, of 100 lookups {refused} refused, {answered} answered after catching up, 0 with the opt-out"
    );
}

/// The primary hangs. A replica takes its place, and is alone: what it says could be undone, so nodes do not go by it.
fn a_feed_that_is_cut_off_makes_nodes_refuse(valkey: &Valkey, host: &mut Host, feed: &mut Feed, nodes: &[Node]) {
    host.set(feed, PHONE, SUBJECT, OptIns::SEARCH);
    for node in nodes {
        node.wait_for("the opt-in", |node| shows(&node.lookup(&[number(PHONE)], "search")));
    }
    let (server, _) = valkey.primary();
    let port = server.rsplit(':').next().unwrap();
    valkey.script("pause", &[port]);
    let is_lagging = |node: &Node| node.lookup(&[number(PHONE)], "search") == Answer::Lagging;
    let refused_after: Vec<_> = nodes.iter().map(|node| node.wait_for("the refusal", is_lagging)).collect();
    for node in nodes {
        assert_eq!(node.request("GET", "/health", "").0, 503);
    }
    // Published where there is one copy of it, as soon as there is a new primary.
    let [mut alone, mut safe] = [0, 1].map(|replicas| valkey.feed_that_waits(replicas, MAX_LAG / 2));
    let change = Change::Set {
        number: hash(PHONE),
        account: AccountId::from(SUBJECT),
        opt_ins: OptIns::empty(),
        version: host.next_version(),
    };
    let paused = Instant::now();
    while alone.publish(&change).is_err() {
        assert!(paused.elapsed() < Duration::from_secs(60), "no replica took over");
        sleep(Duration::from_millis(50));
    }
    let (failover, published) = (paused.elapsed(), Instant::now());
    assert!(matches!(safe.publish(&change), Err(error) if error.is_passing()), "it was published to one server");
    assert!(nodes.iter().all(is_lagging));
    // The old primary does not know yet that it is none, and nodes may still be connected to it.
    valkey.script("resume", &[port]);
    let mut asked = 0;
    for node in nodes {
        node.wait_for("an answer", |node| {
            let answer = node.lookup(&[number(PHONE)], "search");
            assert!(published.elapsed() < MAX_LAG || !shows(&answer), "it shows who opted out");
            answer != Answer::Lagging
        });
        asked += 1;
    }
    let back = published.elapsed();
    host.set(feed, PHONE, SUBJECT, OptIns::empty());
    let compared = host.compare(&nodes.iter().collect::<Vec<_>>());
    println!(
        "cut off: {asked} nodes refused after {refused_after:?}, a new primary after {failover:?}, answers {back:?} after the \
         opt-out, none with it; {compared} answers as the table"
    );
}

/// A crowd behind one network asks every node in turn. One of them is killed, and one comes late, with a backup.
fn nodes_spend_one_budget(valkey: &Valkey, host: &Host, feed: &mut Feed) {
    const QUOTA: u64 = 300;
    let quota = ["--quota", "network=300/1", "--budgets"];
    let start = |name: &str, more: &[&str]| Node::start(valkey, name, &[&quota, more].concat());
    let mut nodes = vec![start("shared-1", &["new-fleet"])];
    nodes.extend(["shared-2", "shared-3"].map(|name| start(name, &["fleet"])));
    let (mut spent, mut asked) = ([0; 4], 0);
    for round in 0..20 {
        if round == 3 {
            nodes.remove(1).kill();
            nodes.insert(1, start("shared-2", &["fleet"]));
            assert_eq!(nodes[0].request("POST", "/backup", "").0, 200);
            let backup = nodes[0].dir.join("backup");
            nodes.push(start("shared-4", &["fleet", "--restore-from", backup.to_str().unwrap()]));
        }
        for (i, node) in nodes.iter().enumerate() {
            node.wait_until_at(&host.last_id);
            let first = 1_000 + 100 * round + 20 * i as u64;
            let numbers: Vec<String> = (first..first + 20).map(number).collect();
            asked += numbers.len();
            let (caller, network) = (format!("user-{first}"), "203.0.113.9");
            let question =
                json!({ "caller": caller, "network": network, "purpose": "search", "numbers": numbers });
            let (status, body) = node.request("POST", "/lookup", &question.to_string());
            assert_eq!(status, 200, "{body}");
            spent[i] += serde_json::from_str::<Value>(&body).unwrap()["charged"].as_u64().unwrap();
        }
    }
    let all: u64 = spent.iter().sum();
    // What a killed node had leased is forfeited: a sixteenth of the burst at most.
    assert!((QUOTA - QUOTA / 16 * 4..=QUOTA).contains(&all), "{spent:?}");
    assert!(spent[3] > 0, "the node from a backup has the fleet's budgets, and not the empty ones of its copy");
    // Once they are gone: a node that runs notes itself again.
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    drop(nodes);
    for name in names {
        assert!(feed.forget(&name).unwrap());
    }
    println!("one budget: of {QUOTA} numbers of a network {all} were spent, by node {spent:?}; {asked} asked");
}

fn a_node_begins_with_a_backup(valkey: &Valkey, host: &mut Host, feed: &mut Feed, nodes: &[Node]) -> Vec<Node> {
    let (status, body) = nodes[0].request("POST", "/backup", "");
    assert_eq!(status, 200, "{body}");
    let backup = nodes[0].dir.join("backup");
    let from_backup = ["--restore-from", backup.to_str().unwrap()];
    (0..200).for_each(|_| host.change_something(feed));
    let fourth = Node::start(valkey, "node-4", &from_backup);
    let mut all: Vec<&Node> = nodes.iter().collect();
    all.push(&fourth);
    let compared = host.compare(&all);
    // All of them are past the backup, so nothing keeps its entry.
    // What a node has applied it notes when it reads next.
    let (begun, mut trimmed) = (Instant::now(), 0);
    let (_, mut connection) = valkey.primary();
    while redis::cmd("XLEN").arg("{feed}:entries").query::<u64>(&mut connection).unwrap() > 1 {
        assert!(begun.elapsed() < PATIENCE, "nodes do not note what they applied");
        sleep(Duration::from_millis(100));
        trimmed += feed.trim().unwrap();
    }
    assert!(trimmed > 1_000, "{trimmed}");
    for (name, more) in [("node-5", &from_backup[..]), ("node-6", &[])] {
        let (status, log) = Node::start(valkey, name, more).wait();
        assert!(!status.success() && log.contains("newer backup"), "{log}");
    }
    // They asked for what is gone, and are noted for it: somebody has to take them off the list.
    assert_eq!(feed.trim().unwrap(), 0);
    for name in ["node-5", "node-6"] {
        assert!(feed.forget(name).unwrap());
    }
    let newer = nodes[0].request("POST", "/backup", "");
    assert_eq!(newer.0, 200);
    let fifth = Node::start(valkey, "node-7", &from_backup);
    host.change_something(feed);
    all.push(&fifth);
    let again = host.compare(&all);
    println!(
        "backup: {compared} answers as the table, {trimmed} entries trimmed; 2 nodes behind them refused, {again} after"
    );
    vec![fourth, fifth]
}

fn an_entry_that_cannot_be_read_ends_nodes(valkey: &Valkey, nodes: Vec<Node>) {
    let (_, mut connection) = valkey.primary();
    let add = redis::cmd("XADD").arg("{feed}:entries").arg("*").arg("change").arg("opt-everybody-in").to_owned();
    let id: String = add.query(&mut connection).unwrap();
    let count = nodes.len();
    for node in nodes {
        let (status, log) = node.wait();
        assert!(!status.success() && log.contains(&id), "{log}");
    }
    println!("malformed: {count} nodes ended at it");
}
