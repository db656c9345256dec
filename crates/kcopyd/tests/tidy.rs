//! Holds the house's rules as an ordinary test: which room may know which, how long a file and a function may be, where unsafe
//! may be, what must not be in the tree. It reads text and knows no kcopyd; docs/ARCHITECTURE.md says why the rules are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 400;
const FACE_LINES_MAX: usize = 300;
const FUNCTION_LINES_MAX: usize = 60;
const NOT_OURS: [&str; 8] = [".git", "target", "node_modules", "dist", "native", "npm", "coverage", "results"];
/// What the mind must not name: anything that acts, waits, tells the time or is random.
const ACTS: [&str; 13] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::os",
    "std::io",
    "std::env",
    "Instant",
    "SystemTime",
    "rustix::",
    "libc::",
    "io_uring::",
    "rand::",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the crate lies in the project")
}

/// A file of the project: its path from the top, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_script(&self) -> bool {
        [".ts", ".mjs"].iter().any(|ending| self.path.ends_with(ending))
    }

    /// Part of the product, not of its tests.
    fn is_product(&self) -> bool {
        self.is_rust() && self.path.contains("/src/") && !self.path.ends_with("/tests.rs") && !self.path.contains("/tests/")
    }

    fn is_in(&self, room: &str) -> bool {
        self.path.starts_with(room)
    }

    /// The lines before the file's tests.
    fn product_text(&self) -> &str {
        let end = self.text.find("#[cfg(test)]\nmod ").unwrap_or(self.text.len());
        &self.text[..end]
    }
}

fn sources() -> Vec<Source> {
    let (top, mut found) = (root(), Vec::new());
    collect(&top, &top, &mut found);
    assert!(found.len() > 20, "the project was not found at {}", top.display());
    found
}

fn collect(top: &Path, directory: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).expect("a directory of the project can be listed") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if NOT_OURS.contains(&name.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(top, &path, found);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(top).expect("below the top").to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
}

fn rust_product() -> Vec<Source> {
    sources().into_iter().filter(Source::is_product).collect()
}

/// Fails with every breach at once.
fn hold(rule: &str, breaches: &[String]) {
    let mut list = String::new();
    for breach in breaches {
        write!(list, "\n  {breach}").expect("writing to a string");
    }
    assert!(breaches.is_empty(), "{rule}:{list}");
}

/// Rust without comments and without what is inside quotes, line for line.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '/' if rest.peek() == Some(&'/') => {
                while rest.peek().is_some_and(|&c| c != '\n') {
                    rest.next();
                }
            }
            '"' => skip_string(&mut rest, &mut code),
            // A quoted character, not a lifetime: 'x' or '\n'.
            '\'' => {
                let mut ahead = rest.clone();
                let first = ahead.next();
                if first == Some('\\') || ahead.next() == Some('\'') {
                    let mut escaped = first == Some('\\');
                    rest.next();
                    while let Some(inner) = rest.next_if(|&c| escaped || c != '\'') {
                        escaped = !escaped && inner == '\\';
                    }
                    rest.next();
                } else {
                    code.push('\'');
                }
            }
            other => code.push(other),
        }
    }
    code
}

