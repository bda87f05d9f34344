//! Of a place whose interface was given to another program nothing is ordered but to leave it.

use farmhand::phone::Command;
use farmhand::rack::Rack;
use farmhand::rack::ids::Endpoint;

/// A command goes to a phone.
pub(crate) fn ordered(rack: &Rack, at: &Endpoint, command: &Command) -> Result<(), String> {
    if rack.is_detached(at) && *command != Command::Leave {
        return Err(format!("{at} gets {command:?}, and its interface is another program's"));
    }
    Ok(())
}
