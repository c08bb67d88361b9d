//! One run: a scenario under one protection, at the size in which it is simulated; and what arithmetic says of it.

use unlisted::{Quota, QuotaPolicy};

use super::scenario::{Conduct, SLOW_PER_HOUR, SLOW_PERCENT, Scenario};
use crate::error::CliError;

/// No budget that anybody meets.
pub const NONE: &str = "none";
/// What a scenario is run under.
pub const PROTECTIONS: [&str; 6] = [NONE, "signal", "default", "strict", "messenger", "social"];
/// A slow account asks every so many hours.
const SLOW_EVERY_HOURS: u64 = 6;

/// How large a replay is.
#[derive(Clone, Copy)]
pub struct Size {
    /// One in so many accounts and networks is simulated.
    pub scale: u64,
    /// Without a protection, about so many numbers are asked, and each stands for several.
    pub sample: u64,
    /// Honest users, each of whom stands for `scale` of them.
    pub users: u64,
    pub seed: u64,
}

/// A scenario under a protection, scaled.
pub struct Plan {
    pub scenario: &'static Scenario,
    pub protection: &'static str,
    pub policy: QuotaPolicy,
    pub accounts: u64,
    pub networks: u64,
    /// Numbers that each account wants to ask.
    pub per_account: u64,
    /// One number asked stands for so many.
    pub factor: u64,
    pub size: Size,
}

impl Plan {
    pub fn new(scenario: &'static Scenario, protection: &'static str, size: Size) -> Result<Self, CliError> {
        let (accounts, networks) = (scenario.accounts, scenario.networks);
        let (scale, is_divisor) = (size.scale, |of: u64| of.is_multiple_of(size.scale));
        if scale == 0 || !is_divisor(accounts) || !is_divisor(networks) {
            return Err(CliError::Scale { scenario: scenario.name, scale, accounts, networks });
        }
        let (accounts, networks) = (accounts / scale, networks / scale);
        let per_account = scenario.numbers / scenario.accounts;
        // Nothing couples the numbers where no budget binds, so a part of them shows what happens to all.
        let thin = match protection {
            NONE => (accounts * per_account).div_ceil(size.sample.max(1)).clamp(1, per_account),
            _ => 1,
        };
        let policy = policy(protection, scale).map_err(unlisted::Error::from)?;
        let (per_account, factor) = (per_account / thin, scale * thin);
        Ok(Self { scenario, protection, policy, accounts, networks, per_account, factor, size })
    }

    pub fn hours(&self) -> u64 {
        self.scenario.days * 24
    }

    /// Numbers that an account wants to have asked when so many hours have passed.
    pub fn due(&self, account: u64, hours: u64) -> u64 {
        let all = self.hours();
        let share = |hours: u64| (u128::from(self.per_account) * u128::from(hours) / u128::from(all)) as u64;
        match self.scenario.conduct {
            Conduct::Once if account * all / self.accounts < hours => self.per_account,
            Conduct::Once => 0,
            Conduct::Slow => {
                let hours = hours / SLOW_EVERY_HOURS * SLOW_EVERY_HOURS;
                share(hours).min(self.slow_share() * hours / 100)
            }
            Conduct::Steady | Conduct::Hopping | Conduct::Crashing { .. } => share(hours),
        }
    }

    /// Hundredths of a number that a slow account asks in an hour.
    fn slow_share(&self) -> u64 {
        (SLOW_PER_HOUR * 100).min(self.policy.caller().refill_per_hour().saturating_mul(SLOW_PERCENT))
    }

    /// Numbers that one account asks at most, by its own quota.
    pub fn most_of_an_account(&self) -> u64 {
        let wanted = (0..self.accounts).map(|account| self.due(account, self.hours())).max().unwrap_or_default();
        wanted.min(self.spent(self.policy.caller()))
    }

    /// What a quota lets through from full: a burst and, unless an account is used once, what refills.
    fn spent(&self, quota: Quota) -> u64 {
        let hours = if self.scenario.conduct == Conduct::Once { 0 } else { self.hours() };
        quota.burst().saturating_add(quota.refill_per_hour().saturating_mul(hours))
    }

    /// The closed form: the numbers that are answered at most, in the size that is simulated. Honest users take from
    /// what everyone may ask, so of that it is more than an attack gets.
    pub fn at_most(&self) -> u64 {
        let in_a_network = (self.accounts / self.networks).saturating_mul(self.most_of_an_account());
        let network =
            self.policy.origin("network").map_or(in_a_network, |quota| self.spent(quota).min(in_a_network));
        let all = self.networks.saturating_mul(network);
        let everyone = |quota: Quota| quota.burst() + quota.refill_per_hour().saturating_mul(self.hours());
        self.policy.everyone().map_or(all, |quota| everyone(quota).min(all))
    }

    /// Is this part of what a run tells to be multiplied by?
    pub fn full(&self, count: u64) -> u64 {
        count.saturating_mul(self.factor)
    }
}

/// The quotas of a protection. Those of callers and networks are whole, for there are fewer of them; there is one
/// everyone, so its quota is divided.
fn policy(protection: &str, scale: u64) -> Result<QuotaPolicy, unlisted::ParseQuotaError> {
    let Some(policy) = QuotaPolicy::preset(protection) else {
        return Ok(QuotaPolicy::of_caller(Quota::per_hour(100_000_000_000, 1_000_000)?));
    };
    let Some(everyone) = policy.everyone() else { return Ok(policy) };
    let divided = |count: u64| (count / scale).max(1);
    Ok(policy.with_everyone(Quota::per_hour(divided(everyone.burst()), divided(everyone.refill_per_hour()))?))
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{SCENARIOS, by_name};
    use super::*;

    fn plan(name: &str, protection: &'static str) -> Plan {
        let scenario = by_name(name).unwrap();
        let size = Size { scale: scenario.scale, sample: 2_000_000, users: 600, seed: 1 };
        Plan::new(scenario, protection, size).unwrap()
    }

    #[test]
    fn the_closed_form_of_the_attack_of_2019() {
        let at_most = |protection| {
            let plan = plan("twitter-2019", protection);
            plan.full(plan.at_most())
        };
        assert_eq!(at_most(NONE), 2_000_000_000);
        assert_eq!(at_most("signal"), 10_000 * (50_000 + 6 * 1_440));
        assert_eq!(at_most("messenger"), 200 * (20_000 + 50 * 1_440));
        assert_eq!(at_most("strict"), 1_000_000 + 10_000 * 1_440);
    }

    #[test]
    fn every_scenario_can_be_run_at_its_own_scale_and_reaches_what_it_wants() {
        for scenario in &SCENARIOS {
            for protection in PROTECTIONS {
                let plan = plan(scenario.name, protection);
                assert!(plan.at_most() > 0 && plan.at_most() <= plan.accounts * plan.per_account);
                let wanted: u64 = (0..plan.accounts).map(|account| plan.due(account, plan.hours())).sum();
                assert!(wanted >= plan.at_most(), "{} {protection}", scenario.name);
                assert_eq!(plan.due(plan.accounts - 1, 0), 0);
            }
        }
        let size = Size { scale: 3, sample: 1, users: 0, seed: 1 };
        assert!(matches!(Plan::new(&SCENARIOS[0], NONE, size), Err(CliError::Scale { scale: 3, .. })));
    }
}
