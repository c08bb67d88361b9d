//! The architecture and the house rules, enforced by reading the sources.
//!
//! Every rule is a function from a file's text to what is wrong with it, and `tests` at the end shows each one
//! failing on a made-up sample.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Layers, lowest first. A module may use the layers below its own, and the peers named in [`PEERS`].
const LAYERS: [&[&str]; 5] = [
    &["words", "phone"],
    &["prefetch", "wide", "filter", "segment", "overlay", "quota", "novelty", "activity", "shards"],
    &["disk", "database", "store", "ledger", "disclosures", "fleet"],
    &["index"],
    &["bin"],
];
/// Modules that may use a module of their own layer.
const PEERS: [(&str, &[&str]); 9] = [
    ("fleet", &["ledger"]),
    ("words", &["phone"]),
    ("segment", &["filter", "prefetch"]),
    ("novelty", &["prefetch", "wide"]),
    ("overlay", &["segment", "filter"]),
    ("database", &["disk"]),
    ("shards", &["segment", "overlay"]),
    ("store", &["database", "disk"]),
    ("disclosures", &["disk"]),
];
/// As above, for a peer that needs one of them only.
const LEDGER_PEERS: (&str, &[&str]) = ("ledger", &["database", "disk"]);
/// What the pure layer must not name.
const IMPURE: [&str; 5] = ["std::fs", "std::thread", "std::net", "redb", "parking_lot"];
const PURE_LAYER: usize = 1;
/// They tie the layers together.
const EXEMPT_FROM_LAYERS: [&str; 2] = ["src/lib.rs", "src/internals.rs"];

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;

/// Text that only these files may have, or files in these folders.
const ONLY_IN: [(&str, &[&str]); 5] = [
    ("SystemTime::now", &["src/words/clock.rs"]),
    // Repairs are on the system's own disk, whatever disk an index is on.
    ("std::fs", &["src/disk/", "src/words/secret.rs", "src/index/repair/"]),
    ("fs::rename", &["src/disk/names.rs"]),
    ("Mmap::map", &["src/disk/map.rs"]),
    ("bincode::", &["src/database/codec.rs"]),
];
/// The derives that rows need, wherever rows are.
const BINCODE_DERIVES: &str = "use bincode::{Decode, Encode};";
const UNSAFE_IN: [&str; 6] = [
    "src/disk/map.rs",
    "src/prefetch.rs",
    "src/wide.rs",
    "src/segment/line.rs",
    "benches/peers/src/stores/lmdb.rs",
    "tests/hostile/allocations.rs",
];
/// What code of the library never does: it returns an error, and it does not talk to the terminal.
const NEVER: [&str; 9] = [
    ".unwrap()",
    ".expect(",
    "panic!",
    "todo!",
    "unimplemented!",
    "unreachable!",
    "dbg!",
    "println!",
    "eprintln!",
];

/// What is wrong, as `path:line: what`.
type Flaws = Vec<String>;

/// A source file: as it is, and as the same lines without comments, strings and characters.
struct Source {
    path: String,
    text: String,
    code: String,
    /// `code` without the modules under `#[cfg(test)]`.
    product: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let product = without_tests(&code);
        Self { path: path.to_owned(), text: text.to_owned(), code, product }
    }

    /// A folder `tests` of a module is under `#[cfg(test)]` as a whole.
    fn is_library(&self) -> bool {
        self.path.starts_with("src/") && !self.path.starts_with("src/bin/") && !self.path.contains("/tests/")
    }

    /// The examples that embedders copy are held to what the library is.
    fn is_exemplary(&self) -> bool {
        let examples = ["examples/fleet/src/", "examples/identity-service/src/"];
        self.is_library() || examples.iter().any(|example| self.path.starts_with(example))
    }

    /// The module that decides the layer: `src/segment/keys.rs` and `src/filter.rs` are `segment` and `filter`.
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or("");
        let first = inside.split('/').next().unwrap_or("");
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn flaw(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }

    /// A flaw for each line of `part` that holds `text` as a whole word.
    fn lines_with(&self, part: &str, text: &str, what: &str) -> Flaws {
        let lines = part.lines().enumerate().filter(|(_, line)| holds(line, text));
        lines.map(|(number, _)| self.flaw(number, format!("`{text}` {what}"))).collect()
    }
}

