//! `[central.identity]`: what phones register as, and the table of it in a CSV file.
//!
//! ```text
//! # phones.csv: an id, a serial or a slot, and what the central server knows the phone as
//! phone,credential
//! R5CW2355X,490154203237518
//! A2,rack1-a2
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::section::{Section, Typed};
use super::value::{file, switch, word};
use super::{Credential, Identity, IdentityMap, Sims};

/// More phones than any owner of racks has: a larger file is another file.
const PHONES_MAX: usize = 100_000;
/// The longest name of a phone and the longest credential, in bytes: an id, or `user:password` in base64.
const TEXT_MAX: usize = 256;

/// What is wrong with a table of identities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadPhones {
    /// The line of the file, from 1.
    pub line: u64,
    /// What was expected there and what was seen, as a sentence.
    pub what: String,
}

/// Reads a table of identities: a line `phone,credential`, then one for each phone. Lines that begin with `#` are comments.
///
/// # Errors
/// The first line that says something else, or that claims what an earlier one has claimed.
pub fn parse_phones(text: &[u8]) -> Result<BTreeMap<String, String>, BadPhones> {
    let mut rows = csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(text);
    let bad = |line: u64, what: String| Err(BadPhones { line, what });
    match rows.headers() {
        Ok(head) if head.iter().map(str::to_lowercase).eq(["phone", "credential"]) => {}
        Ok(head) => {
            let seen = head.iter().collect::<Vec<_>>().join(",");
            return bad(
                head.position().map_or(1, csv::Position::line),
                format!("expected `phone,credential`, seen `{seen}`"),
            );
        }
        Err(error) => return bad(line_of(&error), said(&error)),
    }
    let (mut phones, mut claimed) = (BTreeMap::new(), BTreeMap::new());
    for row in rows.records() {
        let row = match row {
            Ok(row) => row,
            Err(error) => return bad(line_of(&error), said(&error)),
        };
        let line = row.position().map_or(0, csv::Position::line);
        let (phone, credential) = (row.get(0).unwrap_or_default(), row.get(1).unwrap_or_default());
        if let Err(what) = check_text("phone", phone).and_then(|()| check_credential(credential)) {
            return bad(line, what);
        }
        if let Some(other) = claimed.insert(credential.to_owned(), phone.to_owned()) {
            return bad(line, format!("{phone} and {other} cannot both be {credential}: one phone, one credential"));
        }
        if phones.insert(phone.to_owned(), credential.to_owned()).is_some() {
            return bad(line, format!("{phone} stands in it twice"));
        }
        if phones.len() > PHONES_MAX {
            return bad(line, format!("it has more than {PHONES_MAX} phones"));
        }
    }
    Ok(phones)
}

/// Whether a text can be a phone's credential.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn check_credential(text: &str) -> Result<(), String> {
    check_text("credential", text)
}

fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("the {what} is empty"));
    }
    let odd = |c: char| c.is_control() || c.is_whitespace();
    if text.len() > TEXT_MAX || text.contains(odd) {
        let seen = text.chars().take(40).collect::<String>();
        return Err(format!("a {what} has no spaces and at most {TEXT_MAX} bytes, seen `{}`", seen.escape_debug()));
    }
    Ok(())
}

fn line_of(error: &csv::Error) -> u64 {
    error.position().map_or(1, csv::Position::line)
}

fn said(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { len, .. } => format!("expected 2 values with a comma between, seen {len}"),
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        _ => "it cannot be read".to_owned(),
    }
}

/// Reads `[central.identity]`; `base` is where relative paths start.
pub(super) fn identity(table: Option<Section<'_, '_>>, base: &Path) -> Option<Identity> {
    #[derive(Clone, Copy)]
    enum Kind {
        Imei,
        Serial,
        Map,
    }
    let Some(mut table) = table else { return Some(Identity::default()) };
    let words = [("imei", Kind::Imei), ("serial", Kind::Serial), ("map", Kind::Map)];
    let kind = table.optional("credential", word(&words));
    let sims = table.optional("send_sim", switch(Sims::Told, Sims::Kept));
    let typed = table.typed("map");
    let map = map(&mut table, base);
    let kind = kind.map_or(Kind::Imei, |kind| kind.value);
    let credential = match (kind, typed) {
        (Kind::Imei, None) => Some(Credential::Imei),
        (Kind::Serial, None) => Some(Credential::Serial),
        (Kind::Map, Some(_)) => map.map(Credential::Map),
        (Kind::Map, None) => {
            let help = "write map = \"phones.csv\", or [central.identity.map] and below it A1 = \"490154203237518\" for each slot or serial";
            table.missing("[central.identity] has credential = \"map\" and no map", help);
            None
        }
        (Kind::Imei | Kind::Serial, Some(at)) => {
            let what = "`map` in [central.identity] would not be used";
            let help = "write credential = \"map\" in [central.identity], or leave the map out";
            table.complain(Problem::new("config.contradiction", at, what, help));
            None
        }
    };
    table.finish();
    Some(Identity { credential: credential?, sims: sims.map_or(Sims::Kept, |sims| sims.value) })
}

/// A table of the configuration, or the file of one.
fn map(table: &mut Section<'_, '_>, base: &Path) -> Option<IdentityMap> {
    if table.is_section("map") {
        let entries = table.child("map")?.texts();
        return Some(IdentityMap { file: None, entries });
    }
    let file = table.optional("map", file(base))?;
    match read_phones(&file.value) {
        Ok(entries) => Some(IdentityMap { file: Some(file.value), entries }),
        Err(why) => {
            let Typed { value, at } = file;
            let what = format!("{}: {why}", value.display());
            let help = "a line `phone,credential`, then for each phone its id, serial or slot, a comma, its credential";
            table.complain(Problem::new("config.bad_value", at, what, help));
            None
        }
    }
}

fn read_phones(file: &PathBuf) -> Result<BTreeMap<String, String>, String> {
    let text = std::fs::read(file).map_err(|why| format!("it cannot be read: {}", crate::reason::of(&why)))?;
    parse_phones(&text).map_err(|bad| bad.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bad(text: &str) -> String {
        parse_phones(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_table_names_each_phone_by_what_the_owner_calls_it() {
        let text = "# the left half\nPhone, Credential\nR5CW2355X, 490154203237518\nA2,\"rack1,a2\"\n";
        let phones = parse_phones(text.as_bytes()).unwrap();
        assert_eq!((phones["R5CW2355X"].as_str(), phones["A2"].as_str()), ("490154203237518", "rack1,a2"));
        assert_eq!(parse_phones(b"phone,credential\n").unwrap().len(), 0);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert_eq!(bad("serial,imei\n"), "line 1: expected `phone,credential`, seen `serial,imei`");
        assert_eq!(
            bad("phone,credential\nA1,7\nA2,7\n"),
            "line 3: A2 and A1 cannot both be 7: one phone, one credential"
        );
        assert_eq!(bad("phone,credential\nA1,7\nA1,8\n"), "line 3: A1 stands in it twice");
        assert_eq!(bad("phone,credential\nA1,\n"), "line 2: the credential is empty");
        assert!(bad("phone,credential\nA1,7,8\n").contains("seen 3"));
        assert!(bad("phone,credential\nA1,\"a b\"\n").contains("has no spaces"));
        assert!(bad("").contains("expected `phone,credential`"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_phones(&text);
            let _ = parse_phones(&[b"phone,credential\n", &text[..]].concat());
        }
    }
}
