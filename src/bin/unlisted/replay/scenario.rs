//! The attacks, as a table: how many accounts, from where, for how long, with which numbers.

/// An attack at its full size.
pub struct Scenario {
    pub name: &'static str,
    /// What was done, in a line.
    pub what: &'static str,
    pub days: u64,
    pub accounts: u64,
    pub networks: u64,
    /// Distinct numbers that the attack wants to ask about, all accounts together.
    pub numbers: u64,
    /// Of a million of these numbers, those that are listed.
    pub listed_ppm: u64,
    pub conduct: Conduct,
    /// Accounts and networks are simulated one in so many, unless `--scale` says otherwise.
    pub scale: u64,
}

/// What the accounts of an attack do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// All the time, as fast as the numbers need.
    Steady,
    /// The same, and every number through every endpoint.
    Hopping,
    /// At a pace below the refill of an account, so that no account is ever conspicuous.
    Slow,
    /// Each account once, one after the other.
    Once,
    /// All the time, while the process is killed so many times.
    Crashing { kills: u64 },
}

/// A slow account asks for so many numbers an hour, or a little less than its refill if that is less.
pub const SLOW_PER_HOUR: u64 = 5;
/// And this part of its refill at most.
pub const SLOW_PERCENT: u64 = 95;

pub const SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "twitter-2019",
        what: "generated numbers, shuffled, through many fake accounts in few networks",
        days: 60,
        accounts: 10_000,
        networks: 200,
        numbers: 2_000_000_000,
        listed_ppm: 8_500,
        conduct: Conduct::Steady,
        scale: 100,
    },
    Scenario {
        name: "vienna-2025",
        what: "5 accounts on one machine, 27,800 numbers a second",
        days: 26,
        accounts: 5,
        networks: 1,
        numbers: 27_800 * 86_400 * 26,
        listed_ppm: 55_600,
        conduct: Conduct::Steady,
        scale: 1,
    },
    Scenario {
        name: "slow-bots",
        what: "many accounts, each of which stays below its refill",
        days: 60,
        accounts: 20_000,
        networks: 400,
        numbers: 20_000 * SLOW_PER_HOUR * 24 * 60,
        listed_ppm: 8_500,
        conduct: Conduct::Slow,
        scale: 100,
    },
    Scenario {
        name: "endpoint-hopping",
        what: "every number asked for each purpose in turn, by accounts that move on where they are deferred",
        days: 60,
        accounts: 5_000,
        networks: 100,
        numbers: 1_000_000_000,
        listed_ppm: 18_900,
        conduct: Conduct::Hopping,
        scale: 100,
    },
    Scenario {
        name: "leaked-list",
        what: "numbers of a leaked list, half of which are listed",
        days: 60,
        accounts: 2_000,
        networks: 100,
        numbers: 34_400_000,
        listed_ppm: 500_000,
        conduct: Conduct::Steady,
        scale: 50,
    },
    Scenario {
        name: "fresh-crowd",
        what: "accounts that are used once, each from a network of its own",
        days: 60,
        accounts: 40_000,
        networks: 40_000,
        numbers: 400_000_000,
        listed_ppm: 8_500,
        conduct: Conduct::Once,
        scale: 100,
    },
    Scenario {
        name: "crash-and-retry",
        what: "as in 2019, while the process is killed 40 times and the accounts go on with what was not answered",
        days: 60,
        accounts: 10_000,
        networks: 200,
        numbers: 2_000_000_000,
        listed_ppm: 8_500,
        conduct: Conduct::Crashing { kills: 40 },
        scale: 100,
    },
];

/// The names, for the command line.
pub fn names() -> [&'static str; SCENARIOS.len()] {
    SCENARIOS.each_ref().map(|scenario| scenario.name)
}

pub fn by_name(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