/// Does the line hold the text, not as the end or the beginning of a longer word?
fn holds(line: &str, text: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(text).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(word) && text.starts_with(word);
        let after = line[at + text.len()..].chars().next().is_some_and(word) && text.ends_with(word);
        !before && !after
    })
}

/// The same lines with comments, strings and characters replaced by spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The end of the comment, string or character that begins at `at`; `at` itself if none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = |i: usize| chars.get(at + i).copied().unwrap_or(' ');
    let inside_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (chars[at], next(1)) {
        ('/', '/') => (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()),
        ('/', '*') => block_comment_end(chars, at),
        ('r', '"' | '#') if !inside_word => raw_string_end(chars, at + 1).unwrap_or(at),
        ('b', 'r') if !inside_word => raw_string_end(chars, at + 2).unwrap_or(at),
        ('"', _) => quoted_end(chars, at, '"'),
        // A character, and not a lifetime: it ends soon.
        ('\'', '\\') => quoted_end(chars, at, '\''),
        ('\'', _) if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

/// `at` is behind the `r`. `None` if no raw string begins there (a raw identifier, for example).
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = at + hashes + 1;
    let end = (body..chars.len()).find(|i| chars[*i..].starts_with(&close));
    Some(end.map_or(chars.len(), |i| i + close.len()))
}

fn quoted_end(chars: &[char], at: usize, quote: char) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// The offset behind the brace that closes the first one at or after `from`, or the `;` if that comes first.
fn block_end(code: &str, from: usize) -> usize {
    let (mut braces, mut brackets) = (0, 0);
    for (i, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '{' => braces += 1,
            '}' => braces -= 1,
            _ => {}
        }
        let closed = c == '}' && braces == 0;
        // `[u8; 16]` in a signature ends nothing.
        let declared = c == ';' && braces == 0 && brackets == 0;
        if closed || declared {
            return from + i + 1;
        }
    }
    code.len()
}

/// The code without what stands under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(at) = out.find("#[cfg(test)]") {
        let end = block_end(&out, at + "#[cfg(test)]".len());
        let blanked: String = out[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(at..end, &blanked);
    }
    out
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn check_layers(file: &Source) -> Flaws {
    if !file.path.starts_with("src/") || EXEMPT_FROM_LAYERS.contains(&file.path.as_str()) {
        return Flaws::new();
    }
    let own = file.module();
    let Some(layer) = layer_of(own) else {
        return vec![file.flaw(0, format!("module `{own}` is in no layer: add it to LAYERS"))];
    };
    let mut flaws = Flaws::new();
    for (number, line) in file.product.lines().enumerate() {
        for used in line.split("crate::").skip(1) {
            let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
            if own == "bin" && used != "unlisted" && layer_of(used).is_some_and(|layer| layer < 4) {
                flaws.push(file.flaw(number, format!("the program names `{used}` and not `unlisted::`")));
            } else if let Some(below) = layer_of(used).filter(|_| own != "bin")
                && below >= layer
                && used != own
                && !peers_of(own).contains(&used)
            {
                flaws.push(file.flaw(number, format!("`{own}` (layer {layer}) uses `{used}` (layer {below})")));
            }
        }
    }
    if layer == PURE_LAYER {
        flaws.extend(IMPURE.iter().flat_map(|text| file.lines_with(&file.product, text, "in the pure layer")));
    }
    flaws
}

fn peers_of(module: &str) -> &'static [&'static str] {
    let named = PEERS.iter().chain([&LEDGER_PEERS]).find(|(of, _)| *of == module);
    named.map_or(&[], |(_, peers)| peers)
}

fn check_sizes(file: &Source) -> Flaws {
    let mut flaws = Flaws::new();
    let lines = file.text.lines().count();
    if lines > MAX_FILE_LINES {
        flaws.push(file.flaw(0, format!("{lines} lines, at most {MAX_FILE_LINES}")));
    }
    for (at, _) in file.code.match_indices("fn ") {
        let named = file.code[at + 3..].chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
        let inside_word = file.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if !named || inside_word {
            continue;
        }
        let lines = file.code[at..block_end(&file.code, at)].lines().count();
        if lines > MAX_FUNCTION_LINES {
            let line = file.code[..at].matches('\n').count();
            flaws.push(file.flaw(line, format!("a function of {lines} lines, at most {MAX_FUNCTION_LINES}")));
        }
    }
    flaws
}

