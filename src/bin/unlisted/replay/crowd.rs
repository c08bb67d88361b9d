//! The accounts of an attack. They read what a reply says is left and ask for exactly that, so nothing of a budget is
//! lost to them.

use std::ops::Range;

use unlisted::{Caller, Index, Origin, PhoneHash, Purpose};

use super::numbers::{ENDPOINTS, Numbers};
use super::plan::Plan;
use super::scenario::Conduct;
use super::world::MAX_BATCH;
use crate::error::CliError;

pub struct Crowd<'a> {
    plan: &'a Plan,
    numbers: Numbers,
    members: Vec<Member>,
    /// Distinct numbers that were answered, in the size that is simulated.
    pub answered: u64,
    /// Accounts that were found, each once.
    pub disclosed: u64,
}

struct Member {
    caller: Caller,
    /// How many of its numbers were answered.
    answered: u64,
    is_used_up: bool,
}

/// An account's network. Networks of attackers have no honest users.
fn network(number: u64) -> Origin {
    let [.., a, b, c] = number.to_be_bytes();
    Origin::network([60 + a % 30, b, c, 1].into())
}

impl<'a> Crowd<'a> {
    pub fn new(plan: &'a Plan, numbers: Numbers) -> Self {
        let member = |account: u64| Member {
            caller: Caller::new(format!("fake-{account}")).via(network(account % plan.networks)),
            answered: 0,
            is_used_up: false,
        };
        Self { plan, numbers, members: (0..plan.accounts).map(member).collect(), answered: 0, disclosed: 0 }
    }

    pub fn halves(&self) -> [Range<usize>; 2] {
        let middle = self.members.len() / 2;
        [0..middle, middle..self.members.len()]
    }

    /// Some of the accounts ask what they want by now and may.
    pub fn ask(&mut self, index: &Index, hours: u64, some: Range<usize>) -> Result<(), CliError> {
        for account in some {
            let Some(member) = self.members.get_mut(account) else { continue };
            let due = self.plan.due(account as u64, hours);
            if member.is_used_up || due <= member.answered {
                continue;
            }
            let before = member.answered;
            let mut left = index.lookup(&member.caller, Purpose::ContactSync, &[])?.remaining();
            while left > 0 && member.answered < due {
                let count = left.min(due - member.answered).min(MAX_BATCH);
                // The k-th number of an account; no two accounts have one in common.
                let number = |k: u64| self.numbers.hash(account as u64 + k * self.plan.accounts);
                let batch: Vec<PhoneHash> = (member.answered..member.answered + count).map(number).collect();
                let (answered, found) = ask(index, &member.caller, &batch, self.plan.scenario.conduct)?;
                member.answered += answered;
                self.disclosed += found;
                left = if answered < count { 0 } else { left - answered };
            }
            self.answered += member.answered - before;
            member.is_used_up = self.plan.scenario.conduct == Conduct::Once && member.answered > before;
        }
        Ok(())
    }
}

/// How many numbers from the first on were answered, and how many of them showed an account.
fn ask(index: &Index, caller: &Caller, batch: &[PhoneHash], conduct: Conduct) -> Result<(u64, u64), CliError> {
    let endpoints = if conduct == Conduct::Hopping { &ENDPOINTS[..] } else { &ENDPOINTS[..1] };
    let (mut answered, mut found) = (0, Vec::new());
    for (purpose, _) in endpoints {
        let reply = index.lookup(caller, *purpose, batch)?;
        answered = answered.max(reply.deferred().next().unwrap_or(batch.len()));
        found.extend(reply.matches().map(|found| found.position));
    }
    // A number that several endpoints show is one account.
    found.sort_unstable();
    found.dedup();
    Ok((answered as u64, found.iter().filter(|position| **position < answered).count() as u64))
}
