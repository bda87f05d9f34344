//! `farmhand rollout start`: whom it is for, how it goes on, and what it would come to.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::super::client::{Client, segment};
use super::super::failure::Failure;
use super::super::paper::{Cell, Paper, Tone, or_dash};
use super::follow::Wait;
use crate::rack::candidate::Choice;
use crate::rack::gates::{Gate, Gates, Least, NoLeast};
use crate::rack::ids::{Label, PackageName, PhoneId};
use crate::rack::limits::{Heed, LimitChanges};
use crate::rack::request::{Request, RolloutOrder};
use crate::rack::snapshot::{Forecast, PhoneView};
use crate::rack::strategy::{Approve, Downgrade, Join, OnFailure, Share, StrategyChanges, WaveSize};

/// Phones that are named for one reason to leave them out; the others are counted.
const NAMED_MAX: usize = 8;

#[derive(Debug, Args)]
pub(super) struct Start {
    /// The APK
    apk: PathBuf,
    /// The package that the APK must be of; the configured agent's by default
    #[arg(long)]
    package: Option<String>,
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    way: Way,
    /// Say who would get it, in which wave and how long it takes; begin nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    pub(super) wait: Wait,
}

/// For whom: all that are ready, where nothing narrows it.
#[derive(Debug, Args)]
struct Whom {
    /// Only this phone, by slot or id; may be given several times
    #[arg(long = "phone", value_name = "SLOT|ID")]
    phones: Vec<String>,
    /// Only slots of this name; `*` stands for any text
    #[arg(long = "slot", value_name = "A*", value_delimiter = ',')]
    slots: Vec<String>,
    /// Only slots with this label
    #[arg(long = "label", value_name = "LABEL", value_delimiter = ',')]
    labels: Vec<String>,
    /// Only phones of this model; `*` stands for any text
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// Only such a share of those that would get it
    #[arg(long, value_name = "10%", value_parser = percent)]
    share: Option<u8>,
    /// The phones of the first wave, by slot or id
    #[arg(long, value_name = "SLOT|ID", value_delimiter = ',')]
    canary: Vec<String>,
}

/// How it goes on, where that is not as [rollout] in farmhand.toml says.
#[derive(Debug, Args)]
struct Way {
    /// The waves: so many phones more, or until such a share of all has had its turn
    #[arg(long, value_name = "1,5%,25%,100%", value_delimiter = ',')]
    waves: Vec<WaveSize>,
    /// Before which waves you want to agree
    #[arg(long, value_enum)]
    approve: Option<ApproveWord>,
    /// Between the end of a wave and the next one, such as 10m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    soak: Option<Duration>,
    /// More failures than that pause it: a number of phones, or a share of all
    #[arg(long, value_name = "3|5%")]
    max_failures: Option<Share>,
    /// Phones that appear while it is under way join its last wave; the default
    #[arg(long, conflicts_with = "fixed")]
    dynamic: bool,
    /// Only the phones that are ready when it begins
    #[arg(long = "static")]
    fixed: bool,
    /// Phones that are away are waited for so long, such as 7d
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    close_after: Option<Duration>,
    /// Install on at most so many phones of the rack at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    at_once: Option<u32>,
    /// Install on at most so many phones of one hub at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    at_once_per_hub: Option<u32>,
    /// What a wave must show before the next one begins, in place of all that is configured: agent, line, crashes or heartbeats
    #[arg(long = "gate", value_name = "agent=95%", value_parser = gate)]
    gates: Vec<(Gate, Least)>,
    /// Begin then: `22:00`, `2026-11-28 22:00`, or with an offset of its own
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Phones with a newer version get this one, too; most builds of Android do that for debuggable apps only
    #[arg(long)]
    allow_downgrade: bool,
    /// What becomes of it when more have failed: it is paused, or its phones get back what they had before
    #[arg(long, value_enum)]
    on_failure: Option<OnFailureWord>,
    /// Don't look at the phones' batteries; the audit says so
    #[arg(long)]
    force: bool,
    /// How often an install is tried again that failed for a passing reason
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(0..=10))]
    retries: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ApproveWord {
    Each,
    First,
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnFailureWord {
    Pause,
    RollBack,
}

impl From<Way> for StrategyChanges {
    fn from(way: Way) -> Self {
        let approve = way.approve.map(|word| match word {
            ApproveWord::Each => Approve::Each,
            ApproveWord::First => Approve::First,
            ApproveWord::None => Approve::None,
        });
        let soak_s = way.soak.map(|soak| soak.as_secs());
        let join = match (way.dynamic, way.fixed) {
            (true, _) => Some(Join::Dynamic),
            (_, true) => Some(Join::Static),
            _ => None,
        };
        Self {
            waves: way.waves,
            approve,
            soak_s,
            max_failures: way.max_failures,
            retries: way.retries,
            join,
            close_after_s: way.close_after.map(|after| after.as_secs()),
            gates: gates_of(&way.gates),
            downgrade: if way.allow_downgrade { Downgrade::Allowed } else { Downgrade::Refused },
            on_failure: way.on_failure.map(|word| match word {
                OnFailureWord::Pause => OnFailure::Pause,
                OnFailureWord::RollBack => OnFailure::RollBack,
            }),
            at: way.at,
            limits: LimitChanges {
                at_once: way.at_once,
                at_once_per_hub: way.at_once_per_hub,
                readings: if way.force { Heed::Forced } else { Heed::All },
            },
        }
    }
}

fn gate(text: &str) -> Result<(Gate, Least), String> {
    let names = || Gate::ALL.map(Gate::as_str).join(", ");
    let (name, least) = text.split_once('=').ok_or("it is written as agent=95%")?;
    let gate = Gate::ALL.into_iter().find(|gate| gate.as_str() == name);
    let gate = gate.ok_or_else(|| format!("there is no gate `{name}`; there are {}", names()))?;
    Ok((gate, least.parse().map_err(|no: NoLeast| no.to_string())?))
}

fn gates_of(named: &[(Gate, Least)]) -> Option<Gates> {
    let of = |gate| named.iter().rev().find(|(known, _)| *known == gate).map(|(_, least)| *least);
    let gates = Gates {
        agent: of(Gate::Agent),
        line: of(Gate::Line),
        crashes: of(Gate::Crashes),
        heartbeats: of(Gate::Heartbeats),
    };
    (!named.is_empty()).then_some(gates)
}

fn percent(text: &str) -> Result<u8, String> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    match digits.parse() {
        Ok(percent @ 1..=100) => Ok(percent),
        _ => Err("a share is from 1% to 100%".to_owned()),
    }
}

