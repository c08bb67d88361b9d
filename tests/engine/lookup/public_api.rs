//! What is public, and which of it can reveal an account. A new public function or type makes a test here fail until somebody
//! has said in the lists below what it reveals.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a caller of a public function may learn from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reveals {
    /// From numbers to accounts: names a caller and a purpose, and is charged and recorded first.
    Charged,
    /// From a ticket or an answer, which nobody makes but who charged for it.
    Ticketed,
    /// The operator's door: named, logged, and from callers, accounts and times, never from a number.
    Operator,
    /// A handle that has functions of its own, which are listed too.
    Handle,
    /// No account that its caller did not name.
    Nothing,
}
use Reveals::{Charged, Handle, Nothing, Operator, Ticketed};

/// Every public function of the types through which a host reaches an index.
const FUNCTIONS: [(&str, &[(&str, Reveals)]); 4] = [
    (
        "Index",
        &[
            ("backup", Nothing),
            ("backup_to", Nothing),
            ("begin_ownership", Nothing),
            ("budget", Nothing),
            ("compact_disclosures", Nothing),
            ("dir", Nothing),
            ("discovery", Handle),
            ("drop_range", Nothing),
            ("erase_account", Nothing),
            ("erase_accounts", Nothing),
            ("erase_accounts_at", Nothing),
            ("exhaust_budgets", Nothing),
            ("expect_range", Nothing),
            ("expected_ranges", Nothing),
            // Files as a thief of the directory has them, like a backup.
            ("export_range", Nothing),
            ("feed_moment", Nothing),
            ("fleet_health", Nothing),
            ("fleet_record", Nothing),
            ("fold", Nothing),
            ("follow_ownership", Nothing),
            ("followed_until", Nothing),
            ("forget_caller", Nothing),
            ("grant", Nothing),
            ("health", Nothing),
            ("held_ranges", Nothing),
            ("import", Nothing),
            ("import_range", Nothing),
            ("importer", Nothing),
            ("inspector", Handle),
            ("issue", Charged),
            ("lag", Nothing),
            ("lookup", Charged),
            ("lookup_with", Charged),
            ("open", Handle),
            ("ownership", Nothing),
            ("quotas", Nothing),
            ("redeem", Ticketed),
            ("reinstate", Nothing),
            ("remove_tripwires", Nothing),
            ("repair", Nothing),
            ("replace_fleet_record", Nothing),
            ("restore", Handle),
            ("restore_from", Handle),
            ("set_opt_ins", Nothing),
            ("set_quota_of", Nothing),
            ("set_quotas", Nothing),
            // It may say that one of many numbers is listed, not which and not whose.
            ("set_tripwires", Nothing),
            ("snapshot_version", Nothing),
            ("stats", Nothing),
            ("suspend", Nothing),
            ("update", Nothing),
            ("vacuum", Nothing),
            ("verify", Nothing),
            ("verify_to", Nothing),
            ("warm", Nothing),
            ("watermark", Nothing),
        ],
    ),
    (
        "Discovery",
        &[
            ("budget", Nothing),
            ("issue", Charged),
            ("lookup", Charged),
            ("lookup_with", Charged),
            ("quotas", Nothing),
            ("redeem", Ticketed),
        ],
    ),
    ("Pending", &[("accept", Nothing), ("finish", Ticketed), ("reissue", Nothing), ("tickets", Nothing)]),
    (
        "Inspector",
        &[
            ("disclosed_to", Operator),
            ("disclosures", Operator),
            // How much, of an account that its caller names.
            ("held", Nothing),
            ("held_by_caller", Nothing),
            ("signals", Nothing),
            ("standings", Nothing),
            ("token_of", Nothing),
            ("token_of_origin", Nothing),
            ("top_callers", Nothing),
        ],
    ),
];
/// Benchmarks' own, under the feature `internals`: they count and name nobody.
const INTERNALS: (&str, &[&str]) = (
    "src/index/raw.rs",
    &[
        "ledger_commits",
        "ledger_sizes",
        "prepare",
        "prepare_caller",
        "raw_charge",
        "raw_charge_all",
        "raw_drop_pages",
        "raw_note",
        "raw_pay",
        "raw_probe",
        "raw_probe_unasked",
    ],
);
/// Traits that those types implement: none that leads to what is inside, such as `Deref`, `AsRef` or `From`.
const TRAITS: [&str; 4] = ["Debug for Index", "Debug for Discovery", "Debug for Inspector", "Debug for Pending"];

