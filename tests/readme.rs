//! What can be checked of the README without running it. `.ci/run` runs its commands; its Rust is doctests.

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

#[test]
fn blocks_and_links_are_found() {
    let text = "a\n```sh\ncargo b\n\ncargo c\n```\n```\nd\n```\n[e](docs/E.md#f) [g](https://h.example)\n";
    assert_eq!(blocks(text), [("sh", vec!["cargo b", "", "cargo c"]), ("", vec!["d"])]);
    assert_eq!(linked_files(text), ["docs/E.md"]);
}
