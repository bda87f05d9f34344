//! The catalogue against the protocol document: 85 message types, copied from it once.

use farmhand::central::catalogue::{Path, describe, entries, lookup};
use farmhand::central::proto::EnumMsgType;

const DOCUMENT: &str = include_str!("document-codes.tsv");

fn path_of(words: &str) -> Path {
    match words {
        "ends at farmhand, made anew on the other side" => Path::Made,
        "never on a phone line; a server-to-server word: refused and counted"
        | "centre to desktop client only; refused towards a phone" => Path::Refused,
        "up, carried" | "up; also made by farmhand in hold" => Path::CarriedUp,
        "rack (rollout, or carried when from_central=forward)" | "rack: unregister the line, never wipe" => Path::Rack,
        words if words.starts_with("down, ") => Path::CarriedDown,
        words => panic!("the document has no path `{words}`"),
    }
}

#[test]
fn every_code_of_the_document_is_in_the_catalogue_as_the_document_says() {
    let lines: Vec<&str> = DOCUMENT.lines().skip(1).collect();
    assert_eq!(lines.len(), 85);
    for line in &lines {
        let [code, name, body, group, path] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let entry = lookup(code.parse().unwrap()).unwrap_or_else(|| panic!("{line} is missing"));
        let known_body = entry.body.map_or("-", |full| full.rsplit('.').next().unwrap());
        assert_eq!((entry.name, known_body, entry.group.name()), (name, body, group), "{line}");
        assert_eq!(entry.path, path_of(path), "{line}");
    }
    println!("protocol.document_codes_checked {}", lines.len());
}

#[test]
fn the_catalogue_has_220_codes_each_once_and_in_order() {
    assert_eq!(entries().len(), 220);
    assert!(entries().windows(2).all(|pair| pair[0].code < pair[1].code));
    for entry in entries() {
        assert_eq!(lookup(entry.code), Some(entry));
        assert_eq!(EnumMsgType::try_from(entry.code).unwrap().as_str_name(), entry.name);
    }
}

#[test]
fn codes_without_a_known_body_invent_none() {
    let without: Vec<i32> = entries().iter().filter(|e| e.body.is_none()).map(|e| e.code).collect();
    let first = [1002, 1012, 1016, 1036, 1077, 1093, 1099, 1100];
    assert_eq!(without[..8], first);
    let desktop: Vec<i32> = [3052, 3053].into_iter().chain(3056..=3086).chain([3201, 3202]).collect();
    assert_eq!(without[8..], desktop);
}

#[test]
fn a_code_is_told_by_number_and_name() {
    assert_eq!(describe(1094), "1094 UpgradeDeviceAppNotice");
    assert_eq!(describe(4711), "4711 (unknown)");
    assert_eq!(lookup(0), None, "UnknownMsg is no message");
}