/// Every public name of the crate, by what it can hold.
const NAMES: [(&str, &[&str]); 4] = [
    ("accounts that were found: only a charged lookup makes them", &["Match", "Pending", "Reply"]),
    ("accounts that were shown: only the operator's door makes them", &["Disclosure", "Disclosures", "Exposure"]),
    ("ways in: their functions are listed above", &["Discovery", "Importer", "Index", "Inspector", "UpdateBatch"]),
    (
        "no account but such as the host put there",
        &[
            "AccountId",
            "BackupMode",
            "BackupReport",
            "Budget",
            "Caller",
            "CallerSignals",
            "CallerToken",
            "Clock",
            "CompactionReport",
            "Damage",
            "Degraded",
            "DisclosureMode",
            "DisclosureQuery",
            "DisclosureSync",
            "Domain",
            "E164",
            "E164Error",
            "EmailError",
            "EraseReport",
            "Error",
            "Event",
            "ExportReport",
            "FeedMoment",
            "FleetError",
            "FleetHealth",
            "FleetOptions",
            "FoldReport",
            "Held",
            "HeldByCaller",
            "HeldRows",
            "ImportProgress",
            "ImportReport",
            "KeySpan",
            "Listing",
            "LookupOptions",
            "ManualClock",
            "Memory",
            "NationalError",
            "NumberState",
            "OptIns",
            "Options",
            "Origin",
            "OriginError",
            "Ownership",
            "ParseAccountError",
            "ParseQuotaError",
            "PhoneHash",
            "PhoneHashError",
            "Purpose",
            "Quota",
            "QuotaOverride",
            "QuotaPolicy",
            "RangeOutcome",
            "RangeReport",
            "RepairReport",
            "RepairedRange",
            "Result",
            "ScopeBudget",
            "Secret",
            "SecretError",
            "ShardError",
            "SignalQuery",
            "Standing",
            "Stats",
            "Subject",
            "Suspension",
            "SystemClock",
            "TopBy",
            "TopCaller",
            "TopCallers",
            "TopQuery",
            "TripwireAction",
            "TripwireOdds",
            "TripwirePolicy",
            "UnknownMode",
            "UnknownPurpose",
            "UpdateReport",
            "VacuumReport",
            "VerifyDepth",
            "VerifyReport",
            "Version",
            "VersionError",
            "parse_national",
        ],
    ),
];
/// Public modules. What is in `internals` takes and gives plain values and is not for hosts.
const MODULES: [&str; 2] = ["internals", "phone"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources of the library, by their path, without the modules of tests at their ends.
fn sources() -> BTreeMap<String, String> {
    fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() && !path.ends_with("src/bin") {
                collect(&path, paths);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                paths.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    collect(&root().join("src"), &mut paths);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        (name, text.split("#[cfg(test)]\nmod tests").next().unwrap_or("").to_owned())
    };
    paths.into_iter().map(read).collect()
}

/// The names of public functions in blocks `impl <of> {` of a formatted source.
fn functions_of(of: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("impl") && line.ends_with('{') {
            inside = line == format!("impl {of} {{");
        }
        inside &= line != "}";
        let signature = line.strip_prefix("    pub ").filter(|_| inside).and_then(|line| line.split_once("fn "));
        if let Some((qualifiers, rest)) = signature {
            assert!(qualifiers.split_whitespace().all(|word| ["const", "async"].contains(&word)), "{line}");
            found.extend(rest.split(['(', '<']).next().map(str::to_owned));
        }
    }
    found
}

