//! No port is switched off by recovery over the rack's budget, whatever crashes meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use farmhand::clock::Moment;
use farmhand::rack::ids::HubPort;
use farmhand::rack::snapshot::PortMode;

/// As docs and `rack::hubs` have them, written out: a check must not follow a constant that somebody changes by mistake.
const CYCLES_MAX: usize = 4;
const WINDOW: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(crate) struct Budget {
    cycles: VecDeque<(Moment, HubPort)>,
}

impl Budget {
    /// The model switched a port; `why` says on whose account.
    pub(crate) fn switched(&mut self, now: Moment, port: HubPort, mode: PortMode, why: &str) -> Result<(), String> {
        if mode != PortMode::Off || !why.starts_with("recovery") {
            return Ok(());
        }
        self.cycles.retain(|(at, _)| now.since(*at) < WINDOW);
        self.cycles.push_back((now, port));
        if self.cycles.len() > CYCLES_MAX {
            let ports: Vec<String> = self.cycles.iter().map(|(at, port)| format!("port {port} at {at}")).collect();
            return Err(format!("recovery switched off more than {CYCLES_MAX} ports in 10 min: {}", ports.join(", ")));
        }
        Ok(())
    }
}
