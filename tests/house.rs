//! The rules of the house, checked on the source itself: which module may use which, what a core must not touch, how long a file
//! may grow. A rule that nobody checks is a wish.

#![allow(missing_docs)]
#![allow(clippy::expect_used, reason = "a broken checkout may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest a file may be. A file that needs more has two jobs.
const FILE_LINES_MAX: usize = 500;

/// Which modules of the library a module may use, itself aside. `clock`, and the vocabulary in `rack` and `config`, are for
/// everyone; the arrows between actors go through `rack::event`, not from one actor to the other.
const MAY_USE: &[(&str, &[&str])] = &[
    ("accept", &[]),
    ("adb", &["accept", "checkpoint", "clock", "peer", "rack", "tls"]),
    ("agent", &["rack"]),
    ("announce", &["config"]),
    ("central", &["adb", "rack", "clock", "config", "reason", "store", "tls"]),
    ("checkpoint", &[]),
    ("cli", &["adb", "agent", "central", "config", "daemon", "doctor", "phone", "rack", "clock", "reason", "store"]),
    ("clock", &[]),
    ("config", &["clock", "rack", "reason", "spelling"]),
    (
        "daemon",
        &[
            "adb", "agent", "announce", "central", "clock", "config", "host", "mqtt", "phone", "power", "rack",
            "rollout", "store", "usb", "web",
        ],
    ),
    ("doctor", &[]),
    ("host", &["rack"]),
    ("mqtt", &["rack", "config", "clock", "reason"]),
    ("peer", &[]),
    ("phone", &["accept", "adb", "checkpoint", "clock", "config", "peer", "rack", "spelling", "usb"]),
    ("power", &["clock", "config", "rack"]),
    ("rack", &["clock", "config", "phone"]),
    ("reason", &[]),
    ("rollout", &["agent", "checkpoint", "clock", "config", "phone", "rack", "store"]),
    ("spelling", &[]),
    ("store", &["agent", "rack", "clock"]),
    ("tls", &[]),
    ("usb", &["adb", "clock", "rack"]),
    ("web", &["rack", "clock", "config", "peer", "spelling", "phone", "store"]),
];

/// Modules whose files use each other in one direction only, the `mod.rs` aside, which only names them.
const ONE_WAY: &[&str] = &["src/usb"];

/// The cores: no I/O, no clock, no chance, no order that differs from run to run.
const CORES: &[&str] = &[
    "src/adb/connection",
    "src/adb/message",
    "src/adb/server/answer.rs",
    "src/adb/server/devices.rs",
    "src/adb/server/portal.rs",
    "src/adb/server/request.rs",
    "src/adb/server/roles.rs",
    "src/adb/server/tokens.rs",
    "src/adb/server/uses.rs",
    "src/adb/services/shared/scan.rs",
    "src/adb/turns/order.rs",
    "src/central/outbox.rs",
    "src/central/policy",
    "src/central/relay",
    "src/central/session",
    "src/doctor/mod.rs",
    "src/mqtt/board.rs",
    "src/mqtt/outbox.rs",
    "src/mqtt/payload.rs",
    "src/mqtt/topics.rs",
    "src/phone/ladder.rs",
    "src/phone/life",
    "src/phone/profile.rs",
    "src/phone/trace.rs",
    "src/phone/upkeep",
    "src/power/cambrionix.rs",
    "src/power/dialogue.rs",
    "src/rack",
    "src/rollout/plan",
    "src/store/outbox/accounts.rs",
    "src/store/outbox/block.rs",
];

/// What a core must not say, and why.
const BANNED_IN_CORES: &[(&str, &str)] = &[
    ("tokio", "a core does not wait"),
    ("std::thread", "a core does not wait"),
    ("Instant::now", "the time comes in as an argument"),
    ("SystemTime", "the time comes in as an argument"),
    ("rand::", "chance comes in as a seed"),
    ("HashMap", "its order differs from run to run"),
    ("HashSet", "its order differs from run to run"),
    ("std::net::Tcp", "a core does no I/O"),
    ("std::fs", "a core does no I/O"),
    ("rusb", "a core does no I/O"),
];

