//! The fleet's record: one slot that says that the fleet exists, which quotas are in force and what was decided about whom,
//! with a stream of what changed. And making a fleet.

use redis::Value;

use super::answers::{self, Parts};
use super::calls::{Calls, Terms};
use super::rows::{self, Decision, Row, RowId};
use super::slots::slot_of_tag;
use crate::ledger::ScopeId;
use crate::words::{FleetError, QuotaPolicy};

/// Marks that are made in one go.
const MARKS_AT_ONCE: usize = 1_024;
/// Changes that are read in one go.
const CHANGES_AT_ONCE: usize = 1_000;
/// Rows that are read in one go, about.
const ROWS_AT_ONCE: usize = 1_000;
const TAG: &str = "control";

/// What every node obeys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) terms: Terms,
    pub(super) quotas: QuotaPolicy,
}

/// Something that changed, by its place in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// About one scope; ordinary again if there is no row.
    Standing(RowId, Option<Row>),
    /// What a caller paid for is to be forgotten.
    Forget(ScopeId),
    /// Read the record again, as every look at the stream does.
    Other,
}

/// What a look at the record brought.
#[derive(Debug)]
pub(super) struct News {
    pub(super) record: Record,
    pub(super) changes: Vec<Change>,
    /// The place up to which the changes were read.
    pub(super) upto: String,
    /// Server's time.
    pub(super) now_us: u64,
    /// Changes before these are gone from the stream: everything has to be read.
    pub(super) has_gap: bool,
    /// There may be more.
    pub(super) is_full: bool,
}

/// Before the first entry of a stream.
pub(super) const START: &str = "0-0";

impl Calls {
    fn key(&self, name: &str) -> String {
        format!("{}:{{{TAG}}}:{name}", self.options.prefix)
    }

    fn slot() -> u16 {
        slot_of_tag(TAG.as_bytes())
    }

    /// Reads the record, and what changed since a place in the stream.
    pub(super) fn news(&self, since: &str) -> Result<News, FleetError> {
        let mut commands = redis::pipe();
        let (record, changes) = (self.key("record"), self.key("changes"));
        commands.cmd("HMGET").arg(&record).arg(&["fleet", "version", "exhausted", "quotas"]);
        commands.cmd("XRANGE").arg(&changes).arg("-").arg("+").arg("COUNT").arg(1);
        commands.cmd("XRANGE").arg(&changes).arg(format!("({since}")).arg("+").arg("COUNT").arg(CHANGES_AT_ONCE);
        commands.cmd("TIME");
        let (answers, address) = self.cluster.send(Self::slot(), &mut commands, false)?;
        let mut values = answers::first(answers, &address, &self.context(TAG))?;
        let mut value = || values.next().unwrap_or_default();
        let record = self.read_record(value())?;
        let oldest = entries(value())?.into_iter().next().map(|(place, _)| place);
        let found = entries(value())?;
        let now_us = time_us(value())?;
        let has_gap = match oldest {
            Some(oldest) => since != START && place(&oldest)? > place(since)?,
            None => since != START,
        };
        let upto = found.last().map_or_else(|| since.to_owned(), |(place, _)| place.clone());
        let is_full = found.len() == CHANGES_AT_ONCE;
        let changes = found.into_iter().map(|(_, fields)| change(&fields)).collect::<Result<_, _>>()?;
        Ok(News { record, changes, upto, now_us, has_gap, is_full })
    }

    fn read_record(&self, value: Value) -> Result<Record, FleetError> {
        let mut parts = Parts::new("record", value)?;
        let prefix = || self.options.prefix.clone();
        match parts.text()? {
            None => return Err(FleetError::NoFleet { prefix: prefix() }),
            Some(found) if found != self.fleet => {
                return Err(FleetError::Foreign { prefix: prefix(), found, own: self.fleet.clone() });
            }
            Some(_) => {}
        }
        let terms = Terms { version: parts.number()?, exhausted_us: parts.number()? };
        let quotas = rows::read_quotas(&parts.text()?.unwrap_or_default())?;
        Ok(Record { terms, quotas })
    }

    /// Everything that was decided about scopes.
    pub(super) fn standings(&self) -> Result<Vec<(RowId, Row)>, FleetError> {
        let (mut cursor, mut found) = (0, Vec::new());
        loop {
            let mut commands = redis::pipe();
            commands.cmd("HSCAN").arg(self.key("standings")).arg(cursor).arg("COUNT").arg(ROWS_AT_ONCE);
            let (answers, address) = self.cluster.send(Self::slot(), &mut commands, false)?;
            let mut values = answers::first(answers, &address, &self.context(TAG))?;
            let mut parts = Parts::new("standing", values.next().unwrap_or_default())?;
            cursor = parts.number()?;
            let mut pairs = parts.parts()?;
            while !pairs.is_empty() {
                let id = RowId::read(&pairs.text()?.unwrap_or_default())?;
                found.push((id, Row::read(id.kind, &pairs.text()?.unwrap_or_default())?));
            }
            if cursor == 0 {
                // A scan may show a row twice.
                found.sort_by_key(|(id, _)| *id);
                found.dedup_by_key(|(id, _)| *id);
                return Ok(found);
            }
        }
    }

