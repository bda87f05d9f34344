//! `farmhand phone A1 shell …`: a command on the phone, or a shell on this terminal.

use std::os::unix::net::UnixStream;

use clap::Args;

use super::exchange::Exchange;
use super::link::Link;
use super::terminal::{self, RawMode};
use crate::adb::services::shell::ShellMode;
use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::phone::tools::wire::Work;

#[derive(Debug, Args)]
pub(super) struct Shell {
    /// Run it on a terminal, as a shell without a command is
    #[arg(short, long)]
    terminal: bool,
    /// Give it no input
    #[arg(short, long)]
    no_input: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Shell {
    pub(super) fn carry_out(self, link: &mut Link) -> Result<Ending, Failure> {
        let on_terminal = terminal::is_terminal() && (self.terminal || self.command.is_empty());
        // Before its size is read, so that no change of it is missed.
        let resized = on_terminal.then(terminal::watch_size).transpose().map_err(Failure::Runtime)?;
        let mode = if on_terminal {
            let name = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
            ShellMode::Terminal { name, size: terminal::size() }
        } else {
            ShellMode::Raw
        };
        let input = if self.no_input { Input::None } else { Input::OfThisProcess { resized } };
        run(link, self.command.join(" "), mode, input)
    }
}

/// What a command on the phone is given.
pub(super) enum Input {
    /// Nothing.
    None,
    /// What this process is given.
    OfThisProcess {
        /// Has a byte for each new size of the terminal.
        resized: Option<UnixStream>,
    },
}

/// Runs a command and passes on all it says and is told.
pub(super) fn run(link: &mut Link, command: String, mode: ShellMode, input: Input) -> Result<Ending, Failure> {
    let on_terminal = matches!(mode, ShellMode::Terminal { .. });
    link.ask(Work::Shell { command, mode }, &[])?;
    let raw = if on_terminal { Some(RawMode::enter().map_err(Failure::Runtime)?) } else { None };
    let exchange = match input {
        Input::None => Exchange::without_input(link),
        Input::OfThisProcess { resized } => Exchange::with_input(link, resized),
    };
    let status = exchange.run();
    drop(raw);
    status.map(Ending::Status)
}
