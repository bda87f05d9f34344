//! Each port that recovery switches off is promised on the disk first, and is on again soon, whatever crashes meanwhile.

use std::collections::BTreeMap;

use farmhand::rack::ids::HubPort;
use farmhand::rack::snapshot::PortMode;

use super::super::disk::Disk;

/// So many readings of a hub that answers, 20 s apart, may find such a port off: the time without power, and three orders to
/// switch it on.
const READINGS_MAX: u32 = 6;

/// The ports that are off by recovery, with how often in a row a daemon and a hub that get on have found them so.
#[derive(Debug, Default)]
pub(crate) struct Dark {
    ports: BTreeMap<HubPort, u32>,
}

impl Dark {
    pub(crate) fn daemon_started(&mut self) {
        self.ports.values_mut().for_each(|found| *found = 0);
    }

    /// The model switches a port; `why` says on whose account.
    pub(crate) fn switched(&mut self, port: HubPort, mode: PortMode, why: &str, disk: &Disk) -> Result<(), String> {
        let by_recovery = why.starts_with("recovery");
        if !by_recovery {
            self.ports.remove(&port);
        } else if mode == PortMode::Off {
            self.ports.insert(port, 0);
            if !disk.power.off.iter().any(|off| off.power.port == port) {
                return Err(format!("recovery switches port {port} off, and the disk does not know it"));
            }
        }
        Ok(())
    }

    /// The hub was asked.
    pub(crate) fn read(&mut self, answers: bool, is_off: impl Fn(HubPort) -> bool) -> Result<(), String> {
        for (port, found) in &mut self.ports {
            *found = if answers && is_off(*port) { *found + 1 } else { 0 };
            if *found > READINGS_MAX {
                return Err(format!("recovery switched port {port} off, and nobody switches it on again"));
            }
        }
        Ok(())
    }
}
