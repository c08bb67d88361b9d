//! What can be checked of the README without running it: `.ci/run` runs its commands, its Rust is doctests. And that the tests by
//! which other documents show what they say are there.

use std::fs;
use std::path::Path;

/// Languages of code blocks: `sh` is run by `.ci/run`, `rust` by rustdoc, and the others hold no commands.
const LANGUAGES: [&str; 6] = ["sh", "rust", "text", "toml", "csv", "json"];

/// Language and lines of every code block.
fn blocks(markdown: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks = Vec::new();
    let mut open = false;
    for line in markdown.lines() {
        match (open, line.strip_prefix("```")) {
            (false, Some(language)) => blocks.push((language, Vec::new())),
            (true, None) => blocks.last_mut().expect("a block is open").1.push(line),
            _ => {}
        }
        open ^= line.starts_with("```");
    }
    blocks
}

/// Targets of links that are files of this repository.
fn linked_files(markdown: &str) -> Vec<&str> {
    let targets = markdown.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name} cannot be read: {error}"))
}

#[test]
fn every_block_is_of_a_kind_that_is_checked() {
    let readme = read("README.md");
    for (language, lines) in blocks(&readme) {
        let language = language.split(',').next().unwrap_or_default();
        assert!(LANGUAGES.contains(&language), "a block of {language:?} that nothing checks: {lines:#?}");
    }
}

#[test]
fn the_test_command_is_there_and_is_what_the_machine_runs_first() {
    let (readme, script) = (read("README.md"), read(".ci/run"));
    let command = "cargo test --all-features";
    assert!(blocks(&readme).contains(&("sh", vec![command])), "the README does not say how to test");
    let steps: Vec<&str> = script.lines().filter(|line| line.starts_with("step ")).collect();
    assert_eq!(steps[..2], ["step \"Tests\" cargo test --all-features", "step \"Commands of the README\" readme"]);
}

#[test]
fn every_linked_file_is_there() {
    let readme = read("README.md");
    let missing: Vec<_> = linked_files(&readme).into_iter().filter(|file| !root().join(file).exists()).collect();
    assert!(missing.is_empty(), "links to nothing: {missing:?}");
}

/// What stands between backticks in running text.
fn quoted(markdown: &str) -> Vec<&str> {
    let lines = markdown.lines().filter(|line| !line.starts_with("```"));
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Names of tests that a document mentions: sentences in small letters. Three dots stand for their rest.
fn named_tests(markdown: &str) -> Vec<&str> {
    let is_sentence = |name: &&str| {
        name.matches('_').count() >= 4 && name.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c))
    };
    let names = quoted(markdown).into_iter().map(|name| name.trim_end_matches('.'));
    names.filter(is_sentence).collect()
}

/// All text of the sources in a folder.
fn sources(folder: &Path) -> String {
    let items = fs::read_dir(folder).unwrap().map(|item| item.unwrap().path());
    let texts = items.map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(ending) if ending == "rs" => fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    });
    texts.collect()
}

#[test]
fn tests_that_documents_name_are_there() {
    let code = sources(&root().join("src")) + &sources(&root().join("tests"));
    for document in ["docs/THREAT-MODEL.md", "docs/RELIABILITY.md"] {
        let text = read(document);
        let names = named_tests(&text);
        assert!(names.len() > 4, "{document} names {names:?} only");
        let missing: Vec<_> = names.into_iter().filter(|name| !code.contains(&format!("fn {name}"))).collect();
        assert!(missing.is_empty(), "{document} names tests that are not there: {missing:?}");
        let paths =
            quoted(&text).into_iter().filter(|name| name.starts_with("tests/") || name.starts_with("src/"));
        let missing: Vec<_> = paths.filter(|path| !root().join(path).exists()).collect();
        assert!(missing.is_empty(), "{document} names files that are not there: {missing:?}");
    }
}

/// The programs of tests that a document's commands run: what follows `--test`.
fn named_programs(markdown: &str) -> Vec<&str> {
    markdown.split("--test ").skip(1).filter_map(|rest| rest.split([' ', '`', '\n']).next()).collect()
}

#[test]
fn programs_of_tests_that_documents_run_are_there() {
    for document in
        ["README.md", "docs/RELIABILITY.md", "docs/SCALE.md", "docs/THREAT-MODEL.md", "docs/PERFORMANCE.md"]
    {
        let text = read(document);
        let is_there = |name: &&str| {
            let tests = root().join("tests");
            tests.join(name).with_extension("rs").exists() || tests.join(name).join("main.rs").exists()
        };
        let missing: Vec<_> = named_programs(&text).into_iter().filter(|name| !is_there(name)).collect();
        assert!(missing.is_empty(), "{document} runs programs of tests that are not there: {missing:?}");
    }
}

#[test]
fn names_of_tests_are_found() {
    let text = "`a_b_c_d_e` and `one_that_is_cut_short...`\n```\n`in_a_block_it_counts_too`\n```\n`Index::some_that_is_not_one` `cargo a_b_c_d_e`";
    assert_eq!(quoted("a `b` c\n`d`"), ["b", "d"]);
    assert_eq!(named_programs("`cargo test --test a b` or `cargo test --test c`"), ["a", "c"]);
    assert_eq!(named_tests(text), ["a_b_c_d_e", "one_that_is_cut_short", "in_a_block_it_counts_too"]);
}

#[test]
fn blocks_and_links_are_found() {
    let text = "a\n```sh\ncargo b\n\ncargo c\n```\n```\nd\n```\n[e](docs/E.md#f) [g](https://h.example)\n";
    assert_eq!(blocks(text), [("sh", vec!["cargo b", "", "cargo c"]), ("", vec!["d"])]);
    assert_eq!(linked_files(text), ["docs/E.md"]);
}