fn check_unsafe(file: &Source) -> Flaws {
    let mut flaws = Flaws::new();
    let text: Vec<&str> = file.text.lines().collect();
    for (number, line) in file.code.lines().enumerate().filter(|(_, line)| holds(line, "unsafe")) {
        let attribute = line.trim_start().starts_with('#');
        if attribute {
            continue;
        }
        if !UNSAFE_IN.contains(&file.path.as_str()) {
            flaws.push(file.flaw(number, "`unsafe` outside the files that may have it"));
        }
        let above = text[..number].iter().rev().take_while(|line| line.trim_start().starts_with("//"));
        if !above.into_iter().any(|line| line.contains("SAFETY")) {
            flaws.push(file.flaw(number, "`unsafe` without a SAFETY comment right above"));
        }
    }
    flaws
}

fn check_places(file: &Source) -> Flaws {
    let mut flaws = Flaws::new();
    if !file.is_library() {
        return flaws;
    }
    let product = file.product.replace(BINCODE_DERIVES, "");
    for (text, allowed) in ONLY_IN {
        let is_allowed =
            |place: &&str| file.path == *place || place.ends_with('/') && file.path.starts_with(*place);
        if !allowed.iter().any(is_allowed) {
            flaws.extend(file.lines_with(&product, text, &format!("outside {}", allowed.join(", "))));
        }
    }
    flaws
}

fn check_never(file: &Source) -> Flaws {
    let product = if file.is_exemplary() { file.product.as_str() } else { "" };
    NEVER.iter().flat_map(|text| file.lines_with(product, text, "where an error is returned")).collect()
}

fn check_marks(file: &Source) -> Flaws {
    // In two parts, or this line would be one.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    marks.iter().flat_map(|mark| file.lines_with(&file.text, mark, "left behind")).collect()
}

fn all_flaws(file: &Source) -> Flaws {
    let checks = [check_layers, check_sizes, check_unsafe, check_places, check_never, check_marks];
    checks.iter().flat_map(|check| check(file)).collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "fuzz"] {
        collect(&root.join(folder), &mut paths);
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(root).expect("it is inside").to_string_lossy().replace('\\', "/");
        Source::new(&name, &fs::read_to_string(path).expect("a source file is text"))
    };
    paths.iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for item in fs::read_dir(folder).into_iter().flatten() {
        let path = item.expect("the folder can be listed").path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            paths.push(path);
        }
    }
}

#[test]
fn the_sources_keep_the_rules() {
    let files = sources();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the sources were not found");
    let flaws: Vec<String> = files.iter().flat_map(all_flaws).collect();
    assert!(flaws.is_empty(), "{} flaws:\n{}", flaws.len(), flaws.join("\n"));
}

#[test]
fn every_module_has_one_layer_and_every_exception_a_file() {
    let mut seen = BTreeMap::new();
    for (layer, module) in LAYERS.iter().enumerate().flat_map(|(i, layer)| layer.iter().map(move |m| (i, m))) {
        assert_eq!(seen.insert(module, layer), None, "{module} is in two layers");
    }
    let files = sources();
    let exists = |path: &&str| {
        files.iter().any(|file| file.path == *path || path.ends_with('/') && file.path.starts_with(*path))
    };
    let exceptions =
        ONLY_IN.iter().flat_map(|(_, allowed)| allowed.iter()).chain(&UNSAFE_IN).chain(&EXEMPT_FROM_LAYERS);
    assert_eq!(exceptions.filter(|path| !exists(path)).count(), 0, "an exception for a file that is gone");
}

mod tests {
    use super::*;

    fn flaws(path: &str, text: &str) -> Flaws {
        all_flaws(&Source::new(path, text))
    }

    #[track_caller]
    fn flawed(path: &str, text: &str) {
        assert_eq!(flaws(path, text).len(), 1, "{path}: {text}\n{:?}", flaws(path, text));
    }

    #[track_caller]
    fn fine(path: &str, text: &str) {
        assert_eq!(flaws(path, text), Flaws::new(), "{path}: {text}");
    }