    /// Decides something about a scope, for all nodes; false if nothing of the kind was decided before. Durable when it
    /// returns.
    pub(super) fn decide(&self, row: RowId, scope: &str, decision: Option<&Decision>) -> Result<bool, FleetError> {
        let mut call = self.function("decide", 3);
        call.arg(self.key("record")).arg(self.key("standings")).arg(self.key("changes"));
        call.arg(&self.fleet).arg(self.terms().version).arg(row.to_text());
        call.arg(decision.map(|decision| decision.to_text(scope)).unwrap_or_default());
        self.control(call)
    }

    /// Has every node forget what a caller paid for.
    pub(super) fn tell_forget(&self, id: ScopeId) -> Result<(), FleetError> {
        let mut call = self.function("tell", 2);
        call.arg(self.key("record")).arg(self.key("changes")).arg(&self.fleet).arg("forget").arg(hex::encode(id));
        self.control(call).map(drop)
    }

    /// Replaces the quotas, or keeps them and takes everything that could be asked; returns their version.
    pub(super) fn set_quotas(&self, policy: &QuotaPolicy, exhaust: bool) -> Result<u64, FleetError> {
        let mut call = self.function("set_quotas", 2);
        call.arg(self.key("record")).arg(self.key("changes")).arg(&self.fleet).arg(self.terms().version);
        call.arg(rows::quotas_text(policy)).arg(u8::from(exhaust));
        let mut values = self.write(Self::slot(), call, true)?;
        let version = answers::number("version", values.next().unwrap_or_default())?;
        self.check_durable(values.next())?;
        Ok(version)
    }

    /// A small record of the fleet by its name, and its version; version 0 and no bytes if it was never set.
    pub(super) fn record(&self, name: &str) -> Result<(u64, Vec<u8>), FleetError> {
        let mut commands = redis::pipe();
        let fields = ["fleet".to_owned(), format!("record:{name}:version"), format!("record:{name}")];
        commands.cmd("HMGET").arg(self.key("record")).arg(&fields);
        let (answers, address) = self.cluster.send(Self::slot(), &mut commands, false)?;
        let mut values = answers::first(answers, &address, &self.context(name))?;
        let mut parts = Parts::new("record", values.next().unwrap_or_default())?;
        if parts.text()?.as_ref() != Some(&self.fleet) {
            return Err(FleetError::NoFleet { prefix: self.options.prefix.clone() });
        }
        match parts.text()? {
            None => Ok((0, Vec::new())),
            Some(version) => {
                let version = version.parse().map_err(|_| answers::damaged("record", "a version is no number"))?;
                Ok((version, parts.bytes()?.unwrap_or_default()))
            }
        }
    }

    /// Replaces a small record if it still has the version; returns the next one. Durable when it returns.
    pub(super) fn replace_record(&self, name: &str, expected: u64, bytes: &[u8]) -> Result<u64, FleetError> {
        let mut call = self.function("set_record", 1);
        call.arg(self.key("record")).arg(&self.fleet).arg(name).arg(expected).arg(bytes);
        let mut commands = redis::pipe();
        commands.add_command(call);
        let (answers, address) = self.cluster.send(Self::slot(), &mut commands, true)?;
        let context = answers::Context { version: expected, ..self.context(name) };
        let mut values = answers::first(answers, &address, &context)?;
        let version = answers::number("version", values.next().unwrap_or_default())?;
        self.check_durable(values.next())?;
        Ok(version)
    }

    fn control(&self, call: redis::Cmd) -> Result<bool, FleetError> {
        let mut values = self.write(Self::slot(), call, true)?;
        let found = answers::number("decision", values.next().unwrap_or_default())?;
        self.check_durable(values.next())?;
        Ok(found > 0)
    }

    /// Makes the fleet: a mark in every slot, and the record last, so that a fleet with a record is whole. What is there of
    /// this fleet stays as it is; a mark of another fleet is an error.
    pub(super) fn create(&self, policy: &QuotaPolicy, terms: Terms) -> Result<(), FleetError> {
        match self.news(START) {
            Err(FleetError::NoFleet { .. }) => {}
            other => return other.map(drop),
        }
        self.make_marks(terms.version)?;
        let mut commands = redis::pipe();
        let record = self.key("record");
        commands.cmd("HSETNX").arg(&record).arg("version").arg(terms.version);
        commands.cmd("HSETNX").arg(&record).arg("exhausted").arg(terms.exhausted_us);
        commands.cmd("HSETNX").arg(&record).arg("quotas").arg(rows::quotas_text(policy));
        commands.cmd("HSETNX").arg(&record).arg("fleet").arg(&self.fleet);
        let (answers, address) = self.cluster.send(Self::slot(), &mut commands, true)?;
        let values = answers::first(answers, &address, &self.context(TAG))?;
        self.check_durable(values.last())
    }

