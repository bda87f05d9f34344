//! What each role may ask of the adb server.

use super::request::{Host, Question, Request};
use crate::rack::access::Role;

/// Whether somebody with this role may ask this.
///
/// # Errors
/// Why not, as a sentence.
pub fn allow(role: Role, request: &Request) -> Result<(), String> {
    let (needed, what) = needed(request);
    if role >= needed {
        return Ok(());
    }
    Err(format!("a token of role {} is not enough for {what}: role {} is", role.as_str(), needed.as_str()))
}

/// What a request needs, and what it is. A forward listens on the rack's host and a tunnel leads to it: behind both is more than phones.
fn needed(request: &Request) -> (Role, &'static str) {
    let host = match request {
        Request::Service(service) => return needed_by_service(service),
        Request::Host(host) => host,
    };
    match host {
        Host::Version
        | Host::Devices(_)
        | Host::TrackDevices(_)
        | Host::HostFeatures
        | Host::WaitFor(_)
        // For what the connection is then used says whether it may.
        | Host::Transport(..)
        | Host::About(_, Question::Features | Question::State | Question::Serial | Question::DevPath)
        // These change nothing, for whomever.
        | Host::Connect(_)
        | Host::Disconnect(_)
        | Host::Pair
        | Host::MdnsCheck
        | Host::MdnsServices
        | Host::Emulator
        | Host::ReconnectOffline => (Role::View, "this"),
        Host::About(_, Question::Reconnect) => (Role::Use, "ending a phone's connection"),
        Host::ListForward => (Role::Use, "the list of forwards"),
        Host::Forward { .. } | Host::KillForward { .. } | Host::KillForwardAll => {
            (Role::Admin, "forwards on the rack's host")
        }
        Host::Kill => (Role::Admin, "ending the server"),
    }
}

fn needed_by_service(service: &str) -> (Role, &'static str) {
    match service.strip_prefix("reverse:") {
        None | Some("list-forward") => (Role::Use, "work on phones"),
        // Ending a tunnel may end one of farmhand's own, or another person's.
        Some(_) => (Role::Admin, "tunnels to the rack's host"),
    }
}

/// Whether whoever has come to a slot's port with a key may open this there. Tunnels lead to his own host.
#[must_use]
pub fn allow_at_slot(service: &str) -> bool {
    // What ends all tunnels of the phone ends farmhand's, too.
    service != "reverse:killforward-all"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every request that the parser knows, and what view, use and admin may.
    const TABLE: &[(&str, [bool; 3])] = &[
        ("host:version", [true, true, true]),
        ("host:kill", [false, false, true]),
        ("host:devices", [true, true, true]),
        ("host:devices-l", [true, true, true]),
        ("host:track-devices", [true, true, true]),
        ("host:track-devices-l", [true, true, true]),
        ("host:host-features", [true, true, true]),
        ("host:features", [true, true, true]),
        ("host:get-state", [true, true, true]),
        ("host:get-serialno", [true, true, true]),
        ("host:get-devpath", [true, true, true]),
        ("host-serial:A1:features", [true, true, true]),
        ("host-transport-id:1:get-state", [true, true, true]),
        ("host-usb:get-state", [true, true, true]),
        ("host-local:get-state", [true, true, true]),
        ("host:reconnect", [false, true, true]),
        ("host-serial:A1:reconnect", [false, true, true]),
        ("host:reconnect-offline", [true, true, true]),
        ("host:transport-any", [true, true, true]),
        ("host:transport-usb", [true, true, true]),
        ("host:transport:A1", [true, true, true]),
        ("host:transport-id:1", [true, true, true]),
        ("host:tport:any", [true, true, true]),
        ("host:tport:serial:A1", [true, true, true]),
        ("host:wait-for-any-device", [true, true, true]),
        ("host:forward:tcp:1;tcp:2", [false, false, true]),
        ("host:forward:norebind:tcp:1;tcp:2", [false, false, true]),
        ("host-serial:A1:forward:tcp:1;tcp:2", [false, false, true]),
        ("host:killforward:tcp:1", [false, false, true]),
        ("host:killforward-all", [false, false, true]),
        ("host:list-forward", [false, true, true]),
        ("host:connect:10.0.0.1:5555", [true, true, true]),
        ("host:disconnect:", [true, true, true]),
        ("host:pair:1:10.0.0.1:5555", [true, true, true]),
        ("host:mdns:check", [true, true, true]),
        ("host:mdns:services", [true, true, true]),
        ("host:emulator:5555", [true, true, true]),
        ("shell:ls", [false, true, true]),
        ("shell,v2,raw:ls", [false, true, true]),
        ("exec:ls", [false, true, true]),
        ("sync:", [false, true, true]),
        ("abb_exec:package\0install", [false, true, true]),
        ("tcp:80", [false, true, true]),
        ("localabstract:scrcpy", [false, true, true]),
        ("jdwp:1", [false, true, true]),
        ("track-jdwp", [false, true, true]),
        ("reboot:", [false, true, true]),
        ("root:", [false, true, true]),
        ("framebuffer:", [false, true, true]),
        ("reverse:list-forward", [false, true, true]),
        ("reverse:forward:tcp:1;tcp:2", [false, false, true]),
        ("reverse:forward:norebind:tcp:1;tcp:2", [false, false, true]),
        ("reverse:killforward:tcp:1", [false, false, true]),
        ("reverse:killforward-all", [false, false, true]),
        ("what nobody knows", [false, true, true]),
    ];

    #[test]
    fn a_role_allows_what_its_word_says() {
        for (text, expected) in TABLE {
            let request = Request::parse(text.as_bytes()).unwrap_or_else(|why| panic!("{text}: {why}"));
            let seen = Role::ALL.map(|role| allow(role, &request).is_ok());
            assert_eq!(seen, *expected, "{text}");
        }
    }

    #[test]
    fn the_table_has_every_request_of_the_parser() {
        // The name of each variant, as Debug has it.
        let names: std::collections::BTreeSet<String> = TABLE
            .iter()
            .map(|(text, _)| format!("{:?}", Request::parse(text.as_bytes()).unwrap()))
            .map(|seen| seen.split(['(', ')', ' ', '{']).nth(1).unwrap_or_default().to_owned())
            .collect();
        let source = include_str!("request.rs");
        let host = source.split("pub enum Host {").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
        let is_variant = |line: &&str| line.starts_with("    ") && line.chars().nth(4).is_some_and(char::is_uppercase);
        let variants = host.lines().filter(is_variant).map(|line| line.trim().split(['(', ' ', ',']).next().unwrap());
        let missing: Vec<_> = variants.filter(|variant| !names.contains(*variant)).collect();
        assert_eq!(missing, [""; 0], "each variant of Host needs a row");
    }

    #[test]
    fn a_refusal_says_what_is_missing() {
        let why = |role, text: &str| allow(role, &Request::parse(text.as_bytes()).unwrap()).unwrap_err();
        let shell = why(Role::View, "shell:ls");
        assert_eq!(shell, "a token of role view is not enough for work on phones: role use is");
        let forward = why(Role::Use, "host:forward:tcp:1;tcp:2");
        assert_eq!(forward, "a token of role use is not enough for forwards on the rack's host: role admin is");
    }
}
