//! The command line: one file for each subcommand, one place that prints.
//!
//! ```text
//! arguments ─▶ clap ─▶ one subcommand ─▶ client ── Unix socket ──▶ the daemon's desk
//!                            └─▶ text, or a diagnostic ─▶ main prints it and chooses the exit code
//! ```
//!
//! Invariant: subcommands return what is to be printed, or [`tell`] it as it comes; nothing else writes to the terminal, so a
//! closed pipe is no panic.
//! Invariant: everything that prints data has `--json`, which is the API's own answer.

mod adb_server;
mod audit;
mod client;
mod completions;
mod config;
mod deferred;
mod doctor;
mod failure;
mod hub;
mod hubs;
mod keys;
mod line;
mod man;
mod paper;
mod phone;
mod phones;
mod policy;
mod rollout;
mod run;
mod slots;
mod status;
mod tokens;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use client::Client;
use deferred::Deferred;
use failure::Failure;
use paper::Paper;

/// Where the package puts the configuration.
const CONFIG_FILE: &str = "/etc/farmhand/farmhand.toml";

/// What `--help` says below the options of the whole program.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: a problem in a file, or something that the system refused
  2  the command line is wrong
  3  no daemon answers
  4  the daemon refused; the message says why";

/// The controller of a rack of USB-tethered Android handsets
#[derive(Debug, Parser)]
#[command(name = "farmhand", version, about, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    /// The daemon's state directory, in which its socket is
    #[arg(
        long,
        value_name = "DIR",
        env = "FARMHAND_STATE",
        hide_env_values = true,
        default_value = "/var/lib/farmhand",
        global = true
    )]
    state: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon itself, in the foreground
    Run(Deferred<run::Run>),
    /// How the rack is, on one screen
    Status(Deferred<status::Status>),
    /// Every phone
    Phones(Deferred<phones::Phones>),
    /// One phone
    Phone(Deferred<phone::Phone>),
    /// Every place on USB; names for their ports
    Slots(Deferred<slots::Slots>),
    /// Every power hub with its ports
    Hubs(Deferred<hubs::Hubs>),
    /// One power hub: show it, switch a port
    Hub(Deferred<hub::Hub>),
    /// Rollouts of an app: start, watch, approve, pause, resume
    Rollout(Deferred<rollout::Rollout>),
    /// The lines of phones to the central server
    Line(Deferred<line::Line>),
    /// What the central server may have phones do
    Policy(Deferred<policy::Policy>),
    /// Who did what to which phone
    Audit(Deferred<audit::Audit>),
    /// The keys with which phones let this host in
    Keys(Deferred<keys::Keys>),
    /// Who may come to the adb server from other machines
    Tokens(Deferred<tokens::Tokens>),
    /// The adb server: where it is; how adb on this machine reaches one elsewhere
    AdbServer(Deferred<adb_server::AdbServer>),
    /// Check a configuration file, show what it means, print an example
    Config(config::Config),
    /// What on this host keeps farmhand from its phones, and what mends it
    Doctor(Deferred<doctor::Doctor>),
    /// Print the completions for a shell
    Completions(completions::Completions),
    /// Print the manual page
    Man(man::Man),
}

/// For commands that talk to no daemon: `--state` is taken, so that it may stand in every script, and not shown.
#[derive(Debug, clap::Args)]
struct Daemonless {
    #[arg(long = "state", id = "state", value_name = "DIR", hide = true, global = true)]
    _state: Option<PathBuf>,
}

/// Runs the command line of this process, and says how the process shall end.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(Ending::Text(text)) => print(&text),
        Ok(Ending::Status(status)) => ExitCode::from(status),
        Err(failure) => {
            let code = failure.exit_code();
            let _ = writeln!(std::io::stderr(), "{:?}", miette::Report::new(failure));
            ExitCode::from(code)
        }
    }
}

/// How a command ends that did not fail.
enum Ending {
    /// This is printed.
    Text(String),
    /// All was printed while it ran; a command on a phone has a status of its own.
    Status(u8),
}

/// Carries the command out.
fn dispatch(cli: Cli) -> Result<Ending, Failure> {
    let client = &Client::at(&cli.state);
    match cli.command {
        Command::Config(config) => config.carry_out().map(Ending::Text),
        Command::Keys(Deferred(keys)) => keys.carry_out(&cli.state, &Paper::of_stdout()).map(Ending::Text),
        Command::Doctor(Deferred(doctor)) => doctor.carry_out(),
        Command::Completions(completions) => completions.carry_out(Cli::command()).map(Ending::Text),
        Command::Man(man) => man.carry_out(Cli::command()).map(Ending::Text),
        Command::Run(Deferred(run)) => run.carry_out(&cli.state).map(Ending::Text),
        Command::Phone(Deferred(phone)) => phone.carry_out(client),
        Command::Rollout(Deferred(rollout)) => ask(async |paper| rollout.carry_out(client, paper).await),
        Command::Status(Deferred(status)) => ask_for_text(async |paper| status.carry_out(client, paper).await),
        Command::Phones(Deferred(phones)) => ask_for_text(async |paper| phones.carry_out(client, paper).await),
        Command::Slots(Deferred(slots)) => ask_for_text(async |paper| slots.carry_out(client, paper).await),
        Command::Hubs(Deferred(hubs)) => ask_for_text(async |paper| hubs.carry_out(client, paper).await),
        Command::Hub(Deferred(hub)) => ask_for_text(async |paper| hub.carry_out(client, paper).await),
        Command::Line(Deferred(line)) => ask_for_text(async |paper| line.carry_out(client, paper).await),
        Command::Policy(Deferred(policy)) => ask_for_text(async |paper| policy.carry_out(client, paper).await),
        Command::Audit(Deferred(audit)) => ask_for_text(async |paper| audit.carry_out(client, paper).await),
        Command::Tokens(Deferred(tokens)) => ask_for_text(async |paper| tokens.carry_out(client, paper).await),
        Command::AdbServer(Deferred(server)) => ask_for_text(async |paper| server.carry_out(client, paper).await),
    }
}

/// Waits for what the daemon's API answers.
fn ask(question: impl AsyncFnOnce(&Paper) -> Result<Ending, Failure>) -> Result<Ending, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(question(&Paper::of_stdout()))
}

fn ask_for_text(question: impl AsyncFnOnce(&Paper) -> Result<String, Failure>) -> Result<Ending, Failure> {
    ask(async |paper| question(paper).await.map(Ending::Text))
}

/// Whether somebody still reads what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Yes,
    /// The reader has gone away (`farmhand phones | head -1`), which is no failure.
    NoMore,
    /// It could not be written.
    Failed,
}

/// Writes `text` to standard output, at once: for what goes on until it is interrupted.
fn tell(text: &str) -> Heard {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Heard::Yes,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Heard::NoMore,
        Err(_) => Heard::Failed,
    }
}

fn print(text: &str) -> ExitCode {
    match tell(text) {
        Heard::Yes | Heard::NoMore => ExitCode::SUCCESS,
        Heard::Failed => ExitCode::FAILURE,
    }
}
