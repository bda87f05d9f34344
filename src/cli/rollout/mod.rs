//! `farmhand rollout`: start one, watch it, let it go on.

mod export;
mod follow;
mod start;
mod story;
mod watch;

use clap::{Args, Subcommand};

use std::io::IsTerminal as _;

use super::Ending;
use super::client::{Client, segment};
use super::failure::Failure;
use super::paper::{Cell, Paper, Tone, json, or_dash};
use crate::rack::ids::RolloutId;
use crate::rack::request::Request;
use crate::rack::snapshot::{PhoneView, RolloutPhoneState, RolloutState, RolloutView};

#[derive(Debug, Args)]
pub(super) struct Rollout {
    #[command(subcommand)]
    action: Action,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Begin a rollout of an APK on this host
    #[command(after_help = follow::EXIT_CODES)]
    Start(Box<start::Start>),
    /// Every rollout, the newest first
    List,
    /// One rollout with its waves
    #[command(after_help = follow::EXIT_CODES)]
    Show {
        /// Its name, such as R7
        rollout: String,
        #[command(flatten)]
        wait: follow::Wait,
    },
    /// See it go on, until it is over or somebody must look at it
    #[command(after_help = follow::EXIT_CODES)]
    Watch {
        /// Its name, such as R7
        rollout: String,
    },
    /// What became of each phone, for other programs
    Export {
        /// Its name, such as R7
        rollout: String,
        /// How it is written
        #[arg(long, value_enum)]
        format: export::Format,
    },
    /// Let one begin that waits for approval
    Approve {
        /// Its name, such as R7
        rollout: String,
    },
    /// Start no further install
    Pause {
        /// Its name, such as R7
        rollout: String,
    },
    /// Go on, trying again what failed
    Resume {
        /// Its name, such as R7
        rollout: String,
    },
    /// Try again what failed or needed a hand, also in one that is finished
    Retry {
        /// Its name, such as R7
        rollout: String,
        /// Only this phone
        #[arg(long, value_name = "SLOT|ID")]
        phone: Option<String>,
    },
    /// Leave a phone out of it
    Skip {
        /// Its name, such as R7
        rollout: String,
        /// The phone
        #[arg(long, value_name = "SLOT|ID")]
        phone: String,
    },
    /// Go on in spite of what failed, without trying it again
    Promote {
        /// Its name, such as R7
        rollout: String,
        /// Why, for the audit
        #[arg(long)]
        reason: String,
    },
    /// Give it up, and bring back the version that each of its phones had before
    Rollback {
        /// Its name, such as R7
        rollout: String,
        /// Why, for the audit
        #[arg(long)]
        reason: String,
    },
    /// Give it up; installs under way finish
    Abort {
        /// Its name, such as R7
        rollout: String,
        /// Why, for the audit
        #[arg(long)]
        reason: String,
    },
}

impl Rollout {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<Ending, Failure> {
        let mut wait = None;
        let order = match self.action {
            Action::List => {
                let rollouts: Vec<RolloutView> = client.read("/api/rollouts").await?;
                let text = if self.json { json(&rollouts) } else { list(&rollouts, paper) };
                return Ok(Ending::Text(text));
            }
            Action::Show { rollout, wait } => return show(client, paper, &rollout, wait, self.json).await,
            Action::Watch { rollout } => return watch(client, paper, &rollout).await,
            Action::Export { rollout, format } => {
                let view = view(client, &rollout).await?;
                return Ok(Ending::Text(export::export(&view, &slots(client).await?, format)));
            }
            Action::Start(start) => {
                wait = start.wait.wait.then_some(start.wait);
                start.order(client).await?
            }
            Action::Approve { rollout } => Request::RolloutApprove { rollout: RolloutId::new(rollout) },
            Action::Pause { rollout } => Request::RolloutPause { rollout: RolloutId::new(rollout) },
            Action::Resume { rollout } => Request::RolloutResume { rollout: RolloutId::new(rollout) },
            Action::Retry { rollout, phone } => {
                let phone = match phone {
                    Some(phone) => {
                        let phone: PhoneView = client.read(&format!("/api/phones/{}", segment(&phone))).await?;
                        Some(phone.id)
                    }
                    None => None,
                };
                Request::RolloutRetry { rollout: RolloutId::new(rollout), phone }
            }
            Action::Skip { rollout, phone } => {
                let phone: PhoneView = client.read(&format!("/api/phones/{}", segment(&phone))).await?;
                Request::RolloutSkip { rollout: RolloutId::new(rollout), phone: phone.id }
            }
            Action::Promote { rollout, reason } => Request::RolloutPromote { rollout: RolloutId::new(rollout), reason },
            Action::Rollback { rollout, reason } => {
                Request::RolloutRollback { rollout: RolloutId::new(rollout), reason }
            }
            Action::Abort { rollout, reason } => Request::RolloutAbort { rollout: RolloutId::new(rollout), reason },
        };
        let done = client.order(&order).await?;
        let text = match &done.forecast {
            _ if self.json => json(&done),
            Some(forecast) => start::sheet(&done.what, forecast, paper),
            None => format!("{}\n", done.what),
        };
        match (wait, &done.rollout) {
            (Some(wait), Some(rollout)) => {
                super::tell(&text);
                show(client, paper, rollout.as_str(), wait, self.json).await
            }
            _ => Ok(Ending::Text(text)),
        }
    }
}

