//! The codes of what goes wrong are a contract for programs: one style, and each in docs/errors.md.

use std::collections::BTreeSet;
use std::path::Path;

/// The families of codes. What has another beginning is a file's name, a property or a key of some JSON.
const FAMILIES: [&str; 23] = [
    "apk", "audit", "cli", "config", "daemon", "doctor", "events", "files", "identity", "install", "keys", "lease",
    "line", "path", "phone", "remote", "request", "rollout", "state", "store", "tls", "token", "web",
];
/// Of hubs some keys of the health on MQTT are written alike.
const HUB_CODES: [&str; 4] = ["hub.busy", "hub.refused", "hub.silent", "hub.unknown"];

#[test]
fn every_code_is_explained_and_nothing_else_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut used = BTreeSet::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            if entry.is_dir() {
                folders.push(entry);
            } else if name.ends_with(".rs") && name != "tests.rs" && !name.ends_with("_tests.rs") {
                let text = std::fs::read_to_string(&entry).unwrap();
                assert!(!has_path_style(&text), "{}: a code is written as \"family.word\"", entry.display());
                used.extend(codes_in(text.split("#[cfg(test)]").next().unwrap()));
            }
        }
    }
    let documented = std::fs::read_to_string(root.join("docs/errors.md")).unwrap();
    let rows = documented.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(used.difference(&documented).collect::<Vec<_>>(), [""; 0], "these lack a row in docs/errors.md");
    assert_eq!(documented.difference(&used).collect::<Vec<_>>(), [""; 0], "these stand in docs/errors.md only");
}

/// Whether a diagnostic is given `code(family::word)`.
fn has_path_style(text: &str) -> bool {
    text.split("code(").skip(1).any(|rest| rest.split(')').next().is_some_and(is_path))
}

fn is_path(code: &str) -> bool {
    code.contains("::") && code.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == ':')
}

/// Every text in quotes that is written as a code is.
fn codes_in(text: &str) -> impl Iterator<Item = String> {
    text.split('"').filter(|quoted| is_code(quoted)).map(str::to_owned)
}

fn is_code(quoted: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let Some((family, word)) = quoted.split_once('.') else { return false };
    is_word(word) && (FAMILIES.contains(&family) || HUB_CODES.contains(&quoted))
}

#[test]
fn the_check_sees_what_it_should() {
    assert_eq!(
        codes_in(r#"code("web.listen"), x("hub.port") "page.js" "hub.busy""#).collect::<Vec<_>>(),
        ["web.listen", "hub.busy"]
    );
    assert!(has_path_style("#[diagnostic(code(web::listen))]") && !has_path_style("code(HubName::new(x))"));
}
