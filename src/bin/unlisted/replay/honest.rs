//! People who use the service as it is meant: a first sync, then one each night, with a few new contacts a week.

use unlisted::{Caller, Index, Origin, PhoneHash, Purpose};

use super::numbers::Numbers;
use super::world::MAX_BATCH;
use crate::commands::generate::SplitMix;
use crate::error::CliError;

/// Address books are log-normal: half have up to so many numbers, and one in twenty six times as many.
const MEDIAN_BOOK: f64 = 150.0;
const P95_BOOK: f64 = 900.0;
/// The 95th percentile of the normal distribution.
const P95_NORMAL: f64 = 1.645;
/// New contacts in a week.
const NEW_A_WEEK: std::ops::RangeInclusive<u64> = 2..=4;
/// One in so many joins during the attack; the others were there before.
const JOINERS: u64 = 10;
/// The time before the attack in which the others had their first sync. It is as long as numbers stay free, so that the
/// address books of all of them are paid for anew while the attack goes on.
pub const WARM_UP_HOURS: u64 = 60 * 24;
/// Callers of an office and of a home.
const OFFICE: u64 = 50;
const HOME: u64 = 2;
/// Nights are these hours after 22:00.
const NIGHT_HOURS: u64 = 8;
const DAY: u64 = 24;

/// Where somebody asks from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Home,
    Office,
    /// Behind the one network of a carrier, with a third of all users.
    Carrier,
}

struct User {
    caller: Caller,
    place: Place,
    book: Vec<PhoneHash>,
    first_hour: u64,
    hour_of_day: u64,
    day_of_week: u64,
    /// Was something deferred the last time?
    is_incomplete: bool,
}

/// What became of lookups.
#[derive(Default, Clone, Copy)]
pub struct Tally {
    pub lookups: u64,
    /// Those in which something was deferred.
    pub deferred: u64,
}

impl Tally {
    pub fn share(self) -> f64 {
        if self.lookups == 0 { 0.0 } else { self.deferred as f64 / self.lookups as f64 }
    }
}

pub struct Users {
    users: Vec<User>,
    random: SplitMix,
    numbers: Numbers,
    pub all: Tally,
    /// Of all, those behind the carrier's network.
    pub carrier: Tally,
}

impl Users {
    /// Users for an attack of so many hours.
    pub fn new(count: u64, hours: u64, numbers: Numbers) -> Self {
        let mut random = SplitMix(numbers.seed ^ 0x4001_e57a);
        let mut user = |i: u64| {
            let (place, network) = place(i, count);
            let len = book_len(&mut random);
            let joins = random.below(JOINERS) == 0;
            User {
                caller: Caller::new(format!("user-{i}")).via(network),
                place,
                book: (0..len).map(|_| numbers.contact(&mut random)).collect(),
                first_hour: if joins { WARM_UP_HOURS + random.below(hours) } else { random.below(WARM_UP_HOURS) },
                hour_of_day: (22 + random.below(NIGHT_HOURS)) % DAY,
                day_of_week: random.below(7),
                is_incomplete: false,
            }
        };
        let users = (0..count).map(&mut user).collect();
        Self { users, random, numbers, all: Tally::default(), carrier: Tally::default() }
    }

    /// The hour before the attack: first syncs, and whoever could not finish his tries again at night.
    pub fn warm_up(&mut self, index: &Index, hour: u64) -> Result<(), CliError> {
        for user in &mut self.users {
            if user.first_hour == hour || user.is_incomplete && hour % DAY == user.hour_of_day {
                user.sync(index)?;
            }
        }
        Ok(())
    }

    /// An hour of the attack, counted from the begin of the warm-up.
    pub fn sync(&mut self, index: &Index, hour: u64) -> Result<(), CliError> {
        for user in &mut self.users {
            let is_night = hour % DAY == user.hour_of_day && hour > user.first_hour;
            if user.first_hour != hour && !is_night {
                continue;
            }
            if is_night && hour / DAY % 7 == user.day_of_week {
                let (least, most) = NEW_A_WEEK.into_inner();
                let new = least + self.random.below(most - least + 1);
                user.book.extend((0..new).map(|_| self.numbers.contact(&mut self.random)));
                user.book.truncate(MAX_BATCH as usize);
            }
            user.sync(index)?;
            let carrier = (user.place == Place::Carrier).then_some(&mut self.carrier);
            for tally in [&mut self.all].into_iter().chain(carrier) {
                tally.lookups += 1;
                tally.deferred += u64::from(user.is_incomplete);
            }
        }
        Ok(())
    }
}

impl User {
    fn sync(&mut self, index: &Index) -> Result<(), CliError> {
        let reply = index.lookup(&self.caller, Purpose::ContactSync, &self.book)?;
        self.is_incomplete = reply.retry_after().is_some();
        Ok(())
    }
}

/// A third of all are behind one carrier, a third in offices, the others at home.
fn place(i: u64, count: u64) -> (Place, Origin) {
    let third = count / 3;
    let (place, first, number) = match i {
        i if i < third => (Place::Carrier, 91, 0),
        i if i < 2 * third => (Place::Office, 92, (i - third) / OFFICE),
        i => (Place::Home, 93, (i - 2 * third) / HOME),
    };
    let [.., a, b] = number.to_be_bytes();
    (place, Origin::network([first, a, b, 1].into()))
}

fn book_len(random: &mut SplitMix) -> u64 {
    let uniform = |random: &mut SplitMix| (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
    // Box and Muller's normal numbers.
    let (radius, angle) = (1.0 - uniform(random), uniform(random));
    let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
    let sigma = (P95_BOOK / MEDIAN_BOOK).ln() / P95_NORMAL;
    let len = MEDIAN_BOOK * (sigma * normal).exp();
    (len as u64).clamp(1, MAX_BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_books_are_as_long_as_stated() {
        let mut random = SplitMix(1);
        let mut lens: Vec<u64> = (0..20_000).map(|_| book_len(&mut random)).collect();
        lens.sort_unstable();
        assert!((142..158).contains(&lens[10_000]), "{}", lens[10_000]);
        assert!((840..960).contains(&lens[19_000]), "{}", lens[19_000]);
    }

    #[test]
    fn everybody_has_a_place() {
        let places: Vec<_> = (0..600).map(|i| place(i, 600)).collect();
        let count = |wanted| places.iter().filter(|(place, _)| *place == wanted).count();
        assert_eq!([count(Place::Carrier), count(Place::Office), count(Place::Home)], [200, 200, 200]);
        let mut networks: Vec<_> = places.iter().map(|(_, network)| network).collect();
        networks.dedup();
        assert_eq!(networks.len(), 1 + 4 + 100);
    }
}