impl Start {
    /// Phones are named by slot here and by id in the order, which outlives a move to another slot.
    pub(super) async fn order(self, client: &Client) -> Result<Request, Failure> {
        let Whom { phones, slots, labels, models, share, canary } = self.whom;
        let choice = Choice {
            phones: ids(client, phones).await?,
            slots,
            labels: labels.into_iter().map(Label::new).collect(),
            models,
            percent: share,
            canary: ids(client, canary).await?,
        };
        let apk = std::path::absolute(&self.apk).unwrap_or(self.apk);
        let package = self.package.map(PackageName::new);
        let order = RolloutOrder { apk, package, choice, strategy: self.way.into() };
        Ok(if self.dry_run { Request::RolloutForecast(order) } else { Request::RolloutStart(order) })
    }
}

async fn ids(client: &Client, names: Vec<String>) -> Result<Vec<PhoneId>, Failure> {
    let mut ids = Vec::new();
    for name in names {
        let phone: PhoneView = client.read(&format!("/api/phones/{}", segment(&name))).await?;
        if !ids.contains(&phone.id) {
            ids.push(phone.id);
        }
    }
    Ok(ids)
}

/// What a rollout would come to, with `sum` at the top.
pub(super) fn sheet(sum: &str, forecast: &Forecast, paper: &Paper) -> String {
    let mut text = format!("{sum}\n");
    if !forecast.behind.is_empty() {
        let others: Vec<&str> = forecast.behind.iter().map(crate::rack::ids::RolloutId::as_str).collect();
        text += &format!("It comes after {}.\n", others.join(", "));
    }
    text += &match (forecast.takes_s, forecast.measured) {
        (None, _) => "How long it takes is not known: it would not end by itself.\n".to_owned(),
        (Some(_), 0) => format!("An install is taken to last {} s: none was seen yet.\n", forecast.install_s),
        (Some(_), count) => format!("An install lasts {} s, the median of the last {count}.\n", forecast.install_s),
    };
    if forecast.approvals > 0 {
        let times = if forecast.approvals == 1 { "once".to_owned() } else { format!("{} times", forecast.approvals) };
        text += &format!("You will be asked to approve {times}; the time until you do is not in it.\n");
    }
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (number, wave) in forecast.waves.iter().enumerate() {
        for phone in wave {
            let (tone, what) = match (&phone.hand, &phone.waits) {
                (Some(hand), _) => (Tone::Bad, format!("needs a hand: {hand}")),
                (None, Some(waits)) => (Tone::Quiet, format!("not ready: {waits}")),
                (None, None) => (Tone::Good, "gets it".to_owned()),
            };
            let what = match phone.newer {
                Some(newer) => format!("{what}; it goes back from version {newer}, if its Android lets it"),
                None => what,
            };
            rows.push(vec![
                (number + 1).into(),
                or_dash(phone.slot.as_ref()).into(),
                (&phone.phone).into(),
                Cell::toned(tone, what),
            ]);
        }
    }
    text += &paper.table(&["WAVE", "SLOT", "PHONE", "WHAT"], rows);
    text + &left_out(forecast)
}

/// Who does not get it, by reason, in the order in which the reasons come up.
fn left_out(forecast: &Forecast) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for one in &forecast.left_out {
        let name = one.slot.as_ref().map_or(one.phone.as_str(), |slot| slot.as_str());
        match reasons.iter_mut().find(|(why, _)| *why == one.why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((&one.why, vec![name])),
        }
    }
    let mut text = String::new();
    for (why, names) in reasons {
        let shown = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        let others = names.len().saturating_sub(NAMED_MAX);
        let others = if others > 0 { format!(" and {others} more") } else { String::new() };
        text += &format!("left out: {shown}{others}: {why}\n");
    }
    text
}