fn skip_string(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, code: &mut String) {
    let mut escaped = false;
    for inner in rest.by_ref() {
        match inner {
            '\n' => code.push('\n'),
            '"' if !escaped => break,
            _ => {}
        }
        escaped = !escaped && inner == '\\';
    }
    code.push_str("\"\"");
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Whether the code has the name as it stands, not as the end of a longer one.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn the_reader_of_rust_sees_code_only() {
    let code = code_of("let a = \"fn x() {\\\"\"; // fn y() {\nlet b: &'static str = c; let d = '{'; let e = '\\''; f(\n");
    assert_eq!(code, "let a = \"\"; \nlet b: &'static str = c; let d = ; let e = ; f(\n");
}

#[test]
fn every_file_opens_with_a_paragraph() {
    let opens = |source: &Source| {
        let first = source.text.lines().find(|line| !line.starts_with("#!/")).unwrap_or_default();
        first.starts_with(if source.is_rust() { "//! " } else { "// " })
    };
    let files = sources().into_iter().filter(|source| source.is_rust() || source.is_script());
    let breaches: Vec<String> = files.filter(|source| !opens(source)).map(|source| source.path).collect();
    hold("a file says first what it is and what it refuses to know", &breaches);
}

#[test]
fn files_are_short() {
    let mut breaches = Vec::new();
    for source in sources() {
        let (lines, most) = match source.path.as_str() {
            // The face is mostly the description of it: only its code is counted.
            "index.ts" => (code_of(&source.text).lines().filter(|line| !is_description(line)).count(), FACE_LINES_MAX),
            _ if source.is_product() => (source.product_text().lines().count(), FILE_LINES_MAX),
            path if path.ends_with(".ts") && (source.is_in("src/") || source.is_in("cli/")) => {
                (source.text.lines().count(), FILE_LINES_MAX)
            }
            _ => continue,
        };
        if lines > most {
            breaches.push(format!("{}: {lines} lines, at most {most}", source.path));
        }
    }
    hold("a longer file has a second noun inside", &breaches);
}

fn is_description(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with("/*") || line.starts_with('*')
}

#[test]
fn functions_are_short() {
    let mut breaches = Vec::new();
    for source in rust_product() {
        let code = code_of(&source.text);
        for (line, name, length) in functions(&code) {
            if length > FUNCTION_LINES_MAX {
                breaches.push(format!("{}:{line}: {name} has {length} lines", source.path));
            }
        }
    }
    hold("a function has at most 60 lines", &breaches);
}

/// The line, name and length of every function with a body.
fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let mut words = words(line).skip_while(|&word| word != "fn");
        let Some(name) = words.nth(1) else { continue };
        let mut depth = 0_i64;
        for (offset, line) in lines[start..].iter().enumerate() {
            depth += line.matches('{').count() as i64 - line.matches('}').count() as i64;
            let opened = lines[start..=start + offset].iter().any(|line| line.contains('{'));
            if depth == 0 && (opened || line.contains(';')) {
                found.push((start + 1, name.to_owned(), offset + 1));
                break;
            }
        }
    }
    found
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut breaches = Vec::new();
    for source in rust_product() {
        let code = code_of(source.product_text());
        let lines = code.lines().enumerate().filter(|(_, line)| line.contains(".unwrap()"));
        breaches.extend(lines.map(|(line, _)| format!("{}:{}", source.path, line + 1)));
    }
    hold("expect states the invariant; unwrap is for tests", &breaches);
}

#[test]
fn unsafe_is_in_the_hands_and_the_binding_only() {
    let mut breaches = Vec::new();
    for source in rust_product() {
        if source.is_in("crates/kcopyd/src/engine/") || source.is_in("crates/kcopyd-node/") {
            continue;
        }
        let code = code_of(&source.text);
        let lines = code.lines().enumerate().filter(|(_, line)| words(line).any(|word| word == "unsafe"));
        breaches.extend(lines.map(|(line, _)| format!("{}:{}", source.path, line + 1)));
    }
    hold("unsafe is for the hands", &breaches);
    let mind = fs::read_to_string(root().join("crates/kcopyd/src/copy/mod.rs")).expect("the mind is there");
    assert!(mind.contains("#![forbid(unsafe_code)]"), "the mind forbids unsafe to itself");
}

/// The modules `crate::<room>::…` that a file names, outside its tests.
fn rooms_named(source: &Source) -> BTreeSet<String> {
    let code = code_of(source.product_text());
    code.match_indices("crate::")
        .filter_map(|(at, _)| words(&code[at + "crate::".len()..]).next().map(str::to_owned))
        .collect()
}

#[test]
fn rooms_know_only_the_rooms_below_them() {
    let may_know: [(&str, &[&str]); 3] = [
        ("crates/kcopyd/src/copy/", &["copy", "error"]),
        ("crates/kcopyd/src/engine/", &["copy", "engine", "error", "sync"]),
        ("crates/kcopyd/src/error.rs", &[]),
    ];
    let mut breaches = Vec::new();
    for source in rust_product() {
        for (_, known) in may_know.iter().filter(|(room, _)| source.is_in(room)) {
            for named in rooms_named(&source) {
                if !known.contains(&named.as_str()) {
                    breaches.push(format!("{} knows crate::{named}", source.path));
                }
            }
        }
    }
    hold("the mind knows itself, the hands know chains, the client knows both", &breaches);
}

#[test]
fn the_mind_does_nothing() {
    let mut breaches = Vec::new();
    for source in rust_product().iter().filter(|source| source.is_in("crates/kcopyd/src/copy/")) {
        let code = code_of(source.product_text());
        breaches.extend(ACTS.iter().filter(|act| names(&code, act)).map(|act| format!("{} names {act}", source.path)));
    }
    hold("no files, clocks, threads or chance in the mind", &breaches);
}

#[test]
fn the_hands_never_see_a_job() {
    let never = ["copy::job", "copy::scheduler", "copy::sub_job", "copy::outcome", "copy::request", "copy::throttle"];
    let mut breaches = Vec::new();
    for source in rust_product().iter().filter(|source| source.is_in("crates/kcopyd/src/engine/")) {
        let code = code_of(source.product_text());
        breaches.extend(never.iter().filter(|job| code.contains(*job)).map(|job| format!("{} names {job}", source.path)));
    }
    hold("engines see chains, regions and page indices", &breaches);
}

