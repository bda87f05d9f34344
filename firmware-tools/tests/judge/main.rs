//! Google's adbd is the judge of the virtual phone: each request of `cases` goes to both, and what they answer stands side by side
//! in `golden.tsv`.
//!
//! ```text
//!   cases ──▶ host ──┬──▶ Google's adbd 34, in a root and a network of its own ──┐
//!                    └──▶ a virtual phone                                        ├──▶ golden.tsv
//! ```
//!
//! A row whose answers differ must say why they can't be equal. `RECORD=1 cargo test -p firmware-tools --test judge` writes the table
//! anew and keeps the reasons.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by a panic")]

mod cases;
mod golden;
mod host;
mod peers;

use std::fmt::Write as _;

use cases::{Case, Company};
use firmware_tools::phone::VirtualPhone;
use futures_util::StreamExt as _;
use golden::Row;
use host::Patience;

/// Fewer would not cover each service and each failure.
const ROWS_MIN: usize = 60;

/// Connections to the phone at once. adbd 34 is asked one by one: when some of its connections end in the middle, others may too.
const CONNECTIONS: usize = 8;

/// How often adbd is asked again where it answers otherwise than it did: it takes tunnels of an earlier connection down on a thread of its
/// own, and a list may come before or after that. Our phone must answer right at once.
const AGAIN_MAX: usize = 3;

/// Who is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Googles,
    Ours,
}

#[test]
fn the_virtual_phone_answers_as_googles_adbd_does() {
    let cases = cases::all();
    let recorded = golden::read();
    let record = std::env::var_os("RECORD").is_some();
    let patience = |case: &Case, column: fn(&Row) -> &str| match recorded.iter().find(|row| row.name == case.name) {
        Some(row) if !record => Patience::Until(column(row).to_owned()),
        _ => Patience::Quiet,
    };
    let ask = async |peer, connections, column: fn(&Row) -> &str, whose: Whose| -> Vec<String> {
        let asked = cases.iter().map(async |case| {
            let own = (whose == Whose::Ours && case.company == Company::None).then(peers::phone);
            let peer = own.as_ref().map_or(peer, VirtualPhone::address);
            host::transcript(peer, case, patience(case, column)).await
        });
        futures_util::stream::iter(asked).buffered(connections).collect().await
    };
    // One after the other: both keep tunnels on the same ports.
    let (adbd, phone) = peers::with_both(async |adbd, phone| {
        let mut answers = ask(adbd, 1, |row| &row.adbd, Whose::Googles).await;
        for (case, answer) in cases.iter().zip(&mut answers).filter(|_| !record) {
            let expected = recorded.iter().find(|row| row.name == case.name).map(|row| &row.adbd);
            for _ in 0..AGAIN_MAX {
                if expected.is_none_or(|expected| expected == answer) {
                    break;
                }
                *answer = host::transcript(adbd, case, patience(case, |row| &row.adbd)).await;
            }
        }
        (answers, ask(phone, CONNECTIONS, |row| &row.phone, Whose::Ours).await)
    });
    let rows: Vec<Row> = cases
        .iter()
        .zip(adbd.into_iter().zip(phone))
        .map(|(case, (adbd, phone))| {
            let old = recorded.iter().find(|row| row.name == case.name);
            let why = old.map(|row| row.why.clone()).unwrap_or_default();
            Row { name: case.name.to_owned(), request: case.request(), adbd, phone, why }
        })
        .collect();
    if record {
        golden::write(&rows);
    }
    let faults = faults(&cases, &rows, if record { &rows } else { &recorded });
    assert!(faults.is_empty(), "{faults}");
}

/// All that is wrong with the table, or with what was seen.
fn faults(cases: &[Case], seen: &[Row], recorded: &[Row]) -> String {
    let mut faults = String::new();
    let mut fault = |name: &str, what: &str| {
        let _ = writeln!(faults, "{name}: {what}");
    };
    if recorded.len() < ROWS_MIN {
        fault("golden.tsv", "has too few rows");
    }
    for row in recorded.iter().filter(|row| !cases.iter().any(|case| case.name == row.name)) {
        fault(&row.name, "is in golden.tsv, but nobody asks it");
    }
    for row in seen {
        let Some(old) = recorded.iter().find(|old| old.name == row.name) else {
            fault(&row.name, "is not in golden.tsv: record it");
            continue;
        };
        for (who, now, before) in [("adbd", &row.adbd, &old.adbd), ("the phone", &row.phone, &old.phone)] {
            if now != before {
                fault(&row.name, &format!("{who} answers\n    {now}\n  where golden.tsv has\n    {before}"));
            }
        }
        match (row.adbd == row.phone, row.why.is_empty()) {
            (false, true) => {
                let both = format!("adbd and the phone differ:\n    {}\n    {}", row.adbd, row.phone);
                fault(&row.name, &both);
            }
            (true, false) => fault(&row.name, "says why the answers differ, but they are the same"),
            _ => {}
        }
    }
    faults
}
