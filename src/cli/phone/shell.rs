//! `farmhand phone A1 shell …`: a command on the phone, or a shell on this terminal.

use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use clap::Args;

use super::link::{Link, Said, Sender};
use super::terminal::{self, RawMode};
use crate::adb::services::shell::ShellMode;
use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::phone::tools::wire::{Answer, Up, Work};

/// How much input goes at once, in bytes.
const INPUT_LEN: usize = 64 << 10;

/// Run a command on it, or a shell; ends with the command's own exit code
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
        let mode = if on_terminal {
            let name = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
            ShellMode::Terminal { name, size: terminal::size() }
        } else {
            ShellMode::Raw
        };
        let input = if self.no_input { Input::None } else { Input::OfThisProcess };
        run(link, self.command.join(" "), mode, input)
    }
}

/// What a command on the phone is given.
pub(super) enum Input {
    /// Nothing.
    None,
    /// What this process is given.
    OfThisProcess,
}

/// Runs a command and passes on all it says and is told.
pub(super) fn run(link: &mut Link, command: String, mode: ShellMode, input: Input) -> Result<Ending, Failure> {
    let on_terminal = matches!(mode, ShellMode::Terminal { .. });
    link.ask(Work::Shell { command, mode }, &[])?;
    let raw = if on_terminal { Some(RawMode::enter().map_err(Failure::Runtime)?) } else { None };
    match input {
        Input::None => link.send(&Up::EndOfInput)?,
        Input::OfThisProcess => {
            let sender = link.sender()?;
            if on_terminal {
                let mut resizer = sender.again().map_err(Failure::Runtime)?;
                terminal::watch_size(move |size| resizer.send(&Up::Resize(size))).map_err(Failure::Runtime)?;
            }
            let feeder = std::thread::Builder::new().name("input".to_owned());
            feeder.spawn(move || feed(sender)).map_err(Failure::Runtime)?;
        }
    }
    let status = relay(link);
    drop(raw);
    status.map(Ending::Status)
}

fn feed(mut sender: Sender) {
    let mut chunk = vec![0; INPUT_LEN];
    loop {
        let len = match io::stdin().read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // What can't be read is at its end.
            read => read.unwrap_or(0),
        };
        let input = match chunk.get(..len) {
            None | Some([]) => Up::EndOfInput,
            Some(bytes) => Up::Input(Bytes::copy_from_slice(bytes)),
        };
        // Once the command has ended, nobody takes input.
        if sender.send(&input).is_err() || len == 0 {
            return;
        }
    }
}

/// Writes what comes; gives the command's status.
fn relay(link: &mut Link) -> Result<u8, Failure> {
    // Line by line would be a system call for each.
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    loop {
        let written = match link.next()? {
            Said::Output(bytes) => out.write_all(&bytes).and_then(|()| out.flush()),
            Said::Errors(bytes) => err.write_all(&bytes),
            Said::Answer(Answer::Exit { status }) => return Ok(status.unwrap_or(0)),
            Said::Answer(answer) => return Err(link.misunderstood(&answer)),
            Said::Progress(_) => Ok(()),
        };
        match written {
            Ok(()) => {}
            // Whoever read has gone away, as in `logcat | head`: that ends the command, and is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            Err(error) => return Err(Failure::Runtime(error)),
        }
    }
}
