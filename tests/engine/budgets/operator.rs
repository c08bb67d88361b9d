//! The operator's door: every use of it is a line of the log, no line names anybody, and none of it leads from a number to an
//! account. (That nothing else does is `index/no_way_around.rs`.)

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use unlisted::{
    AccountId, Caller, DisclosureQuery, Index, OptIns, Origin, Purpose, Quota, QuotaOverride, SignalQuery, TopBy,
    TopQuery,
};

use crate::common::{self, number};

/// What was told, a line for each event at level INFO or above.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

const NAME: &str = "somebody";
const ACCOUNT: u64 = 7_777_777_777;
const NETWORK: [u8; 4] = [198, 51, 100, 7];

fn caller() -> Caller {
    Caller::new(NAME).via(Origin::network(NETWORK.into()))
}

type Use = (&'static str, fn(&Index) -> unlisted::Result<String>);

/// Everything that an operator can ask or do, by the word that its line must have. What comes of it is told as it prints.
const USES: [Use; 14] = [
    ("disclosed to a caller", |index| Ok(format!("{:?}", index.inspector().disclosed_to(&caller())?))),
    ("disclosures", |index| {
        let rows: unlisted::Result<Vec<_>> = index.inspector().disclosures(&DisclosureQuery::new())?.collect();
        Ok(format!("{:?}", rows?))
    }),
    ("suspended", |index| Ok(format!("{:?}", index.inspector().standings(None, 9)?))),
    ("of an account", |index| Ok(format!("{:?}", index.inspector().held(AccountId::from(ACCOUNT))?))),
    ("of a caller", |index| Ok(format!("{:?}", index.inspector().held_by_caller(&caller())?))),
    ("suspicious", |index| Ok(format!("{:?}", index.inspector().signals(&SignalQuery::new())?))),
    ("heaviest", |index| Ok(format!("{:?}", index.inspector().top_callers(&TopQuery::new(TopBy::Charged))?))),
    ("suspends", |index| index.suspend(&caller(), "asked too much").map(|()| String::new())),
    ("ends a suspension", |index| Ok(index.reinstate(&caller())?.to_string())),
    ("gives budget", |index| index.grant(&caller(), 1).map(|()| String::new())),
    ("sets the quota", |index| {
        let own = QuotaOverride::fixed(Quota::per_hour(900, 9)?);
        index.set_quota_of(&caller(), Some((own, Duration::ZERO))).map(|()| String::new())
    }),
    ("replaces the quotas", |index| index.set_quotas(common::wide_quotas()).map(|version| version.to_string())),
    ("empties", |index| index.exhaust_budgets().map(|()| String::new())),
    ("written anew", |index| Ok(format!("{:?}", index.vacuum()?))),
];

#[test]
fn every_use_of_the_operators_door_is_logged_and_names_nobody() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), common::clock());
    let index = common::open(dir.path(), &clock);
    index.update(|batch| batch.put(number(1), AccountId::from(ACCOUNT), OptIns::SEARCH, 1)).unwrap();
    index.lookup(&caller(), Purpose::Search, &[number(1), number(2)]).unwrap();
    let numbers = [number(1), number(2)].map(|number| hex::encode(number.as_bytes()));
    let names =
        [NAME.to_owned(), ACCOUNT.to_string(), AccountId::from(ACCOUNT).to_string(), "198.51.100".to_owned()];
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        for (word, use_it) in USES {
            let told = use_it(&index).unwrap();
            let logged = lines.take();
            assert!(logged.iter().any(|line| line.contains(word)), "{word}: {logged:?}");
            for line in &logged {
                assert!(names.iter().chain(&numbers).all(|name| !line.contains(name.as_str())), "{line}");
            }
            assert!(
                numbers.iter().all(|number| !told.contains(number.as_str())),
                "{word}: a number is told: {told}"
            );
        }
        // What handlers do is not an operator's use.
        index.lookup(&caller(), Purpose::Search, &[number(1)]).unwrap();
        index.budget(&caller()).unwrap();
        assert_eq!(lines.take(), Vec::<String>::new());
    });
}
