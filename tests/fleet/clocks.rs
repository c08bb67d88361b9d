//! Clocks that are wrong, a node's and a server's: what that gives a caller.
//!
//! A server's clock cannot be set. A bucket says at which moment everything is paid back, so a server whose clock is ahead by
//! some hours sees what one with the right clock sees of a bucket that says so many hours less: the tests move that moment.

use std::time::Duration;

use unlisted::{Caller, Index, ManualClock, Purpose};

use crate::cluster::{Fleet, ask, fleet, keys, numbers, options, quota, until};
use crate::common;

const HOUR_US: i64 = 3_600_000_000;
const BURST: u64 = 100;

/// Moves the moment at which the only bucket of the fleet is paid back.
fn move_debt(fleet: &Fleet, hours: i64) {
    let bucket = keys(fleet).into_iter().find(|key| key.ends_with(":b")).expect("a bucket");
    let moved = fleet.addresses.iter().any(|address| {
        let client = redis::Client::open(format!("redis://{address}/")).unwrap();
        let mut connection = client.get_connection().unwrap();
        // The servers that do not have it say so.
        let Ok(text) = redis::cmd("GET").arg(&bucket).query::<String>(&mut connection) else { return false };
        let (moment, rest) = text.split_once(' ').unwrap();
        let moment = moment.parse::<i64>().unwrap() + hours * HOUR_US;
        redis::cmd("SET").arg(&bucket).arg(format!("{moment} {rest}")).exec(&mut connection).is_ok()
    });
    assert!(moved, "no server has {bucket}");
}

/// How many of these numbers are answered.
fn answered(node: &Index, caller: &Caller, numbers: std::ops::Range<u64>) -> usize {
    ask(node, caller, numbers).0
}

#[test]
fn a_server_whose_clock_is_ahead_gives_what_refills_in_between_and_one_behind_gives_nothing() {
    let Some(mut fleet) = fleet("clock") else { return };
    let first = fleet.node(quota(BURST));
    let caller = Caller::new("alice");
    assert_eq!(answered(&first, &caller, 0..200), 100);
    assert_eq!(answered(&first, &caller, 200..300), 0);
    // Ten hours ahead, at a number an hour: ten, once. A node that was told when to ask again waits until then.
    move_debt(&fleet, -10);
    assert_eq!(answered(&first, &caller, 300..400), 0);
    let others = [(); 3].map(|()| fleet.node(quota(BURST)));
    assert_eq!(
        [0, 1, 2].map(|i| answered(&others[i], &caller, 1_000 + i as u64 * 100..1_100 + i as u64 * 100)),
        [10, 0, 0]
    );
    // Then a server that is behind by as much takes over: nothing, and what refills waits for longer.
    move_debt(&fleet, 10);
    let last = fleet.node(quota(BURST));
    let reply = last.lookup(&caller, Purpose::Search, &numbers(2_000..2_050)).unwrap();
    assert_eq!(reply.charged(), 0);
    assert!(reply.retry_after().unwrap() > Duration::from_secs(10 * 3_600));
}

#[test]
fn a_node_whose_clock_is_wrong_gives_nothing_for_it() {
    let Some(mut fleet) = fleet("own-clock") else { return };
    let right = fleet.node(quota(BURST));
    let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
    let start_ms = common::START_MS;
    let wrong =
        Index::open(dir.path(), options(quota(BURST)).clock(clock.clone()).fleet(fleet.options())).unwrap();
    let caller = Caller::new("alice");
    assert_eq!(answered(&wrong, &caller, 0..200), 100);
    let mut next = 1_000;
    // Answered with nothing, or refused; never more than that.
    let mut is_answered = |node: &Index| {
        next += 50;
        let reply = node.lookup(&caller, Purpose::Search, &numbers(next..next + 50));
        reply.inspect(|reply| assert_eq!(reply.charged(), 0)).is_ok()
    };
    let day_ms = 86_400_000;
    for wall_ms in [start_ms + 1_000 * day_ms, start_ms - 1_000 * day_ms, 0] {
        clock.set_wall_ms(wall_ms);
        assert!(is_answered(&wrong) && is_answered(&right), "at {wall_ms}");
    }
    // A monotonic clock that leaps has the node think that it heard nothing for long, until it hears again.
    ManualClock::advance(&clock, Duration::from_secs(1_000 * 86_400));
    until("the node hears of the fleet", || is_answered(&wrong));
    assert!(is_answered(&right));
}
