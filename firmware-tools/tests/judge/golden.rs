//! The table: name, request, adbd's answer, the phone's answer, why they differ.

use std::fmt::Write as _;
use std::path::PathBuf;

/// One request and both answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) request: String,
    pub(crate) adbd: String,
    pub(crate) phone: String,
    /// Empty where the answers are the same.
    pub(crate) why: String,
}

const HEAD: &str = "name\trequest\tadbd\tphone\twhy";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/judge/golden.tsv")
}

/// The rows of the table; none if it is not there yet.
pub(crate) fn read() -> Vec<Row> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let rows = text.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [name, request, adbd, phone, why] = cells[..] else { panic!("golden.tsv: {line} has not five cells") };
        let [name, request, adbd, phone, why] = [name, request, adbd, phone, why].map(str::to_owned);
        Row { name, request, adbd, phone, why }
    });
    rows.collect()
}

pub(crate) fn write(rows: &[Row]) {
    let mut text = format!("{HEAD}\n");
    for Row { name, request, adbd, phone, why } in rows {
        let _ = writeln!(text, "{name}\t{request}\t{adbd}\t{phone}\t{why}");
    }
    std::fs::write(path(), text).unwrap();
}