#[test]
fn the_mind_has_no_circles() {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in rust_product().iter().filter(|source| source.is_in("crates/kcopyd/src/copy/")) {
        let name = Path::new(&source.path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let code = code_of(source.product_text());
        let used = code.match_indices("super::").filter_map(|(at, _)| words(&code[at + "super::".len()..]).next());
        uses.insert(name, used.map(str::to_owned).collect());
    }
    assert!(uses.contains_key("scheduler"), "the scheduler is in the mind");
    // Whatever uses nothing that is left can be taken away; in a circle nobody can.
    while let Some(free) = uses.iter().find(|(_, used)| !used.iter().any(|other| uses.contains_key(other))) {
        let free = free.0.clone();
        uses.remove(&free);
    }
    let circle: Vec<String> = uses.into_iter().map(|(name, used)| format!("{name} uses {used:?}")).collect();
    hold("modules of the mind that use each other in a circle", &circle);
}

#[test]
fn the_binding_is_thin() {
    let never =
        ["kcopyd::copy::scheduler", "kcopyd::copy::job", "kcopyd::copy::sub_job", "kcopyd::engine::uring", "io_uring"];
    let mut breaches = Vec::new();
    for source in rust_product().iter().filter(|source| source.is_in("crates/kcopyd-node/")) {
        let code = code_of(&source.text);
        breaches
            .extend(never.iter().filter(|name| code.contains(*name)).map(|name| format!("{} names {name}", source.path)));
    }
    hold("the binding converts, calls, rings the doorbell", &breaches);
}

/// What a script imports: the text in quotes after `from`, of lines that begin or continue an import.
fn imports(text: &str) -> Vec<(&str, bool)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((before, after)) = line.rsplit_once("from '") else { continue };
        if before.starts_with("import ") || before.starts_with("export ") || before.starts_with("} ") {
            found.push((after.split('\'').next().unwrap_or_default(), before.starts_with("import type ")));
        }
    }
    found
}

#[test]
fn the_command_uses_the_public_face_only() {
    let allowed = |name: &str| {
        name.starts_with("./") || name.starts_with("node:") || ["../index.js", "commander", "cli-progress"].contains(&name)
    };
    let mut breaches = Vec::new();
    for source in sources().iter().filter(|source| source.is_in("cli/")) {
        let others = imports(&source.text).into_iter().filter(|(name, _)| !allowed(name));
        breaches.extend(others.map(|(name, _)| format!("{} imports {name}", source.path)));
    }
    hold("cli/ imports index.ts and its two libraries", &breaches);
}

#[test]
fn the_package_needs_nothing_at_run_time() {
    let mut breaches = Vec::new();
    for source in sources().iter().filter(|source| source.is_in("src/") || source.path == "index.ts") {
        for (name, of_types) in imports(&source.text) {
            let upward = name.starts_with("../") && !(of_types && name == "../index.js");
            if upward || !(name.starts_with('.') || name.starts_with("node:")) {
                breaches.push(format!("{} imports {name}", source.path));
            }
        }
    }
    let package = fs::read_to_string(root().join("package.json")).expect("package.json is there");
    for field in ["\"dependencies\"", "\"install\"", "\"preinstall\"", "\"postinstall\""] {
        if package.contains(field) {
            breaches.push(format!("package.json has {field}"));
        }
    }
    hold(
        "the installed package has no dependencies and no install script; src/ looks at the face for its types alone",
        &breaches,
    );
}

#[test]
fn versions_agree() {
    let version_in = |file: &str, before: &str| {
        let text = fs::read_to_string(root().join(file)).expect("the manifest is there");
        let (_, after) = text.split_once(before).unwrap_or_else(|| panic!("{file} has {before}"));
        after.split('"').next().unwrap_or_default().to_owned()
    };
    let package = version_in("package.json", "\"version\": \"");
    assert_eq!(version_in("Cargo.toml", "version = \""), package, "Cargo.toml and package.json");
    assert_eq!(version_in("package-lock.json", "\"version\": \""), package, "package-lock.json and package.json");
}

#[test]
fn nothing_of_one_machine_is_in_the_tree() {
    // In pieces, so that this file does not find itself.
    let never = [
        (concat!("\"", "resolved\": \"http"), "a lock file's download address"),
        (concat!("/wo", "rk/"), "a path of one machine"),
        (concat!("//regi", "stry."), "a registry's address"),
        (concat!("regi", "stry="), "a registry's address"),
        (concat!("[sou", "rce."), "a registry's replacement"),
    ];
    let mut breaches = Vec::new();
    for source in sources() {
        for (line, text) in source.text.lines().enumerate() {
            let found = never.iter().filter(|(needle, _)| text.contains(needle));
            breaches.extend(found.map(|(_, what)| format!("{}:{}: {what}", source.path, line + 1)));
        }
    }
    hold("what holds on one machine only stays out", &breaches);
}
