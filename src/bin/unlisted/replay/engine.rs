//! One run: the clock goes on by the hour, and everybody asks the index.

use indicatif::ProgressBar;

use super::crowd::Crowd;
use super::honest::{Tally, Users, WARM_UP_HOURS};
use super::numbers::Numbers;
use super::plan::Plan;
use super::scenario::Conduct;
use super::world::World;
use crate::commands::generate::SplitMix;
use crate::error::CliError;

/// What a run showed, at the full size of the attack.
pub struct Run {
    pub plan: Plan,
    pub asked: u64,
    pub answered: u64,
    /// Accounts disclosed by the end of each hour.
    pub disclosed: Vec<u64>,
    pub honest: Tally,
    pub carrier: Tally,
}

impl Run {
    pub fn total(&self) -> u64 {
        self.disclosed.last().copied().unwrap_or_default()
    }

    /// Days until so many accounts are disclosed: when it happened, or when it would if the pace of the last third
    /// lasted. `None` if nothing was disclosed then.
    pub fn days_to(&self, wanted: u64) -> Option<f64> {
        let hours = self.disclosed.len();
        if let Some(hour) = self.disclosed.iter().position(|disclosed| *disclosed >= wanted) {
            return Some((hour + 1) as f64 / 24.0);
        }
        let since = hours - hours / 3;
        let before = self.disclosed.get(since.checked_sub(1)?).copied()?;
        let an_hour = (self.total() - before) as f64 / (hours - since) as f64;
        let more = (wanted - self.total()) as f64 / an_hour;
        (an_hour > 0.0).then_some((hours as f64 + more) / 24.0)
    }
}

/// Runs a plan. The bar moves by a step each simulated day ([`steps`]).
pub fn run(plan: Plan, bar: &ProgressBar) -> Result<Run, CliError> {
    let (scenario, size) = (plan.scenario, plan.size);
    let by_endpoint = scenario.conduct == Conduct::Hopping;
    let numbers = Numbers { seed: size.seed, listed_ppm: scenario.listed_ppm, by_endpoint };
    // A number is falsely free in at most 1 of 10,000 cases: a little more than what the budget allows is asked.
    let most = plan.most_of_an_account();
    let count = plan.accounts * (most + most / 1_000 + 100);
    let mut world = World::new(plan.protection, plan.policy.clone(), numbers, count)?;
    let mut users = Users::new(size.users, plan.hours(), numbers);
    for hour in 0..WARM_UP_HOURS {
        world.pass_an_hour();
        users.warm_up(world.open()?, hour)?;
    }
    world.close();

    let mut crowd = Crowd::new(&plan, numbers);
    let kills = kills(&plan);
    let mut disclosed = Vec::new();
    for hour in 0..plan.hours() {
        world.pass_an_hour();
        let [first, second] = crowd.halves();
        crowd.ask(world.open()?, hour + 1, first)?;
        if kills.contains(&hour) {
            world.kill()?;
        }
        crowd.ask(world.open()?, hour + 1, second)?;
        users.sync(world.open()?, WARM_UP_HOURS + hour)?;
        disclosed.push(plan.full(crowd.disclosed));
        if hour % 24 == 23 {
            bar.inc(1);
        }
    }
    let asked = (0..plan.accounts).map(|account| plan.due(account, plan.hours())).sum();
    let (answered, at_most) = (crowd.answered, plan.at_most());
    if answered > at_most + at_most / 1_000 + 10 {
        return Err(CliError::MoreThanAllowed { protection: plan.protection, answered, at_most });
    }
    let (asked, answered) = (plan.full(asked), plan.full(answered));
    Ok(Run { asked, answered, disclosed, honest: users.all, carrier: users.carrier, plan })
}

/// The steps that a bar takes for a plan.
pub fn steps(plan: &Plan) -> u64 {
    plan.scenario.days
}

/// The hours in which the process is killed: one at random in each of equal parts of the attack.
fn kills(plan: &Plan) -> Vec<u64> {
    let Conduct::Crashing { kills } = plan.scenario.conduct else { return Vec::new() };
    let mut random = SplitMix(plan.size.seed ^ 0x6b11_1ed5);
    let part = plan.hours() / kills;
    (0..kills).map(|kill| kill * part + random.below(part)).collect()
}
