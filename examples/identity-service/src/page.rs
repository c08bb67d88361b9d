//! The operators' page: plain HTML, written by one builder that escapes every cell.

use std::fmt::Display;
use std::time::Duration;

use serde::Deserialize;
use unlisted::{CallerToken, DisclosureQuery, Origin, Purpose, SignalQuery, TopBy, TopQuery};

use crate::Refusal;
use crate::operator::Operator;
use crate::session::caller_of;

/// Rows of a search.
const MOST_ROWS: usize = 200;
const DAY: Duration = Duration::from_secs(86_400);

/// What the page's form asks for. Empty fields are not asked for.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Search {
    caller: String,
    account: String,
    network: String,
}

struct Page(String);

pub fn render(operator: &Operator, search: &Search) -> Result<String, Refusal> {
    let mut page = Page(HEAD.to_owned());
    figures(&mut page, operator)?;
    callers(&mut page, operator)?;
    standings(&mut page, operator)?;
    page.form(search);
    budget(&mut page, operator, search)?;
    disclosures(&mut page, operator, search)?;
    page.0.push_str("</main>\n</html>\n");
    Ok(page.0)
}

fn figures(page: &mut Page, operator: &Operator) -> Result<(), Refusal> {
    let (stats, quotas) = (operator.index.stats()?, operator.index.quotas());
    let health = operator.index.health().map_or_else(|error| error.with_causes(), |()| "healthy".to_owned());
    let figures = [
        ("health", health),
        ("addresses listed", stats.listings.to_string()),
        ("of these discoverable", stats.opted_in.to_string()),
        ("tripwires set", stats.tripwires.to_string()),
        ("disclosures on record", stats.disclosures.to_string()),
    ];
    page.table("Index", ["", ""], figures.into_iter().map(|(name, value)| [name.to_owned(), value]));
    let all = [("caller", Some(quotas.caller())), ("everyone", quotas.everyone())].into_iter();
    let all = all.chain(quotas.origins().map(|(kind, quota)| (kind, Some(quota))));
    let rows = all
        .filter_map(|(scope, quota)| Some((scope, quota?)))
        .map(|(scope, quota)| [scope.to_owned(), quota.burst().to_string(), quota.refill_per_hour().to_string()]);
    page.table("Budgets: distinct addresses", ["each", "at once", "and an hour"], rows);
    Ok(())
}

fn callers(page: &mut Page, operator: &Operator) -> Result<(), Refusal> {
    let inspector = operator.index.inspector();
    let mut rows = Vec::new();
    for row in inspector.top_callers(&TopQuery::new(TopBy::Charged).window(DAY))?.rows {
        let counts = [row.charged, row.found, row.missed, row.deferred, row.tripwires.into()];
        let [charged, found, missed, deferred, tripwires] = counts.map(|count| count.to_string());
        let last = utc(row.last_at_ms);
        rows.push([operator.name(row.token)?, charged, found, missed, deferred, tripwires, last]);
    }
    let heads = ["caller", "charged", "found", "missed", "deferred", "tripwires met", "last seen"];
    page.table("Top callers of 24 hours", heads, rows);
    let mut rows = Vec::new();
    for row in inspector.signals(&SignalQuery::new().window(DAY).min_score(0.2))? {
        let shares = [row.score, row.hit_share, row.deferred_share].map(|share| format!("{share:.2}"));
        let [score, hits, deferred] = shares;
        rows.push([
            operator.name(row.token)?,
            score,
            row.novel.to_string(),
            hits,
            deferred,
            row.tripwires.to_string(),
        ]);
    }
    let heads = ["caller", "score", "new addresses", "hit share", "deferred share", "tripwires met"];
    page.table("Looks like an enumerator, 24 hours", heads, rows);
    Ok(())
}

fn standings(page: &mut Page, operator: &Operator) -> Result<(), Refusal> {
    let mut rows = Vec::new();
    for standing in operator.index.inspector().standings(None, MOST_ROWS)? {
        let since = standing.suspension.as_ref().map(|of| utc(of.since_ms)).unwrap_or_default();
        let reason = standing.suspension.map(|of| of.reason).unwrap_or_default();
        rows.push([operator.name(standing.token)?, standing.scope, since, reason]);
    }
    page.table("Suspended, or with a quota of their own", ["who", "kind", "suspended since", "reason"], rows);
    Ok(())
}

