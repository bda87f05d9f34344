//! `farmhand audit`: who did what to which phone, the newest first.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use super::client::{Client, segment};
use super::failure::Failure;
use super::paper::{Cell, Paper, Tone, json};
use crate::clock::UnixMillis;
use crate::store::promise::AuditRecord;

#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Only what was done to this: a phone by its id or slot, a rollout, a hub
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// Only what this user did
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only what was done within this time: 90m, 2days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// The newest so many lines, at most 10000
    #[arg(long, value_name = "LINES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print the API's answer as JSON
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        let since = self.since.map(|since| UnixMillis::from(SystemTime::now()).minus(since).0.to_string());
        let words = [("target", self.target), ("who", self.who), ("since_unix_ms", since)];
        let words = words.into_iter().filter_map(|(key, value)| Some(format!("&{key}={}", segment(&value?))));
        let path = format!("/api/audit?limit={}{}", self.limit, words.collect::<String>());
        let lines: Vec<AuditRecord> = client.read(&path).await?;
        if self.json {
            return Ok(json(&lines));
        }
        if lines.is_empty() {
            return Ok("Nothing of that is in the audit.\n".to_owned());
        }
        let row = |line: &AuditRecord| -> Vec<Cell> {
            let when = Cell::toned(Tone::Quiet, when(line.at));
            vec![when, (&line.who).into(), (&line.target).into(), (&line.what).into()]
        };
        Ok(paper.table(&["WHEN", "WHO", "WHAT TO", "WHAT"], lines.iter().map(row).collect()))
    }
}

/// In UTC, as the log has it.
pub(super) fn when(at: UnixMillis) -> String {
    let since = Duration::from_millis(u64::try_from(at.0).unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