    #[test]
    fn strings_comments_and_characters_are_no_code() {
        assert_eq!(blank("a /* b /* c */ d */ e // f\ng"), format!("a {} e {}\ng", " ".repeat(17), " ".repeat(4)));
        assert_eq!(blank(r##"x("a\"b", r#"c"d"#, '\'', '"', b"e")"##).split_whitespace().count(), 7);
        assert_eq!(blank("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
        fine("src/words/a.rs", "const A: &str = \"x.unwrap()\"; // .unwrap()\n/// ```\n/// x.unwrap()\n");
    }

    #[test]
    fn layers_look_down_only() {
        flawed("src/words/a.rs", "use crate::index::Index;");
        flawed("src/segment/a.rs", "use crate::overlay::Overlay;");
        flawed("src/disk/a.rs", "fn f() { crate::ledger::g() }");
        flawed("src/phone/a.rs", "use crate::words::Key;");
        flawed("src/bin/unlisted/a.rs", "use crate::segment::Segment;");
        flawed("src/elsewhere.rs", "");
        fine("src/words/a.rs", "use crate::phone::E164;");
        fine("src/ledger/a.rs", "use crate::{database::Db};\nuse crate::quota;\nuse crate::ledger::b;");
        fine("src/words/a.rs", "#[cfg(test)]\nmod tests { use crate::index::Index; }");
    }

    #[test]
    fn the_pure_layer_is_pure() {
        flawed("src/filter.rs", "use std::thread;");
        flawed("src/segment/a.rs", "use parking_lot::Mutex;");
        fine("src/disk/a.rs", "use std::fs::File;");
        fine("src/filter.rs", "#[cfg(test)]\nmod tests { use std::fs; }");
    }

    #[test]
    fn files_and_functions_are_short() {
        flawed("tests/a.rs", &"\n".repeat(MAX_FILE_LINES + 1));
        fine("tests/a.rs", &"\n".repeat(MAX_FILE_LINES));
        let function = |lines| format!("fn f(x: [u8; 3]) {{\n{}}}", "x; // }\n".repeat(lines));
        flawed("benches/a.rs", &function(MAX_FUNCTION_LINES - 1));
        fine("benches/a.rs", &function(MAX_FUNCTION_LINES - 2));
        fine("src/index/a.rs", "trait T { fn f(&self); }\n// fn g() {\n");
    }

    #[test]
    fn unsafe_has_its_place_and_its_reason() {
        let block = "// SAFETY: the bytes are there.\nunsafe { f() };";
        flawed("src/index/a.rs", block);
        flawed("src/disk/map.rs", "// trust me\nunsafe { f() };");
        fine("src/disk/map.rs", block);
        fine("src/index/a.rs", "#![deny(unsafe_code)]\n// unsafe\nfn f() { g(\"unsafe\") }");
    }

    #[test]
    fn some_calls_have_one_place() {
        flawed("src/index/a.rs", "fn f() { SystemTime::now(); }");
        flawed("src/index/a.rs", "use std::fs;");
        flawed("src/disk/publish.rs", "fn f() { std::fs::rename(a, b); }");
        flawed("src/index/a.rs", "fn f() { Mmap::map(&file); }");
        flawed("src/store/a.rs", "use bincode::{Decode, Encode, config};");
        fine("src/store/a.rs", "use bincode::{Decode, Encode};");
        fine("src/words/clock.rs", "fn f() { SystemTime::now(); }");
    }

    #[test]
    fn the_library_returns_errors() {
        for call in ["x.unwrap()", "x.expect(1)", "panic!()", "todo!()", "dbg!(x)", "println!()", "eprintln!()"] {
            flawed("src/index/a.rs", &format!("fn f() {{ {call} }}"));
            flawed("examples/identity-service/src/a.rs", &format!("fn f() {{ {call} }}"));
            flawed("examples/fleet/src/a.rs", &format!("fn f() {{ {call} }}"));
            fine("src/bin/unlisted/a.rs", &format!("fn f() {{ {call} }}"));
        }
        fine("src/index/tests/a.rs", "fn f() { x.unwrap() }");
        fine("src/index/a.rs", "#[expect(dead_code)]\nfn f() { x.unwrap_or(1); debug_println!(); }");
        fine("src/index/a.rs", "#[cfg(test)]\nmod tests {\n fn f() { x.unwrap() }\n}\n");
        flawed("src/index/a.rs", "#[cfg(test)]\nmod tests {\n}\nfn f() { x.unwrap() }\n");
    }

    #[test]
    fn nothing_is_left_for_later() {
        flawed("tests/a.rs", concat!("// TO", "DO: think"));
        flawed("src/words/a.rs", concat!("// FIX", "ME"));
        fine("src/words/a.rs", "// Something to do with Todos.");
    }
}
