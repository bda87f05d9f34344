//! `farmhand phone A1 …`: what is known of one phone, and work on it.
//!
//! What asks the daemon's API ([`Question`]) and what is done on the phone itself ([`Work`]) go different ways: the latter through the
//! daemon's tool server, in plain blocking calls, since a shell command is over before a runtime would be up. Ctrl-C needs no handling:
//! the connection ends with this process, and what was asked ends with it.

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

use super::client::Client;
use super::deferred::Deferred;
use super::failure::Failure;
use super::paper::Paper;
use super::{Ending, ask_for_text};
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
    #[command(flatten)]
    Question(Question),
    #[command(flatten)]
    Work(Work),
}

// What the daemon's API is asked or ordered. A doc comment would be the help of `farmhand phone`.
#[derive(Debug, Subcommand)]
enum Question {
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
}

// What is done on the phone itself.
#[derive(Debug, Subcommand)]
enum Work {
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
    pub(super) fn carry_out(self, client: &Client) -> Result<Ending, Failure> {
        match self.action {
            Action::Question(question) => {
                ask_for_text(async |paper| question.carry_out(self.name, client, paper).await)
            }
            Action::Work(work) => work.carry_out(&mut Link::open(client, self.name)?),
        }
    }
}

impl Question {
    async fn carry_out(self, name: String, client: &Client, paper: &Paper) -> Result<String, Failure> {
        match self {
            Self::Show(Deferred(show)) => show.carry_out(&name, client, paper).await,
            Self::Hold(Deferred(hold)) => hold.carry_out(name, client).await,
            Self::Release => release::carry_out(name, client).await,
            Self::Detach => detach::detach(name, client).await,
            Self::Attach => detach::attach(name, client).await,
            Self::Identity(Deferred(identity)) => identity.carry_out(name, client).await,
            Self::Trace(Deferred(trace)) => trace.carry_out(&name, client, paper).await,
        }
    }
}

impl Work {
    fn carry_out(self, link: &mut Link) -> Result<Ending, Failure> {
        match self {
            Self::Shell(Deferred(shell)) => shell.carry_out(link),
            Self::Push(Deferred(push)) => push.carry_out(link),
            Self::Pull(Deferred(pull)) => pull.carry_out(link),
            Self::Install(Deferred(install)) => install.carry_out(link),
            Self::Logcat(Deferred(logcat)) => logcat.carry_out(link),
            Self::Screenshot(Deferred(screenshot)) => screenshot.carry_out(link),
            Self::Reboot(Deferred(reboot)) => reboot.carry_out(link),
            Self::Identify(Deferred(identify)) => identify.carry_out(link),
        }
    }
}
