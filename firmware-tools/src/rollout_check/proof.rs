//! Crash safety: the proof that kills daemons at each named place, run as a command of its own.

use std::process::Stdio;

use super::{Place, unwritten};
use crate::check::{Miss, miss};

/// Its points.
pub(super) const POINTS: &[&str] = &["crash_safety"];

/// What its last line says of every kill.
const CLEAN: [&str; 5] = ["wrong_version 0", "rows_missing 0", "installed_twice 0", "open_sessions 0", "never_hit 0"];

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    let ("crash_safety", Some(command)) = (point, &place.proof) else { return unwritten(point) };
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    let output = tokio::process::Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| miss("the proof to start", format!("`{command}`: {error}")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let sum = said.lines().find(|line| line.starts_with("kills ")).unwrap_or_default();
    let missing = CLEAN.iter().find(|clean| !sum.contains(**clean));
    match (output.status.success(), missing) {
        (true, None) => Ok(sum.to_owned()),
        _ => {
            let log = String::from_utf8_lossy(&output.stderr);
            let end: Vec<&str> = log.lines().rev().take(5).collect();
            Err(miss("kills without a trace", format!("{}: {sum} {}", output.status, end.join(" / "))))
        }
    }
}
