//! `farmhand rollout`: start one, watch it, let it go on.

mod start;

use clap::{Args, Subcommand};

use super::client::{Client, segment};
use super::failure::Failure;
use super::paper::{Cell, Paper, Tone, json, or_dash};
use crate::rack::ids::{PhoneId, RolloutId};
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
    Start(Box<start::Start>),
    /// Every rollout, the newest first
    List,
    /// One rollout with its waves
    Show {
        /// Its name, such as R7
        rollout: String,
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
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        let order = match self.action {
            Action::List => {
                let rollouts: Vec<RolloutView> = client.read("/api/rollouts").await?;
                return Ok(if self.json { json(&rollouts) } else { list(&rollouts, paper) });
            }
            Action::Show { rollout } => {
                let rollout: RolloutView = client.read(&format!("/api/rollouts/{}", segment(&rollout))).await?;
                if self.json {
                    return Ok(json(&rollout));
                }
                let phones: Vec<PhoneView> = client.read("/api/phones").await?;
                return Ok(sheet(&rollout, &phones, paper));
            }
            Action::Start(start) => start.order(client).await?,
            Action::Approve { rollout } => Request::RolloutApprove { rollout: RolloutId::new(rollout) },
            Action::Pause { rollout } => Request::RolloutPause { rollout: RolloutId::new(rollout) },
            Action::Resume { rollout } => Request::RolloutResume { rollout: RolloutId::new(rollout) },
            Action::Skip { rollout, phone } => {
                let phone: PhoneView = client.read(&format!("/api/phones/{}", segment(&phone))).await?;
                Request::RolloutSkip { rollout: RolloutId::new(rollout), phone: phone.id }
            }
            Action::Promote { rollout, reason } => Request::RolloutPromote { rollout: RolloutId::new(rollout), reason },
            Action::Abort { rollout, reason } => Request::RolloutAbort { rollout: RolloutId::new(rollout), reason },
        };
        let done = client.order(&order).await?;
        Ok(match &done.forecast {
            _ if self.json => json(&done),
            Some(forecast) => start::sheet(&done.what, forecast, paper),
            None => done.what + "\n",
        })
    }
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

fn sheet(rollout: &RolloutView, phones: &[PhoneView], paper: &Paper) -> String {
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
    let slot_of = |id: &PhoneId| phones.iter().find(|phone| phone.id == *id).and_then(|phone| phone.slot.as_ref());
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (number, wave) in rollout.waves.iter().enumerate() {
        for phone in &wave.phones {
            let tone = match phone.state {
                RolloutPhoneState::Done => Tone::Good,
                RolloutPhoneState::Failed | RolloutPhoneState::NeedsHand => Tone::Bad,
                RolloutPhoneState::Installing => Tone::Busy,
                RolloutPhoneState::Waiting | RolloutPhoneState::Parked | RolloutPhoneState::Skipped => Tone::Quiet,
            };
            rows.push(vec![
                (number + 1).into(),
                or_dash(slot_of(&phone.phone)).into(),
                (&phone.phone).into(),
                Cell::toned(tone, phone.state.as_str()),
                phone.attempts.into(),
                or_dash(phone.why.as_ref()).into(),
            ]);
        }
    }
    head + &paper.table(&["WAVE", "SLOT", "PHONE", "STATE", "TRIES", "WHY"], rows)
}

fn tone_of(state: RolloutState) -> Tone {
    match state {
        RolloutState::Finished => Tone::Good,
        RolloutState::Paused | RolloutState::Aborted => Tone::Bad,
        RolloutState::Gathering | RolloutState::Fetching | RolloutState::WaitingApproval | RolloutState::Running => {
            Tone::Busy
        }
    }
}
