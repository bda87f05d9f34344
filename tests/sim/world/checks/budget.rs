//! Recovery does nothing over the rack's budgets: ports switched off count whatever crashes meanwhile, resets and restarts within one
//! run of the daemon.

use std::collections::VecDeque;
use std::time::Duration;

use farmhand::clock::Moment;
use farmhand::phone::Command;
use farmhand::rack::ids::Endpoint;
use farmhand::rack::snapshot::PortMode;

/// As docs and `rack::budget` have them, written out: a check must not follow a constant that somebody changes by mistake.
const CYCLES: (usize, Duration) = (4, Duration::from_secs(600));
const RESETS: (usize, Duration) = (6, Duration::from_secs(60));
const REBOOTS: (usize, Duration) = (4, Duration::from_secs(600));

#[derive(Debug, Default)]
pub(crate) struct Budget {
    cycles: Spent,
    resets: Spent,
    reboots: Spent,
}

impl Budget {
    /// A new daemon does not know whom the one before has reset or restarted.
    pub(crate) fn daemon_started(&mut self) {
        self.resets = Spent::default();
        self.reboots = Spent::default();
    }

    /// The model switched a port; `why` says on whose account.
    pub(crate) fn switched(&mut self, now: Moment, port: String, mode: PortMode, why: &str) -> Result<(), String> {
        if mode != PortMode::Off || !why.starts_with("recovery") {
            return Ok(());
        }
        self.cycles.more(now, port, CYCLES).map_err(|told| format!("recovery switched off {told}"))
    }

    /// The model ordered something of a phone.
    pub(crate) fn ordered(&mut self, now: Moment, at: &Endpoint, command: &Command) -> Result<(), String> {
        let (what, spent, limit) = match command {
            Command::ResetUsb => ("reset", &mut self.resets, RESETS),
            Command::Reboot => ("restarted", &mut self.reboots, REBOOTS),
            _ => return Ok(()),
        };
        spent.more(now, at.to_string(), limit).map_err(|told| format!("recovery {what} {told}"))
    }
}

#[derive(Debug, Default)]
struct Spent(VecDeque<(Moment, String)>);

impl Spent {
    fn more(&mut self, now: Moment, what: String, (max, window): (usize, Duration)) -> Result<(), String> {
        self.0.retain(|(at, _)| now.since(*at) < window);
        self.0.push_back((now, what));
        if self.0.len() <= max {
            return Ok(());
        }
        let all: Vec<String> = self.0.iter().map(|(at, what)| format!("{what} at {at}")).collect();
        Err(format!("more than {max} in {window:?}: {}", all.join(", ")))
    }
}
