//! Crash safety: the proof that kills daemons at each named place, run as a command of its own.

use super::{Place, unwritten};
use crate::check::{Miss, miss, proof};

/// Its points.
pub(super) const POINTS: &[&str] = &["crash_safety"];

/// What its last line says of every kill.
const CLEAN: [&str; 5] = ["wrong_version 0", "rows_missing 0", "installed_twice 0", "open_sessions 0", "never_hit 0"];

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    let ("crash_safety", Some(command)) = (point, &place.proof) else { return unwritten(point) };
    let output = proof::output(command, &[], &[]).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let sum = said.lines().find(|line| line.starts_with("kills ")).unwrap_or_default();
    let missing = CLEAN.iter().find(|clean| !sum.contains(**clean));
    match (output.status.success(), missing) {
        (true, None) => Ok(sum.to_owned()),
        _ => {
            let seen = format!("{}: {sum} {}", output.status, proof::end_of(&output.stderr));
            Err(miss("kills without a trace", seen))
        }
    }
}
