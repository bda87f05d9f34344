//! `farmhand phone A1 …`: what is known of one phone, and work on it.
//!
//! `show` and `trace` read the API, `hold`, `release`, `detach`, `attach` and `identity` order by it. All else is done through the daemon's tool server, in plain blocking calls: a shell command is over before a
//! runtime would be up. Ctrl-C needs no handling: the connection ends with this process, and what was asked ends with it.

mod detach;
mod hold;
mod identify;
mod identity;
mod install;
mod link;
mod logcat;
mod progress;
mod pull;
mod push;
mod reboot;
mod release;
mod screenshot;
mod shell;
mod show;
mod terminal;
mod trace;

use clap::{Args, Subcommand};

use super::Ending;
use super::client::Client;
use super::failure::Failure;
use super::paper::Paper;
use link::Link;

#[derive(Debug, Args)]
pub(super) struct Phone {
    /// The slot in which it sits, or its id
    #[arg(value_name = "SLOT|ID")]
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Show(show::Show),
    /// Have it to yourself: rollouts and recovery leave it alone
    Hold(hold::Hold),
    /// End its hold
    Release,
    /// Give its USB interface to another program, also over a restart: farmhand leaves it alone
    Detach,
    /// Take its USB interface back
    Attach,
    /// What it registers as with the central server
    Identity(identity::Identity),
    /// What happened to it, the oldest first: the last 256 events
    Trace(trace::Trace),
    Shell(shell::Shell),
    Push(push::Push),
    Pull(pull::Pull),
    Install(install::Install),
    Logcat(logcat::Logcat),
    Screenshot(screenshot::Screenshot),
    Reboot(reboot::Reboot),
    Identify(identify::Identify),
}

impl Phone {
    /// Whether something is to be done on the phone itself.
    pub(super) fn is_work(&self) -> bool {
        !matches!(
            self.action,
            Action::Show(_)
                | Action::Hold(_)
                | Action::Release
                | Action::Detach
                | Action::Attach
                | Action::Identity(_)
                | Action::Trace(_)
        )
    }

    /// What the API tells.
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        match self.action {
            Action::Show(show) => show.carry_out(&self.name, client, paper).await,
            Action::Hold(hold) => hold.carry_out(self.name, client).await,
            Action::Release => release::carry_out(self.name, client).await,
            Action::Detach => detach::detach(self.name, client).await,
            Action::Attach => detach::attach(self.name, client).await,
            Action::Identity(identity) => identity.carry_out(self.name, client).await,
            Action::Trace(trace) => trace.carry_out(&self.name, client, paper).await,
            _ => Ok(String::new()),
        }
    }

    /// What is done through the tool server.
    pub(super) fn work(self, client: &Client) -> Result<Ending, Failure> {
        let mut link = Link::open(client, self.name)?;
        match self.action {
            Action::Show(_)
            | Action::Hold(_)
            | Action::Release
            | Action::Detach
            | Action::Attach
            | Action::Identity(_)
            | Action::Trace(_) => Ok(Ending::Text(String::new())),
            Action::Shell(shell) => shell.carry_out(&mut link),
            Action::Push(push) => push.carry_out(&mut link),
            Action::Pull(pull) => pull.carry_out(&mut link),
            Action::Install(install) => install.carry_out(&mut link),
            Action::Logcat(logcat) => logcat.carry_out(&mut link),
            Action::Screenshot(screenshot) => screenshot.carry_out(&mut link),
            Action::Reboot(reboot) => reboot.carry_out(&mut link),
            Action::Identify(identify) => identify.carry_out(&mut link),
        }
    }
}
