//! A command that proves what no rack shows.

use std::process::{Output, Stdio};

use super::{Miss, miss};

/// What a command says, to which `more` words and `envs` are added; it is killed when nobody waits for it any more.
pub(crate) async fn output(command: &str, more: &[&str], envs: &[(&str, &str)]) -> Result<Output, Miss> {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    tokio::process::Command::new(program)
        .args(words)
        .args(more)
        .envs(envs.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| miss("the proof to start", format!("`{command}`: {error}")))
}

/// The last lines of what it said when it failed.
pub(crate) fn end_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let end: Vec<&str> = text.lines().rev().take(5).collect();
    end.join(" / ")
}
