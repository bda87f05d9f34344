//! What happened in a rollout, when, and by whom: what the audit has of it.

use super::super::audit::when;
use super::super::client::{Client, segment};
use super::super::failure::Failure;
use super::super::paper::{Cell, Paper, Tone};
use crate::store::promise::AuditRecord;

/// How many lines of the audit are asked for, the newest: more than waves, decisions and phones that join make in one rollout.
const LINES_MAX: usize = 1000;

/// The lines, the oldest first.
///
/// # Errors
/// The daemon gives no audit.
pub(super) async fn read(client: &Client, rollout: &str) -> Result<Vec<AuditRecord>, Failure> {
    let path = format!("/api/audit?limit={LINES_MAX}&target={}", segment(rollout));
    let mut lines: Vec<AuditRecord> = client.read(&path).await?;
    lines.reverse();
    Ok(lines)
}

/// The lines as sentences; nothing where the audit has none, as of a rollout that is older than what the audit keeps.
pub(super) fn tell(lines: &[AuditRecord], paper: &Paper) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let row = |line: &AuditRecord| -> Vec<Cell> {
        vec![Cell::toned(Tone::Quiet, when(line.at)), (&line.who).into(), (&line.what).into()]
    };
    format!("\n{}\n", paper.table(&["WHEN", "WHO", "WHAT"], lines.iter().map(row).collect()))
}
