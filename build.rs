//! Compiles proto/ and makes the catalogue of message types from the descriptors and proto/catalogue.tsv.
//!
//! What the descriptors know (which codes and bodies exist) is not typed again in the table; what disagrees ends the build.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error, fs};

use prost_types::FileDescriptorSet;

const PACKAGE: &str = "Jubo.JuLiao.IM.Wx.Proto";
const TABLE: &str = "proto/catalogue.tsv";
const HEADER: &str = "code\tname\tkind\tgroup\tpath\tbody";

/// How the table's words are written in Rust. A word that is missing here ends the build.
const KINDS: [(&str, &str); 6] = [
    ("session", "Kind::Session"),
    ("notice", "Kind::Notice"),
    ("request", "Kind::Request"),
    ("response", "Kind::Response"),
    ("task", "Kind::Task"),
    ("result", "Kind::Result"),
];
const GROUPS: [(&str, &str); 18] = [
    ("session", "Group::Session"),
    ("server", "Group::Server"),
    ("desktop", "Group::Desktop"),
    ("device", "Group::Device"),
    ("stop", "Group::Stop"),
    ("result", "Group::Result"),
    ("people.up", "Group::PeopleUp"),
    ("people.messages", "Group::People(PeopleGroup::Messages)"),
    ("people.friends", "Group::People(PeopleGroup::Friends)"),
    ("people.groups", "Group::People(PeopleGroup::Groups)"),
    ("people.moments", "Group::People(PeopleGroup::Moments)"),
    ("people.money", "Group::People(PeopleGroup::Money)"),
    ("people.upkeep", "Group::People(PeopleGroup::Upkeep)"),
    ("people.read", "Group::People(PeopleGroup::Read)"),
    ("people.sms", "Group::People(PeopleGroup::Sms)"),
    ("people.calls", "Group::People(PeopleGroup::Calls)"),
    ("people.account", "Group::People(PeopleGroup::Account)"),
    ("unknown", "Group::Unknown"),
];
const PATHS: [(&str, &str); 5] = [
    ("made", "Path::Made"),
    ("carried-up", "Path::CarriedUp"),
    ("carried-down", "Path::CarriedDown"),
    ("rack", "Path::Rack"),
    ("refused", "Path::Refused"),
];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(proto_files()?, ["proto"])?;
    let catalogue = catalogue(&descriptors, &fs::read_to_string(TABLE)?)?;
    write_if_changed(&out_dir.join("catalogue.rs"), &catalogue)?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}

fn proto_files() -> Result<Vec<PathBuf>, Box<dyn error::Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir("proto")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// An unchanged file keeps its time, so that nothing is compiled again.
fn write_if_changed(path: &Path, text: &str) -> Result<(), Box<dyn error::Error>> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text)?;
    Ok(())
}

/// One Rust slice of entries, sorted by code.
fn catalogue(descriptors: &FileDescriptorSet, table: &str) -> Result<String, String> {
    let mut codes = codes(descriptors)?;
    let bodies = bodies(descriptors);
    let mut lines = table.lines();
    if lines.next() != Some(HEADER) {
        return Err(format!("{TABLE}: the first line must be `{}`", HEADER.replace('\t', " ")));
    }
    let mut entries = BTreeMap::new();
    for line in lines {
        let (code, entry) = entry(line, &mut codes, &bodies).map_err(|why| format!("{TABLE}: `{line}`: {why}"))?;
        entries.insert(code, entry);
    }
    if let Some((code, name)) = codes.pop_first() {
        return Err(format!("{TABLE}: {code} {name} of EnumMsgType is missing"));
    }
    let mut text = String::from("&[\n");
    for entry in entries.values() {
        writeln!(text, "    {entry},").map_err(|e| e.to_string())?;
    }
    text.push_str("]\n");
    Ok(text)
}

/// One line of the table as a Rust expression; takes its code out of `codes`, so that none is there twice or forgotten.
fn entry(line: &str, codes: &mut BTreeMap<i32, String>, bodies: &BTreeSet<String>) -> Result<(i32, String), String> {
    let columns: Vec<&str> = line.split('\t').collect();
    let (&[code, name, kind, group, path], exception) =
        columns.split_first_chunk::<5>().ok_or_else(|| format!("{} columns, expected at least 5", columns.len()))?;
    let code: i32 = code.parse().map_err(|_| format!("`{code}` is not a code"))?;
    match codes.remove(&code) {
        None => return Err(format!("{code} is not in EnumMsgType, or here twice")),
        Some(known) if known != name => return Err(format!("EnumMsgType calls it {known}")),
        Some(_) => {}
    }
    let body = match exception {
        [] => Some(format!("{name}Message")),
        ["-"] => None,
        [body] => Some((*body).to_owned()),
        _ => return Err("too many columns".to_owned()),
    };
    let body = match body {
        Some(body) if !bodies.contains(&body) => return Err(format!("there is no message {body}")),
        Some(body) => format!("Some(\"{PACKAGE}.{body}\")"),
        None if bodies.contains(&format!("{name}Message")) => return Err("its body is known".to_owned()),
        None => "None".to_owned(),
    };
    let (kind, group, path) = (word(&KINDS, kind)?, word(&GROUPS, group)?, word(&PATHS, path)?);
    let entry =
        format!("Entry {{ code: {code}, name: \"{name}\", body: {body}, kind: {kind}, group: {group}, path: {path} }}");
    Ok((code, entry))
}

fn word<'a>(words: &[(&str, &'a str)], seen: &str) -> Result<&'a str, String> {
    words.iter().find(|(word, _)| *word == seen).map(|(_, rust)| *rust).ok_or_else(|| {
        let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("`{seen}` is none of {}", allowed.join(", "))
    })
}

/// Every code but UnknownMsg, with its name.
fn codes(descriptors: &FileDescriptorSet) -> Result<BTreeMap<i32, String>, String> {
    let types = descriptors.file.iter().flat_map(|file| &file.enum_type).find(|e| e.name() == "EnumMsgType");
    let types = types.ok_or("EnumMsgType is not in proto/")?;
    Ok(types.value.iter().filter(|v| v.number() != 0).map(|v| (v.number(), v.name().to_owned())).collect())
}

fn bodies(descriptors: &FileDescriptorSet) -> BTreeSet<String> {
    let ours = descriptors.file.iter().filter(|file| file.package() == PACKAGE);
    ours.flat_map(|file| &file.message_type).map(|message| message.name().to_owned()).collect()
}
