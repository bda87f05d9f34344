//! `farmhand phone A1 …`: what is known of one phone, and work on it.
//!
//! `show` and `trace` read the API, `hold`, `release`, `detach`, `attach` and `identity` order by it. All else is done through the daemon's tool server, in plain blocking calls: a shell command is over before a
//! runtime would be up. Ctrl-C needs no handling: the connection ends with this process, and what was asked ends with it.

mod detach;
mod exchange;
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
use super::deferred::Deferred;
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
    /// Everything that is known of it
    Show(Deferred<show::Show>),
    /// Have it to yourself: rollouts and recovery leave it alone
    Hold(Deferred<hold::Hold>),
    /// End its hold
    Release,
    /// Give its USB interface to another program, also over a restart: farmhand leaves it alone
    Detach,
    /// Take its USB interface back
    Attach,
    /// What it registers as with the central server
    Identity(Deferred<identity::Identity>),
    /// What happened to it, the oldest first: the last 256 events
    Trace(Deferred<trace::Trace>),
    /// Run a command on it, or a shell; ends with the command's own exit code
    Shell(Deferred<shell::Shell>),
    /// Copy files and folders to it
    Push(Deferred<push::Push>),
    /// Copy files and folders from it
    Pull(Deferred<pull::Pull>),
    /// Install an app on it, or update it
    Install(Deferred<install::Install>),
    /// Its log, as it is written
    Logcat(Deferred<logcat::Logcat>),
    /// Its screen, as a PNG
    Screenshot(Deferred<screenshot::Screenshot>),
    /// Restart it
    Reboot(Deferred<reboot::Reboot>),
    /// Light its screen and have it vibrate, so that it can be found
    Identify(Deferred<identify::Identify>),
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
            Action::Show(Deferred(show)) => show.carry_out(&self.name, client, paper).await,
            Action::Hold(Deferred(hold)) => hold.carry_out(self.name, client).await,
            Action::Release => release::carry_out(self.name, client).await,
            Action::Detach => detach::detach(self.name, client).await,
            Action::Attach => detach::attach(self.name, client).await,
            Action::Identity(Deferred(identity)) => identity.carry_out(self.name, client).await,
            Action::Trace(Deferred(trace)) => trace.carry_out(&self.name, client, paper).await,
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
            Action::Shell(Deferred(shell)) => shell.carry_out(&mut link),
            Action::Push(Deferred(push)) => push.carry_out(&mut link),
            Action::Pull(Deferred(pull)) => pull.carry_out(&mut link),
            Action::Install(Deferred(install)) => install.carry_out(&mut link),
            Action::Logcat(Deferred(logcat)) => logcat.carry_out(&mut link),
            Action::Screenshot(Deferred(screenshot)) => screenshot.carry_out(&mut link),
            Action::Reboot(Deferred(reboot)) => reboot.carry_out(&mut link),
            Action::Identify(Deferred(identify)) => identify.carry_out(&mut link),
        }
    }
}