    /// The clock of the server that has the record.
    pub(super) fn now_us(&self) -> Result<u64, FleetError> {
        let mut commands = redis::pipe();
        commands.cmd("TIME");
        let (answers, address) = self.cluster.send(Self::slot(), &mut commands, false)?;
        let mut values = answers::first(answers, &address, &self.context(TAG))?;
        time_us(values.next().unwrap_or_default())
    }

    /// A mark for every slot that has none, which only nodes at this version of the quotas may use.
    pub(super) fn make_marks(&self, version: u64) -> Result<(), FleetError> {
        for slots in self.cluster.slots_by_primary() {
            for some in slots.chunks(MARKS_AT_ONCE) {
                let mut commands = redis::pipe();
                for slot in some {
                    let mut call = self.function("mark", 1);
                    call.arg(self.mark(*slot)).arg(&self.fleet).arg(version);
                    commands.add_command(call);
                }
                let (answers, address) = match some.first() {
                    Some(first) => self.cluster.send(*first, &mut commands, true)?,
                    None => continue,
                };
                let mut values = answers::first(answers, &address, &self.context(TAG))?;
                self.check_durable(values.nth(some.len()))?;
            }
        }
        Ok(())
    }
}

/// What `TIME` says: seconds and microseconds.
fn time_us(value: Value) -> Result<u64, FleetError> {
    let mut parts = Parts::new("clock", value)?;
    Ok(parts.number()?.saturating_mul(1_000_000).saturating_add(parts.number()?))
}

/// The entries of a stream: place, then fields and values in turn.
fn entries(value: Value) -> Result<Vec<(String, Vec<String>)>, FleetError> {
    let mut list = Parts::new("stream", value)?;
    let mut found = Vec::new();
    while !list.is_empty() {
        let mut entry = list.parts()?;
        let place = entry.text()?.unwrap_or_default();
        let mut fields = entry.parts()?;
        let mut words = Vec::new();
        while !fields.is_empty() {
            words.push(fields.text()?.unwrap_or_default());
        }
        found.push((place, words));
    }
    Ok(found)
}

/// A place in a stream, to be compared.
fn place(text: &str) -> Result<(u64, u64), FleetError> {
    let parts = text.split_once('-').and_then(|(ms, count)| Some((ms.parse().ok()?, count.parse().ok()?)));
    parts.ok_or_else(|| answers::damaged("stream", "a place is not one"))
}

fn change(fields: &[String]) -> Result<Change, FleetError> {
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        pairs.find_map(|pair| match pair {
            [key, value] if key == name => Some(value.as_str()),
            _ => None,
        })
    };
    let id = field("id").unwrap_or_default();
    match field("kind") {
        Some("standing") => {
            let id = RowId::read(id)?;
            let row = field("row").filter(|row| !row.is_empty()).map(|row| Row::read(id.kind, row));
            Ok(Change::Standing(id, row.transpose()?))
        }
        Some("forget") => {
            let mut bytes = [0; 16];
            hex::decode_to_slice(id, &mut bytes)
                .map_err(|_| answers::damaged("stream", "an identity is not one"))?;
            Ok(Change::Forget(bytes))
        }
        // A later version's.
        _ => Ok(Change::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_and_damage_is_told() {
        let fields = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
        let id = "ab".repeat(16);
        assert_eq!(change(&fields(&format!("kind|forget|id|{id}"))).unwrap(), Change::Forget([0xab; 16]));
        assert_eq!(change(&fields("kind|later|id|x")).unwrap(), Change::Other);
        let standing = change(&fields(&format!("kind|standing|id|{id}:s|row|5 caller 7 why"))).unwrap();
        assert!(matches!(standing, Change::Standing(_, Some(row)) if row.since_us == 5));
        let ordinary = change(&fields(&format!("kind|standing|id|{id}:s|row|"))).unwrap();
        assert!(matches!(ordinary, Change::Standing(_, None)));
        for bad in ["kind|standing|id|x|row|y", "kind|forget|id|zz", "kind|standing"] {
            assert!(matches!(change(&fields(bad)), Err(FleetError::Damaged { .. })), "{bad}");
        }
    }

    #[test]
    fn places_are_ordered_by_number() {
        assert!(place("9-1").unwrap() < place("10-0").unwrap());
        assert!(place("10-2").unwrap() < place("10-11").unwrap());
        assert!(place("10").is_err() && place("x-1").is_err());
    }
}
