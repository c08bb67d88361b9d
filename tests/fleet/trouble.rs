//! What a node does while it cannot reach the fleet, and what `WAITAOF` is for.

use std::path::Path;
use std::time::Duration;

use unlisted::{Caller, Degraded, Error, FleetError, Index, Purpose};

use crate::cluster::{Fleet, ask, numbers, quota, script, until};

/// A cluster of a test's own, stopped at its end.
pub struct Own {
    pub dir: tempfile::TempDir,
    pub addresses: String,
}

/// One that this test may hurt, if clusters are to be had at all.
pub fn own_cluster() -> Option<Own> {
    if std::env::var_os("UNLISTED_FLEET_DIR").is_none() {
        println!("skipped: no cluster; see the top of tests/fleet.rs");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let addresses = script("start", dir.path(), &["--port", "0"]);
    Some(Own { addresses: addresses.trim().to_owned(), dir })
}

impl Own {
    /// Ports of the nodes that were made as primaries, then of the others.
    pub fn ports(&self) -> Vec<String> {
        self.addresses.split(',').filter_map(|address| address.rsplit(':').next()).map(str::to_owned).collect()
    }

    pub fn to(&self, command: &str, ports: &[String]) {
        script(command, self.path(), &ports.iter().map(String::as_str).collect::<Vec<_>>());
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        script("stop", self.dir.path(), &[]);
    }
}

fn outcome(node: &Index, caller: &Caller, number: u64) -> Result<u64, FleetError> {
    match node.lookup(caller, Purpose::Search, &numbers(number..number + 1)) {
        Ok(reply) => Ok(reply.charged()),
        Err(Error::Fleet(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_node_that_is_cut_off_refuses_or_spends_its_leases_and_never_more() {
    let Some(own) = own_cluster() else { return };
    let mut fleet = Fleet::on(&own.addresses, "cut-off");
    let impatient =
        |fleet: &Fleet| fleet.options().call_timeout(Duration::from_secs(4)).max_silence(Duration::from_secs(1));
    let _creator = fleet.node(quota(1_600));
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let refusing = fleet.join(dirs[0].path(), impatient(&fleet)).unwrap();
    let spending = impatient(&fleet).degraded(Degraded::SpendLeased);
    let spending = fleet.join(dirs[1].path(), spending).unwrap();
    let [alice, bob] = ["alice", "bob"].map(Caller::new);
    for round in 0..8 {
        ask(&refusing, &alice, round * 10..round * 10 + 10);
        ask(&spending, &bob, round * 10..round * 10 + 10);
    }
    let leased = spending.fleet_health().unwrap().leased_numbers;
    assert!(leased > 0);

    own.to("pause", &own.ports());
    until("the node knows that it is cut off", || refusing.fleet_health().unwrap().is_degraded);
    assert!(matches!(outcome(&refusing, &alice, 1_000), Err(FleetError::Silent { .. })));
    assert!(matches!(outcome(&refusing, &alice, 1), Err(FleetError::Silent { .. }))); // what is free, too
    until("the other node knows", || spending.fleet_health().unwrap().is_degraded);
    let mut spent = 0;
    let last = (1_000..4_000).map(|number| outcome(&spending, &bob, number)).find(|outcome| match outcome {
        Ok(charged) => {
            spent += charged;
            false
        }
        Err(_) => true,
    });
    assert_eq!(last, Some(Err(FleetError::LeasesSpent)));
    assert!(spent <= leased, "{spent} answered of {leased} leased");
    assert!(spent > 0);
    assert!(refusing.fleet_health().unwrap().refused >= 2);

    own.to("resume", &own.ports());
    until("both answer again", || {
        outcome(&refusing, &alice, 5_000).is_ok() && outcome(&spending, &bob, 5_000).is_ok()
    });
}

#[test]
fn what_no_replica_has_on_disk_is_not_answered_and_stays_charged() {
    let Some(own) = own_cluster() else { return };
    let mut fleet = Fleet::on(&own.addresses, "not-durable");
    let node = fleet.node(quota(1_000));
    let caller = Caller::new("alice");
    assert_eq!(ask(&node, &caller, 0..10), (10, 10));
    let replicas: Vec<String> = own.ports().split_off(3);
    own.to("pause", &replicas);
    let mut refused = 0;
    for number in 100..103 {
        match outcome(&node, &caller, number * 100) {
            // The first may be inside the lease.
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, not_durable());
                refused += 1;
            }
        }
    }
    own.to("resume", &replicas);
    assert!(refused >= 1, "{refused}");
    until("it answers again", || outcome(&node, &caller, 20_000).is_ok());
    let left = node.budget(&caller).unwrap().remaining;
    println!("{refused} refused for want of a replica, {left} of 1,000 left");
    assert!(left < 1_000 - 10 - refused, "{left}");
}

#[test]
fn nodes_go_on_after_a_failover_and_find_the_new_primary() {
    let Some(own) = own_cluster() else { return };
    let mut fleet = Fleet::on(&own.addresses, "failover");
    let node = fleet.node(quota(1_000));
    let callers: Vec<Caller> = (0..12).map(|i| Caller::new(format!("caller {i}"))).collect();
    for caller in &callers {
        assert_eq!(ask(&node, caller, 0..600), (600, 600));
    }
    let first = own.ports().into_iter().next().unwrap();
    own.to("kill", &[first]);
    let took = until("every slot is answered for again", || {
        callers.iter().all(|caller| node.budget(caller).is_ok()) && !node.fleet_health().unwrap().is_degraded
    });
    println!("every slot is answered for {took:?} after a primary was killed");
    // The replica that took over has none of its own until the other server is back: what it leases would not be durable.
    let is_refused = |caller: &Caller| outcome(&node, caller, 900) == Err(not_durable());
    assert!(callers.iter().any(is_refused));
    script("start", own.path(), &[]);
    until("every caller is answered again", || callers.iter().all(|caller| outcome(&node, caller, 950).is_ok()));
    for caller in &callers {
        let (answered, _) = ask(&node, caller, 1_000..2_000);
        assert!((300..400).contains(&answered), "{answered}: the debt of before the kill is there");
    }
}

fn not_durable() -> FleetError {
    FleetError::NotDurable { local: 1, replicas: 0, wanted: 1 }
}

#[test]
fn a_node_signs_in_as_a_user_over_tls() {
    let has_openssl = std::process::Command::new("openssl").arg("version").output().is_ok();
    if std::env::var_os("UNLISTED_FLEET_DIR").is_none() || !has_openssl {
        println!("skipped: no cluster, or no openssl to make a certificate with");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let user = "node:hush-hush:~secured* +@all";
    let addresses = script("start", dir.path(), &["--port", "0", "--tls", "--user", user]);
    let own = Own { addresses: addresses.trim().to_owned(), dir };
    let authority = std::fs::read(own.path().join("tls/ca.crt")).unwrap();
    let fleet = Fleet::on(&own.addresses, "secured");
    let secured = fleet.options().tls(Some(authority)).credentials("node", "hush-hush");
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let node = fleet.join(dirs[0].path(), secured.clone().create()).unwrap();
    assert_eq!(ask(&node, &Caller::new("alice"), 0..10), (10, 10));
    // Who does not know the authority, who has a wrong password, and who may not touch these keys.
    let refused = |options| match fleet.join(dirs[1].path(), options) {
        Err(Error::Fleet(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(secured.clone().tls(None)), FleetError::Unavailable { .. }));
    assert!(matches!(refused(secured.clone().credentials("node", "guess")), FleetError::Denied { .. }));
    let foreign_keys = secured.prefix("other").create();
    assert!(matches!(refused(foreign_keys), FleetError::Denied { .. }));
}