/// Names that say nothing about what is inside.
const BANNED_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc"];

#[test]
fn a_module_uses_only_what_it_may() {
    let table: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut arrows = BTreeSet::new();
    let mut faults = String::new();
    for (path, text) in sources("src") {
        let Some(module) = module_of(&path).filter(|_| !is_test_file(&path)) else { continue };
        let Some(allowed) = table.get(module.as_str()) else {
            let _ = writeln!(faults, "{}: module `{module}` is not in the table of tests/house.rs", path.display());
            continue;
        };
        for (number, line) in code_lines(&text) {
            for used in uses_of(line) {
                arrows.insert((module.clone(), used.to_owned()));
                if used != module && !allowed.contains(&used) && table.contains_key(used) {
                    let _ = writeln!(faults, "{}:{number}: `{module}` may not use `{used}`", path.display());
                }
            }
        }
    }
    for (module, others) in MAY_USE {
        for other in others.iter().filter(|other| !arrows.contains(&((*module).to_owned(), (**other).to_owned()))) {
            let _ = writeln!(faults, "tests/house.rs: `{module}` does not use `{other}`: take it out of the table");
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn the_files_of_a_module_use_each_other_in_one_direction() {
    let mut faults = String::new();
    for module in ONE_WAY {
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, text) in sources(module) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if name != "mod" && !is_test_file(&path) {
                uses.insert(name, code_lines(&text).flat_map(|(_, line)| siblings_of(line)).collect());
            }
        }
        // Whoever uses none of those that are left is taken away; a circle stays.
        while let Some(name) = uses.iter().find(|(_, used)| !used.iter().any(|name| uses.contains_key(name))) {
            let name = name.0.clone();
            uses.remove(&name);
        }
        for (name, used) in uses {
            let _ = writeln!(faults, "{module}/{name}.rs is in a circle, or uses one: {used:?}");
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn a_core_touches_nothing_but_its_arguments() {
    let mut faults = String::new();
    for (path, text) in sources("src") {
        let name = path.to_string_lossy().into_owned();
        let belongs =
            |core: &&str| name == *core || name.starts_with(&format!("{core}/")) || name == format!("{core}.rs");
        if !CORES.iter().any(belongs) || is_test_file(&path) {
            continue;
        }
        for (number, line) in code_lines(&text) {
            for (word, why) in BANNED_IN_CORES {
                if line.contains(word) {
                    let _ = writeln!(faults, "{name}:{number}: `{word}` in a core: {why}: {}", line.trim());
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn every_core_of_the_list_is_there() {
    let names: Vec<String> = sources("src").iter().map(|(path, _)| path.to_string_lossy().into_owned()).collect();
    for core in CORES {
        let stem = core.trim_end_matches(".rs");
        assert!(names.iter().any(|name| name.starts_with(stem)), "{core} is in the list of cores, but not in the tree");
    }
}

#[test]
fn no_file_outgrows_its_job() {
    let mut faults = String::new();
    for folder in ["src", "tests", "benches", "firmware-tools", "examples"] {
        for (path, text) in sources(folder) {
            let lines = text.lines().count();
            if lines > FILE_LINES_MAX {
                let _ = writeln!(faults, "{}: {lines} lines, at most {FILE_LINES_MAX}", path.display());
            }
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if BANNED_NAMES.contains(&stem.as_str()) {
                let _ = writeln!(faults, "{}: the name says nothing about what is inside", path.display());
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn unsafe_code_stands_in_one_file_and_is_explained() {
    let mut faults = String::new();
    for (path, text) in sources("src") {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if !["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|word| line.contains(word)) {
                continue;
            }
            let above = &lines[index.saturating_sub(6)..index];
            let explained = above.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
            if path != Path::new("src/usb/transfer.rs") || !explained {
                let _ = writeln!(
                    faults,
                    "{}:{}: unsafe without its place or its SAFETY comment",
                    path.display(),
                    index + 1
                );
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

/// Every Rust file below `folder`, by its path from the root of the repository.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.map(|entry| entry.expect("a readable folder").path()) {
            if entry.is_dir() && entry.file_name().is_some_and(|name| name != "target") {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&entry).expect("a readable source file");
                found.push((entry.strip_prefix(root).expect("below the root").to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// The top-level module of the library that a file belongs to.
fn module_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix("src").ok()?;
    let first = inside.components().next()?.as_os_str().to_string_lossy().into_owned();
    let module = first.strip_suffix(".rs").unwrap_or(&first).to_owned();
    (module != "lib" && module != "main").then_some(module)
}

fn is_test_file(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
}

/// Lines that are code, with their numbers: neither comments nor tests, whether they stand in the file or in one of their own.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    std::iter::from_fn(move || {
        loop {
            let (number, line) = lines.next()?;
            if line == "#[cfg(test)]" {
                // Attributes, then an item, which ends with the first line that is not indented and ends with `;` or is `}`.
                lines
                    .by_ref()
                    .map(|(_, line)| line)
                    .find(|line| *line == "}" || line.ends_with(';') && !line.starts_with(' '));
            } else if !line.trim_start().starts_with("//") {
                return Some((number, line));
            }
        }
    })
}

/// The modules that a line names by `crate::name`, or by `use crate::{name::…, name}`.
fn uses_of(line: &str) -> Vec<&str> {
    let mut used = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => used.extend(list.split([',', '}']).map(|name| leading_name(name.trim()))),
            None => used.push(leading_name(rest)),
        }
    }
    used.retain(|name| !name.is_empty() && *name != "self");
    used
}

/// The files beside it that a line names by `super::name`.
fn siblings_of(line: &str) -> Vec<String> {
    line.split("super::").skip(1).map(|rest| leading_name(rest).to_owned()).filter(|name| !name.is_empty()).collect()
}

fn leading_name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

#[test]
fn the_checks_see_what_they_should() {
    assert_eq!(uses_of("use crate::rack::ids::PhoneId;"), ["rack"]);
    assert_eq!(uses_of("use crate::{adb, rack::Event};"), ["adb", "rack"]);
    assert_eq!(uses_of("let x: crate::phone::Event = crate::clock::y();"), ["phone", "clock"]);
    assert_eq!(module_of(Path::new("src/host.rs")).as_deref(), Some("host"));
    assert_eq!(module_of(Path::new("src/rack/mod.rs")).as_deref(), Some("rack"));
    assert_eq!(siblings_of("use super::claim::{claim, reset};"), ["claim"]);
    let code = |text| code_lines(text).map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(code("a\n// b\n#[cfg(test)]\nmod c {\n    d;\n}\ne"), [1, 7]);
    assert_eq!(code("a\n#[cfg(test)]\n#[path = \"b.rs\"]\nmod b;\nc"), [1, 5]);
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reasons = fs::read_to_string(root.join("docs/dependencies.md")).expect("docs/dependencies.md");
    let first_cells = reasons.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let named: Vec<&str> = first_cells
        .flat_map(|cell| cell.split([',', ' ', '(', ')', '`']))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    let mut faults = String::new();
    for manifest in ["Cargo.toml", "firmware-tools/Cargo.toml", "firmware-tools/handset/Cargo.toml"] {
        let text = fs::read_to_string(root.join(manifest)).expect("a manifest of the workspace");
        let mut inside = false;
        for line in text.lines() {
            if line.starts_with('[') {
                inside = line.trim_end_matches(']').ends_with("dependencies");
            } else if let Some(name) = line.split([' ', '.', '=']).next().filter(|name| inside && !name.is_empty()) {
                let ours = line.contains("path = ") || name.starts_with('#');
                if !ours && !named.contains(&name) {
                    let _ = writeln!(faults, "{manifest}: `{name}` has no row in docs/dependencies.md");
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}
