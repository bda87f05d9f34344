//! Nothing is installed on a phone that somebody holds, and recovery does no more to it than opening it.

use farmhand::phone::Command;
use farmhand::rack::Rack;
use farmhand::rack::ids::Endpoint;

/// A command goes to a phone.
pub(crate) fn ordered(rack: &Rack, at: &Endpoint, command: &Command) -> Result<(), String> {
    let harmless = match command {
        Command::Open
        | Command::ReadProfile
        | Command::Inspect { .. }
        | Command::Probe
        | Command::Close
        | Command::Leave => true,
        Command::Provision { .. }
        | Command::Install { .. }
        | Command::Upkeep
        | Command::RestartAgent
        | Command::ResetUsb
        | Command::Reboot => false,
    };
    match rack.holder_at(at).filter(|_| !harmless) {
        Some(who) => Err(format!("{at} gets {command:?}, and {who} holds it")),
        None => Ok(()),
    }
}