fn budget(page: &mut Page, operator: &Operator, search: &Search) -> Result<(), Refusal> {
    if search.caller.is_empty() {
        return Ok(());
    }
    let caller = caller_of(operator.accounts.keys.account(&search.caller), &search.caller);
    let caller = search.network()?.into_iter().fold(caller, unlisted::Caller::via);
    let rows = operator.index.budget(&caller)?.scopes.into_iter().map(|of| {
        [of.scope, of.remaining.to_string(), of.burst.to_string(), format!("{} s", of.full_in.as_secs())]
    });
    page.table("Budget of the caller", ["each", "left", "at once", "full again in"], rows);
    Ok(())
}

fn disclosures(page: &mut Page, operator: &Operator, search: &Search) -> Result<(), Refusal> {
    if [&search.caller, &search.account, &search.network].iter().all(|field| field.is_empty()) {
        return Ok(());
    }
    let mut query = DisclosureQuery::new();
    if !search.caller.is_empty() {
        query = query.caller(&operator.caller(&search.caller));
    }
    if !search.account.is_empty() {
        query = query.account(operator.accounts.keys.account(&search.account));
    }
    query = search.network()?.into_iter().fold(query, DisclosureQuery::origin);
    let mut rows = Vec::new();
    for row in operator.index.inspector().disclosures(&query)?.take(MOST_ROWS) {
        let row = row?;
        let shown = operator.accounts.users(std::iter::once(row.shown.account))?.into_iter().flatten().next();
        let purpose = row.shown.purpose().map(Purpose::name).unwrap_or_default().to_owned();
        let shown = shown.unwrap_or_else(|| row.shown.account.to_string());
        let times = [row.shown.first_at_ms, row.shown.last_at_ms].map(utc);
        let [first, last] = times;
        rows.push([operator.name(row.caller)?, shown, purpose, first, last]);
    }
    let title = format!("Disclosures that match, at most {MOST_ROWS}");
    page.table(&title, ["to", "shown", "for", "first", "last"], rows);
    Ok(())
}

impl Search {
    fn network(&self) -> Result<Option<Origin>, Refusal> {
        let network = Some(&self.network).filter(|text| !text.is_empty());
        network.map(|text| Origin::parse_network(text)).transpose().map_err(Refusal::invalid_param)
    }
}

impl Operator {
    /// The Matrix user that a caller is, or its keyed name if the account is gone or it is an origin.
    fn name(&self, caller: CallerToken) -> Result<String, Refusal> {
        Ok(self.accounts.user_of_caller(caller)?.unwrap_or_else(|| caller.to_string()))
    }
}

impl Page {
    fn table<const N: usize>(
        &mut self,
        title: &str,
        heads: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) {
        self.0 += &format!("<h2>{}</h2>\n<table>\n", escape(title));
        self.row("th", heads);
        let mut count = 0;
        for row in rows {
            self.row("td", row);
            count += 1;
        }
        self.0 += if count == 0 { "</table>\n<p>none</p>\n" } else { "</table>\n" };
    }

    fn row(&mut self, cell: &str, texts: impl IntoIterator<Item = impl Display>) {
        let cells = texts.into_iter().map(|text| format!("<{cell}>{}</{cell}>", escape(&text.to_string())));
        self.0 += &format!("<tr>{}</tr>\n", cells.collect::<String>());
    }

    fn form(&mut self, search: &Search) {
        self.0 += "<h2>Search</h2>\n<form>\n";
        let fields = [
            ("caller", "Who asked, as @user:server", &search.caller),
            ("account", "Who was shown, as @user:server", &search.account),
            ("network", "From which network, as 198.51.100.0/24", &search.network),
        ];
        for (name, label, value) in fields {
            self.0 += &format!("<label>{label} <input name=\"{name}\" value=\"{}\"></label>\n", escape(value));
        }
        self.0 += "<button>Search</button>\n</form>\n";
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A moment as a date and a time of day, by the proleptic Gregorian calendar in years that begin in March.
fn utc(ms: u64) -> String {
    let (days, s) = (ms / 86_400_000 + 719_468, ms / 1_000 % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) =
        (era * 400 + year_of_era + u64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", s / 3_600, s / 60 % 60, s % 60)
}

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Discovery service</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse } th, td { border-bottom: 1px solid #ccc; padding: .2rem .8rem .2rem 0; text-align: left }
form { display: grid; gap: .5rem; max-width: 34rem } label { display: grid }
</style>
<main>
<h1>Discovery service</h1>
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_000_000_999), "2026-11-18 11:06:40 UTC");
    }
}