async fn view(client: &Client, rollout: &str) -> Result<RolloutView, Failure> {
    client.read(&format!("/api/rollouts/{}", segment(rollout))).await
}

async fn slots(client: &Client) -> Result<watch::Slots, Failure> {
    let phones: Vec<PhoneView> = client.read("/api/phones").await?;
    Ok(phones.into_iter().filter_map(|phone| Some((phone.id, phone.slot?))).collect())
}

/// Shows a rollout as it stands, or once it stands still.
async fn show(
    client: &Client,
    paper: &Paper,
    rollout: &str,
    wait: follow::Wait,
    as_json: bool,
) -> Result<Ending, Failure> {
    let code = match wait.wait {
        true => Some(follow::follow(client, &RolloutId::new(rollout), wait.timeout, |_| super::Heard::Yes).await?),
        false => None,
    };
    let view = view(client, rollout).await?;
    let text = if as_json {
        json(&view)
    } else {
        let told = story::tell(&story::read(client, rollout).await?, paper);
        sheet(&view, &told, &slots(client).await?, paper)
    };
    let Some(code) = code else { return Ok(Ending::Text(text)) };
    super::tell(&text);
    Ok(Ending::Status(code))
}

async fn watch(client: &Client, paper: &Paper, rollout: &str) -> Result<Ending, Failure> {
    let (id, slots) = (RolloutId::new(rollout), slots(client).await?);
    let code = if std::io::stdout().is_terminal() {
        let mut screen = watch::Screen::new(paper, slots);
        follow::follow(client, &id, None, |view| screen.show(view)).await?
    } else {
        let mut lines = watch::Lines::new(slots);
        follow::follow(client, &id, None, |view| lines.show(view)).await?
    };
    Ok(Ending::Status(code))
}

fn list(rollouts: &[RolloutView], paper: &Paper) -> String {
    if rollouts.is_empty() {
        return "No rollout yet. Begin one: farmhand rollout start APK\n".to_owned();
    }
    let row = |rollout: &RolloutView| -> Vec<Cell> {
        vec![
            (&rollout.id).into(),
            rollout.package.as_str().into(),
            (&rollout.version_name).into(),
            Cell::toned(tone_of(rollout.state), rollout.state.as_str()),
            progress(rollout).into(),
            paper.ago_or_dash(Some(rollout.created)).into(),
            (&rollout.why).into(),
        ]
    };
    let heading = ["ROLLOUT", "PACKAGE", "VERSION", "STATE", "DONE", "BEGAN", "WHY"];
    paper.table(&heading, rollouts.iter().map(row).collect())
}

fn progress(rollout: &RolloutView) -> String {
    let phones = rollout.waves.iter().flat_map(|wave| &wave.phones);
    let done = phones.clone().filter(|phone| phone.state == RolloutPhoneState::Done).count();
    format!("{done}/{}", phones.count())
}

/// One line that sums it up, why it stands so, its story, and what became of each phone.
fn sheet(rollout: &RolloutView, told: &str, slots: &watch::Slots, paper: &Paper) -> String {
    let state = paper.paint(tone_of(rollout.state), rollout.state.as_str());
    let head = format!(
        "{}  {} {} ({})  {state}, {} done, began {} ago\n{}\n",
        rollout.id,
        rollout.package,
        rollout.version_name,
        rollout.version_code,
        progress(rollout),
        paper.age(rollout.created),
        rollout.why,
    );
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (number, wave) in rollout.waves.iter().enumerate() {
        for phone in &wave.phones {
            rows.push(vec![
                (number + 1).into(),
                or_dash(slots.get(&phone.phone)).into(),
                (&phone.phone).into(),
                Cell::toned(tone_of_phone(phone.state), phone.state.as_str()),
                phone.attempts.into(),
                or_dash(phone.why.as_ref()).into(),
            ]);
        }
    }
    head + told + &paper.table(&["WAVE", "SLOT", "PHONE", "STATE", "TRIES", "WHY"], rows)
}

fn tone_of_phone(state: RolloutPhoneState) -> Tone {
    match state {
        RolloutPhoneState::Done => Tone::Good,
        RolloutPhoneState::Failed | RolloutPhoneState::NeedsHand => Tone::Bad,
        RolloutPhoneState::Installing | RolloutPhoneState::RollingBack => Tone::Busy,
        RolloutPhoneState::Waiting
        | RolloutPhoneState::Parked
        | RolloutPhoneState::Skipped
        | RolloutPhoneState::RolledBack => Tone::Quiet,
    }
}

fn tone_of(state: RolloutState) -> Tone {
    match state {
        RolloutState::Finished => Tone::Good,
        RolloutState::Paused | RolloutState::Aborted | RolloutState::RolledBack => Tone::Bad,
        RolloutState::Gathering
        | RolloutState::Fetching
        | RolloutState::WaitingApproval
        | RolloutState::Running
        | RolloutState::RollingBack => Tone::Busy,
    }
}
