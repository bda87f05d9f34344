//! `farmhand policy`: what the central server may have phones do, and what becomes of a message.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::paper::{Cell, Form, Paper, Tone, json};
use crate::central;
use crate::config::{self, PolicyGroup};

#[derive(Debug, Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Which groups of messages pass, how often and when
    Show(Form),
    /// What happens to a type of message, and why
    Explain {
        /// Its number or name: 1094, UpgradeDeviceAppNotice
        #[arg(value_name = "TYPE|CODE")]
        what: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
}

impl Policy {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        let policy: config::Policy = client.read("/api/policy").await?;
        match self.action {
            Action::Show(form) => Ok(form.of(&policy, |policy| show(policy, paper))),
            Action::Explain { what, json } => explain(policy, &what, json.then_some(json_of), paper),
        }
    }
}

fn json_of(explained: &[central::policy::Explanation]) -> String {
    json(&explained)
}

fn show(policy: &config::Policy, paper: &Paper) -> String {
    let row = |group: PolicyGroup| -> Vec<Cell> {
        let allowance = policy.allowed.get(&group);
        let hours: Vec<String> = policy.quiet_hours_of(group).map(|hours| hours.to_string()).collect();
        let word =
            if allowance.is_some() { Cell::toned(Tone::Good, "allowed") } else { Cell::toned(Tone::Quiet, "refused") };
        let rate = allowance.map_or_else(|| "-".to_owned(), |allowance| allowance.rate.to_string());
        let hours = if allowance.is_none() || hours.is_empty() { "-".to_owned() } else { hours.join(", ") };
        vec![group.name().into(), word, rate.into(), hours.into()]
    };
    let table = paper.table(&["GROUP", "CENTRE", "FOR EACH PHONE", "NOT DURING"], PolicyGroup::ALL.map(row).into());
    format!("{table}\nThe group stop always passes; server and desktop never do. What phones send goes up untouched.\n")
}

fn explain(
    policy: config::Policy,
    what: &str,
    as_json: Option<fn(&[central::policy::Explanation]) -> String>,
    paper: &Paper,
) -> Result<String, Failure> {
    let explained = central::policy::Policy::from(policy.clone()).explain(what);
    if explained.is_empty() {
        let what = format!("no message type is called `{what}`");
        return Err(Failure::Usage {
            what,
            help: "all types with their numbers are in docs/protocol.md and proto/catalogue.tsv",
        });
    }
    if let Some(as_json) = as_json {
        return Ok(as_json(&explained));
    }
    let named = |one: &central::policy::Explanation| {
        let words = [Some(one.code.to_string()), one.name.map(str::to_owned), one.act.map(str::to_owned)];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    let rows = explained.iter().map(|one| -> Vec<Cell> {
        vec![named(one).into(), one.group.into(), (&one.from_centre).into(), (&one.from_phone).into()]
    });
    let table = paper.table(&["TYPE", "GROUP", "FROM THE CENTRE", "FROM A PHONE"], rows.collect());
    Ok(table + &how_to_allow(&policy, &explained))
}

/// What an owner writes who wants to let through what is refused; nothing where nothing of his is.
fn how_to_allow(policy: &config::Policy, explained: &[central::policy::Explanation]) -> String {
    let is_refused = |group: &&str| {
        PolicyGroup::try_from((*group).to_owned()).is_ok_and(|group| !policy.allowed.contains_key(&group))
    };
    let refused: BTreeSet<&str> = explained.iter().map(|one| one.group).filter(is_refused).collect();
    if refused.is_empty() {
        return String::new();
    }
    let groups: Vec<String> = refused.into_iter().map(|group| format!("group = \"{group}\"")).collect();
    let groups = groups.join(" or ");
    format!("\nTo allow it: [[policy.allow]] with {groups} in farmhand.toml, then `systemctl reload farmhand`.\n")
}