/// The names that `pub use` and `pub mod` make public, from `text` without comments.
fn exports(text: &str) -> (Vec<String>, Vec<String>) {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join(" ");
    let statements = |start: &'static str| code.split(start).skip(1).filter_map(|rest| rest.split(';').next());
    let name = |path: &str| path.split("::").last().unwrap_or("").trim().to_owned();
    let names = statements("pub use ").flat_map(|path| match path.split_once('{') {
        Some((_, list)) => list.trim_end_matches('}').split(',').map(name).collect(),
        None => vec![name(path)],
    });
    let names = names.filter(|name| !name.is_empty()).collect();
    (names, statements("pub mod ").map(name).collect())
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn every_public_function_says_what_it_reveals() {
    let sources = sources();
    let (internals, of_internals) = INTERNALS;
    for (of, listed) in FUNCTIONS {
        let files = sources.iter().filter(|(path, _)| *path != internals);
        let found = sorted(files.flat_map(|(_, text)| functions_of(of, text)).collect());
        let listed: Vec<&str> = listed.iter().map(|(name, _)| *name).collect();
        assert_eq!(found, listed, "{of}: say in FUNCTIONS what a new function reveals");
    }
    assert_eq!(sorted(functions_of("Index", &sources[internals])), of_internals);
}

#[test]
fn one_function_and_its_forms_lead_from_numbers_to_accounts() {
    for (of, listed) in FUNCTIONS {
        let charged: Vec<&str> =
            listed.iter().filter(|(_, reveals)| *reveals == Charged).map(|(name, _)| *name).collect();
        let operator = listed.iter().filter(|(_, reveals)| *reveals == Operator).count();
        let has_lookups = ["Index", "Discovery"].contains(&of);
        assert_eq!(charged, if has_lookups { vec!["issue", "lookup", "lookup_with"] } else { vec![] }, "{of}");
        assert_eq!(operator > 0, of == "Inspector", "{of}");
    }
    // All take a caller and a purpose.
    let of_lookup =
        "pub fn lookup(&self, caller: &Caller, purpose: Purpose, hashes: &[PhoneHash]) -> Result<Reply>";
    let with_options = "pub fn lookup_with(&self, caller: &Caller, purpose: Purpose, hashes: &[PhoneHash], \
                        options: LookupOptions,) -> Result<Reply>";
    let in_parts = "pub fn issue(&self, caller: &Caller, purpose: Purpose, hashes: &[PhoneHash], options: \
                    LookupOptions,) -> Result<Pending>";
    for signature in [of_lookup, with_options, in_parts] {
        let squeezed =
            |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace("( &self", "(&self");
        let found = sources()
            .values()
            .map(|text| squeezed(text).replace(", )", ",)").matches(signature).count())
            .sum::<usize>();
        assert_eq!(found, 2, "{signature}");
    }
}

/// A ticket is made in one function, behind the one charge, and a probe is either of a lookup that paid or of a ticket.
#[test]
fn a_ticket_is_made_by_a_charge_and_nowhere_else() {
    let sources = sources();
    let places = |text: &str| -> Vec<&str> {
        let with = sources.iter().filter(|(_, source)| source.contains(text)).map(|(path, _)| path.as_str());
        // What fuzz targets read, and what does not compile.
        with.filter(|path| !path.ends_with("/hostile.rs") && !path.ends_with("/no_way_around.rs")).collect()
    };
    let (lookup, issue, redeem) =
        ("src/index/lookup.rs", "src/index/shards/issue.rs", "src/index/shards/redeem.rs");
    assert_eq!(places("= Ticket {"), [issue]);
    assert_eq!(places("Ticket { keys, "), [issue]);
    assert_eq!(places(".pay(caller, "), [lookup, issue]);
    assert_eq!(places("fn pay<"), [lookup]);
    assert_eq!(places("self.charge(caller, "), [lookup]);
    assert_eq!(places("Ticket::open("), [redeem]);
    assert_eq!(places(".find_for("), ["src/index/mutual.rs", redeem]);
    let order = |source: &str, first: &str, then: &str| {
        let at = |text| sources[source].find(text).unwrap_or_else(|| panic!("{source}: {text}"));
        assert!(at(first) < at(then), "{source}: {first} comes before {then}");
    };
    order(issue, ".pay(caller, ", "= Ticket {");
    order(redeem, "Ticket::open(", ".find_for(");
    order(redeem, "admit(&shard, &ticket)?", ".find_for(");
    order(redeem, ".check_time(", ".find_for(");
    order(redeem, "self.disclosures.record(", "answer.seal(");
}

#[test]
fn no_trait_leads_inside() {
    let implemented: Vec<String> = sources()
        .values()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.strip_prefix("impl")?.trim_end_matches(" {").split_once(" for "))
        .filter(|(_, of)| FUNCTIONS.iter().any(|(name, _)| name == of))
        .map(|(of, name)| format!("{} for {name}", of.split("::").last().unwrap_or("").trim()))
        .collect();
    assert_eq!(sorted(implemented), sorted(TRAITS.map(str::to_owned).to_vec()));
}

#[test]
fn every_public_name_says_what_it_holds() {
    let (names, modules) = exports(&fs::read_to_string(root().join("src/lib.rs")).unwrap());
    let listed = NAMES.iter().flat_map(|(_, names)| names.iter().map(|name| (*name).to_owned())).collect();
    assert_eq!(sorted(names), sorted(listed), "say in NAMES what a new name can hold");
    assert_eq!(sorted(modules), MODULES);
}

#[test]
fn what_is_new_is_noticed() {
    let text = "impl Index {\n    pub fn one(&self) {}\n    pub(crate) fn two() {}\n    fn three() {}\n}\n\
                impl Other {\n    pub fn four() {}\n}\nimpl Index {\n    pub const fn five<T>() {}\n}\n";
    assert_eq!(functions_of("Index", text), ["one", "five"]);
    let text = "pub use a::{\n    One, b::Two,\n};\npub use c::Three;\n// pub use d::Four;\npub mod e;\nmod f;\n";
    assert_eq!(exports(text), (["One", "Two", "Three"].map(str::to_owned).to_vec(), vec!["e".to_owned()]));
}
